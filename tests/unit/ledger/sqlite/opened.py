"""A ledger in a file, as tests that look inside need it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tilbud.domain.limits import Limits
from tilbud.ledger.durability import Durability
from tilbud.ledger.sqlite import adapter
from tilbud.ledger.sqlite.adapter import SqliteLedger
from tilbud.ledger.sqlite.schema import connect, open_for_writing
from tilbud.ledger.sqlite.wal import WalKeeper

PATIENT = replace(Limits(), lock_wait_s=60.0)  # the log's keeper holds the lock while its disk stalls


def ignore_commit(seconds: float, rows: int) -> None:
    """Observe nothing."""


def make(
    path: Path, limits: Limits | None = None, durability: Durability = Durability.PROCESS
) -> SqliteLedger:
    """Build a ledger, not yet started."""
    return SqliteLedger(path, durability=durability, limits=limits or PATIENT)


@dataclass
class Parts:
    """What the ledger that was started last works with: where faults are put, and statements counted."""

    writing: sqlite3.Connection = field(init=False)
    reading: sqlite3.Connection = field(init=False)
    wal: WalKeeper = field(init=False)

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Note what the adapter opens from now on."""

        def open_writing(*given: Any, **named: Any) -> sqlite3.Connection:
            self.writing = open_for_writing(*given, **named)
            return self.writing

        def open_reading(*given: Any, **named: Any) -> sqlite3.Connection:
            self.reading = connect(*given, **named)
            return self.reading

        def open_wal(path: Path) -> WalKeeper:
            self.wal = WalKeeper(path)
            return self.wal

        monkeypatch.setattr(adapter, "open_for_writing", open_writing)
        monkeypatch.setattr(adapter, "connect", open_reading)
        monkeypatch.setattr(adapter, "WalKeeper", open_wal)


CHILD = """
import asyncio, sys
from pathlib import Path
from tests.builders import at, decision, outcome
from tilbud.domain.limits import Limits
from tilbud.ledger.durability import Durability
from tilbud.ledger.sqlite.adapter import SqliteLedger

async def write(ledger, number):
    while True:
        number += 10
        await ledger.record([decision(f"d{number}", features="x" * 2000)], at())
        [met] = await ledger.receive([outcome(f"d{number}")], at(1))
        print(number, met, flush=True)

async def main():
    ledger = SqliteLedger(Path(sys.argv[1]), durability=Durability.PROCESS, limits=Limits())
    await ledger.start(lambda seconds, rows: None)
    await asyncio.gather(*(write(ledger, number) for number in range(10)))

asyncio.run(main())
"""
