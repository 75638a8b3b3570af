"""Long work in slices: the event loop is everybody's, and no batch may hold it for long."""

from __future__ import annotations

import asyncio
from time import perf_counter


class TimeSlice:
    """Says when a slice is over: ask `expired`, then await `yield_to_loop`, between two pieces of work."""

    def __init__(self, slice_s: float) -> None:
        self._slice_s = slice_s
        self._until = perf_counter() + slice_s

    def expired(self) -> bool:
        """Say whether the slice is over."""
        return perf_counter() >= self._until

    async def yield_to_loop(self) -> None:
        """Let others run, then begin the next slice."""
        await asyncio.sleep(0)
        self._until = perf_counter() + self._slice_s
