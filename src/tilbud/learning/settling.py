"""The learner: settles what is due, lets the models learn it, writes checkpoints, forgets the old.

One task for the whole process. What holds: a failing turn is logged and tried again, never fatal, and
never hides the next campaign's turn; a failed checkpoint keeps the last good one; what was settled
and not yet learned at the end is learned at the next start. It decides nothing about rewards: those
are `domain/rewards.py`, in the ledger's own transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from time import monotonic

import structlog

from tilbud.bandit.checkpoints import Checkpoints
from tilbud.domain.clock import Clock
from tilbud.domain.errors import TilbudError
from tilbud.domain.limits import Limits
from tilbud.learning.replica import Learned, catch_up
from tilbud.ledger.port import Ledger
from tilbud.telemetry.metrics import Metrics

_HEARTBEAT_S = 1.0


class Learner:
    """Keeps every served campaign's model up to date with its ledger."""

    def __init__(
        self,
        *,
        campaigns: Callable[[], Iterable[Learned]],
        ledger: Ledger,
        checkpoints: Checkpoints,
        clock: Clock,
        metrics: Metrics,
        limits: Limits,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._campaigns = campaigns
        self._ledger = ledger
        self._checkpoints = checkpoints
        self._clock = clock
        self._metrics = metrics
        self._limits = limits
        self._log = log
        self._due = asyncio.Event()
        self._turn = asyncio.Lock()
        self._stopping = False
        self._saved: dict[tuple[str, str], tuple[int, float]] = {}
        self._heartbeat_at = 0.0
        self._purge_at = monotonic() + limits.purge_every_s
        self.healthy = True

    def wake(self) -> None:
        """Say that something may be due before the next turn."""
        self._due.set()

    async def run(self) -> None:
        """Take turns until `stop`."""
        while not self._stopping:
            try:
                more = await self.turn()
                self.healthy = True
            except Exception as error:  # noqa: BLE001 - the learner must outlive any surprise
                more = self._failed(error)
            if not more:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._due.wait(), self._limits.settle_every_s)
            self._due.clear()

    def stop(self) -> None:
        """Make `run` return after its turn."""
        self._stopping = True
        self._due.set()

    @contextlib.asynccontextmanager
    async def between_turns(self) -> AsyncIterator[None]:
        """Hold the next turn off, for who replaces campaigns or models."""
        async with self._turn:
            yield

    async def turn(self) -> bool:
        """Settle, learn, and see to checkpoints and old rows; return whether more is due already."""
        async with self._turn:
            return await self._take_turn()

    async def _take_turn(self) -> bool:
        more = False
        for campaign in tuple(self._campaigns()):
            more |= await self._settle(campaign)
            await self.learn(campaign)
            if self._checkpoint_due(campaign):
                await self.checkpoint(campaign)
        now = monotonic()
        if now >= self._heartbeat_at:
            self._heartbeat_at = now + _HEARTBEAT_S
            await self._ledger.touch(self._clock.now())
            self._observe()
        if now >= self._purge_at:
            self._purge_at = now + self._limits.purge_every_s
            await self._purge()
        return more

    async def checkpoint(self, campaign: Learned) -> None:
        """Write a checkpoint if something was learned since the last; a failure is logged, not raised."""
        key, sequence = (campaign.id, campaign.model.lineage), campaign.model.sequence
        known = self._saved.get(key)
        if known is not None and known[0] == sequence:
            return
        saved_us = self._clock.now().wall_us
        self._saved[key] = (known[0] if known else -1, monotonic())  # a failure waits for its next turn too
        try:
            prepared = self._checkpoints.prepare(campaign.model)
            await asyncio.to_thread(self._checkpoints.commit, prepared, saved_us)
        except (OSError, TilbudError) as error:
            self._metrics.checkpoint_errors.labels(campaign.id).inc()
            self._log.error("checkpoint_failed", campaign=campaign.id, error=str(error))
            return
        self._saved[key] = (sequence, monotonic())
        self._metrics.checkpoint_time.labels(campaign.id).set(saved_us / 1e6)

    async def checkpoint_all(self) -> None:
        """Write what was learned of every campaign; for a service that stops."""
        for campaign in tuple(self._campaigns()):
            await self.checkpoint(campaign)

    def opened(self, campaign: Learned) -> None:
        """Remember where a model that was just opened stands, so that checkpoints count from there."""
        self._saved[campaign.id, campaign.model.lineage] = (-1, monotonic())

    async def _settle(self, campaign: Learned) -> bool:
        now = self._clock.now()
        oldest = self._ledger.oldest_due_service_us(campaign.id)
        lag_us = 0 if oldest is None else max(0, now.service_us - oldest)
        self._metrics.settlement_lag.labels(campaign.id).set(lag_us / 1e6)
        if oldest is None or oldest > now.service_us:
            return False
        settled = await self._ledger.settle(
            campaign.id, campaign.reward_rules, self._limits.settle_batch_rows_max, now
        )
        if settled.expired:
            self._metrics.expired(campaign.id, settled.expired)
        return settled.more

    async def learn(self, campaign: Learned) -> None:
        """Learn what settled since, counting it; only within a turn, or between turns."""
        await catch_up(
            campaign.id,
            campaign.model,
            ledger=self._ledger,
            limits=self._limits,
            on_learned=lambda settlement, learned: self._metrics.settled(settlement, learned=learned),
            on_slice=lambda seconds: self._metrics.learned(campaign.id, seconds),
        )
        self._metrics.model_sequence.labels(campaign.id, campaign.model.lineage).set(campaign.model.sequence)

    def _checkpoint_due(self, campaign: Learned) -> bool:
        sequence, at = self._saved.get((campaign.id, campaign.model.lineage), (-1, 0.0))
        behind = campaign.model.sequence - max(sequence, 0)
        return behind >= self._limits.checkpoint_every_settlements or (
            behind > 0 and monotonic() - at >= self._limits.checkpoint_every_s
        )

    def _observe(self) -> None:
        for campaign in self._campaigns():
            self._metrics.pending.labels(campaign.id).set(self._ledger.pending(campaign.id))

    async def _purge(self) -> None:
        now = self._clock.now()
        before_us = now.wall_us - int(self._limits.retention_s * 1e6)
        for campaign in self._campaigns():
            oldest = self._checkpoints.oldest_sequence(campaign.id, campaign.model.lineage)
            while await self._ledger.purge(  # noqa: ASYNC110 - gives way, waits for nothing
                campaign.id, before_us, oldest or 0, self._limits.purge_batch_rows_max, now
            ):
                await asyncio.sleep(0)

    def _failed(self, error: Exception) -> bool:
        self.healthy = False
        self._metrics.learning_errors.inc()
        self._log.error("learning_failed", error=str(error), kind=type(error).__name__)
        return False
