"""Each adapter, for each promise."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.contract.adapters import ADAPTERS, Adapter, ignore_commit, make


@pytest.fixture(params=ADAPTERS)
async def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Adapter]:
    """Each adapter, started."""
    adapter = make(request.param, tmp_path)
    await adapter.start(ignore_commit)
    yield adapter
    await adapter.close()
