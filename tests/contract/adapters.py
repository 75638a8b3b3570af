"""The adapters that the suites of this room are run over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tilbud.domain.limits import Limits
from tilbud.ledger.durability import Durability
from tilbud.ledger.memory.adapter import MemoryLedger
from tilbud.ledger.ports import Ledger
from tilbud.ledger.sqlite.adapter import SqliteLedger

ADAPTERS = ("memory", "sqlite")
Adapter = MemoryLedger | SqliteLedger
PATIENT = replace(Limits(), lock_wait_s=60.0)  # the log's keeper holds the lock while its disk stalls


def ignore_commit(seconds: float, rows: int) -> None:
    """Observe nothing."""


def make(adapter: str, directory: Path, limits: Limits | None = None) -> Adapter:
    """Build an adapter, not yet started."""
    limits = limits or PATIENT
    if adapter == "memory":
        return MemoryLedger(limits=limits)
    return SqliteLedger(directory / "ledger.sqlite3", durability=Durability.PROCESS, limits=limits)


def all_ports(adapter: Adapter) -> Ledger:
    """Return an adapter as its clients see it: the type checker's proof that it has every port."""
    return adapter
