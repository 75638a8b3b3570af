"""A ledger in a file, as tests that look inside need it."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

from tilbud.domain.limits import Limits
from tilbud.ledger.ports import Durability
from tilbud.ledger.sqlite.adapter import SqliteLedger, _Opened

PATIENT = replace(Limits(), lock_wait_s=60.0)  # the log's keeper holds the lock while its disk stalls


def ignore_commit(seconds: float, rows: int) -> None:
    """Observe nothing."""


def make(
    path: Path, limits: Limits | None = None, durability: Durability = Durability.PROCESS
) -> SqliteLedger:
    """Build a ledger, not yet started."""
    return SqliteLedger(path, durability=durability, limits=limits or PATIENT)


def opened(ledger: SqliteLedger) -> _Opened:
    """Return the connections of a started ledger, where faults are put."""
    assert ledger._opened is not None
    return ledger._opened


def reading_of(ledger: SqliteLedger) -> sqlite3.Connection:
    """Return the connection that reads."""
    return ledger._reading.connection


CHILD = """
import asyncio, sys
from pathlib import Path
from tests.builders import at, decision, outcome
from tilbud.domain.limits import Limits
from tilbud.ledger.ports import Durability
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
