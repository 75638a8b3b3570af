"""The ledger's file: its tables, how an older file becomes a current one, how connections are set up.

What holds: a step of MIGRATIONS that was released never changes, it is followed by another; all steps
a file still needs are one transaction. A file of a newer version, or of another program, is refused.

    campaigns    numbers for names; the last sequence, the open decisions, erasures and absences of each
    texts        catalogues, payloads and rules, each kept once under its digest
    decisions    what was decided; never changed
    windows      where each decision stands; narrow, since it changes
    outcomes     by decision and key: the key decides who comes first
    settlements  each campaign's total order; an erased one has no decision (0) and keeps its place
    repeats      ids that were answered with an earlier decision
    switches     what is paused; by names, since a pause may come before anything was recorded
    customers    by a keyed hash of their id, which itself never comes here; erased ones stay as tombstones
    exposures    what caps count; they outlive their decision; far in the future while it is not activated
    events       what happened to customers whatever was decided, for as long as it takes to know it again
    latest       when each kind of thing last happened to a customer, and their last sticky decision
    progress     one row: the number of the last commit, the service clock then, and where it stands
    lease        one row: who settles, until when on the service clock, and the token that fences
    meta         the draw key, and the highest number of a decision that was removed

A number of a decision is never given twice: exposures and the like may refer to it after it is gone.
What is removed is overwritten with zeros (secure_delete), and an erasure empties the log, where pages
from before it stand. SQLite may yet leave a few bytes of a removed row in the unused middle of a page
whose rows it moved to another; the clear id of a customer was never there.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from tilbud.domain.errors import LedgerInvalid
from tilbud.domain.limits import Limits
from tilbud.ledger.answers import LedgerInfo
from tilbud.ledger.durability import Durability

APPLICATION_ID = 0x54494C42  # "TILB"
DRAW_KEY_BYTES = 32

Step = tuple[str, ...]

MIGRATIONS: tuple[Step, ...] = (
    (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID",
        "INSERT INTO meta VALUES ('served_service_us', 0)",
        """CREATE TABLE campaigns (
            no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,
            last_sequence INTEGER NOT NULL DEFAULT 0, -- outlives the settlements
            open INTEGER NOT NULL DEFAULT 0 -- decisions that wait for activation or settlement
        ) STRICT""",
        """CREATE TABLE texts (
            digest INTEGER PRIMARY KEY, body TEXT NOT NULL,
            used_us INTEGER NOT NULL -- of the last use, told once a day
        ) STRICT""",
        "CREATE INDEX texts_by_use ON texts (used_us)",
        """CREATE TABLE decisions (
            no INTEGER PRIMARY KEY, campaign_no INTEGER NOT NULL, decision_id TEXT NOT NULL,
            fingerprint BLOB NOT NULL, decided_us INTEGER NOT NULL, variant TEXT NOT NULL,
            reason INTEGER NOT NULL, offer_id TEXT NOT NULL, payload INTEGER NOT NULL,
            probability REAL NOT NULL, offers INTEGER NOT NULL, probabilities BLOB NOT NULL,
            drawn INTEGER NOT NULL, discovery REAL NOT NULL, lineage TEXT NOT NULL, sequence INTEGER NOT NULL,
            features TEXT NOT NULL, context TEXT NOT NULL, device TEXT NOT NULL, channel TEXT NOT NULL,
            journey_stage TEXT NOT NULL, deferred INTEGER NOT NULL, deadline_us INTEGER NOT NULL,
            closes_service_us INTEGER NOT NULL, due_service_us INTEGER NOT NULL
        ) STRICT""",
        "CREATE UNIQUE INDEX decisions_by_id ON decisions (campaign_no, decision_id)",
        """CREATE TABLE windows (
            decision_no INTEGER PRIMARY KEY, campaign_no INTEGER NOT NULL, state INTEGER NOT NULL,
            deadline_us INTEGER NOT NULL, closes_service_us INTEGER NOT NULL,
            due_service_us INTEGER -- NULL once it ended
        ) STRICT""",
        """CREATE INDEX windows_by_due ON windows (campaign_no, due_service_us)
            WHERE due_service_us IS NOT NULL""",
        "CREATE INDEX windows_unsettled ON windows (campaign_no) WHERE state IN (3, 4)",
        """CREATE TRIGGER decision_opens_window AFTER INSERT ON decisions BEGIN
            INSERT INTO windows VALUES (
                new.no, new.campaign_no, NOT new.deferred, new.deadline_us,
                new.closes_service_us, new.due_service_us
            );
        END""",
        """CREATE TABLE outcomes (
            decision_no INTEGER NOT NULL, key TEXT NOT NULL, outcome TEXT NOT NULL, value REAL NOT NULL,
            time_us INTEGER NOT NULL, status INTEGER NOT NULL, PRIMARY KEY (decision_no, key)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE settlements (
            campaign_no INTEGER NOT NULL, sequence INTEGER NOT NULL, decision_no INTEGER NOT NULL,
            reward REAL NOT NULL, clipped INTEGER NOT NULL, due_service_us INTEGER NOT NULL,
            settled_us INTEGER NOT NULL, PRIMARY KEY (campaign_no, sequence)
        ) STRICT, WITHOUT ROWID""",
    ),
    (
        "INSERT INTO meta VALUES ('removed_decision_no', 0)",
        "ALTER TABLE campaigns ADD COLUMN erasures INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE decisions ADD COLUMN removed INTEGER",  # NULL: the text "{}", as for dropped
        "ALTER TABLE decisions ADD COLUMN dropped INTEGER",
        "ALTER TABLE decisions ADD COLUMN customer_no INTEGER",  # NULL: anonymous
        "CREATE INDEX decisions_by_customer ON decisions (customer_no) WHERE customer_no IS NOT NULL",
        "CREATE INDEX settlements_by_decision ON settlements (decision_no)",
        """CREATE TABLE repeats (
            campaign_no INTEGER NOT NULL, decision_id TEXT NOT NULL, fingerprint BLOB NOT NULL,
            decision_no INTEGER NOT NULL, PRIMARY KEY (campaign_no, decision_id)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX repeats_by_decision ON repeats (decision_no)",
        """CREATE TRIGGER repeat_takes_id BEFORE INSERT ON decisions WHEN EXISTS (
            SELECT 1 FROM repeats WHERE campaign_no = new.campaign_no AND decision_id = new.decision_id
        ) BEGIN
            SELECT RAISE(IGNORE);
        END""",
        """CREATE TABLE switches (
            campaign TEXT NOT NULL, offer_id TEXT NOT NULL, reason TEXT NOT NULL, since_us INTEGER NOT NULL,
            until_us INTEGER, PRIMARY KEY (campaign, offer_id)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE customers (
            no INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, version INTEGER NOT NULL,
            seen_us INTEGER NOT NULL, -- of the last contact, event or outcome, told once a day
            forgotten_no INTEGER NOT NULL DEFAULT 0, -- outcomes of decisions up to it are not remembered
            erased_us INTEGER, -- NULL: not erased
            profile TEXT -- JSON; NULL: never set
        ) STRICT""",
        """CREATE INDEX customers_without_profile ON customers (seen_us)
            WHERE profile IS NULL AND erased_us IS NULL""",
        """CREATE TABLE exposures (
            decision_no INTEGER NOT NULL, scope TEXT NOT NULL,
            again INTEGER NOT NULL, -- 0: when it was recorded; 1, 2, …: when it was answered again
            customer_no INTEGER NOT NULL, time_us INTEGER NOT NULL, PRIMARY KEY (decision_no, scope, again)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX exposures_by_scope ON exposures (customer_no, scope, time_us)",
        """CREATE TABLE events (
            no INTEGER PRIMARY KEY, customer_no INTEGER NOT NULL, event_id TEXT NOT NULL, event TEXT NOT NULL,
            time_us INTEGER NOT NULL
        ) STRICT""",
        "CREATE UNIQUE INDEX events_by_id ON events (customer_no, event_id)",
        """CREATE TABLE latest (
            customer_no INTEGER NOT NULL, what TEXT NOT NULL, time_us INTEGER NOT NULL,
            decision_no INTEGER, -- of a sticky decision
            PRIMARY KEY (customer_no, what)
        ) STRICT, WITHOUT ROWID""",
    ),
    (
        """CREATE TABLE lease (
            no INTEGER PRIMARY KEY CHECK (no = 1), token INTEGER NOT NULL, -- of the last holder
            holder TEXT NOT NULL, -- "": nobody
            until_service_us INTEGER NOT NULL
        ) STRICT""",
        "INSERT INTO lease VALUES (1, 0, '', 0)",
        # A quarter of what storing a decision took: decisions.py sees to both, for all rows at once.
        "DROP TRIGGER decision_opens_window",
        "DROP TRIGGER repeat_takes_id",
    ),
    (
        """CREATE TABLE progress (
            no INTEGER PRIMARY KEY CHECK (no = 1), commits INTEGER NOT NULL,
            served_service_us INTEGER NOT NULL, -- at the last commit
            steady_us INTEGER NOT NULL, -- the steady clock then; 0: unknown
            behind_us INTEGER NOT NULL -- what CLOCK_MONOTONIC is ahead of it, for who serves now
        ) STRICT""",
        "INSERT INTO progress SELECT 1, 0, value, 0, 0 FROM meta WHERE key = 'served_service_us'",
        "DELETE FROM meta WHERE key = 'served_service_us'",
    ),
    (
        # Of nobody's decisions, also of those who refused, it told which were one person's: see FORGOTTEN.
        "UPDATE decisions SET fingerprint = zeroblob(16) WHERE customer_no IS NULL",
    ),
    ("ALTER TABLE repeats ADD COLUMN payload INTEGER",),  # NULL: the decision's own
    (
        "ALTER TABLE decisions ADD COLUMN rules INTEGER",  # NULL: those of the campaign file as it is then
        "ALTER TABLE outcomes ADD COLUMN weight REAL",  # NULL: that of the decision's rules
    ),
    (
        # NULL: of before it was recorded, when decisions were split.
        "ALTER TABLE decisions ADD COLUMN variant_share REAL",
        "ALTER TABLE decisions ADD COLUMN split_by_customer INTEGER",
    ),
    (
        "ALTER TABLE campaigns ADD COLUMN absences_us INTEGER NOT NULL DEFAULT 0",  # of those that are over
        "ALTER TABLE campaigns ADD COLUMN away_since_us INTEGER",  # service clock; NULL: served
        "CREATE INDEX windows_waiting ON windows (campaign_no, due_service_us) WHERE state = 0",
    ),
    # See packing.py. NULL: `offers` is what was eligible, and `probabilities` are float64, one by one.
    ("ALTER TABLE decisions ADD COLUMN fates BLOB",),
)


def connect(path: Path, *, read_only: bool = False, make: bool = True) -> sqlite3.Connection:
    """Return a connection whose every statement is its own transaction unless one is begun."""
    mode = "ro" if read_only else "rwc" if make else "rw"
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=Limits.ledger_opening_wait_s,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=Limits.statements_cached_max,
    )


def open_for_writing(
    path: Path, durability: Durability, steps: Sequence[Step] = MIGRATIONS, *, make: bool = True
) -> sqlite3.Connection:
    """Return the connection that writes, to a file made or brought up to date; raises LedgerInvalid.

    Without `make` the file must be there.
    """
    if make:
        path.touch(mode=0o600)  # before SQLite would make it readable to others
    connection = connect(path, make=make)
    try:
        _use_wal(connection)
        connection.execute(f"PRAGMA synchronous = {'FULL' if durability is Durability.POWER else 'NORMAL'}")
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # wal.py sees to it
        connection.execute(f"PRAGMA journal_size_limit = {Limits.wal_kept_bytes}")
        connection.execute(f"PRAGMA cache_size = -{Limits.ledger_cache_kib}")
        connection.execute("PRAGMA secure_delete = ON")
        migrate(connection, steps)
    except BaseException:
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL; SQLite does not wait by itself where two processes do so at once."""
    give_up_s = time.monotonic() + Limits.ledger_opening_wait_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > give_up_s:
                raise
            time.sleep(Limits.ledger_opening_retry_s)
        else:
            return


def migrate(connection: sqlite3.Connection, steps: Sequence[Step]) -> None:
    """Apply the steps the file does not have yet, all or none; raises LedgerInvalid."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)
        if version > len(steps):
            raise LedgerInvalid(
                f"a newer version of Tilbud wrote this ledger (its schema is {version}, this version knows "
                f"up to {len(steps)}): start that version, or restore a backup made before the upgrade"
            )
        if version < len(steps):
            for step in steps[version:]:
                for statement in step:
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def check_current(connection: sqlite3.Connection) -> None:
    """Raise LedgerInvalid where a file is not of the version that is read here."""
    version = _version(connection)
    if version != len(MIGRATIONS):
        raise LedgerInvalid(
            f"the ledger's schema is {version} and this version reads {len(MIGRATIONS)}: use the version of "
            f"Tilbud that serves it"
        )


def _version(connection: sqlite3.Connection) -> int:
    [application] = connection.execute("PRAGMA application_id").fetchone()
    [tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (application or tables):
        raise LedgerInvalid(
            "this file is another program's database, not a ledger: choose another data directory"
        )
    [version] = connection.execute("PRAGMA user_version").fetchone()
    assert isinstance(version, int)
    return version


def remembered(connection: sqlite3.Connection) -> LedgerInfo:
    """Return what the ledger remembers; a new one gets its draw key here. Raises LedgerInvalid."""
    new_key = secrets.token_bytes(DRAW_KEY_BYTES)
    connection.execute("INSERT OR IGNORE INTO meta VALUES ('draw_key', ?)", (new_key,))
    served = connection.execute("SELECT served_service_us, steady_us FROM progress").fetchone()
    if served is None:
        raise LedgerInvalid("the ledger's clock is damaged: restore a backup")
    return LedgerInfo(draw_key(connection), served[0], served[1] or None)


def draw_key(connection: sqlite3.Connection) -> bytes:
    """Return the ledger's own key. Raises LedgerInvalid."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'draw_key'").fetchone()
    if row is None or not isinstance(row[0], bytes) or len(row[0]) != DRAW_KEY_BYTES:
        raise LedgerInvalid("the ledger's draw key is damaged: restore a backup")
    return row[0]
