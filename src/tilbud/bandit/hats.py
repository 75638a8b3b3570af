"""Numbers as a regression reads them: where a number lies between two knots, by how near it is to each.

    x between knots a and b:  feature(a) = (b − x) / (b − a),  feature(b) = (x − a) / (b − a)

A sum of weights times such hats is any line with bends at the knots, so thresholds and bands can be learned
where a number itself could only be good or bad in proportion.

Until enough values of a number were seen, its knots are the powers of two of 1 + |x|, on each side of 0:
whatever its unit, with nothing known. Then they are quantiles of what was seen, at least one value apart, so
that years, timestamps and numbers that differ in the third digit are told apart. Where most of what comes
later lies beyond the knots, as of a clock, they are made anew from what comes. The hour of the day has knots
of its own, three hours apart on the clock's circle, so that 23 lies as near to 1 as 1 to 3.

What holds: the state is a function of the numbers seen, in order. Values of one number's features lie in
[0, 1] and sum to 1, whatever finite number is read. Numbers that are one text in the ledger are one number.
Reading changes nothing. What is kept is bounded: so many numbers by so many values.

What it does not do: know of campaigns or VW; the index of a number is all it is called.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from tilbud.domain.limits import Limits

HOUR_KNOTS = 8  # of a day
KNOTS = 9  # quantiles: the least value, each eighth, the largest
_INDEX_BITS = 48
_MASK = (1 << _INDEX_BITS) - 1
_ODD = 0x9E3779B97F4A7C15  # 2^64 / φ: consecutive multiples of it lie far apart (Knuth, TAOCP 3, 6.4)
_NEGATIVE = 1 << 10
_GENERATION = 1 << 11
_TINY = 1e-6  # what is less of a hat would leave no trace in float32

Feature = tuple[int, float]
"""An index of 48 bits, and a value in (0, 1]."""


def octaves(index: int, value: float) -> list[Feature]:
    """Return the features of a number between the powers of two of 1 + |x|, with nothing known of it."""
    place = math.log2(1.0 + abs(value))
    knot = int(place)
    key = knot + (_NEGATIVE if value < 0.0 else 0)
    return _hat(index, key, key + 1, place - knot)


def hour_of_day(index: int, hour: float) -> list[Feature]:
    """Return the features of an hour between knots on the clock's circle, of which 24 is 0."""
    place = hour * HOUR_KNOTS / 24.0 % HOUR_KNOTS
    knot = int(place)
    return _hat(index, knot % HOUR_KNOTS, (knot + 1) % HOUR_KNOTS, place - knot)


def written(features: Iterable[Feature]) -> str:
    """Return features in VW's language, to six decimals."""
    return " ".join([f"{index}:{value:.6f}" for index, value in features])


@dataclass(slots=True)
class _Seen:
    """What was seen of one number."""

    values: list[float] = field(default_factory=list)  # since knots were last asked for
    knots: list[float] = field(default_factory=list)  # in order, each another; []: not yet
    generation: int = 0  # how often there were knots
    beyond: int = 0  # of `since` values seen with these knots, how many lie outside
    since: int = 0

    def see(self, value: float) -> None:
        if self.knots:
            self.since += 1
            if not self.knots[0] <= value <= self.knots[-1]:
                self.beyond += 1
                self.values.append(value)
            if self.since < Limits.knots_judged_after:
                return
            moved = 2 * self.beyond > self.since
            self.since = self.beyond = 0
            if not moved:
                self.values = []
                return
        else:
            self.values.append(value)
        if len(self.values) >= Limits.knots_of_values:
            self.knots, self.values = _quantiles(self.values), []
            self.generation += 1


class Hats:
    """What was seen of every number of a campaign."""

    def __init__(self) -> None:
        self._seen: dict[int, _Seen] = {}

    def read(self, index: int, value: float) -> list[Feature]:
        """Return a number's features."""
        seen = self._seen.get(index)
        if seen is None or not seen.knots:
            return octaves(index, value)
        knots = seen.knots
        base = seen.generation * _GENERATION
        right = bisect_right(knots, value)
        if right == 0:
            return _hat(index, base, base + 1, 0.0)
        left = base + right - 1
        if right == len(knots):
            return _hat(index, left, base + right, 0.0)
        low, high = knots[right - 1], knots[right]
        return _hat(index, left, base + right, (value - low) / (high - low))

    def see(self, numbers: Iterable[tuple[int, float]]) -> None:
        """Take note of numbers, by index, of one settlement."""
        for index, value in numbers:
            seen = self._seen.get(index)
            if seen is None:
                if len(self._seen) >= Limits.features_max:
                    continue  # of features that the file no longer declares, say
                seen = self._seen[index] = _Seen()
            seen.see(value)

    def state(self) -> dict[str, Any]:
        """Return all there is, as JSON holds it."""
        return {
            str(index): [seen.values, seen.knots, seen.generation, seen.beyond, seen.since]
            for index, seen in self._seen.items()
        }

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Self:
        """Return it from its state."""
        hats = cls()
        hats._seen = {int(index): _Seen(*seen) for index, seen in state.items()}
        return hats


def _hat(index: int, left: int, right: int, share: float) -> list[Feature]:
    """Return the features of a place between two knots, `share` of the way from the left one."""
    features = []
    if share < 1.0 - _TINY:
        features.append((_index(index, left), 1.0 - share))
    if share > _TINY:
        features.append((_index(index, right), share))
    return features


def _index(index: int, key: int) -> int:
    return (index + (key + 1) * _ODD) & _MASK


def _quantiles(values: list[float]) -> list[float]:
    ordered = sorted(values)
    last = len(ordered) - 1
    return sorted({ordered[round(last * knot / (KNOTS - 1))] for knot in range(KNOTS)})
