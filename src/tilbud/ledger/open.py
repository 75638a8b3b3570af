"""Turns the address of a ledger into the adapter that keeps it.

    sqlite:PATH     one SQLite file, for one process or several on one machine
    memory:         nothing that outlives the process, for tests and trials

What holds: nobody else needs to know which stores there are. What is returned is not open yet.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import overload

from tilbud.domain.limits import Limits
from tilbud.ledger.durability import Durability
from tilbud.ledger.memory.adapter import MemoryLedger
from tilbud.ledger.ports import Reader
from tilbud.ledger.sqlite.adapter import Serving, SqliteLedger
from tilbud.ledger.sqlite.record_reader import SqliteReader

_SQLITE = "sqlite"
_MEMORY = "memory"


@overload
def ledger_at(
    address: str, *, limits: Limits, durability: Durability = ..., serving: Serving
) -> SqliteLedger: ...
@overload
def ledger_at(
    address: str, *, limits: Limits, durability: Durability = ...
) -> SqliteLedger | MemoryLedger: ...
def ledger_at(
    address: str,
    *,
    limits: Limits,
    durability: Durability = Durability.PROCESS,
    serving: Serving | None = None,
) -> SqliteLedger | MemoryLedger:
    """Return the ledger at an address, `serving`: to serve from it. ValueError on another address."""
    scheme, place = _split(address)
    if scheme == _SQLITE:
        return SqliteLedger(path=Path(place), durability=durability, limits=limits, serving=serving)
    if serving is not None:
        raise ValueError("a ledger in memory serves nobody; write sqlite:PATH")
    return MemoryLedger(limits=limits)


def open_reader(address: str, *, limits: Limits) -> AbstractAsyncContextManager[Reader]:
    """Return a reader of the ledger at an address, for `async with`, also while others serve from it.

    Raises ValueError on another address, and LedgerInvalid, when it is entered, where there is no ledger.
    """
    scheme, place = _split(address)
    if scheme == _MEMORY:
        raise ValueError("a ledger in memory has nothing to read for who is not in its process")
    return SqliteReader(Path(place), limits=limits)


def sqlite_address(path: Path) -> str:
    """Return the address of the ledger in a SQLite file."""
    return f"{_SQLITE}:{path}"


def _split(address: str) -> tuple[str, str]:
    scheme, colon, place = address.partition(":")
    if not colon or scheme not in (_SQLITE, _MEMORY) or (scheme == _SQLITE) != bool(place):
        raise ValueError(f"{address!r} is the address of no ledger; write sqlite:PATH or memory:")
    return scheme, place
