"""What can be read of a ledger's file, while a service writes it or after.

What holds: nothing here can change the file; every read is of one moment and sees every commit before it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tilbud.domain.decisions import Decision, Reason, Settlement
from tilbud.domain.errors import LedgerUnavailable
from tilbud.domain.limits import Limits
from tilbud.ledger.rows import DECISION_COLUMNS, SETTLEMENT_COLUMNS, Reading
from tilbud.ledger.schema import check_current, connect

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


class SqliteReading:
    """Reads the file at `path`; `open_reading` first, for one thread."""

    def __init__(self, path: Path, *, limits: Limits) -> None:
        self._path = path
        self._limits = limits
        self._reading: tuple[sqlite3.Connection, Reading] | None = None

    def open_reading(self) -> None:
        """Open a file that is there; raises LedgerInvalid where it is of another version, or no ledger."""
        try:
            connection = connect(self._path, read_only=True)
            check_current(connection)
        except sqlite3.Error as error:
            raise LedgerUnavailable(f"the ledger cannot be read: {error}") from error
        self._read_from(connection)

    def close_reading(self) -> None:
        """Close the file. Safe to call twice."""
        if self._reading is not None:
            self._reading[0].close()
            self._reading = None

    def _read_from(self, connection: sqlite3.Connection) -> None:
        self._reading = connection, Reading(connection, self._limits)

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

    def campaigns(self) -> list[str]:
        """Return every campaign the ledger has rows of."""
        with self._reads() as (reading, _):
            return [row[0] for row in reading.execute("SELECT id FROM campaigns ORDER BY id")]

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

    @contextmanager
    def _reads(self) -> Iterator[tuple[sqlite3.Connection, Reading]]:
        if self._reading is None:
            raise LedgerUnavailable("the ledger is not open")
        try:
            yield self._reading
        except sqlite3.Error as error:
            raise LedgerUnavailable(f"the ledger cannot be read: {error}") from error
