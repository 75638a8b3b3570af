"""Which of two regressions predicts a campaign's own settlements better: the plain one, or the challenger.

Each predicts what a settlement cost before it learns of it (Dawid, 1984, "Present position and potential
developments", the prequential principle), so that a regression with more features is not flattered by them.
Squared errors are summed, what is older counting less by a factor a settlement,

    loss ← 0.9995 · loss + (predicted − cost)²,

and whichever does not answer takes over once its loss is less by a margin: what luck alone moves. A memory
of some 2,000 settlements lets one take over for good that learns more slowly, and go when tastes change.

What holds: a function of the predictions and costs, in order; the plain one answers at first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

PLAIN, CHALLENGER = 0, 1
_KEPT = 0.9995
_MARGIN = 1.0  # squared deviations of the reward


class Judge:
    """The loss of each, and which of them answers."""

    def __init__(self) -> None:
        self.answering = PLAIN
        self._losses = [0.0, 0.0]

    def see(self, predicted: Sequence[float], cost: float) -> None:
        """Take note of what each predicted of a settlement, and what it cost."""
        for which, value in enumerate(predicted):
            self._losses[which] = _KEPT * self._losses[which] + (value - cost) ** 2
        other = CHALLENGER - self.answering
        if self._losses[other] + _MARGIN < self._losses[self.answering]:
            self.answering = other

    def state(self) -> list[float]:
        """Return all there is."""
        return [self.answering, *self._losses]

    @classmethod
    def of(cls, state: Sequence[float]) -> Self:
        """Return it from its state; ValueError where that is none."""
        judge = cls()
        answering, *losses = state
        if answering not in (PLAIN, CHALLENGER) or len(losses) != len(judge._losses):
            raise ValueError("a judge's state is damaged")
        judge.answering, judge._losses = int(answering), [float(loss) for loss in losses]
        return judge
