"""Stalls of the event loop: how late a task wakes that sleeps and does nothing else.

What holds: whatever keeps the loop from its next task for a while — learning, a garbage collection, a slow
handler — makes this wake up late by that much, so no call was kept waiting by it for longer than is observed
here, give or take one sleep. It cannot tell who it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

from tilbud.domain.limits import Limits


async def watch_stalls(
    observe: Callable[[float], None],
    *,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    clock: Callable[[], float] = monotonic,
) -> None:
    """Sleep shortly again and again until cancelled, and `observe` each time how late it woke, in seconds."""
    while True:
        due = clock() + Limits.stall_sleep_s
        await sleep(Limits.stall_sleep_s)
        observe(max(0.0, clock() - due))
