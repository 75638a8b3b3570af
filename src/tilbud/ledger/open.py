"""Which adapter a ledger is opened with, for those who only read it and need not know what stores it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from tilbud.domain.limits import Limits
from tilbud.ledger.ports import Reader
from tilbud.ledger.sqlite.record_reader import SqliteReader


def open_reader(path: Path, *, limits: Limits) -> AbstractAsyncContextManager[Reader]:
    """Return the reader of the ledger at `path`, for `async with`; raises LedgerInvalid where it is none."""
    return SqliteReader(path, limits=limits)
