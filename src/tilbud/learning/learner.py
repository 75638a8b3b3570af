"""The learner: has what is due settled, models learn it, checkpoints written, the old forgotten, in turns.

One task for the whole process, and a model for each policy of a campaign that learns. What holds: of all
processes on a ledger only the holder of the lease settles, writes checkpoints and purges, while every one
learns; who loses it goes on as a replica. A failing turn is logged and tried again, never fatal, and never
hides the next campaign's turn; a failed checkpoint keeps the last good one; what was settled and not yet
learned at the end is learned at the next start; a model that learned what was erased since, or only stands
in, is never checkpointed. It decides nothing about rewards: those are `domain/decision/rewards.py`, in the
ledger's own transaction; nor does it learn anew after an erasure, or where what comes next was purged, which
takes longer than a turn may: it says who is `behind`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from time import monotonic

import structlog

from tilbud.bandit.checkpoints.store import Checkpoints
from tilbud.bandit.model import Model
from tilbud.domain.clock import Clock
from tilbud.domain.errors import Overloaded, TilbudError
from tilbud.domain.limits import Limits
from tilbud.learning.agenda import Agenda
from tilbud.learning.checkpoint_schedule import CheckpointSchedule, lineage_key
from tilbud.learning.forgetting import Forgetting
from tilbud.learning.own_settlements import OwnSettlements
from tilbud.learning.replica import Learned, catch_up
from tilbud.learning.settling import Settling
from tilbud.learning.settling_lease import SettlingLease
from tilbud.ledger.answers import Standing
from tilbud.ledger.ports import Coordination, Pauses, Retention, SettlementLog
from tilbud.telemetry.learning import LearningMetrics

_HEARTBEAT_S = 1.0
_ROWS = 64
# What fails where it is no campaign; no campaign can be called so.
_LEASE, _LEDGER, _PURGE, _PURGE_CUSTOMERS = "(lease)", "(ledger)", "(purge)", "(purge of customers)"
NO_CAMPAIGNS = frozenset({_LEASE, _LEDGER, _PURGE, _PURGE_CUSTOMERS})
_NOTHING = Standing()


class Learner:
    """Keeps every served campaign's model up to date with its ledger.

    `lease` is of this process alone, among those it shares the ledger with.
    """

    def __init__(
        self,
        *,
        lease: SettlingLease,
        campaigns: Callable[[], Iterable[Learned]],
        settlement_log: SettlementLog,
        retention: Retention,
        coordination: Coordination,
        pauses: Pauses,
        checkpoints: Checkpoints,
        clock: Clock,
        metrics: LearningMetrics,
        limits: Limits,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._campaigns = campaigns
        self._settlements = settlement_log
        self._coordination = coordination
        self._pauses = pauses
        self._clock = clock
        self._metrics = metrics
        self._limits = limits
        self._log = log
        self._lease = lease
        self._own = OwnSettlements(metrics)
        self._settling = Settling(
            lease=lease,
            settlement_log=settlement_log,
            own=self._own,
            clock=clock,
            metrics=metrics,
            limits=limits,
        )
        self._forgetting = Forgetting(
            retention=retention,
            settlement_log=settlement_log,
            checkpoints=checkpoints,
            is_behind=self._is_behind_now,
            keeps_lease=self._keeps_lease,
            clock=clock,
            limits=limits,
        )
        self._due = asyncio.Event()
        self._turn = asyncio.Lock()
        self._stopping = False
        self._schedule = CheckpointSchedule(
            checkpoints=checkpoints,
            history=settlement_log,
            is_behind=self._is_behind_now,
            clock=clock,
            metrics=metrics,
            limits=limits,
            log=log,
        )
        self._failing: set[str] = set()
        self._waiting: set[str] = set()  # campaigns that are not served, with open decisions
        self._agenda = Agenda()
        self._shown: dict[tuple[str, str], int] = {}  # sequences that the metrics show
        self._pending: dict[str, int] = {}  # open decisions that the metrics show
        self._went_on_at = monotonic()
        self._heartbeat_at = 0.0
        self._purge_at = monotonic() + limits.purge_every_s

    def trouble(self) -> str:
        """Say why the service should get no calls, or "": the ledger cannot commit, or learning hangs.

        One campaign that cannot be settled or learned is told by its metric and the log; it still decides.
        """
        if _LEDGER in self._failing:
            return "the ledger cannot commit; see the log"
        quiet_s = monotonic() - self._went_on_at
        if quiet_s > self._limits.turn_overdue_s:
            return f"the learner has not gone on for {quiet_s:.0f} s"
        return ""

    def wake(self) -> None:
        """Say that something may be due before the next turn."""
        self._due.set()

    async def run(self) -> None:
        """Take turns until `stop`."""
        while not self._stopping:
            more = await self.turn()
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
        """Settle what is due, if that is up to this process; learn, see to checkpoints and old rows.

        Returns whether more is due already.
        """
        async with self._turn:
            return await self._take_turn()

    async def _take_turn(self) -> bool:
        campaigns = tuple(self._campaigns())
        served = self._agenda.serve(campaigns)
        if self._failing:
            self._failing &= self._waiting.union(served, NO_CAMPAIGNS)
        more = False
        if not self._lease.token:
            with self._trying(_LEASE):
                await self._lease.seek()
        await self._renew()
        for campaign in await self._with_something_to_do():
            await self._renew()
            with self._trying(campaign.id):
                more |= await self.settle(campaign)
                await self.learn(campaign)
                for model in campaign.models.values():
                    if self._schedule.due(model):
                        await self._schedule.save_or_leave(campaign, model, holder=bool(self._lease.token))
            self._went_on_at = monotonic()
            await asyncio.sleep(0)
        if monotonic() >= self._heartbeat_at:
            self._heartbeat_at = monotonic() + _HEARTBEAT_S
            await self._heartbeat(served)
        if self._lease.token and monotonic() >= self._purge_at:
            self._purge_at = monotonic() + self._limits.purge_every_s
            if jumped_us := self._clock.now().jumped_us:
                self._log.error("purge_postponed", wall_clock_jumped_s=jumped_us / 1e6)
            else:
                with self._trying(_PURGE):
                    await self._forgetting.decisions(
                        [model for campaign in campaigns for model in campaign.models.values()]
                    )
                with self._trying(_PURGE_CUSTOMERS):
                    await self._forgetting.customers()
        self._went_on_at = monotonic()
        return more

    async def _with_something_to_do(self) -> Sequence[Learned]:
        """Return the campaigns that a turn has to visit; one read tells of them all.

        Of the others the metrics say already what is so. Where the ledger cannot be read it is all of them:
        each finds that out for itself, and tells.
        """
        try:
            standings = await self._settlements.standings()
        except TilbudError:
            return self._agenda.look_at_all()
        now_us = self._clock.now().service_us
        to_visit = []
        for campaign in self._agenda.look_at(standings, now_us):
            if self._needs_turn(campaign, standings.get(campaign.id, _NOTHING), now_us):
                to_visit.append(campaign)
            elif all(
                model.sequence <= self._schedule.saved_sequence(model) for model in campaign.models.values()
            ):
                self._agenda.done(campaign.id)
        return to_visit

    def _needs_turn(self, campaign: Learned, standing: Standing, now_us: int) -> bool:
        """Whether anything is due, to be learned, to be saved or to be shown; or the last visit failed.

        What is due of a campaign that another process does not serve may be due later.
        """
        return (
            (standing.due_service_us is not None and standing.due_service_us <= now_us)
            or self._settling.lags_us.get(campaign.id) != 0
            or campaign.id in self._failing
            or any(
                standing.last_sequence > model.sequence
                or self._shown.get(lineage_key(model)) != model.sequence
                or model.stand_in
                or self._schedule.due(model)
                for model in campaign.models.values()
            )
        )

    async def _heartbeat(self, served: Collection[str]) -> None:
        """Prove that the ledger commits, show what waits in it, and see to campaigns that are not served."""
        with self._trying(_LEDGER):
            now = self._clock.now()
            await self._coordination.touch(now)
            self._metrics.show_pauses(await self._pauses.every_pause(), now.wall_us)
            self._metrics.wall_clock_jump.set(now.jumped_us / 1e6)
            open_decisions = {name: of.open for name, of in (await self._settlements.standings()).items()}
            for name in served:
                pending = open_decisions.pop(name, 0)
                if self._pending.get(name) != pending:
                    self._metrics.pending.labels(name).set(pending)
                    self._pending[name] = pending
            self._waiting = {name for name, pending in open_decisions.items() if pending}
            self._metrics.show_unserved({name: open_decisions[name] for name in self._waiting})
        for name in sorted(self._waiting.difference(served)):
            with self._trying(name):
                await self._settling.settle_unserved(name, self._renew)
            self._went_on_at = monotonic()

    @contextlib.contextmanager
    def _trying(self, what: str) -> Iterator[None]:
        """Log what fails and go on: the learner outlives any surprise, and tries again next turn."""
        try:
            yield
        except Overloaded:
            return  # shed load is no ill health; what is due stays due
        except Exception as error:  # noqa: BLE001 - see above
            self._metrics.learning_errors.labels(what).inc()
            if what not in self._failing:
                self._failing.add(what)
                self._log.error("learning_failed", campaign=what, error=str(error), kind=type(error).__name__)
        else:
            if what in self._failing:
                self._failing.discard(what)
                self._log.info("learning_recovered", campaign=what)

    async def _renew(self) -> None:
        """Keep the lease, where this process holds it; often, or a long turn would lose it."""
        if self._lease.renewal_due():
            with self._trying(_LEASE):
                await self._lease.ask()

    async def checkpoint(self, campaign: Learned) -> None:
        """Write what each policy learned since its last checkpoint; a failure is logged, not raised.

        None of a model that is behind: it may have learned what was erased; and none where another process
        holds the lease, or nobody. Only within a turn, or between turns.
        """
        if self._lease.token:
            for model in campaign.models.values():
                await self._schedule.save(campaign, model)

    async def checkpoint_all(self) -> None:
        """Write what was learned of every campaign; for a service that stops."""
        async with self._turn:
            for campaign in tuple(self._campaigns()):
                await self._renew()
                await self.checkpoint(campaign)

    async def release(self) -> None:
        """Let another process settle at once; for a service that stops, when it has written checkpoints."""
        async with self._turn:
            with self._trying(_LEASE):
                await self._lease.release()

    def opened(self, model: Model) -> None:
        """Remember where a model stands that was just opened: checkpoints count, and age, from there."""
        self._schedule.opened(model)

    def replaced(self, model: Model) -> None:
        """Forget where a model stood that another has replaced, and show it no more."""
        key = lineage_key(model)
        self._schedule.forget(model)
        self._shown.pop(key, None)
        self._pending.pop(model.campaign, None)
        self._metrics.model_sequence.remove(*key)

    async def behind(self) -> tuple[tuple[str, str], ...]:
        """Return the (campaign, policy) of those served whose model must be opened anew.

        It only stands in for another, it learned what was erased since, or what it has to learn next was
        purged while it could not.
        """
        standings = await self._settlements.standings()
        models = [model for served in self._campaigns() for model in served.models.values()]
        behind = [
            (model.campaign, model.policy) for model in models if await self._is_behind(model, standings)
        ]
        return tuple(behind)

    async def _is_behind_now(self, model: Model) -> bool:
        return await self._is_behind(model, await self._settlements.standings())

    async def _is_behind(self, model: Model, standings: Mapping[str, Standing]) -> bool:
        standing = standings.get(model.campaign, _NOTHING)
        if model.stand_in or model.erasures < standing.erasures:
            return True
        if model.sequence >= standing.last_sequence:
            return False
        first, _ = await self._settlements.sequences(model.campaign)
        return model.sequence + 1 < first

    async def drop_erased(self) -> None:
        """Remove checkpoints that learned what was erased since; only between turns, by every process.

        Raises OSError where a file stays.
        """
        await self._schedule.drop_erased()

    async def settle(self, campaign: Learned) -> bool:
        """Settle some of what is due, if this process holds the lease; return whether more is due.

        Only within a turn, or between turns.
        """
        return await self._settling.settle(campaign)

    async def learn(self, campaign: Learned) -> None:
        """Let each policy learn what settled since, counting once what this process settled.

        A stand-in learns nothing, and what settles is counted all the same. One that fails keeps no other
        from learning. Only within a turn, or between turns.
        """
        failed: TilbudError | None = None
        for model in campaign.models.values():
            try:
                await (self._count(model) if model.stand_in else self._learn(model))
            except TilbudError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    async def _learn(self, model: Model) -> None:
        await catch_up(
            model,
            history=self._settlements,
            limits=self._limits,
            on_learned=self._own.learned,
            on_slice=lambda seconds: self._metrics.learned(model.campaign, seconds),
            hurry=self._settling.lags_us.get(model.campaign, 0) >= self._limits.learn_hurry_lag_s * 1e6,
        )
        self._show(model)

    async def _count(self, model: Model) -> None:
        """Count what this process settled, though the model does not learn it."""
        while True:
            after, last = self._own.uncounted(model.campaign)
            rows = await self._settlements.settlements(model.campaign, after, _ROWS) if after < last else []
            if not rows:
                break
            for row in rows:
                self._own.learned(row, model.teaches(row))
            await asyncio.sleep(0)
        self._show(model)

    def _show(self, model: Model) -> None:
        self._metrics.model_sequence.labels(*lineage_key(model)).set(model.sequence)
        self._shown[lineage_key(model)] = model.sequence

    async def _keeps_lease(self) -> bool:
        await self._renew()
        return bool(self._lease.token)
