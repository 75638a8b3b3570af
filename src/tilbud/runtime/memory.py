"""Memory that many calls took, given back to the machine when they are over.

The C library keeps what gRPC frees, scattered as it is: after a thousand connections the process would stay
as large as it was at its largest. What holds: it is asked to give back what is free where the process is much
larger than it has been, in a thread of its own; where that helps little, for what is there is used, the next
time comes twice as late.

What it does not do: bound anything. Where there is no such C library, nothing is given back.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from tilbud.domain.limits import Limits

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    """Return the memory that this process has; 0 where nobody tells."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def give_back() -> None:
    """Give back to the machine what is free; takes some tens of milliseconds, and lets other threads run."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


async def watch_memory(
    resident: Callable[[], int] = resident_bytes,
    trim: Callable[[], None] = give_back,
    *,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Look now and then, until cancelled, and give back where there is much."""
    least, wait, looks = resident(), 1, 0
    while True:
        await sleep(Limits.memory_look_every_s)
        before = resident()
        least, looks = min(least, before), looks + 1
        if before < least + Limits.memory_grown_bytes:
            wait, looks = 1, 0
        elif looks >= wait:
            await asyncio.to_thread(trim)
            helped = resident() < before * Limits.memory_helped_ratio
            wait, looks = 1 if helped else min(2 * wait, Limits.memory_looks_max), 0
