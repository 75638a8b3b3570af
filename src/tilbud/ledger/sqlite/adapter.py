"""All ports of the ledger on one SQLite file, for one process or several on one machine.

What holds: all writes go through one thread, many to a commit; reads go through a connection of their
own that cannot write, on the loop's thread, and see every commit before them. Everything is in the
file: nothing a decision has met is remembered here. It does not learn, and reads no clock but to
measure its commits.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from tilbud.domain.clock import Now
from tilbud.domain.customer.customer import Customer, CustomerEvent, CustomerKey, Profile
from tilbud.domain.decision.activation import Activation
from tilbud.domain.decision.lifecycle import check_decision
from tilbud.domain.decision.records import Decision, ExposureEffect, InternedText, Repeat
from tilbud.domain.decision.rewards import Outcome, RewardRules
from tilbud.domain.errors import LedgerInvalid, LedgerUnavailable
from tilbud.domain.limits import Limits
from tilbud.domain.pauses import Pause
from tilbud.ledger.answers import (
    ActivateResult,
    Erased,
    EventResult,
    LedgerInfo,
    ReceiveResult,
    Settled,
)
from tilbud.ledger.durability import Durability
from tilbud.ledger.sqlite.acknowledged import AcknowledgedFile
from tilbud.ledger.sqlite.decisions import Statements
from tilbud.ledger.sqlite.loop_reads import LoopReads
from tilbud.ledger.sqlite.opening_check import Tell, check
from tilbud.ledger.sqlite.record_reader import SqliteReader
from tilbud.ledger.sqlite.rows import decision_row
from tilbud.ledger.sqlite.same_file import Identity, SameFiles, identity
from tilbud.ledger.sqlite.schema import connect, open_for_writing, remembered
from tilbud.ledger.sqlite.service_clock import Proof, ServiceClock
from tilbud.ledger.sqlite.transaction import Batches, Recording, Watched, Work
from tilbud.ledger.sqlite.wal import WalKeeper
from tilbud.ledger.sqlite.writer import Writer


@dataclass(frozen=True, slots=True)
class _Opened:
    """What exists while the file is open."""

    writing: sqlite3.Connection
    writer: Writer
    wal: WalKeeper
    acknowledged: AcknowledgedFile | None


@dataclass(frozen=True, slots=True)
class Serving:
    """What a process that serves has of its ledger beside the file: whoever only reads or tries has none.

    Without `joins` it begins a service, which checks the file; with it, it joins one that began on that file,
    and makes no other. `place` is its own among the processes of the service.
    """

    monotonic_us: Callable[[], int]  # of the machine, as every process of the service reads it
    place: int = 0
    joins: Identity | None = None
    accept_loss: bool = False
    tell: Tell = lambda _event, _values: None
    observe_outage: Callable[[float], None] = lambda _seconds: None


class SqliteLedger(LoopReads):
    """The Ledger in the file at `path`, whose directory exists."""

    def __init__(
        self, path: Path, *, durability: Durability, limits: Limits, serving: Serving | None = None
    ) -> None:
        super().__init__(path, limits=limits)
        self._path = path
        self._limits = limits
        self._condition = self._reading.condition
        self._durability = durability
        self._serving = serving
        self._clock = ServiceClock(serving.monotonic_us) if serving is not None else None
        self._opened: _Opened | None = None

    async def start(self, observe_commit: Callable[[float, int], None]) -> LedgerInfo:
        """Open or make the file, and bring it up to date."""
        assert self._opened is None, "started twice"
        writing, reading, info = await asyncio.to_thread(self._connect)
        self._reading.read_from(reading)
        wal = WalKeeper(self._path)
        serving = self._serving
        watched = self._watch(serving, writing, wal) if serving is not None else None
        proof = Proof(
            writing,
            self._clock,
            self._limits,
            serving.observe_outage if serving is not None else lambda _seconds: None,
        )
        batches = Batches(
            writing,
            Statements(writing, self._limits),
            proof,
            condition=self._condition,
            limits=self._limits,
            watched=watched,
        )
        self._opened = _Opened(
            writing,
            Writer(batches.commit, observe_commit, self._limits),
            wal,
            watched.acknowledged if watched is not None else None,
        )
        return info

    def _watch(self, serving: Serving, writing: sqlite3.Connection, wal: WalKeeper) -> Watched:
        acknowledged = AcknowledgedFile(self._path, serving.place, self._durability)
        if serving.joins is None:
            [commits] = writing.execute("SELECT commits FROM progress").fetchone()
            acknowledged.begin(commits)
        [page_bytes] = writing.execute("PRAGMA page_size").fetchone()
        return Watched(SameFiles(self._path, page_bytes, wal.pages), acknowledged)

    def _connect(self) -> tuple[sqlite3.Connection, sqlite3.Connection, LedgerInfo]:
        with ExitStack() as undo:
            try:
                self._check(self._serving)
                makes = self._serving is None or self._serving.joins is None
                writing = undo.enter_context(
                    closing(open_for_writing(self._path, self._durability, make=makes))
                )
                info = remembered(writing)
                writing.execute(f"PRAGMA busy_timeout = {int(self._limits.lock_wait_s * 1e3)}")
                if self._clock is not None:
                    (self._clock.begin if makes else self._clock.join)(writing)
                reading = connect(self._path, read_only=True)
            except (OSError, sqlite3.OperationalError) as error:
                raise LedgerUnavailable(f"the ledger cannot be opened: {error}") from error
            except sqlite3.DatabaseError as error:
                raise LedgerInvalid(f"the ledger is damaged ({error}): restore a backup") from error
            undo.pop_all()
            return writing, reading, info

    def _check(self, serving: Serving | None) -> None:
        """Refuse a file on which no process of the service may go on."""
        if serving is None:
            return
        if serving.joins is None:
            check(
                self._path,
                accept_loss=serving.accept_loss,
                check_s=self._limits.check_at_start_s,
                tell=serving.tell,
            )
        elif identity(self._path) != serving.joins:
            raise LedgerInvalid(
                f"{self._path} is another file than the one the service began with: stop it, restore the "
                f"ledger, start it again"
            )

    def reader(self) -> SqliteReader:
        """Return a reader of the file, whose failed reads are this ledger's."""
        return SqliteReader(self._path, limits=self._limits, condition=self._condition)

    def service_us(self) -> int:
        """Return the service clock; raises LedgerUnavailable where this is not opened to serve."""
        if self._clock is None:
            raise LedgerUnavailable("the ledger is not opened to serve, and has no clock")
        return self._clock.now_us()

    def identity(self) -> Identity:
        """Return what the file is, for others to join. Raises OSError."""
        return identity(self._path)

    def trouble(self) -> tuple[str, str]:
        """Return a kind and a sentence where the ledger cannot do its work, else two empty texts.

        From any thread.
        """
        return self._condition.trouble()

    def failed_reads(self) -> int:
        """Return how many reads have failed."""
        return self._condition.failed_reads

    def idle_s(self) -> float:
        """Return for how long nothing was committed."""
        return monotonic() - self._condition.committed_at_s

    def look(self) -> None:
        """Find out whether reads work again, and let nobody wait for a commit that does not come back."""
        with suppress(LedgerUnavailable):
            self._reading.prove()
        if self._opened is not None and self._condition.stuck():
            self._opened.writer.give_up(LedgerUnavailable(self._condition.trouble()[1]))

    async def close(self) -> None:
        """Commit what was handed over, empty the log, close the file."""
        opened = self._opened
        if opened is None:
            return
        await opened.writer.stop()
        self._opened = None
        await asyncio.to_thread(opened.wal.stop)
        self._reading.close_reading()
        opened.writing.close()
        opened.wal.close()
        if opened.acknowledged is not None:
            opened.acknowledged.close()

    async def record(
        self, decisions: Sequence[Decision], now: Now, contacts: Sequence[ExposureEffect | None] = ()
    ) -> list[Decision | None]:
        """Store decisions; return the stored one of each id, None where its customer changed meanwhile."""
        if not decisions:
            return []
        contacts = contacts or len(decisions) * (None,)
        for decision, contact in zip(decisions, contacts, strict=True):
            check_decision(decision, contact)
        rows = [decision_row(decision) for decision in decisions]
        stored: list[Decision | None] = await self._submit(
            Recording(decisions, rows, contacts, now), len(rows)
        )
        return stored

    async def repeat(self, repeats: Sequence[Repeat], now: Now) -> list[Decision | None]:
        """Let ids stand for earlier decisions; return what each stands for."""
        if not repeats:
            return []
        decisions: list[Decision | None] = await self._submit(
            Work(lambda statements, then: statements.repeat(repeats, then), now), len(repeats)
        )
        return decisions

    async def pause(self, pause: Pause, now: Now) -> None:
        """Pause an offer, or a campaign."""
        await self._change_pauses(Work(lambda statements, then: statements.pauses.pause(pause, then), now))

    async def resume(self, campaign: str, offer_id: str, now: Now) -> bool:
        """End a pause; return whether there was one."""
        was_paused: bool = await self._change_pauses(
            Work(lambda statements, then: statements.pauses.resume(campaign, offer_id, then), now)
        )
        return was_paused

    async def _change_pauses(self, work: Work) -> Any:
        """Commit a change of pauses, then tell every process."""
        done = await self._submit(work, 1)
        try:
            self._reading.pauses_changed()
        except OSError as error:
            raise LedgerUnavailable(f"the pause cannot be told to other processes: {error}") from error
        return done

    async def receive(self, outcomes: Sequence[Outcome], now: Now) -> list[ReceiveResult]:
        """Store outcomes; return what each met."""
        if not outcomes:
            return []
        results: list[ReceiveResult] = await self._submit(
            Work(lambda statements, then: statements.receive(outcomes, then), now), len(outcomes)
        )
        return results

    async def activate(self, activations: Sequence[Activation], now: Now) -> list[ActivateResult]:
        """Open or void windows; return what to answer."""
        if not activations:
            return []
        answers: list[ActivateResult] = await self._submit(
            Work(lambda statements, then: statements.activate(activations, then), now), len(activations)
        )
        return answers

    async def lease(self, holder: str, until_us: int, now: Now) -> int:
        """Take or renew the lease to settle; return its token, 0 where another has it."""
        assert holder, "a lease without a holder"
        token: int = await self._submit(
            Work(
                lambda statements, then: statements.leases.take(
                    holder, until_us + then.service_us - now.service_us, then
                ),
                now,
            ),
            1,
        )
        return token

    async def release(self, token: int, now: Now) -> None:
        """Give the lease up, if it is still this token's."""
        await self._submit(Work(lambda statements, _: statements.leases.release(token), now), 1)

    async def serve(self, campaigns: Collection[str], now: Now) -> None:
        """Let the clocks of these campaigns go, and those of all others stand."""
        await self._submit(Work(lambda statements, then: statements.absences.serve(campaigns, then), now), 1)

    async def settle(
        self, campaign: str, rules: RewardRules | None, limit: int, now: Now, token: int
    ) -> Settled:
        """End up to `limit` due decisions, in order."""
        settled: Settled = await self._submit(
            Work(lambda statements, then: statements.settle(campaign, rules, limit, then, token), now), limit
        )
        return settled

    async def under_other_rules(self, campaign: str, rules: InternedText) -> int:
        """Return how many open decisions were made with other rules."""
        return await asyncio.to_thread(self._reading.count_other_rules, campaign, rules)

    async def touch(self, now: Now) -> None:
        """Commit the service clock alone."""
        await self._submit(Work(lambda _statements, _now: None, now), 1)

    async def purge(self, campaign: str, before_us: int, keep_after: int, limit: int, now: Now) -> int:
        """Remove up to `limit` old decisions, and as many texts that nothing uses any more."""
        removed: int = await self._submit(
            Work(
                lambda statements, then: statements.retention.purge(
                    campaign, before_us, keep_after, limit, then
                ),
                now,
            ),
            limit,
        )
        return removed

    async def update_customer(
        self, key: CustomerKey, change: Callable[[Customer], Profile], now: Now
    ) -> Profile:
        """Replace a profile by `change` of it, which runs in the writer's thread, perhaps more than once."""
        stored: Profile = await self._submit(
            Work(lambda statements, then: statements.customers.update(key, change, then), now), 1
        )
        return stored

    async def receive_events(self, events: Sequence[CustomerEvent], now: Now) -> list[EventResult]:
        """Store events; return what each met."""
        if not events:
            return []
        results: list[EventResult] = await self._submit(
            Work(lambda statements, then: statements.customers.receive_events(events, then), now), len(events)
        )
        return results

    async def erase(self, key: CustomerKey, now: Now) -> Erased:
        """Remove every row about a customer, then empty the log, where such rows still stand.

        A reader in another process can hold the log. After some seconds this returns all the same, since
        the rows are gone for whoever reads; the log is emptied as soon as it is free.
        """
        erased: Erased = await self._submit(
            Work(lambda statements, then: statements.customers.erase(key, then), now), 1
        )
        if self._opened is not None and not erased.stranger:  # one that was closed meanwhile has an empty log
            await self._opened.wal.empty(self._limits.wal_emptied_within_s)
        return erased

    async def purge_customers(
        self, events_before_us: int, exposures_before_us: int, limit: int, now: Now
    ) -> int:
        """Remove up to `limit` old rows of customers."""
        removed: int = await self._submit(
            Work(
                lambda statements, then: statements.retention.purge_customers(
                    events_before_us, exposures_before_us, limit, then
                ),
                now,
            ),
            limit,
        )
        return removed

    def _submit(self, work: Recording | Work, rows: int) -> asyncio.Future[Any]:
        if self._opened is None:
            raise LedgerUnavailable("the ledger is not open")
        return self._opened.writer.submit(work, rows)
