"""What the service is compared with, in small: each learner in one class, with numpy alone.

They read a world's `Design`: words one by one, numbers in tenths of their true distribution, the best buckets
anybody could make by hand (LinUCB also with hats, and with logarithms). Widths are in running standard
deviations of the reward, unless told in rewards, so that units do not matter to them. They score with 1 for
what they choose and 0 for all else; discovery is mixed in by the draw, as of every method.

What it does not do: hash, forget, or run in production.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import numpy as np
import vowpalwabbit

from learning_bench.worlds import Design, Floats, Integers, World
from tilbud.domain.decision.draw import Choice

SEEN_BEFORE, DEVIATION_BEFORE = 100.0, 0.27
"""What the running deviation begins with: so many rewards of such a deviation."""
JOINT_WIDTH_MAX = 900
"""Columns of a joint regression for what is crossed with the context."""


class Learner(Protocol):
    """Scores offers, and learns what came of the one that was drawn."""

    def scores(self, decision: int, offers: tuple[int, ...]) -> Sequence[float]:
        """Return a score ≥ 0 for each of these offers, not all 0."""
        ...

    def learn(self, decision: int, offers: tuple[int, ...], choice: Choice, reward: float) -> None:
        """Learn the reward of the drawn offer, in the campaign's units."""
        ...

    def close(self) -> None:
        """Free what is not Python's."""
        ...


class Even:
    """Every offer alike."""

    def scores(self, decision: int, offers: tuple[int, ...]) -> Sequence[float]:  # noqa: ARG002 - whoever
        return [1.0] * len(offers)

    def learn(self, decision: int, offers: tuple[int, ...], choice: Choice, reward: float) -> None:
        """Learn nothing."""

    def close(self) -> None:
        """Nothing is held."""


class BestFixed(Even):
    """The one offer that is best for all together, known beforehand; of those that may be shown."""

    def __init__(self, world: World) -> None:
        self._means = world.rates[world.judged].mean(axis=0) * world.worth

    def scores(self, decision: int, offers: tuple[int, ...]) -> Sequence[float]:  # noqa: ARG002 - whoever
        return _only(int(np.argmax(self._means[list(offers)])), len(offers))


class Scale:
    """Rewards as shares of the campaign's range, and their running standard deviation."""

    def __init__(self, reward_range: tuple[float, float]) -> None:
        self._low, self._high = reward_range
        self._count, self._sum, self._squares = 0.0, 0.0, 0.0
        self.deviation = DEVIATION_BEFORE

    def share(self, reward: float) -> float:
        """Return a reward as a share of the range, and count it."""
        share = (min(max(reward, self._low), self._high) - self._low) / (self._high - self._low)
        self._count += 1
        self._sum += share
        self._squares += share * share
        before = SEEN_BEFORE * DEVIATION_BEFORE**2 * math.exp(-self._count / SEEN_BEFORE)
        spread = max(self._squares - self._sum**2 / self._count, 0.0)
        weight = SEEN_BEFORE * math.exp(-self._count / SEEN_BEFORE)
        self.deviation = max(math.sqrt((before + spread) / (weight + self._count)), 1e-9)
        return share


class Ridges:
    """A ridge regression for each offer, λ = 1, by sparse rank-one updates (Sherman and Morrison, 1950)."""

    def __init__(self, offers: int, width: int) -> None:
        self.inverse = np.tile(np.eye(width), (offers, 1, 1))
        self.weights = np.zeros((offers, width))

    def predict(self, offers: Sequence[int], ids: Integers, values: Floats) -> tuple[Floats, Floats]:
        """Return each offer's mean, and its variance as a multiple of the noise's."""
        rows = np.asarray(offers)
        means = self.weights[rows[:, None], ids] @ values
        blocks = self.inverse[rows[:, None, None], ids[:, None], ids]
        return means, np.maximum((blocks @ values) @ values, 0.0)

    def learn(self, offer: int, ids: Integers, values: Floats, reward: float) -> None:
        """Add one observation of an offer."""
        inverse, weights = self.inverse[offer], self.weights[offer]
        direction = inverse[:, ids] @ values
        denominator = 1.0 + float(direction[ids] @ values)
        error = reward - float(weights[ids] @ values)
        weights += direction * (error / denominator)
        inverse -= direction[:, None] * (direction / denominator)


class Linear:
    """LinUCB with disjoint regressions (Li et al., 2010, WWW, algorithm 1), or Thompson sampling on the same.

    Thompson sampling (Agrawal and Goyal, 2013, ICML) draws each offer's mean from its own normal
    distribution, which is what drawing its weights comes to. Rule `greedy` takes the best mean, and with a
    chance of `width` any offer.
    """

    def __init__(
        self, world: World, design: Design, rule: str, width: float, *, in_rewards: bool = False
    ) -> None:
        self._design, self._rule, self._width, self._in_rewards = design, rule, width, in_rewards
        self._ridges = Ridges(len(world.offers), design.width)
        self._scale = Scale(world.reward_range)
        self._generator = np.random.default_rng(1)

    def upper_bounds(self, decision: int, offers: tuple[int, ...]) -> Floats:
        """Return what the rule takes the highest of: means plus widths, draws, or means."""
        means, variances = self._ridges.predict(
            offers, self._design.ids[decision], self._design.values[decision]
        )
        if self._rule == "greedy":
            return means
        spreads = self._width * np.sqrt(variances) * (1.0 if self._in_rewards else self._scale.deviation)
        if self._rule == "thompson":
            spreads = spreads * self._generator.normal(size=len(offers))
        return np.asarray(means + spreads)

    def scores(self, decision: int, offers: tuple[int, ...]) -> Sequence[float]:
        best = _only(int(np.argmax(self.upper_bounds(decision, offers))), len(offers))
        if self._rule == "greedy":
            return [(1 - self._width) * score + self._width / len(offers) for score in best]
        return best

    def learn(self, decision: int, offers: tuple[int, ...], choice: Choice, reward: float) -> None:
        self._ridges.learn(
            offers[choice.drawn],
            self._design.ids[decision],
            self._design.values[decision],
            self._scale.share(reward),
        )

    def close(self) -> None:
        """Nothing is held."""


class SharedLinUcb:
    """LinUCB with shared and disjoint weights (Li et al., 2010, algorithm 2), as one ridge regression.

    Shared are context × attribute, for all offers that have it; an offer's own part is the context again.
    While crossings would be wider than JOINT_WIDTH_MAX, later attributes, and last the offers, have only
    a mean each. One regression with λ = 1 on all parts has the same means and variances as the paper's block
    form, which saves time, not figures.
    """

    def __init__(self, world: World, design: Design, width: float) -> None:
        self._design, self._width = design, width
        offers = np.arange(len(world.offers))[:, None]
        starts, means, self.width = [], [], 0
        for column in np.concatenate([world.attribute_columns(), offers], axis=1).T:
            kinds, kind = np.unique(column, return_inverse=True)
            if self.width + len(kinds) * design.width <= JOINT_WIDTH_MAX:
                starts.append(self.width + kind * design.width)
                self.width += len(kinds) * design.width
            else:
                means.append((kind, len(kinds)))
        own = []
        for kind, kinds_of_one in means:
            own.append(self.width + kind)
            self.width += kinds_of_one
        none = np.empty((0, len(offers)), np.int64)
        self._starts = np.stack(starts, axis=1) if starts else none.T
        self._own = np.stack(own, axis=1) if own else none.T
        self._ridge = Ridges(1, self.width)
        self._scale = Scale(world.reward_range)

    def columns(self, decision: int, offers: Sequence[int]) -> tuple[Integers, Floats]:
        """Return the columns of each offer for a visitor (offers, features), and the features' values."""
        rows, ids = list(offers), self._design.ids[decision]
        crossed = (self._starts[rows][:, :, None] + ids).reshape(len(rows), -1)
        values = np.tile(self._design.values[decision], self._starts.shape[1])
        return np.concatenate([crossed, self._own[rows]], axis=1), np.concatenate(
            [values, np.ones(self._own.shape[1])]
        )

    def predict(self, decision: int, offers: tuple[int, ...]) -> tuple[Floats, Floats]:
        """Return each offer's mean, and its standard error as a multiple of the noise's deviation."""
        columns, values = self.columns(decision, offers)
        blocks = self._ridge.inverse[0][columns[:, :, None], columns[:, None, :]]
        spreads = np.sqrt(np.maximum((blocks @ values) @ values, 0.0))
        return self._ridge.weights[0][columns] @ values, spreads

    def scores(self, decision: int, offers: tuple[int, ...]) -> Sequence[float]:
        means, spreads = self.predict(decision, offers)
        bounds = means + self._width * self._scale.deviation * spreads
        return _only(int(np.argmax(bounds)), len(offers))

    def learn(self, decision: int, offers: tuple[int, ...], choice: Choice, reward: float) -> None:
        columns, values = self.columns(decision, [offers[choice.drawn]])
        self._ridge.learn(0, columns[0], values, self._scale.share(reward))

    def close(self) -> None:
        """Nothing is held."""


class LogisticThompson:
    """Thompson sampling on a logistic regression for each offer, by one Newton step a reward.

    The posterior is normal with the covariance of Laplace's approximation (Chapelle and Li, 2011, NIPS,
    algorithm 3, with all of the covariance), `width` times as wide. Rewards are shares of the range.
    """

    BEGINS_AT = -2.5  # log-odds, 8 %

    def __init__(self, world: World, design: Design, width: float) -> None:
        self._design, self._width = design, width
        self._ridges = Ridges(len(world.offers), design.width)
        self._ridges.weights[:, -1] = self.BEGINS_AT
        self._scale = Scale(world.reward_range)
        self._generator = np.random.default_rng(1)

    def scores(self, decision: int, offers: tuple[int, ...]) -> Sequence[float]:
        means, variances = self._ridges.predict(
            offers, self._design.ids[decision], self._design.values[decision]
        )
        drawn = means + self._width * np.sqrt(variances) * self._generator.normal(size=len(offers))
        return _only(int(np.argmax(drawn)), len(offers))

    def learn(self, decision: int, offers: tuple[int, ...], choice: Choice, reward: float) -> None:
        newton_step(
            self._ridges,
            offers[choice.drawn],
            self._design.ids[decision],
            self._design.values[decision],
            self._scale.share(reward),
        )

    def close(self) -> None:
        """Nothing is held."""


def newton_step(ridges: Ridges, offer: int, ids: Integers, values: Floats, reward: float) -> None:
    """Move an offer's weights by one step of Newton's for the logistic loss, from where they are."""
    inverse, weights = ridges.inverse[offer], ridges.weights[offer]
    chance = 1 / (1 + math.exp(-min(max(float(weights[ids] @ values), -30.0), 30.0)))
    curvature = max(chance * (1 - chance), 1e-4)
    direction = inverse[:, ids] @ values
    denominator = 1 + curvature * float(direction[ids] @ values)
    weights += direction * ((reward - chance) / denominator)
    inverse -= direction[:, None] * (direction * (curvature / denominator))


class Personalizer:
    """Azure Personalizer's default learning settings, on Vowpal Wabbit itself."""

    ARGUMENTS = "--cb_explore_adf --epsilon 0.2 --power_t 0 -l 0.001 --cb_type mtr -q ::"

    def __init__(self, world: World, design: Design) -> None:
        self._design, self._scale = design, Scale(world.reward_range)
        self._vw = vowpalwabbit.Workspace(arg_list=[*self.ARGUMENTS.split(), "--quiet", "--no_stdin"])
        self._lines = [
            f"|Offer {index} " + " ".join(f"{name}={value}" for name, value in attributes.items())
            for index, attributes in enumerate(world.offers)
        ]

    def _context(self, decision: int) -> str:
        row = zip(self._design.ids[decision].tolist(), self._design.values[decision].tolist(), strict=True)
        return "shared |Context " + " ".join([f"{which}:{value:g}" for which, value in row if value])

    def scores(self, decision: int, offers: tuple[int, ...]) -> Sequence[float]:
        example = [self._context(decision), *[self._lines[offer] for offer in offers]]
        scores: list[float] = self._vw.predict(example)
        return scores

    def learn(self, decision: int, offers: tuple[int, ...], choice: Choice, reward: float) -> None:
        label = f"0:{-self._scale.share(reward):.9f}:{choice.probability:.9f} "
        lines = [self._lines[offer] for offer in offers]
        lines[choice.drawn] = label + lines[choice.drawn]
        self._vw.learn([self._context(decision), *lines])

    def close(self) -> None:
        self._vw.finish()


def _only(chosen: int, offers: int) -> list[float]:
    scores = [0.0] * offers
    scores[chosen] = 1.0
    return scores


LINUCB = "LinUCB"
REFERENCES: Mapping[str, Callable[[World], Learner]] = MappingProxyType(
    {
        LINUCB: lambda world: Linear(world, world.design("buckets"), "ucb", 0.5),
        "LinUCB .2": lambda world: Linear(world, world.design("buckets"), "ucb", 0.2, in_rewards=True),
        "LinUCB hat": lambda world: Linear(world, world.design("hat"), "ucb", 0.5),
        "LinUCB log": lambda world: Linear(world, world.design("log"), "ucb", 0.5),
        "LinUCB shared": lambda world: SharedLinUcb(world, world.design("buckets"), 0.5),
        "linear TS": lambda world: Linear(world, world.design("buckets"), "thompson", 0.25),
        "logistic TS": lambda world: LogisticThompson(world, world.design("buckets"), 0.5),
        "epsilon-greedy": lambda world: Linear(world, world.design("buckets"), "greedy", 0.1),
        "best fixed": BestFixed,
        "even": lambda world: Even(),  # noqa: ARG005 - whatever the world
        "Personalizer": lambda world: Personalizer(world, world.design("log")),
    }
)
ONLY_NUMBERS = frozenset({"LinUCB hat", "LinUCB log"})
"""Those that differ from LinUCB only where a world has numbers."""
