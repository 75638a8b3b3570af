"""The life of one process of a service: start, signals, and an end that cannot hang.

What holds: SIGINT and SIGTERM drain; SIGHUP loads changed campaign files, also one that came while the
process still started; a stop that takes longer than it may ends the process all the same. What is started
and stopped is the caller's, and so is what becomes of an error at the start.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from typing import Protocol


class Service(Protocol):
    """What a process is for: one Application, or the Supervisor of several."""

    async def start(self) -> None:
        """Serve; where that cannot be, undo what was begun and raise."""
        ...

    async def stop(self) -> None:
        """Drain and stop."""
        ...

    async def reload(self) -> None:
        """Load changed campaign files; problems are logged and change nothing."""
        ...


async def run(
    service: Service, *, patience_s: float, started: Callable[[], None], stopping: asyncio.Event
) -> None:
    """Serve until a signal, or whoever sets `stopping`; `started` is called once it serves.

    Raises what the start raises. A stop that takes longer than `patience_s` ends the process with status 1.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGHUP}
    )  # it waits until there is something to load anew
    await service.start()
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = asyncio.create_task(service.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    started()
    await stopping.wait()
    # A disk that hangs must not keep the process: what was acknowledged is safe, the rest is learned later.
    give_up = threading.Timer(patience_s, os._exit, [1])
    give_up.daemon = True
    give_up.start()
    await service.stop()
