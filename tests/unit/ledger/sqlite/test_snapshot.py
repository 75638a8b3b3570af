"""A copy is of one moment, sound, and there is an end to it."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.builders import CAMPAIGN, at, decision, outcome
from tests.unit.ledger.sqlite.opened import ignore_commit, make

from tilbud.domain.errors import LedgerInvalid, LedgerUnavailable
from tilbud.domain.limits import Limits
from tilbud.ledger.sqlite import snapshot as copying
from tilbud.ledger.sqlite.reader import SqliteReading
from tilbud.ledger.sqlite.schema import connect
from tilbud.ledger.sqlite.snapshot import Copied, at_this_moment, check_copy

ROWS = 2_000
LONG = "x" * 9_000


async def written(path: Path, rows: int = ROWS) -> None:
    """Write a ledger of decisions that fill several steps, one of them with an outcome."""
    ledger = make(path)
    await ledger.start(ignore_commit)
    await ledger.record([decision(f"d{number}", features=LONG) for number in range(rows)], at())
    await ledger.receive([outcome("d0")], at(1))
    await ledger.close()


async def test_a_copy_is_of_one_moment_however_much_is_written_meanwhile(tmp_path: Path) -> None:
    """Another connection commits at every step: none of it is in the copy, and no step is made twice."""
    path, copy = tmp_path / "ledger.sqlite3", tmp_path / "copy"
    await written(path)
    steps: list[tuple[int, int]] = []
    with closing(connect(path)) as writing, at_this_moment(path) as ledger:

        def write(done: int, pages: int) -> None:
            steps.append((done, pages))
            writing.execute("UPDATE campaigns SET last_sequence = last_sequence + 1")
            writing.execute("DELETE FROM decisions WHERE decision_id = ?", (f"d{len(steps)}",))
            assert len(steps) < ROWS, "it begins anew and anew"

        ledger.copy_to(copy, write)
    assert check_copy(copy) == Copied(decisions=ROWS, outcomes=1, settlements=0)
    assert len(steps) > 3
    assert steps == sorted(set(steps))
    assert steps[-1][0] == steps[-1][1]
    reading = SqliteReading(copy, limits=Limits())
    reading.open_reading()
    assert reading.find(CAMPAIGN, "d1") == decision("d1", features=LONG)
    assert reading.sequences(CAMPAIGN) == (0, 0)
    reading.close_reading()


async def test_a_damaged_ledger_is_not_copied(tmp_path: Path) -> None:
    """Zeros where a page of an index stood are found, and said with a remedy."""
    path = tmp_path / "ledger.sqlite3"
    await written(path, 100)
    with closing(sqlite3.connect(path)) as ledger:
        [(root,)] = ledger.execute("SELECT rootpage FROM sqlite_master WHERE name = 'decisions_by_id'")
    with path.open("r+b") as file:
        file.seek((root - 1) * 4_096)
        file.write(bytes(4_096))
    with at_this_moment(path) as ledger:
        ledger.copy_to(tmp_path / "copy", lambda *_: None)
    with pytest.raises((LedgerInvalid, LedgerUnavailable), match=r"damaged|malformed"):
        check_copy(tmp_path / "copy")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_statement_that_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """What its handler raises comes out as it is, and nothing of SQLite's goes on."""
    path, killed = tmp_path / "copy", []
    with closing(sqlite3.connect(path)) as copy:
        copy.execute(
            "CREATE VIEW decisions AS WITH RECURSIVE n(i) AS "
            "(SELECT 1 UNION ALL SELECT iif(i = 9, kill(), 0) + i + 1 FROM n) SELECT i FROM n"
        )

    def kill() -> int:
        killed.append(number)
        os.kill(os.getpid(), number)
        return 0

    def connect_to_endless(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.create_function("kill", 0, kill)
        return connection

    def end(number: int, _frame: object) -> None:
        sys.exit(number)

    monkeypatch.setattr(copying, "connect", connect_to_endless)
    before = signal.signal(number, end)
    try:
        with pytest.raises(SystemExit, match=str(int(number))):
            check_copy(path)  # returns when its thread has ended, so its statement, which would have no end
    finally:
        signal.signal(number, before)
    assert killed == [number]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("PRAGMA user_version = 99", "the ledger's schema is 99"),
        ("PRAGMA application_id = 7", "another program"),
    ],
)
async def test_what_this_version_does_not_read_is_not_copied(
    tmp_path: Path, statement: str, said: str
) -> None:
    """A ledger of another version, or no ledger."""
    path = tmp_path / "ledger.sqlite3"
    await written(path, 1)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
    with pytest.raises(LedgerInvalid, match=said), at_this_moment(path):
        pass
    path.write_text("no database, but long enough to be looked at as one" * 100)
    with pytest.raises(LedgerUnavailable, match="not a database"), at_this_moment(path):
        pass
