"""The write-ahead log stays short while writers go on."""

from __future__ import annotations

from pathlib import Path

from tests.builders import CAMPAIGN, at, decision

from tilbud.domain.limits import Limits
from tilbud.ledger.port import Durability
from tilbud.ledger.schema import connect
from tilbud.ledger.sqlite import SqliteLedger
from tilbud.ledger.wal import GROWN_PAGES, pages_of_log, shorten


async def test_a_shortened_log_is_started_anew(tmp_path: Path):
    """The log grows with every commit, is shortened beside the writer, and no row is lost."""
    path = tmp_path / "ledger.sqlite3"
    ledger = SqliteLedger(path, durability=Durability.PROCESS, limits=Limits())
    await ledger.start(lambda _seconds, _rows: None)
    assert ledger._opened is not None
    ledger._opened.wal.stop()  # the test is the keeper
    await ledger.record([decision(f"d{number}", features="x" * 9_000) for number in range(500)], at())
    grown = pages_of_log(path)
    assert grown > GROWN_PAGES
    keeper = connect(path)
    assert shorten(keeper) >= grown
    keeper.close()
    await ledger.record([decision("after")], at())
    assert pages_of_log(path) < 20
    assert ledger.find(CAMPAIGN, "d499") == decision("d499", features="x" * 9_000)
    assert ledger.find(CAMPAIGN, "after") == decision("after")
    await ledger.close()
