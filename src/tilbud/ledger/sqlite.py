"""The Ledger in one SQLite file, for one process or several on one machine.

What holds: all writes go through one thread, many to a commit; reads go through a connection of their
own that cannot write, on the loop's thread, and see every commit before them. Everything is in the
file: nothing a decision has met is remembered here. It does not learn, and reads no clock but to
measure its commits.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilbud.domain.clock import Now
from tilbud.domain.decisions import Decision, Reason, Settlement
from tilbud.domain.errors import LedgerInvalid, LedgerUnavailable
from tilbud.domain.limits import Limits
from tilbud.domain.rewards import Outcome, RewardRules
from tilbud.ledger.batch import Batches, Recording, Work
from tilbud.ledger.port import ActivateResult, Activation, Durability, LedgerInfo, ReceiveResult, Settled
from tilbud.ledger.rows import DECISION_COLUMNS, SETTLEMENT_COLUMNS, Reading, decision_row
from tilbud.ledger.schema import connect, open_for_writing, remembered
from tilbud.ledger.statements import Statements
from tilbud.ledger.wal import WalKeeper
from tilbud.ledger.window import check_decision
from tilbud.ledger.writer import Writer

_CAMPAIGN = "(SELECT no FROM campaigns WHERE id = ?)"
_FIND = f"SELECT {DECISION_COLUMNS} FROM decisions WHERE campaign_no = {_CAMPAIGN} AND decision_id = ?"  # noqa: S608
_SETTLEMENTS = (
    f"SELECT {SETTLEMENT_COLUMNS} FROM settlements s LEFT JOIN decisions d ON d.no = s.decision_no "  # noqa: S608
    f"WHERE s.campaign_no = {_CAMPAIGN} AND s.sequence > ? ORDER BY s.sequence LIMIT ?"
)
_SEQUENCES = (
    "SELECT coalesce((SELECT min(sequence) FROM settlements WHERE campaign_no = c.no), last_sequence + 1), "
    "last_sequence FROM campaigns c WHERE id = ? AND last_sequence > 0"
)
_DRAWN = (
    f"SELECT no, {DECISION_COLUMNS} FROM decisions WHERE no > ? AND campaign_no = {_CAMPAIGN} "  # noqa: S608
    f"AND reason = {Reason.PERSONALIZED} AND lineage = ? ORDER BY no LIMIT ?"
)
_OLDEST_DUE = (
    f"SELECT min(due_service_us) FROM windows WHERE campaign_no = {_CAMPAIGN} "  # noqa: S608
    "AND due_service_us IS NOT NULL"
)


@dataclass(frozen=True, slots=True)
class _Opened:
    """What exists while the file is open."""

    writing: sqlite3.Connection
    reading: sqlite3.Connection
    records: Reading
    writer: Writer
    wal: WalKeeper


class SqliteLedger:
    """The Ledger in the file at `path`, whose directory exists."""

    def __init__(self, path: Path, *, durability: Durability, limits: Limits) -> None:
        self._path = path
        self._durability = durability
        self._limits = limits
        self._opened: _Opened | None = None

    async def start(self, observe_commit: Callable[[float, int], None]) -> LedgerInfo:
        """Open or make the file, and bring it up to date."""
        assert self._opened is None, "started twice"
        writing, reading, info = await asyncio.to_thread(self._connect)
        batches = Batches(writing, Statements(writing, self._limits))
        self._opened = _Opened(
            writing,
            reading,
            Reading(reading, self._limits),
            Writer(batches.commit, observe_commit, self._limits),
            WalKeeper(self._path),
        )
        return info

    def _connect(self) -> tuple[sqlite3.Connection, sqlite3.Connection, LedgerInfo]:
        with ExitStack() as undo:
            try:
                writing = undo.enter_context(closing(open_for_writing(self._path, self._durability)))
                info = remembered(writing)
                reading = connect(self._path, read_only=True)
            except (OSError, sqlite3.OperationalError) as error:
                raise LedgerUnavailable(f"the ledger cannot be opened: {error}") from error
            except sqlite3.DatabaseError as error:
                raise LedgerInvalid(f"the ledger is damaged ({error}): restore a backup") from error
            undo.pop_all()
            return writing, reading, info

    async def close(self) -> None:
        """Commit what was handed over, empty the log, close the file."""
        opened = self._opened
        if opened is None:
            return
        await opened.writer.stop()
        self._opened = None
        await asyncio.to_thread(opened.wal.stop)
        opened.reading.close()
        opened.writing.close()

    async def record(self, decisions: Sequence[Decision], now: Now) -> list[Decision]:
        """Store decisions; return the stored one of each id."""
        if not decisions:
            return []
        for decision in decisions:
            check_decision(decision)
        rows = [decision_row(decision) for decision in decisions]
        stored: list[Decision] = await self._submit(Recording(decisions, rows, now), len(rows))
        return stored

    async def receive(self, outcomes: Sequence[Outcome], now: Now) -> list[ReceiveResult]:
        """Store outcomes; return what each met."""
        if not outcomes:
            return []
        met: list[ReceiveResult] = await self._submit(
            Work(lambda statements: statements.receive(outcomes, now), now), len(outcomes)
        )
        return met

    async def activate(self, activations: Sequence[Activation], now: Now) -> list[ActivateResult]:
        """Open or void windows; return what to answer."""
        if not activations:
            return []
        answers: list[ActivateResult] = await self._submit(
            Work(lambda statements: statements.activate(activations, now), now), len(activations)
        )
        return answers

    async def settle(self, campaign: str, rules: RewardRules, limit: int, now: Now) -> Settled:
        """End up to `limit` due decisions, in order."""
        settled: Settled = await self._submit(
            Work(lambda statements: statements.settle(campaign, rules, limit, now), now), limit
        )
        return settled

    async def touch(self, now: Now) -> None:
        """Commit the service clock alone."""
        await self._submit(Work(lambda _: None, now), 1)

    async def purge(self, campaign: str, before_us: int, keep_after: int, limit: int, now: Now) -> int:
        """Remove up to `limit` old decisions, and as many texts that nothing uses any more."""
        gone: int = await self._submit(
            Work(lambda statements: statements.purge(campaign, before_us, keep_after, limit, now), now), limit
        )
        return gone

    def find(self, campaign: str, decision_id: str) -> Decision | None:
        """Return the recorded decision."""
        with self._reads() as (reading, records):
            row = reading.execute(_FIND, (campaign, decision_id)).fetchone()
            return records.decision(campaign, row) if row else None

    def settlements(self, campaign: str, after: int, limit: int) -> list[Settlement]:
        """Return settlements with sequence > `after`, in order."""
        with self._reads() as (reading, records):
            rows = reading.execute(_SETTLEMENTS, (campaign, after, limit)).fetchall()
            return [records.settlement(campaign, row) for row in rows]

    def sequences(self, campaign: str) -> tuple[int, int]:
        """Return the first and the last retained sequence."""
        with self._reads() as (reading, _):
            row: tuple[int, int] | None = reading.execute(_SEQUENCES, (campaign,)).fetchone()
            return row or (0, 0)

    def drawn(self, campaign: str, lineage: str, after: int, limit: int) -> list[tuple[int, Decision]]:
        """Return decisions the bandit drew, each with its place in the order of recording."""
        with self._reads() as (reading, records):
            rows = reading.execute(_DRAWN, (after, campaign, lineage, limit)).fetchall()
            return [(row[0], records.decision(campaign, row[1:])) for row in rows]

    def pending(self, campaign: str) -> int:
        """Return how many decisions wait for activation or settlement."""
        with self._reads() as (reading, _):
            row = reading.execute("SELECT open FROM campaigns WHERE id = ?", (campaign,)).fetchone()
            return int(row[0]) if row else 0

    def oldest_due_service_us(self, campaign: str) -> int | None:
        """Return when the next decision settles or expires."""
        with self._reads() as (reading, _):
            due_service_us: int | None = reading.execute(_OLDEST_DUE, (campaign,)).fetchone()[0]
            return due_service_us

    def _submit(self, work: Recording | Work, rows: int) -> asyncio.Future[Any]:
        if self._opened is None:
            raise LedgerUnavailable("the ledger is not open")
        return self._opened.writer.submit(work, rows)

    @contextmanager
    def _reads(self) -> Iterator[tuple[sqlite3.Connection, Reading]]:
        if self._opened is None:
            raise LedgerUnavailable("the ledger is not open")
        try:
            yield self._opened.reading, self._opened.records
        except sqlite3.Error as error:
            raise LedgerUnavailable(f"the ledger cannot be read: {error}") from error
