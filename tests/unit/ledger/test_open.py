"""Which adapter an address of a ledger means."""

from __future__ import annotations

from pathlib import Path

import pytest

from tilbud.domain.limits import Limits
from tilbud.ledger.memory.adapter import MemoryLedger
from tilbud.ledger.open import ledger_at, open_reader, sqlite_address
from tilbud.ledger.sqlite.adapter import Serving, SqliteLedger


async def test_an_address_names_the_store(tmp_path: Path) -> None:
    """A file keeps what was begun in it, for whoever reads it too; a path may hold colons."""
    address = sqlite_address(tmp_path / "a:b.sqlite3")
    ledger = ledger_at(address, limits=Limits())
    assert isinstance(ledger, SqliteLedger)
    info = await ledger.start(lambda _seconds, _rows: None)
    await ledger.close()
    again = ledger_at(address, limits=Limits())
    assert (await again.start(lambda _seconds, _rows: None)).draw_key == info.draw_key
    await again.close()
    async with open_reader(address, limits=Limits()) as reader:
        assert await reader.find("shop", "d1") is None


def test_a_ledger_in_memory_is_for_its_process_alone() -> None:
    """Nobody can read it from outside, or serve from it: what was acknowledged would be lost."""
    assert isinstance(ledger_at("memory:", limits=Limits()), MemoryLedger)
    with pytest.raises(ValueError, match="memory"):
        open_reader("memory:", limits=Limits())
    with pytest.raises(ValueError, match="serves nobody"):
        ledger_at("memory:", limits=Limits(), serving=Serving(monotonic_us=lambda: 0))


@pytest.mark.parametrize("address", ["", "ledger.sqlite3", "sqlite:", "memory:x", "postgresql://host/ledger"])
def test_other_addresses_are_refused(address: str) -> None:
    """With what may be written."""
    with pytest.raises(ValueError, match="sqlite:PATH or memory:"):
        ledger_at(address, limits=Limits())
