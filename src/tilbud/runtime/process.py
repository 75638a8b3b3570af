"""The life of one process of a service: start, signals, and an end that cannot hang.

What holds: SIGINT and SIGTERM drain, or end a start that is not done; SIGHUP loads changed campaign files,
also one that came while the process still started; a stop that takes longer than it may ends the process all
the same. What is started and stopped is the caller's, and so is what becomes of an error at the start.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol


class Service(Protocol):
    """What a process is for: one Application, or the Supervisor of several."""

    async def start(self) -> None:
        """Serve; where that cannot be, or is cancelled, undo what was begun and raise."""
        ...

    async def stop(self) -> None:
        """Drain and stop."""
        ...

    async def reload(self) -> None:
        """Load changed campaign files; problems are logged and change nothing."""
        ...


async def run(
    service: Service, *, shutdown_timeout_s: float, started: Callable[[], None], stopping: asyncio.Event
) -> None:
    """Serve until a signal, or whoever sets `stopping`; `started` is called once it serves.

    Raises what the start raises, unless it was asked to stop. A stop that takes longer than that time
    ends the process with status 1.
    """
    loop = asyncio.get_running_loop()
    early = asyncio.Event()  # files changed before there was anything to load anew
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, early.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # a worker begins with it blocked
    giving_up = asyncio.create_task(_give_up(shutdown_timeout_s, stopping))
    if not await _started(service, stopping):
        return
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = asyncio.create_task(service.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGHUP, reload)
    if early.is_set():
        reload()
    started()
    await giving_up
    await service.stop()


def raise_descriptors() -> None:
    """Let this process, and those it starts, open as much as the machine lets them: not the shell's 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # it goes on with what it has
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def start_or_undo(
    start: Coroutine[Any, Any, None], undo: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Start; where that fails or is cancelled, undo it, which no further cancelling cuts short, and raise."""
    try:
        await start
    except BaseException:
        undoing = asyncio.create_task(undo())
        while not undoing.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([undoing])
        undoing.result()
        raise


async def _started(service: Service, stopping: asyncio.Event) -> bool:
    """Start a service; return False where it was asked to stop before it served, and all is undone."""
    starting, stopped = asyncio.create_task(service.start()), asyncio.create_task(stopping.wait())
    await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not stopping.is_set():
        await starting
        return True
    starting.cancel()
    await asyncio.wait([starting])
    # What failed is no news now: it may be a worker that was asked to stop too.
    return not starting.cancelled() and starting.exception() is None


async def _give_up(shutdown_timeout_s: float, stopping: asyncio.Event) -> None:
    """Wait for the stop, and end the process where that takes too long.

    A disk that hangs must not keep it: what was acknowledged is safe, the rest is learned later.
    """
    await stopping.wait()
    give_up = threading.Timer(shutdown_timeout_s, os._exit, [1])
    give_up.daemon = True
    give_up.start()
