"""The learner: settles what is due, lets the models learn it, writes checkpoints, forgets the old.

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
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from functools import partial
from time import monotonic

import structlog

from tilbud.bandit.checkpoints.store import Checkpoints
from tilbud.bandit.model import Model
from tilbud.domain.clock import Clock
from tilbud.domain.errors import LeaseLost, Overloaded, TilbudError
from tilbud.domain.limits import Limits
from tilbud.learning.agenda import Agenda
from tilbud.learning.own_settlements import OwnSettlements
from tilbud.learning.replica import Learned, catch_up
from tilbud.learning.settling_lease import SettlingLease
from tilbud.ledger.answers import Settled, Standing, or_later
from tilbud.ledger.ports import Coordination, Pauses, Retention, SettlementLog
from tilbud.telemetry.learning import LearningMetrics

_HEARTBEAT_S = 1.0
_UNSERVED_BATCHES_MAX = 10  # a heartbeat, of each campaign that is not served
_ROWS = 64
# What fails where it is no campaign; no campaign can be called so.
_LEASE, _LEDGER, _PURGE, _PURGE_CUSTOMERS = "(lease)", "(ledger)", "(purge)", "(purge of customers)"
NO_CAMPAIGNS = frozenset({_LEASE, _LEDGER, _PURGE, _PURGE_CUSTOMERS})
_NOTHING = Standing()
_SERVED_NO_MORE = 1 << 62  # beyond every sequence: nothing needs what is left of such a campaign


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
        self._retention = retention
        self._coordination = coordination
        self._pauses = pauses
        self._checkpoints = checkpoints
        self._clock = clock
        self._metrics = metrics
        self._limits = limits
        self._log = log
        self._lease = lease
        self._own = OwnSettlements(metrics)
        self._due = asyncio.Event()
        self._turn = asyncio.Lock()
        self._stopping = False
        self._saved: dict[tuple[str, str], tuple[int, float]] = {}  # by campaign and lineage, as those below
        self._unsaved: set[tuple[str, str]] = set()  # whose last checkpoint failed: not at every turn again
        self._dropped: dict[str, int] = {}  # at which erasures old checkpoints were last dropped
        self._failing: set[str] = set()
        self._waiting: set[str] = set()  # campaigns that are not served, with open decisions
        self._lags_us: dict[str, int] = {}  # by which the oldest due decision was overdue at the last turn
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
                    if self._checkpoint_due(model):
                        await self._checkpoint_by_holder(campaign, model)
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
                    await self._purge(campaigns)
                with self._trying(_PURGE_CUSTOMERS):
                    await self._purge_customers()
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
            elif all(model.sequence <= self._saved_sequence(model) for model in campaign.models.values()):
                self._agenda.done(campaign.id)
        return to_visit

    def _needs_turn(self, campaign: Learned, standing: Standing, now_us: int) -> bool:
        """Whether anything is due, to be learned, to be saved or to be shown; or the last visit failed.

        The campaign's own clocks are never ahead of the service's.
        """
        return (
            (standing.due_service_us is not None and standing.due_service_us <= now_us)
            or self._lags_us.get(campaign.id) != 0
            or campaign.id in self._failing
            or any(
                standing.last_sequence > model.sequence
                or self._shown.get(_key(model)) != model.sequence
                or model.stand_in
                or self._checkpoint_due(model)
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
                await self._settle_unserved(name)
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

    async def _checkpoint_by_holder(self, campaign: Learned, model: Model) -> None:
        """Write a checkpoint that is due, or leave it to the process that holds the lease, which does so now.

        So that who takes the lease over begins with settling, and not with a checkpoint of every campaign, it
        counts on what is on disk, and no more: one that was due when the holder was killed is written.
        """
        if self._lease.token:
            await self._checkpoint(campaign, model)
        else:
            saved = self._checkpoints.newest_sequence(campaign.id, model.lineage) or 0
            self._saved[_key(model)] = (saved, monotonic())

    async def checkpoint(self, campaign: Learned) -> None:
        """Write what each policy learned since its last checkpoint; a failure is logged, not raised.

        None of a model that is behind: it may have learned what was erased; and none where another process
        holds the lease, or nobody. Only within a turn, or between turns.
        """
        if self._lease.token:
            for model in campaign.models.values():
                await self._checkpoint(campaign, model)

    async def _checkpoint(self, campaign: Learned, model: Model) -> None:
        key, sequence = _key(model), model.sequence
        known = self._saved.get(key)
        if sequence == (known[0] if known else 0):
            return
        saved_us = self._clock.now().wall_us
        self._saved[key] = (known[0] if known else 0, monotonic())
        self._unsaved.add(key)
        try:
            if await self._is_behind(model, await self._settlements.standings()):
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
        self._saved[_key(model)] = (model.sequence, monotonic())
        saved_us = [
            manifest.saved_us
            for _, manifest in self._checkpoints.manifests(model.campaign)
            if manifest.lineage == model.lineage
        ]
        if saved_us:
            self._metrics.checkpoint_time.labels(model.campaign).set(max(saved_us) / 1e6)

    def replaced(self, model: Model) -> None:
        """Forget where a model stood that another has replaced, and show it no more."""
        key = _key(model)
        self._saved.pop(key, None)
        self._unsaved.discard(key)
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

    async def _is_behind(self, model: Model, standings: Mapping[str, Standing]) -> bool:
        standing = standings.get(model.campaign, _NOTHING)
        if model.stand_in or model.erasures < standing.erasures:
            return True
        if model.sequence >= standing.last_sequence:
            return False
        first, _ = await self._settlements.sequences(model.campaign)
        return model.sequence + 1 < first

    async def drop_erased(self) -> None:
        """Remove checkpoints that learned what was erased since, of every campaign, served or not.

        Only between turns, by every process. Raises OSError where a file stays, when all campaigns were seen
        to.
        """
        failed: OSError | TilbudError | None = None
        for name in self._checkpoints.campaigns():
            try:
                erasures = await self._settlements.erasures(name)
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

    async def settle(self, campaign: Learned) -> bool:
        """Settle some of what is due, if this process holds the lease; return whether more is due.

        Only within a turn, or between turns.
        """
        now = self._clock.now()
        oldest = await self._settlements.oldest_due_service_us(campaign.id)
        shown_us = (await self._settlements.clocks(campaign.id, now)).shown.service_us
        lag_us = 0 if oldest is None else max(0, shown_us - oldest)
        self._metrics.settlement_lag.labels(campaign.id).set(lag_us / 1e6)
        self._lags_us[campaign.id] = lag_us
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

    async def _settle_unserved(self, campaign: str) -> None:
        """End what is due of a campaign that is not served, by the rules stored with its decisions.

        Those that wait for an activation expire in time, what was shown settles once the campaign is away too
        long; it is learned when the campaign comes back.
        """
        for _ in range(_UNSERVED_BATCHES_MAX):
            await self._renew()
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
            hurry=self._lags_us.get(model.campaign, 0) >= self._limits.learn_hurry_lag_s * 1e6,
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
        self._metrics.model_sequence.labels(*_key(model)).set(model.sequence)
        self._shown[_key(model)] = model.sequence

    def _saved_sequence(self, model: Model) -> int:
        return self._saved.get(_key(model), (0, 0.0))[0]

    def _checkpoint_due(self, model: Model) -> bool:
        key = _key(model)
        sequence, at = self._saved.get(key, (0, 0.0))
        behind = model.sequence - sequence
        if behind > 0 and monotonic() - at >= self._limits.checkpoint_every_s:
            return True
        return behind >= self._limits.checkpoint_every_settlements and key not in self._unsaved

    async def _purge(self, campaigns: Sequence[Learned]) -> None:
        """Forget decisions that ended and are older than the retention, but those a checkpoint needs.

        A model that is behind is about to be learned anew, from the first settlement on.
        """
        now = self._clock.now()
        before_us = now.steady_us - int(self._limits.retention_s * 1e6)
        standings = await self._settlements.standings()
        keep_after: dict[str, int] = {}
        for model in [model for campaign in campaigns for model in campaign.models.values()]:
            needed = 0
            if not await self._is_behind(model, standings):
                needed = self._checkpoints.oldest_sequence(*_key(model)) or 0
            keep_after[model.campaign] = min(needed, keep_after.get(model.campaign, needed))
        for name in await self._settlements.campaigns():
            keep = keep_after.get(name, _SERVED_NO_MORE)
            rows = self._limits.purge_batch_rows_max
            await self._purge_by_batches(partial(self._retention.purge, name, before_us, keep, rows, now))

    async def _purge_customers(self) -> None:
        """Forget what happened to customers longer ago than a rule may look back."""
        now, limits = self._clock.now(), self._limits
        events_before_us = now.steady_us - int(limits.retention_s * 1e6)
        exposures_before_us = now.steady_us - int(limits.exposures_kept_s * 1e6)
        rows = limits.purge_batch_rows_max
        await self._purge_by_batches(
            partial(self._retention.purge_customers, events_before_us, exposures_before_us, rows, now)
        )

    async def _purge_by_batches(self, purge: Callable[[], Awaitable[int]]) -> None:
        """Remove batch after batch until nothing is left, or the lease is lost."""
        await self._renew()
        while self._lease.token and await purge():
            await asyncio.sleep(0)
            await self._renew()


def _key(model: Model) -> tuple[str, str]:
    """Return the campaign and the lineage, which is that of one policy alone."""
    return model.campaign, model.lineage
