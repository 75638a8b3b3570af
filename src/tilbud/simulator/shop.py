"""A synthetic shop with known truth: who visits, and how probably each offer makes them buy.

For measuring how well a service learns: the best possible rate is known here, so the share of the
possible uplift is a number and not a guess.

The truth is logistic. With the part of day taken from the visitor's time, in UTC,

    logit P(purchase | visitor, offer) = intercept + popularity[offer]
        + Σ over device, channel, journey stage, part of day: taste[axis][offer, the visitor's value]

popularity ~ N(0, popularity_spread²) and taste ~ N(0, taste_strength²), independent. The intercept is
solved so that showing offers uniformly earns `base_rate`. With the defaults uniform earns 0.10, the best
offer for each visitor 0.22 ± 0.02, and the best single offer for everyone about 0.17 (30 seeds): rates a
real shop could have, where one good offer takes half of the way and knowing the visitor the other half.
Nothing is tuned to a learner, and every value of an axis is equally likely.

What always holds:
 * Pure: a config and a seed give the same shop, and `visitor(n)` depends on nothing but them and n.
 * The truth depends on how many offers and values there are, not on what they are called.
 * Every probability is strictly between 0 and 1.
 * A visitor has one number that decides whether they buy: asked twice about one offer, they answer the same.
 * Every visit ends in a prompt final outcome, a purchase or a leave. So `learn: on_settlement` is unbiased
   here; where some outcomes come late or never, it is not.

What it does not do: speak gRPC, read a clock, or model customers who return.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from itertools import product
from math import fsum, prod

import numpy as np
from numpy.typing import NDArray

PARTS_OF_DAY = ("night", "morning", "afternoon", "evening")
"""Six hours each, from midnight."""

BASE_RATE = 0.10
TASTE_STRENGTH = 0.35

_HOURS_PER_PART = 6
_FIRST_DAY = datetime(2026, 1, 5, tzinfo=UTC)
"""A Monday. Visits fall anywhere in the week after it, so that every stretch of a run sees all hours."""
_WEEK_S = 7 * 24 * 3600
_CALIBRATION_CONTEXTS_MAX = 4096
_CACHED_CONTEXTS_MAX = 4096

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ShopConfig:
    """What a shop is drawn from."""

    offers: tuple[str, ...] = tuple(f"offer-{number:02}" for number in range(1, 11))
    devices: tuple[str, ...] = ("mobile", "desktop", "tablet")
    channels: tuple[str, ...] = ("web", "app", "email")
    journey_stages: tuple[str, ...] = ("awareness", "consideration", "purchase", "retention")
    base_rate: float = BASE_RATE
    """What showing offers uniformly earns: purchases per decision."""
    popularity_spread: float = 0.2
    """Standard deviation of an offer's popularity, in log-odds."""
    taste_strength: float = TASTE_STRENGTH
    """Standard deviation of every taste weight, in log-odds. 0: one offer is best for everyone."""
    delay_decisions: int = 0
    """A visit's outcome is reported after so many further decisions."""
    taste_change_at: int | None = None
    """From this visitor on, every taste is drawn anew; popularity and base rate stay."""

    def __post_init__(self) -> None:
        if not self.offers:
            raise ValueError("a shop needs at least one offer")
        if not 0 < self.base_rate < 1:
            raise ValueError(f"base_rate must be in (0, 1), not {self.base_rate}")
        if self.popularity_spread < 0 or self.taste_strength < 0:
            raise ValueError("popularity_spread and taste_strength must not be negative")
        if self.delay_decisions < 0:
            raise ValueError(f"delay_decisions must not be negative, not {self.delay_decisions}")


@dataclass(frozen=True, slots=True)
class Visitor:
    """One visit. Empty text: the shop does not have that axis."""

    number: int
    device: str
    channel: str
    journey_stage: str
    time: datetime
    values: tuple[int, int, int, int]
    """Index of device, channel, journey stage and part of day."""
    luck: float
    """In [0, 1): the visitor buys where it is below the probability."""


@dataclass(frozen=True, slots=True)
class Tastes:
    """The truth between two changes of taste, in log-odds."""

    intercept: float
    popularity: Floats
    """(offers,)"""
    weights: tuple[Floats, ...]
    """For each axis (values, offers)."""
    favourite: int
    """The offer that earns most when everyone is shown the same."""


class Shop:
    """The truth, and the visitors it holds for."""

    def __init__(self, config: ShopConfig, seed: int) -> None:
        self.config = config
        self.seed = seed
        self._index = {offer: index for index, offer in enumerate(config.offers)}
        # An axis the campaign does not declare has one value, the same for everyone.
        axes = (config.devices or ("",), config.channels or ("",), config.journey_stages or ("",))
        self._axes: tuple[tuple[str, ...], ...] = (*axes, PARTS_OF_DAY)
        popularity = np.random.default_rng([seed, 0]).normal(0, config.popularity_spread, len(config.offers))
        self._tastes = tuple(self._draw_tastes(popularity, era) for era in (0, 1))
        self._row = lru_cache(maxsize=_CACHED_CONTEXTS_MAX)(self._row_uncached)

    def visitor(self, number: int) -> Visitor:
        """The visitor with this number, the same whenever asked."""
        digest = blake2b(f"{self.seed}:{number}".encode(), digest_size=40).digest()
        device, channel, stage, second, luck = (
            int.from_bytes(digest[at : at + 8], "big") / 2**64 for at in range(0, 40, 8)
        )
        indexes = [
            min(int(u * len(axis)), len(axis) - 1)
            for u, axis in zip((device, channel, stage), self._axes, strict=False)
        ]
        time = _FIRST_DAY + timedelta(seconds=min(int(second * _WEEK_S), _WEEK_S - 1))
        part = time.hour // _HOURS_PER_PART
        return Visitor(
            number=number,
            device=self._axes[0][indexes[0]],
            channel=self._axes[1][indexes[1]],
            journey_stage=self._axes[2][indexes[2]],
            time=time,
            values=(indexes[0], indexes[1], indexes[2], part),
            luck=min(luck, 1 - 2**-53),
        )

    def probability(self, visitor: Visitor, offer: str) -> float:
        """How probably the visitor buys when shown the offer. An unknown offer is a KeyError."""
        return self.probabilities(visitor)[self._index[offer]]

    def probabilities(self, visitor: Visitor) -> tuple[float, ...]:
        """The same for every offer, in the config's order."""
        return self._row(self._era(visitor), visitor.values)

    def uniform(self, visitor: Visitor) -> float:
        """The expected reward of showing this visitor any offer with equal chance."""
        row = self.probabilities(visitor)
        return fsum(row) / len(row)

    def best(self, visitor: Visitor) -> float:
        """The expected reward of showing this visitor the best offer."""
        return max(self.probabilities(visitor))

    def best_single(self, visitor: Visitor) -> float:
        """The expected reward of showing this visitor what is best for everyone together."""
        return self.probabilities(visitor)[self._tastes[self._era(visitor)].favourite]

    def buys(self, visitor: Visitor, offer: str) -> bool:
        """Whether this visitor, shown this offer, buys."""
        return visitor.luck < self.probability(visitor, offer)

    def knows(self, offer: str) -> bool:
        """Whether the offer is one of the shop's; a fallback is not."""
        return offer in self._index

    def _era(self, visitor: Visitor) -> int:
        change = self.config.taste_change_at
        return int(change is not None and visitor.number >= change)

    def _row_uncached(self, era: int, values: tuple[int, ...]) -> tuple[float, ...]:
        tastes = self._tastes[era]
        logits = tastes.intercept + tastes.popularity + interactions(tastes.weights, [values])[0]
        return tuple(float(p) for p in logistic(logits))

    def _draw_tastes(self, popularity: Floats, era: int) -> Tastes:
        generator = np.random.default_rng([self.seed, 1 + era])
        offers, strength = len(self.config.offers), self.config.taste_strength
        weights = tuple(generator.normal(0, strength, (len(axis), offers)) for axis in self._axes)
        logits = popularity + interactions(
            weights, sample_contexts([len(axis) for axis in self._axes], generator)
        )
        intercept = solve_intercept(logits, self.config.base_rate)
        favourite = int(logistic(logits + intercept).mean(axis=0).argmax())
        return Tastes(intercept, popularity, weights, favourite)


def sample_contexts(sizes: Sequence[int], generator: np.random.Generator) -> list[tuple[int, ...]]:
    """Every context of axes of these sizes, or a large sample where there are too many."""
    if prod(sizes) <= _CALIBRATION_CONTEXTS_MAX:
        return list(product(*(range(size) for size in sizes)))
    sample = generator.integers(0, sizes, (_CALIBRATION_CONTEXTS_MAX, len(sizes)))
    return [tuple(int(value) for value in values) for values in sample]


def interactions(weights: Sequence[Floats], contexts: Sequence[tuple[int, ...]]) -> Floats:
    """What tastes add to the log-odds: (contexts, offers)."""
    columns = np.asarray(contexts).T
    parts = [weight[column] for weight, column in zip(weights, columns, strict=True)]
    total: Floats = np.sum(parts, axis=0)
    return total


def logistic(logits: Floats) -> Floats:
    """Log-odds to probabilities, kept strictly inside (0, 1)."""
    odds: Floats = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
    return odds


def solve_intercept(logits: Floats, rate: float) -> float:
    """The number to add so that the mean probability is `rate`; by bisection, the mean being monotone."""
    low, high = -60.0, 60.0
    for _ in range(80):
        middle = (low + high) / 2
        if float(logistic(logits + middle).mean()) < rate:
            low = middle
        else:
            high = middle
    return (low + high) / 2
