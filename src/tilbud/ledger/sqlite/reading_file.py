"""A ledger's file, open for reading alone: what both kinds of reads are made on.

What holds: nothing here can change the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tilbud.domain.errors import LedgerUnavailable
from tilbud.domain.limits import Limits
from tilbud.ledger.sqlite.condition import Condition
from tilbud.ledger.sqlite.rows import Reading
from tilbud.ledger.sqlite.schema import check_current, connect


class ReadingFile:
    """Reads the file at `path`; `open_reading` first, for one thread. `condition` is told what fails."""

    def __init__(self, path: Path, *, limits: Limits, condition: Condition | None = None) -> None:
        self._path = path
        self._limits = limits
        self.condition = condition or Condition(limits)
        self._reading: tuple[sqlite3.Connection, Reading] | None = None

    def open_reading(self) -> None:
        """Open a file that is there; raises LedgerInvalid where it is of another version, or no ledger."""
        try:
            connection = connect(self._path, read_only=True)
            check_current(connection)
        except sqlite3.Error as error:
            raise LedgerUnavailable(f"the ledger cannot be read: {error}") from error
        self.read_from(connection)

    def close_reading(self) -> None:
        """Close the file. Safe to call twice."""
        if self._reading is not None:
            self._reading[0].close()
            self._reading = None

    @property
    def connection(self) -> sqlite3.Connection:
        """What it reads on; raises LedgerUnavailable where it is not open."""
        if self._reading is None:
            raise LedgerUnavailable("the ledger is not open")
        return self._reading[0]

    def prove(self) -> None:
        """Find out whether reads work again; raises LedgerUnavailable where they do not."""
        with self._reads() as (reading, _):
            reading.execute("SELECT commits FROM progress").fetchone()
            self.condition.read()

    def read_from(self, connection: sqlite3.Connection) -> None:
        """Read on a connection that is open."""
        self._reading = connection, Reading(connection, self._limits)

    @contextmanager
    def _reads(self) -> Iterator[tuple[sqlite3.Connection, Reading]]:
        if self._reading is None:
            raise LedgerUnavailable("the ledger is not open")
        if self.condition.refusal:
            raise LedgerUnavailable(self.condition.refusal)
        try:
            yield self._reading
        except sqlite3.Error as error:
            self.condition.read_failed(error)
            raise LedgerUnavailable(f"the ledger cannot be read: {error}") from error

    @contextmanager
    def _reads_one_moment(self) -> Iterator[tuple[sqlite3.Connection, Reading]]:
        """Many statements on the file as it is now."""
        with self._reads() as (reading, records):
            reading.execute("BEGIN")
            try:
                yield reading, records
            finally:
                reading.execute("ROLLBACK")
