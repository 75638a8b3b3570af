"""Stalls of the event loop: how late a task wakes that sleeps and does nothing else.

What holds: whatever keeps the loop from its next task for a while — learning, a garbage collection, a slow
handler — makes this wake up late by that much, so no call was kept waiting by it for longer than is observed
here, give or take one sleep. While nobody calls, nobody waits: then it sleeps longer, which leaves an idle
process alone. It cannot tell who it was.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from time import monotonic

from tilbud.domain.limits import Limits


async def watch_stalls(
    observe: Callable[[float], None],
    called: Callable[[], bool],
    *,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    clock: Callable[[], float] = monotonic,
) -> None:
    """Sleep again and again until cancelled, and `observe` each time how late it woke, in seconds.

    Shortly while it is `called`, and for a while after.
    """
    busy_until = -math.inf
    while True:
        now = clock()
        if called():
            busy_until = now + Limits.stall_busy_s
        seconds = Limits.stall_sleep_s if now < busy_until else Limits.stall_idle_sleep_s
        await sleep(seconds)
        observe(max(0.0, clock() - now - seconds))
