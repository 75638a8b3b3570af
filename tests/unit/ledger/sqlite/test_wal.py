"""The write-ahead log stays short while writers go on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.builders import CAMPAIGN, at, decision
from tests.unit.ledger.sqlite.opened import Parts

from tilbud.domain.limits import Limits
from tilbud.ledger.durability import Durability
from tilbud.ledger.sqlite.adapter import SqliteLedger
from tilbud.ledger.sqlite.schema import connect
from tilbud.ledger.sqlite.wal import shorten


async def test_a_shortened_log_is_started_anew(tmp_path: Path, parts: Parts):
    """The log grows with every commit, is shortened beside the writer, and no row is lost."""
    path = tmp_path / "ledger.sqlite3"
    ledger = SqliteLedger(path, durability=Durability.PROCESS, limits=Limits())
    await ledger.start(lambda _seconds, _rows: None)
    log = parts.wal
    log.stop()  # the test is the keeper
    await ledger.record([decision(f"d{number}", features="x" * 9_000) for number in range(500)], at())
    grown = log.pages()
    assert grown > Limits.wal_grown_pages
    keeper = connect(path)
    assert shorten(keeper) >= grown
    keeper.close()
    await ledger.record([decision("after")], at())
    assert log.pages() < 20
    assert await ledger.find(CAMPAIGN, "d499") == decision("d499", features="x" * 9_000)
    assert await ledger.find(CAMPAIGN, "after") == decision("after")
    await ledger.close()


async def test_looking_at_the_log_keeps_the_locks_on_its_index(tmp_path: Path, parts: Parts):
    """No process may take the index for abandoned while this one uses it: it would truncate it under us."""
    path = tmp_path / "ledger.sqlite3"
    ledger = SqliteLedger(path, durability=Durability.PROCESS, limits=Limits())
    await ledger.start(lambda _seconds, _rows: None)
    assert await parts.wal.empty(30.0)  # as the keeper does when it starts, sooner or later
    await ledger.record([decision("d1")], at())
    assert parts.wal.pages() > 0
    index = path.with_name(path.name + "-shm")
    assert _takes_index(index) == "held"
    await ledger.close()
    index.touch()
    assert _takes_index(index) == "free"


def _takes_index(index: Path) -> str:
    """Ask from another process for SQLite's lock on an index that nobody uses (UNIX_SHM_DMS)."""
    asking = """if True:
        import fcntl, sys
        with open(sys.argv[1], "r+b") as index:
            try:
                fcntl.lockf(index, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 128)
            except OSError:
                print("held")
            else:
                print("free")
    """
    words = [sys.executable, "-c", asking, str(index)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
