"""The Ledger in one SQLite file, for one process or several on one machine.

What holds: all writes go through one thread, many to a commit; reads go through a connection of their
own that cannot write, on the loop's thread, and see every commit before them. Everything is in the
file: nothing a decision has met is remembered here. It does not learn, and reads no clock but to
measure its commits.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilbud.domain.clock import Now
from tilbud.domain.decisions import Decision
from tilbud.domain.errors import LedgerInvalid, LedgerUnavailable
from tilbud.domain.limits import Limits
from tilbud.domain.rewards import Outcome, RewardRules
from tilbud.ledger.batch import Batches, Recording, Work
from tilbud.ledger.port import ActivateResult, Activation, Durability, LedgerInfo, ReceiveResult, Settled
from tilbud.ledger.rows import decision_row
from tilbud.ledger.schema import connect, open_for_writing, remembered
from tilbud.ledger.sqlite_reading import SqliteReading
from tilbud.ledger.statements import Statements
from tilbud.ledger.wal import WalKeeper
from tilbud.ledger.window import check_decision
from tilbud.ledger.writer import Writer


@dataclass(frozen=True, slots=True)
class _Opened:
    """What exists while the file is open."""

    writing: sqlite3.Connection
    writer: Writer
    wal: WalKeeper


class SqliteLedger(SqliteReading):
    """The Ledger in the file at `path`, whose directory exists."""

    def __init__(self, path: Path, *, durability: Durability, limits: Limits) -> None:
        super().__init__(path, limits=limits)
        self._durability = durability
        self._opened: _Opened | None = None

    async def start(self, observe_commit: Callable[[float, int], None]) -> LedgerInfo:
        """Open or make the file, and bring it up to date."""
        assert self._opened is None, "started twice"
        writing, reading, info = await asyncio.to_thread(self._connect)
        batches = Batches(writing, Statements(writing, self._limits))
        self._read_from(reading)
        self._opened = _Opened(
            writing,
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
        self.close_reading()
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

    def _submit(self, work: Recording | Work, rows: int) -> asyncio.Future[Any]:
        if self._opened is None:
            raise LedgerUnavailable("the ledger is not open")
        return self._opened.writer.submit(work, rows)
