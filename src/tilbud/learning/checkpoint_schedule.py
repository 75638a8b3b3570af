"""When checkpoints of served models are written, and which of those on disk must go.

What holds: a model that is behind, which may have learned what was erased, is never written; a checkpoint
that failed keeps the last good one, and is tried again in time, not at every turn. Only within a turn of the
learner, or between turns. What is in a file is `bandit/checkpoints`' business; who may write, the learner's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

import structlog

from tilbud.bandit.checkpoints.store import Checkpoints
from tilbud.bandit.model import Model
from tilbud.domain.clock import Clock
from tilbud.domain.errors import TilbudError
from tilbud.domain.limits import Limits
from tilbud.learning.replica import Learned
from tilbud.ledger.ports import SettlementHistory
from tilbud.telemetry.learning import LearningMetrics


class CheckpointSchedule:
    """Knows where each model stood when it was last written."""

    def __init__(
        self,
        *,
        checkpoints: Checkpoints,
        history: SettlementHistory,
        is_behind: Callable[[Model], Awaitable[bool]],
        clock: Clock,
        metrics: LearningMetrics,
        limits: Limits,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._checkpoints = checkpoints
        self._history = history
        self._is_behind = is_behind
        self._clock = clock
        self._metrics = metrics
        self._limits = limits
        self._log = log
        self._saved: dict[tuple[str, str], tuple[int, float]] = {}  # by campaign and lineage, as that below
        self._unsaved: set[tuple[str, str]] = set()  # whose last checkpoint failed: not at every turn again
        self._dropped: dict[str, int] = {}  # at which erasures old checkpoints were last dropped

    def opened(self, model: Model) -> None:
        """Remember where a model stands that was just opened: checkpoints count, and age, from there."""
        self._saved[lineage_key(model)] = (model.sequence, monotonic())
        saved_us = [
            manifest.saved_us
            for _, manifest in self._checkpoints.manifests(model.campaign)
            if manifest.lineage == model.lineage
        ]
        if saved_us:
            self._metrics.checkpoint_time.labels(model.campaign).set(max(saved_us) / 1e6)

    def forget(self, model: Model) -> None:
        """Forget a model that another has replaced."""
        self._saved.pop(lineage_key(model), None)
        self._unsaved.discard(lineage_key(model))

    def saved_sequence(self, model: Model) -> int:
        """Return where a model stood at its last checkpoint."""
        return self._saved.get(lineage_key(model), (0, 0.0))[0]

    def due(self, model: Model) -> bool:
        """Whether enough was learned since the last checkpoint, or some of it long ago."""
        key = lineage_key(model)
        sequence, at = self._saved.get(key, (0, 0.0))
        behind = model.sequence - sequence
        if behind > 0 and monotonic() - at >= self._limits.checkpoint_every_s:
            return True
        return behind >= self._limits.checkpoint_every_settlements and key not in self._unsaved

    async def save_or_leave(self, campaign: Learned, model: Model, *, holder: bool) -> None:
        """Write a checkpoint that is due, or leave it to the process that holds the lease, which does so now.

        So that who takes the lease over begins with settling, and not with a checkpoint of every campaign, it
        counts on what is on disk, and no more: one that was due when the holder was killed is written.
        """
        if holder:
            await self.save(campaign, model)
        else:
            saved = self._checkpoints.newest_sequence(campaign.id, model.lineage) or 0
            self._saved[lineage_key(model)] = (saved, monotonic())

    async def save(self, campaign: Learned, model: Model) -> None:
        """Write what a model learned since its last checkpoint; a failure is logged, not raised."""
        key, sequence = lineage_key(model), model.sequence
        before = self.saved_sequence(model)
        if sequence == before:
            return
        saved_us = self._clock.now().wall_us
        self._saved[key] = (before, monotonic())
        self._unsaved.add(key)
        try:
            if await self._is_behind(model):
                return
            prepared = self._checkpoints.prepare(model)
            beside = [other.lineage for other in campaign.models.values()]
            await asyncio.to_thread(self._checkpoints.commit, prepared, saved_us, beside)
        except (OSError, TilbudError) as error:
            self._metrics.checkpoint_errors.labels(campaign.id).inc()
            self._log.error("checkpoint_failed", campaign=campaign.id, policy=model.policy, error=str(error))
            return
        self._saved[key] = (sequence, monotonic())
        self._unsaved.discard(key)
        self._metrics.checkpoint_time.labels(campaign.id).set(saved_us / 1e6)

    async def drop_erased(self) -> None:
        """Remove checkpoints that learned what was erased since, of every campaign, served or not.

        Only between turns, by every process. Raises OSError where a file stays, when all campaigns were seen
        to.
        """
        failed: OSError | TilbudError | None = None
        for name in self._checkpoints.campaigns():
            try:
                erasures = await self._history.erasures(name)
                if self._dropped.get(name) == erasures:
                    continue  # what another process saves late, of a model that is behind, it drops itself
                if dropped := await asyncio.to_thread(self._checkpoints.drop_erased, name, erasures):
                    self._log.info("erased_checkpoints_dropped", campaign=name, dropped=dropped)
                self._dropped[name] = erasures
            except (OSError, TilbudError) as error:
                self._log.error("erased_checkpoints_stay", campaign=name, error=str(error))
                failed = error
        if failed is not None:
            raise failed


def lineage_key(model: Model) -> tuple[str, str]:
    """Return the campaign and the lineage, which is that of one policy alone."""
    return model.campaign, model.lineage
