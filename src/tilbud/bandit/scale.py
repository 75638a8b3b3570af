"""Rewards in standard deviations from the campaign's mean, so that neither unit nor base rate matters.

    cost = (mean − r) / deviation, within ±10

with the mean and deviation of all rewards learned so far, this one included. Weights that have learned
nothing thus predict the campaign's mean, and the regression's steps, which fit a noise of about 1, fit every
range and rate. What is more than ten deviations from the mean, as amounts with a heavy tail are, is taken
for ten: one such order would outweigh a hundred others (the mean of what is so cut is nearly in order still,
and its noise much less).

What holds: a function of the rewards, in order. Costs are finite; while all rewards are equal they are 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

COST_MAX = 10.0


class Scale:
    """The number of rewards so far, their mean, and the sum of squares of what they lie from it."""

    def __init__(self) -> None:
        self._count = 0
        self._mean = 0.0
        self._squares = 0.0

    def cost(self, reward: float) -> float:
        """Take note of a reward in [0, 1], and return what it costs, in deviations below the mean."""
        # Welford (1962), "Note on a method for calculating corrected sums of squares and products".
        self._count += 1
        before = reward - self._mean
        self._mean += before / self._count
        after = reward - self._mean
        self._squares += before * after
        deviation = math.sqrt(self._squares / self._count)
        if deviation == 0.0:
            return 0.0
        return min(max(-after / deviation, -COST_MAX), COST_MAX)

    def state(self) -> list[float]:
        """Return all there is."""
        return [self._count, self._mean, self._squares]

    @classmethod
    def of(cls, state: Sequence[float]) -> Self:
        """Return it from its state."""
        scale = cls()
        scale._count, scale._mean, scale._squares = int(state[0]), float(state[1]), float(state[2])
        return scale
