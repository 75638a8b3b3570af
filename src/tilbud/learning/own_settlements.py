"""Settlements are learned by every process and counted by one: the one that settled them.

What holds: no settlement is counted twice, by two processes or after a model was opened anew. What a
process settled it counts when its model learns it, in the same turn as a rule; what it had settled and not
learned when it was killed is counted by nobody. So it is for one process alone: what the process before it
left is learned at the start, and not counted.
"""

from __future__ import annotations

from tilbud.domain.decision.records import Settlement
from tilbud.telemetry.learning import LearningMetrics


class OwnSettlements:
    """What this process settled and has not counted yet."""

    def __init__(self, metrics: LearningMetrics) -> None:
        self._metrics = metrics
        self._own: dict[str, tuple[int, int]] = {}  # campaign: counted to, settled to

    def settled(self, campaign: str, after: int, last: int) -> None:
        """Know that this process settled the sequences above `after` up to `last`."""
        counted, settled = self._own.get(campaign, (after, after))
        self._own[campaign] = (counted if settled == after else after, last)

    def uncounted(self, campaign: str) -> tuple[int, int]:
        """Return after which sequence, and up to which, this process settled what it has not counted."""
        return self._own.get(campaign, (0, 0))

    def learned(self, settlement: Settlement, learned: bool) -> None:
        """Count a settlement that a model went through, if it is one of these."""
        counted, last = self._own.get(settlement.campaign, (0, 0))
        if not counted < settlement.sequence <= last:
            return
        self._own[settlement.campaign] = (settlement.sequence, last)
        if settlement.decision_id:  # else erased: there is nothing to count, and nothing was wrong with it
            self._metrics.settled(settlement, learned=learned)
