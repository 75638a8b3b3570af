"""A world: visitors who come, offers they like, and what that is worth, all known beforehand.

What holds: a world is a function of its cell and its seed. Whoever learns in it meets the same visitors and
the same luck: a draw's random number and an outcome's belong to the decision, not to the learner. The truth
is there as a matrix, so figures are expected rewards under the whole distribution, and luck in outcomes does
not count.

What it does not do: learn, or know of campaigns. `Design` is what the references read of a visitor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

DISCOVERY = 0.02
"""Of every learner, references too: the share of probability that is spread evenly."""
SHOP_AXES = {"device": 3, "channel": 4, "journey_stage": 4, "part_of_day": 4}
"""What every visitor has, and how many words each has."""
BUCKETS = 10
HAT_KNOTS = 80  # of one sign of a number, half an octave apart

NumberDesign = Literal["hat", "buckets", "log"]


class Newcomers(NamedTuple):
    """Offers that begin late."""

    offers: tuple[int, ...]
    since: int
    """The first decision they may be shown in."""


class Design(NamedTuple):
    """Every visitor as a sparse vector; the last column is 1 for all."""

    ids: Integers
    """Columns, one row a decision: shape (decisions, features of one visitor)."""
    values: Floats
    width: int
    """Columns in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What happens in so many decisions. T is their number, K the number of offers."""

    words: Mapping[str, Integers]
    """By name, which word each visitor has (T); −1: not known. Those of SHOP_AXES are always there."""
    numbers: Mapping[str, Floats] = field(default_factory=dict)
    """(T); NaN: not known."""
    flags: Mapping[str, Flags] = field(default_factory=dict)
    hours: Integers | None = None
    """(T) of the week, Monday's first is 0; None: an hour of their part of the day, on a Wednesday."""
    offers: tuple[Mapping[str, str], ...]
    """The attributes of each offer (K)."""
    rates: NDArray[np.float32]
    """The chance of success (T, K)."""
    worth: Floats
    """What a success is worth in the mean (K), in the campaign's units."""
    amounts: Floats | None = None
    """What this visitor's success is worth, as a multiple of `sizes` (T); None: exactly `worth`."""
    sizes: Floats | None = None
    reward_range: tuple[float, float] = (0.0, 1.0)
    eligible: Flags | None = None
    """(T, K); None: every offer always."""
    newcomers: Newcomers | None = None
    delay: int = 0
    """Decisions between one and its settlement."""
    judged: slice
    """The decisions that count for the figure."""
    luck: Floats
    draws: Floats
    """One random number in [0, 1) for the outcome and one for the draw of each decision (T)."""

    @property
    def decisions(self) -> int:
        """How many there are."""
        return len(self.luck)

    def offers_at(self, decision: int) -> tuple[int, ...]:
        """Return the indexes of the offers that may be shown."""
        if self.eligible is None:
            return tuple(range(len(self.offers)))
        return tuple(np.flatnonzero(self.eligible[decision]).tolist())

    def expected(self, decisions: slice) -> Floats:
        """Return the mean reward of every offer, shown to each of these visitors (decisions, K)."""
        return np.asarray(self.rates[decisions].astype(np.float64) * self.worth)

    def reward(self, decision: int, offer: int) -> float:
        """Return what comes of showing an offer to this visitor, in the campaign's units and not clipped."""
        if self.luck[decision] >= self.rates[decision, offer]:
            return 0.0
        if self.amounts is None or self.sizes is None:
            return float(self.worth[offer])
        return float(self.sizes[offer] * self.amounts[decision])

    def design(self, numbers: NumberDesign) -> Design:
        """Return what a reference reads: words and flags one by one, numbers in one of three ways.

        `hat`: between two powers of √2 of 1 + |x|, by how near it is to each. `buckets`: tenths of the
        world's own distribution, which nobody knows beforehand. `log`: log(1 + |x|) / 4 with its sign.
        """
        columns: list[tuple[Integers, Floats]] = []
        start = 0
        for which in self.words.values():
            columns.append((np.maximum(which, 0) + start, (which >= 0).astype(np.float64)))
            start += int(which.max()) + 1
        for flag in self.flags.values():
            columns.append((np.full(self.decisions, start), flag.astype(np.float64)))
            start += 1
        if self.hours is not None:
            hour_and_day = (self.hours % 24, 24 + self.hours // 24)
            columns += [(start + of_time, np.ones(self.decisions)) for of_time in hour_and_day]
            start += 24 + 7
        for number in self.numbers.values():
            told, width = _told(number, numbers)
            columns += [(which + start, value) for which, value in told]
            start += width
        columns.append((np.full(self.decisions, start), np.ones(self.decisions)))
        ids, values = (np.stack(part, axis=1) for part in zip(*columns, strict=True))
        used = np.unique(ids)  # hats have many knots, and few of them are met
        return Design(np.searchsorted(used, ids), values, len(used))

    def attribute_columns(self) -> Integers:
        """Return which attributes each offer has, as columns (K, attributes of one offer)."""
        known: dict[tuple[str, str], int] = {}
        rows = [[known.setdefault(item, len(known)) for item in offer.items()] for offer in self.offers]
        return np.array(rows, dtype=np.int64).reshape(len(rows), -1)


def _told(number: Floats, how: NumberDesign) -> tuple[list[tuple[Integers, Floats]], int]:
    """Return columns and values of one number, and how many columns it may need; the first is `unknown`."""
    known = ~np.isnan(number)
    x = np.where(known, number, 0.0)
    unknown = (np.zeros(len(x), np.int64), (~known).astype(np.float64))
    if how == "log":
        squashed = np.sign(x) * np.log1p(np.abs(x)) / 4
        return [unknown, (np.ones(len(x), np.int64), squashed * known)], 2
    if how == "buckets":
        edges = np.unique(np.quantile(x[known], np.linspace(0, 1, BUCKETS + 1)[1:-1]))
        bucket = np.searchsorted(edges, x, side="right") + 1
        return [unknown, (bucket, known.astype(np.float64))], BUCKETS + 1
    place = 2 * np.log2(1 + np.abs(x))
    knot = np.minimum(place.astype(np.int64), HAT_KNOTS - 2)
    sign = np.where(x < 0, HAT_KNOTS, 0) + 1
    near = (1 - (place - knot)) * known
    return [unknown, (sign + knot, near), (sign + knot + 1, (place - knot) * known)], 2 * HAT_KNOTS + 1
