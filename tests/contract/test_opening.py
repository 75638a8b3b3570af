"""What every ledger promises who opens and closes it."""

from __future__ import annotations

import asyncio

import pytest
from tests.builders import (
    at,
    decision,
)
from tests.contract.adapters import ignore_commit, make

from tilbud.domain.errors import (
    LedgerUnavailable,
)


async def test_a_closed_ledger_refuses_writes(ledger):
    """Closing twice is safe; a write after it is LedgerUnavailable."""
    await ledger.record([decision("d1")], at())
    await ledger.close()
    await ledger.close()
    with pytest.raises(LedgerUnavailable):
        await ledger.record([decision("d2")], at())


async def test_close_commits_what_was_handed_over(ledger):
    """Calls that wait when the ledger closes are answered like any other."""
    handed_over = [
        asyncio.ensure_future(ledger.record([decision(f"d{number}")], at())) for number in range(20)
    ]
    await asyncio.sleep(0)
    await ledger.close()
    assert [each.decision_id for [each] in await asyncio.gather(*handed_over)] == [
        f"d{number}" for number in range(20)
    ]


async def test_the_draw_key_is_long_and_random(ledger, tmp_path):
    """It has 32 bytes, and two ledgers have two."""
    keys = set()
    for adapter in ("memory", "sqlite"):
        for number in range(2):
            directory = tmp_path / str(number)
            directory.mkdir(exist_ok=True)
            other = make(adapter, directory)
            keys.add((await other.start(ignore_commit)).draw_key)
            await other.close()
    assert len(keys) == 4
    assert {len(key) for key in keys} == {32}
