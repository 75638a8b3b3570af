"""What the answers were worth: against a world's truth, or against the log's own numbers.

Against the truth, *achieved* is the expected reward of the offers that were shown, not the one that came of
them, so the luck of single visitors does not blur it; *realised* is what came. With everything averaged over
the same decisions,

    share of the possible uplift = (achieved − uniform) / (best − uniform)

is 0 for a policy that shows offers uniformly and 1 for one that knows the truth.

What always holds: a fallback earns 0, in achieved and realised alike; it is never left out to look better.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass

from tilbud.simulator.driver import Answer
from tilbud.simulator.logged import LoggedData, LoggedRate, LoggedRow
from tilbud.simulator.sources import World

RECENT = 5_000
"""Decisions in the last window, and in each point of the learning curve."""
PERSONALIZED = "personalized"

_Sample = tuple[float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Rates:
    """Mean rewards per decision over the same decisions."""

    decisions: int
    uniform: float
    achieved: float
    best: float
    best_single: float
    """Had everyone been shown the offer that is best for all together: what an ideal A/B test ends in."""
    realised: float
    """What came of it; the others are expected values."""

    @property
    def share_of_uplift(self) -> float:
        """(achieved − uniform) / (best − uniform); not a number where nothing can be gained."""
        gain = self.best - self.uniform
        return (self.achieved - self.uniform) / gain if gain > 0 else math.nan


class RateSum:
    """Adds samples up into Rates."""

    def __init__(self) -> None:
        self.decisions = 0
        self._sums = [0.0] * 5

    def add(self, sample: _Sample, times: int = 1) -> None:
        self.decisions += times
        for index, value in enumerate(sample):
            self._sums[index] += times * value

    def rates(self) -> Rates:
        if not self.decisions:
            return Rates(0, math.nan, math.nan, math.nan, math.nan, math.nan)
        uniform, achieved, best, best_single, realised = (total / self.decisions for total in self._sums)
        return Rates(self.decisions, uniform, achieved, best, best_single, realised)


@dataclass(slots=True)
class OfferSum:
    """How often one offer might have been shown, was, and what came of it."""

    eligible: int = 0
    """Answers in which it might have been shown; 0 where the source does not ask for them."""
    shown: int = 0
    reward: float = 0.0
    squares: float = 0.0

    def add(self, answer: Answer) -> None:
        if answer.outcome is not None:
            self.shown += 1
            self.reward += answer.outcome.reward
            self.squares += answer.outcome.reward**2

    @property
    def rate(self) -> LoggedRate:
        """The mean reward where it was shown."""
        if not self.shown:
            return LoggedRate(0, math.nan, math.nan)
        mean = self.reward / self.shown
        variance = max(self.squares - self.shown * mean**2, 0.0) / max(self.shown - 1, 1)
        return LoggedRate(self.shown, mean, math.sqrt(variance / self.shown))


class WorldTally:
    """Answers against the truth of a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._offers: dict[str, OfferSum] = {}
        self._everyone = RateSum()
        self._variants: dict[str, RateSum] = {PERSONALIZED: RateSum()}
        self._recent = RateSum()
        self._recent_samples: deque[_Sample] = deque()
        self._point = RateSum()
        self._curve: list[Rates] = []

    def observe(self, answer: Answer) -> None:
        """Count one answer."""
        sample = self._sample(answer)
        self._everyone.add(sample)
        self._observe_offers(answer)
        self._variants.setdefault(answer.variant, RateSum()).add(sample)
        if answer.variant == PERSONALIZED:
            self._observe_curve(sample)

    @property
    def everyone(self) -> Rates:
        """Every answered decision, control included."""
        return self._everyone.rates()

    @property
    def variants(self) -> dict[str, Rates]:
        """The same by variant; `personalized` is always there."""
        return {variant: total.rates() for variant, total in self._variants.items()}

    def offer(self, offer: str) -> OfferSum:
        """What became of one offer, in every variant."""
        return self._offers.get(offer, OfferSum())

    @property
    def recent(self) -> Rates:
        """The last RECENT personalized decisions."""
        return self._recent.rates()

    @property
    def curve(self) -> tuple[Rates, ...]:
        """Every RECENT personalized decisions in turn; an unfinished last point is left out."""
        return tuple(self._curve)

    def _sample(self, answer: Answer) -> _Sample:
        worth = self._world.worth(answer.number, answer.offer, answer.eligible)
        achieved, realised = 0.0, 0.0
        if answer.outcome is not None:
            achieved, realised = worth.shown, answer.outcome.reward
        return worth.uniform, achieved, worth.best, worth.best_single, realised

    def _observe_offers(self, answer: Answer) -> None:
        for offer in answer.eligible:
            self._offers.setdefault(offer, OfferSum()).eligible += 1
        if answer.outcome is not None:
            self._offers.setdefault(answer.offer, OfferSum()).add(answer)

    def _observe_curve(self, sample: _Sample) -> None:
        self._recent.add(sample)
        self._recent_samples.append(sample)
        if len(self._recent_samples) > RECENT:
            self._recent.add(self._recent_samples.popleft(), times=-1)
        self._point.add(sample)
        if self._point.decisions == RECENT:
            self._curve.append(self._point.rates())
            self._point = RateSum()


class LoggedTally:
    """Answers against a log: which offers were drawn, and what the rows that matched had earned."""

    def __init__(self, data: LoggedData) -> None:
        self._data = data
        self.drawn: dict[str, int] = {}
        """Answers by the offer drawn."""
        self.unused: Counter[str] = Counter()
        """Rows that could not be used, by why not."""
        self._matched: list[LoggedRow] = []

    def observe(self, answer: Answer) -> None:
        """Count one answer."""
        self.drawn[answer.offer] = self.drawn.get(answer.offer, 0) + 1
        row = self._data.rows[answer.number]
        if answer.outcome is not None:
            self._matched.append(row)
        elif answer.reason.startswith("fallback"):
            self.unused[f"answered with a fallback ({answer.reason})"] += 1
        elif answer.offer == row.offer:
            self.unused["not activated"] += 1
        elif row.offer not in answer.eligible:
            self.unused["given an offer that rules do not allow there"] += 1
        else:
            self.unused["where the service drew another offer"] += 1

    @property
    def matched(self) -> LoggedRate:
        """Every row whose drawn offer was the one given."""
        return self._data.mean(self._matched)

    @property
    def recent(self) -> LoggedRate:
        """The last RECENT of them."""
        return self._data.mean(self._matched[-RECENT:])

    @property
    def equal_rows(self) -> float:
        """As many rows of equal weight would tell as much as those that matched (Kish, 1965)."""
        weights = [self._data.weight(row) for row in self._matched]
        squares = math.fsum(weight**2 for weight in weights)
        return math.fsum(weights) ** 2 / squares if squares else 0.0

    def offer(self, offer: str) -> LoggedRate:
        """Those of one offer."""
        return self._data.mean(row for row in self._matched if row.offer == offer)
