"""A ledger's file copied as it is at one moment, while a service goes on writing it.

What holds: the source is only read; the copy has every commit of before the moment and none of after, and
`check_copy` tells whether SQLite finds it sound. SQLite's online backup alone begins anew at each commit of
another process, so under load it would never end: a read transaction around it keeps the moment. While it
does, the source's log grows and is not shortened, and commits may wait a little where that is tried (wal.py):
so a moment is not to be kept longer than a copy takes, and the copy is checked when it was let go.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tilbud.domain.errors import LedgerInvalid, LedgerUnavailable
from tilbud.domain.limits import Limits
from tilbud.ledger.sqlite.schema import check_current, connect

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Copied:
    """How many rows a copy has."""

    decisions: int
    outcomes: int
    settlements: int


class LedgerMoment:
    """A ledger's file as it is at one moment; made by `at_this_moment`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        rows = connection.execute("SELECT id, last_sequence, erasures FROM campaigns")
        self.stands: Mapping[str, tuple[int, int]] = {name: (last, erasures) for name, last, erasures in rows}
        """(last sequence, erasures) by campaign."""

    def copy_to(self, path: Path, progress: Progress) -> None:
        """Copy to a new file; `progress` hears of (pages done, all pages).

        Raises LedgerUnavailable where it cannot be written.
        """
        path.touch(mode=0o600)  # before SQLite would make it readable to others
        try:
            with closing(connect(path)) as copy:
                self._connection.backup(
                    copy,
                    pages=Limits.backup_step_pages,
                    progress=lambda _, left, pages: progress(pages - left, pages),
                )
        except sqlite3.Error as error:
            raise LedgerUnavailable(f"the ledger cannot be copied: {error}") from error


def check_copy(path: Path) -> Copied:
    """Read all of a copy, and count; what a signal raises meanwhile ends it at once.

    Raises LedgerInvalid where it is not sound, LedgerUnavailable where it cannot be read.
    """
    try:
        # Signals are heard between two statements of Python, and one of SQLite may take minutes: so it is not
        # the thread that hears them which waits in it.
        with closing(connect(path)) as copy, ThreadPoolExecutor(1) as thread:
            # What a signal raises while a thread starts leaves it unknown to those who would wait for it.
            thread.submit(int).result()
            try:
                checking = thread.submit(_check, copy)
                # One that comes just before a wait would be heard when that ends: so it ends now and then.
                while not wait([checking], Limits.backup_poll_every_s).done:
                    pass
                return checking.result()
            finally:
                copy.interrupt()
    except sqlite3.Error as error:
        raise LedgerUnavailable(f"the copy of the ledger cannot be read: {error}") from error


def _check(copy: sqlite3.Connection) -> Copied:
    faults = [text for (text,) in copy.execute("PRAGMA quick_check")]
    if faults != ["ok"]:
        raise LedgerInvalid(f"the ledger is damaged ({faults[0]}): restore an earlier backup")
    return Copied(
        *(
            copy.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - constants
            for table in ("decisions", "outcomes", "settlements")
        )
    )


@contextmanager
def at_this_moment(path: Path) -> Iterator[LedgerMoment]:
    """Keep the ledger as it is now, for reading, while the context lasts.

    Raises LedgerInvalid where it is of another version or no ledger, LedgerUnavailable where it cannot be
    read.
    """
    try:
        connection = connect(path, read_only=True)
    except sqlite3.Error as error:
        raise LedgerUnavailable(f"the ledger cannot be read: {error}") from error
    with closing(connection):
        try:
            connection.execute("BEGIN")
            check_current(connection)  # with the first read the moment is there
            moment = LedgerMoment(connection)
        except sqlite3.Error as error:
            raise LedgerUnavailable(f"the ledger cannot be read: {error}") from error
        yield moment
