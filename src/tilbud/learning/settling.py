"""Settles what is due, where this process holds the lease, and counts what it settled.

What holds: who lost the lease settles nothing, even unawares; each settlement and expiry is counted once,
by the process that made it, also where a commit came about that nobody waited for any longer. Which campaigns
are looked at, and when, is the learner's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tilbud.domain.clock import Clock
from tilbud.domain.errors import LeaseLost
from tilbud.domain.limits import Limits
from tilbud.learning.own_settlements import OwnSettlements
from tilbud.learning.replica import Learned
from tilbud.learning.settling_lease import SettlingLease
from tilbud.ledger.answers import Settled, or_later
from tilbud.ledger.ports import SettlementLog
from tilbud.telemetry.learning import LearningMetrics

_UNSERVED_BATCHES_MAX = 10  # a heartbeat, of each campaign that is not served


class Settling:
    """Ends due decisions under the lease."""

    def __init__(
        self,
        *,
        lease: SettlingLease,
        settlement_log: SettlementLog,
        own: OwnSettlements,
        clock: Clock,
        metrics: LearningMetrics,
        limits: Limits,
    ) -> None:
        self._lease = lease
        self._settlements = settlement_log
        self._own = own
        self._clock = clock
        self._metrics = metrics
        self._limits = limits
        self.lags_us: dict[str, int] = {}  # by which the oldest due decision was overdue when last looked at

    async def settle(self, campaign: Learned) -> bool:
        """Settle some of what is due, if this process holds the lease; return whether more is due.

        Only within a turn, or between turns.
        """
        now = self._clock.now()
        oldest = await self._settlements.oldest_due_service_us(campaign.id)
        shown_us = (await self._settlements.clocks(campaign.id, now)).shown.service_us
        lag_us = 0 if oldest is None else max(0, shown_us - oldest)
        self._metrics.settlement_lag.labels(campaign.id).set(lag_us / 1e6)
        self.lags_us[campaign.id] = lag_us
        token = self._lease.token
        if not token or oldest is None or oldest > shown_us:
            return False
        # Nobody settles between, or the token is refused.
        _, last = await self._settlements.sequences(campaign.id)
        settling = self._settlements.settle(
            campaign.id, campaign.reward_rules, self._limits.settle_batch_rows_max, now, token
        )
        try:
            settled = await or_later(settling, lambda later: self._count_settled(campaign.id, last, later))
        except LeaseLost:
            self._lease.lost()
            return False
        self._count_settled(campaign.id, last, settled)
        return settled.more

    def _count_settled(self, campaign: str, last: int, settled: Settled) -> None:
        """Know what this process settled above the sequence `last`, which it read before."""
        _, before = self._own.uncounted(campaign)  # later, where one came about that nobody waited for
        after = max(last, before)
        self._own.settled(campaign, after, after + settled.settled)
        if settled.expired:
            self._metrics.expired(campaign, settled.expired)

    async def settle_unserved(self, campaign: str, renew: Callable[[], Awaitable[None]]) -> None:
        """End what is due of a campaign that is not served, by the rules stored with its decisions.

        Those that wait for an activation expire in time, what was shown settles once the campaign is away too
        long; it is learned when the campaign comes back.
        """
        for _ in range(_UNSERVED_BATCHES_MAX):
            await renew()
            now, rows = self._clock.now(), self._limits.settle_batch_rows_max
            due_us = await self._settlements.oldest_due_service_us(campaign)
            clocks = await self._settlements.clocks(campaign, now)
            if not self._lease.token or due_us is None or due_us > clocks.waiting.service_us:  # the later
                return
            try:
                settled = await self._settlements.settle(campaign, None, rows, now, self._lease.token)
            except LeaseLost:
                self._lease.lost()
                return
            if settled.expired:
                self._metrics.expired(campaign, settled.expired)
            if not settled.more:
                return
            await asyncio.sleep(0)
