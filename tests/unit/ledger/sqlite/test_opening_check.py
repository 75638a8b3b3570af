"""What is asked of a ledger's file before a service begins on it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.unit.ledger.sqlite.opened import ignore_commit

from tilbud.domain.errors import LedgerInvalid
from tilbud.domain.limits import Limits
from tilbud.ledger.durability import Durability
from tilbud.ledger.sqlite.acknowledged import AcknowledgedFile, beside, read
from tilbud.ledger.sqlite.adapter import Serving, SqliteLedger
from tilbud.ledger.sqlite.opening_check import check

Lines = list[tuple[str, dict[str, object]]]
NO_TIME_S = 0.0


def looked(path: Path, check_s: float = 2.0) -> Lines:
    """Check the file and return what was told."""
    lines: Lines = []
    check(path, accept_loss=False, check_s=check_s, tell=lambda event, values: lines.append((event, values)))
    return lines


@pytest.fixture
def large(path: Path) -> Iterator[tuple[Path, sqlite3.Connection]]:
    """A file of some hundred pages, whose log is open and holds a last small commit."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE rows (row BLOB)")
        connection.executemany("INSERT INTO rows VALUES (zeroblob(?))", [(4_000,)] * 400)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.execute("INSERT INTO rows VALUES (1)")
        yield path, connection


def test_a_file_cut_in_half_is_refused_without_time_to_read_it(large):
    """Its length is enough, also where a log holds the newest pages and nothing else could be looked at."""
    path, _ = large
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(LedgerInvalid, match="cut short"):
        looked(path, NO_TIME_S)


def test_a_file_cut_in_half_is_refused_where_there_is_no_log(large):
    """SQLite itself sees that: nothing of such a file is served."""
    path, connection = large
    connection.close()
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(sqlite3.DatabaseError, match="malformed"):
        looked(path, NO_TIME_S)


def test_a_file_whose_last_pages_are_still_in_its_log_is_sound(path, tmp_path):
    """A header ahead of the file, as whoever was killed while the log was copied leaves it, is no damage."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("CREATE TABLE rows (row BLOB)")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        before_bytes = path.stat().st_size
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO rows VALUES (zeroblob(?))", [(4_000,)] * 400)
        connection.execute("COMMIT")
        log = Path(f"{path}-wal").read_bytes()
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        copy = tmp_path / "killed.sqlite3"
        copy.write_bytes(path.read_bytes()[:before_bytes])
        Path(f"{copy}-wal").write_bytes(log)
    assert looked(copy) == []


@pytest.mark.parametrize("damage", [b"", b"x" * 96, b"\0" * 96])
def test_a_count_that_cannot_be_read_is_told(large, damage):
    """Without it no loss could be noticed: the log says so."""
    path, _ = large
    beside(path).write_bytes(damage)
    assert looked(path) == [("acknowledged_unreadable", {"file": beside(path).name})]


def test_one_damaged_line_of_several_is_told(large):
    """The process whose line it was may have been the last to acknowledge."""
    path, _ = large
    for place in (0, 2):  # nobody has written the place between them
        line = AcknowledgedFile(path, place, Durability.PROCESS)
        line.write(0)
        line.close()
    assert looked(path) == []
    with beside(path).open("r+b") as file:
        file.seek(200)
        file.write(b"?")
    assert [event for event, _ in looked(path)] == ["acknowledged_unreadable"]


async def test_a_count_that_could_not_be_read_is_made_anew(path):
    """The service that says so writes it again, and the next start can notice a loss."""

    def ledger(lines: Lines) -> SqliteLedger:
        serving = Serving(monotonic_us=lambda: 0, tell=lambda event, values: lines.append((event, values)))
        return SqliteLedger(path, durability=Durability.PROCESS, limits=Limits(), serving=serving)

    lines: Lines = []
    for damage in (None, b"damaged", None):
        if damage is not None:
            beside(path).write_bytes(damage)
        opened = ledger(lines)
        await opened.start(ignore_commit)
        await opened.close()
    assert [event for event, _ in lines] == ["acknowledged_unreadable"]
    assert read(path) is not None
