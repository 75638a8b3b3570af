"""Memory is given back when it is no longer used."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tilbud.runtime.memory import give_back, resident_bytes, watch_memory

MIB = 1024 * 1024


class _Process:
    """Has what the test says at each look; a part of it is used, and what is free can be given back."""

    def __init__(self, mib: Sequence[int], used_mib: Sequence[int]) -> None:
        self._mib, self._used_mib = mib, used_mib
        self.looks = 0
        self.given_back: list[int] = []

    async def sleep(self, _seconds: float) -> None:
        self.looks += 1
        if self.looks == len(self._mib):
            raise asyncio.CancelledError

    def resident(self) -> int:
        return (self._used_mib if self.looks in self.given_back else self._mib)[self.looks] * MIB

    def trim(self) -> None:
        self.given_back.append(self.looks)


async def _watched(process: _Process) -> list[int]:
    with pytest.raises(asyncio.CancelledError):
        await watch_memory(process.resident, process.trim, sleep=process.sleep)
    return process.given_back


async def test_what_many_calls_took_is_given_back() -> None:
    """As soon as it is found free; a little more than before is left alone."""
    process = _Process([100, 150, 400, 120, 120], [100, 120, 120, 120, 120])
    assert await _watched(process) == [2]


async def test_what_is_used_is_tried_less_and_less_often() -> None:
    """Each time twice as late, and given back when it is free at last."""
    process = _Process([100] + [400] * 15 + [120], [100] + [400] * 14 + [120] * 2)
    assert await _watched(process) == [1, 3, 7, 15]


def test_this_process_tells_its_memory_and_can_give_back() -> None:
    """On the machines it is made for."""
    give_back()
    assert resident_bytes() > MIB
