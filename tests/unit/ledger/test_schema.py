"""A file of an older version becomes a current one, or stays what it was."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tests.builders import CAMPAIGN, at, decision

from tilbud.domain.errors import LedgerInvalid
from tilbud.domain.limits import Limits
from tilbud.ledger.port import Durability
from tilbud.ledger.schema import MIGRATIONS, connect, migrate, open_for_writing
from tilbud.ledger.sqlite import SqliteLedger

ADD_COLUMN = ("ALTER TABLE campaigns ADD COLUMN note TEXT NOT NULL DEFAULT 'older'",)
FILL_TABLE = ("CREATE TABLE notes (note TEXT)", "INSERT INTO notes SELECT note FROM campaigns")
BROKEN = ("CREATE TABLE half (done INTEGER)", "INSERT INTO nowhere VALUES (1)")


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A file of the version in MIGRATIONS, with a decision."""
    path = tmp_path / "ledger.sqlite3"
    ledger = SqliteLedger(path, durability=Durability.PROCESS, limits=Limits())
    await ledger.start(lambda _seconds, _rows: None)
    await ledger.record([decision("d1")], at())
    await ledger.close()
    return path


def version(path: Path) -> int:
    """Return the schema's version as the file says it."""
    connection = connect(path)
    [said] = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return int(said)


def test_an_older_file_gets_the_steps_it_lacks(path):
    """Steps run in order, once each, over the rows that are there."""
    steps = (*MIGRATIONS, ADD_COLUMN, FILL_TABLE)
    for _ in range(2):
        connection = open_for_writing(path, Durability.PROCESS, steps)
        assert connection.execute("SELECT note FROM notes").fetchall() == [("older",)]
        assert connection.execute("SELECT decision_id FROM decisions").fetchall() == [("d1",)]
        connection.close()
    assert version(path) == len(steps)


def test_a_step_that_fails_leaves_the_file_as_it_was(path):
    """All steps are one transaction, so the older version can still start."""
    connection = connect(path)
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, (*MIGRATIONS, ADD_COLUMN, BROKEN))
    assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'half'").fetchall() == []
    assert connection.execute("SELECT id FROM campaigns").fetchall() == [(CAMPAIGN,)]
    connection.close()
    assert version(path) == len(MIGRATIONS)


async def test_a_newer_file_is_refused_with_a_remedy(path):
    """The message says what to do, and the file is not touched."""
    connection = open_for_writing(path, Durability.PROCESS, (*MIGRATIONS, ADD_COLUMN))
    connection.close()
    with pytest.raises(LedgerInvalid, match="start that version, or restore a backup"):
        await SqliteLedger(path, durability=Durability.PROCESS, limits=Limits()).start(lambda _s, _r: None)
    assert version(path) == len(MIGRATIONS) + 1


def test_another_programs_database_is_refused(tmp_path):
    """A file with tables that are not ours is left alone."""
    path = tmp_path / "other.sqlite3"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (x)")
    other.commit()
    with pytest.raises(LedgerInvalid, match="another program"):
        open_for_writing(path, Durability.PROCESS)
    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    other.close()


async def test_a_damaged_draw_key_is_told(path):
    """Without its key every retry would be drawn anew: that is LedgerInvalid."""
    connection = connect(path)
    connection.execute("UPDATE meta SET value = x'00' WHERE key = 'draw_key'")
    connection.close()
    with pytest.raises(LedgerInvalid, match="draw key"):
        await SqliteLedger(path, durability=Durability.PROCESS, limits=Limits()).start(lambda _s, _r: None)
