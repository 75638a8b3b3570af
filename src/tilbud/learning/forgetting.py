"""What the ledger forgets when it is old: decisions that ended, and what happened to customers.

What holds: nothing goes that a served model, or a checkpoint of it, has yet to learn; it goes batch by batch,
by the process that settles alone. When it is time, the learner says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from tilbud.bandit.checkpoints.store import Checkpoints
from tilbud.bandit.model import Model
from tilbud.domain.clock import Clock
from tilbud.domain.limits import Limits
from tilbud.learning.checkpoint_schedule import lineage_key
from tilbud.ledger.ports import Retention, SettlementLog

_SERVED_NO_MORE = 1 << 62  # beyond every sequence: nothing needs what is left of such a campaign


class Forgetting:
    """Removes what is older than the limits say."""

    def __init__(
        self,
        *,
        retention: Retention,
        settlement_log: SettlementLog,
        checkpoints: Checkpoints,
        is_behind: Callable[[Model], Awaitable[bool]],
        keeps_lease: Callable[[], Awaitable[bool]],
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._retention = retention
        self._settlements = settlement_log
        self._checkpoints = checkpoints
        self._is_behind = is_behind
        self._keeps_lease = keeps_lease
        self._clock = clock
        self._limits = limits

    async def decisions(self, models: Sequence[Model]) -> None:
        """Forget decisions that ended and are older than the retention, but those a checkpoint needs.

        A model that is behind is about to be learned anew, from the first settlement on.
        """
        now = self._clock.now()
        before_us = now.steady_us - int(self._limits.retention_s * 1e6)
        keep_after: dict[str, int] = {}
        for model in models:
            needed = 0
            if not await self._is_behind(model):
                needed = self._checkpoints.oldest_sequence(*lineage_key(model)) or 0
            keep_after[model.campaign] = min(needed, keep_after.get(model.campaign, needed))
        for name in await self._settlements.campaigns():
            keep = keep_after.get(name, _SERVED_NO_MORE)
            rows = self._limits.purge_batch_rows_max
            await self._by_batches(partial(self._retention.purge, name, before_us, keep, rows, now))

    async def customers(self) -> None:
        """Forget what happened to customers longer ago than a rule may look back."""
        now, limits = self._clock.now(), self._limits
        events_before_us = now.steady_us - int(limits.retention_s * 1e6)
        exposures_before_us = now.steady_us - int(limits.exposures_kept_s * 1e6)
        rows = limits.purge_batch_rows_max
        await self._by_batches(
            partial(self._retention.purge_customers, events_before_us, exposures_before_us, rows, now)
        )

    async def _by_batches(self, purge: Callable[[], Awaitable[int]]) -> None:
        """Remove batch after batch until nothing is left, or the lease is lost."""
        while await self._keeps_lease():
            if not await purge():
                return
            await asyncio.sleep(0)
