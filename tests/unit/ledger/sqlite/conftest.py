"""A ledger in a file of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.ledger.sqlite.opened import Parts, ignore_commit, make

from tilbud.ledger.sqlite.adapter import SqliteLedger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A name that has to be quoted."""
    return tmp_path / "ledger #1?.sqlite3"


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Parts:
    """What the ledger works with that is started next."""
    parts = Parts()
    parts.watch(monkeypatch)
    return parts


@pytest.fixture
async def ledger(path: Path, parts: Parts) -> AsyncIterator[SqliteLedger]:
    """A ledger, started; `parts` are its own."""
    del parts
    started = make(path)
    await started.start(ignore_commit)
    yield started
    await started.close()
