"""A file of an older version becomes a current one, or stays what it was."""

from __future__ import annotations

import sqlite3
import struct
from pathlib import Path

import pytest
from tests.builders import (
    CAMPAIGN,
    CUSTOMER,
    FINGERPRINT,
    RULES,
    WINDOW_US,
    at,
    contact,
    decision,
    settle_due,
)

from tilbud.domain.decision.records import FORGOTTEN
from tilbud.domain.errors import LedgerInvalid
from tilbud.domain.limits import Limits
from tilbud.ledger.answers import Settled
from tilbud.ledger.durability import Durability
from tilbud.ledger.sqlite.adapter import SqliteLedger
from tilbud.ledger.sqlite.schema import MIGRATIONS, connect, migrate, open_for_writing

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


FIRST_VERSION = """
INSERT INTO campaigns (no, id, last_sequence, open) VALUES (1, 'homepage-hero', 1, 1);
INSERT INTO decisions VALUES (1, 1, 'd1', x'000102030405060708090a0b0c0d0e0f', 1790000000000000,
    'personalized', 1, 'ten-off', {payload}, 0.7000000000000001, {offers}, {probabilities}, 1, 0.02, 'c0ffee',
    0, '|Context device=mobile channel=web', '{{"device":"mobile","channel":"web"}}', 'mobile', 'web',
    'consideration', 0, 1790001800000000, 6800000000, 6810000000);
INSERT INTO decisions SELECT 2, 1, 'd2', fingerprint, decided_us, variant, reason, offer_id, payload,
    probability, offers, probabilities, drawn, discovery, lineage, sequence, features, context, device,
    channel, journey_stage, deferred, deadline_us, closes_service_us, due_service_us FROM decisions;
UPDATE windows SET state = 2, due_service_us = NULL WHERE decision_no = 1;
INSERT INTO settlements VALUES (1, 1, 1, 0.5, 0, 6810000000, 1790001810000000);
"""


async def test_a_file_of_the_first_version_goes_on(tmp_path):
    """Its decisions are anonymous, with nothing removed or dropped, and it takes customers from now on.

    What could tie them to a person, by the key in the same file, is gone.
    """
    path = tmp_path / "ledger.sqlite3"
    older = open_for_writing(path, Durability.PROCESS, MIGRATIONS[:1])
    made = decision("d1", fingerprint=FORGOTTEN)
    for text in (made.payload, made.offers.text):
        older.execute("INSERT INTO texts VALUES (?, ?, ?)", (text.digest, text.body, made.decided_us))
    packed = struct.pack("<3d", *made.probabilities).hex()
    for statement in FIRST_VERSION.format(
        payload=made.payload.digest, offers=made.offers.text.digest, probabilities=f"x'{packed}'"
    ).split(";"):
        older.execute(statement)
    older.close()
    assert version(path) == 1

    ledger = SqliteLedger(path, durability=Durability.PROCESS, limits=Limits())
    await ledger.start(lambda _seconds, _rows: None)
    assert version(path) == len(MIGRATIONS)
    assert await ledger.find(CAMPAIGN, "d1") == made
    assert await ledger.find(CAMPAIGN, "d2") == made._replace(decision_id="d2")
    assert [each.decision_id for each in await ledger.settlements(CAMPAIGN, 0, 9)] == ["d1"]
    assert (
        await ledger.erasures(CAMPAIGN),
        await ledger.pauses(CAMPAIGN),
        await ledger.pending(CAMPAIGN),
    ) == (0, (), 1)
    theirs = decision("d3", customer=CUSTOMER)
    assert await ledger.record([theirs], at(), [contact()]) == [theirs]
    assert await settle_due(ledger, CAMPAIGN, RULES, 10, at(WINDOW_US / 1e6 + 10)) == Settled(
        2, 0, more=False
    )
    assert (await ledger.erase(CUSTOMER, at(9_000))).campaigns == (CAMPAIGN,)
    assert [each.decision_id for each in await ledger.settlements(CAMPAIGN, 0, 9)] == ["d1", "d2", ""]
    await ledger.close()


async def test_only_a_customers_decisions_keep_a_fingerprint_of_before(path):
    """The upgrade leaves what ties nobody to anything that is not tied already."""
    ledger = SqliteLedger(path, durability=Durability.PROCESS, limits=Limits())
    await ledger.start(lambda _seconds, _rows: None)
    await ledger.record([decision("theirs", customer=CUSTOMER)], at(), [contact()])
    await ledger.close()
    older = connect(path)
    for step in MIGRATIONS:
        for statement in step:
            if statement.startswith("UPDATE decisions SET fingerprint"):
                older.execute(statement)
    older.close()
    await ledger.start(lambda _seconds, _rows: None)
    found = [await ledger.find(CAMPAIGN, each) for each in ("d1", "theirs")]
    assert [each and each.fingerprint for each in found] == [FORGOTTEN, FINGERPRINT]
    await ledger.close()


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
