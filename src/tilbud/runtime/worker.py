"""One worker of a service of several: the process that serves, and what its supervisor has of it.

What holds: a worker is spawned, never forked, since gRPC has threads. Over a pipe it tells when it serves,
that it still does, why it ended, and when it was asked to load campaign files; it hears nothing but the end
of the pipe, which is the end of its supervisor: then it drains and stops. It never waits for the pipe.
SIGTERM drains it, SIGHUP lets it load changed files, SIGINT is blocked: a terminal sends that to all, and the
supervisor answers for all. When to start one again is the supervisor's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from tilbud.domain.errors import TilbudError
from tilbud.runtime.process import run
from tilbud.runtime.settings import Settings, WorkerSlot
from tilbud.telemetry.log import logger, serve_log
from tilbud.transport.address import with_port

if TYPE_CHECKING:
    from tilbud.runtime.application import Application

_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Serving:
    """A worker serves, its metrics at this port; so many campaign files it does not, for they are bad."""

    metrics_port: int
    files_refused: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a worker ends that could not go on."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reloaded:
    """A worker was asked over gRPC to load the campaign files, and did."""


@dataclass(frozen=True, slots=True)
class Beat:
    """The event loop of a worker that serves goes round; so many campaign files it does not serve by now."""

    files_refused: int = 0


WorkerMessage = Serving | Ended | Reloaded | Beat


class Worker:
    """One slot of a service, and the process that fills it now."""

    def __init__(
        self, settings: Settings, slot: WorkerSlot, heard: Callable[[Worker, WorkerMessage], None]
    ) -> None:
        self._settings = settings
        self._slot = slot
        self._heard = heard
        self._serves = False
        self.number = slot.number
        self.strict = settings.strict  # whether the next process may not serve where a campaign file is bad
        self._process: multiprocessing.process.BaseProcess | None = None
        self.metrics_port = 0  # where it serves, or did
        self.reason = ""  # why the last process ended, in its own words

    def start(self) -> None:
        """Start a process, where the last one served. Raises OSError where the machine has none to give."""
        self.reason, self._serves = "", False
        slot = self._slot
        if self.metrics_port:
            slot = replace(slot, metrics=with_port(slot.metrics, self.metrics_port))
        settings = replace(self._settings, strict=self.strict)
        resource_tracker.ensure_running()  # else it begins with the first worker, and lets signals through
        ours, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(
            target=work, args=(settings, slot, theirs), name=f"worker-{self.number}", daemon=True
        )
        try:
            with theirs, _signals_held_back():
                process.start()
        except OSError:
            ours.close()
            raise
        self._process, self._pipe = process, ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._listen)

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal, if there is one."""
        if self._process is not None and self._process.exitcode is None and self._process.pid is not None:
            os.kill(self._process.pid, number)

    @property
    def pid(self) -> int:
        """The process, 0 while there is none."""
        return (self._process.pid if self._process is not None else None) or 0

    def worked_s(self) -> float | None:
        """Return how many seconds of a processor the process has used; None where the machine tells none."""
        try:
            status = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        after_name = status.rpartition(")")[2].split()  # the name may hold anything; see proc(5)
        user, system = after_name[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    async def ended(self) -> tuple[int, bool]:
        """Wait until the process ended; return its status, negative where a signal did, and if it served."""
        process = self._process
        assert process is not None, "never started"
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(process.sentinel, over.set)
        await over.wait()
        loop.remove_reader(process.sentinel)
        try:
            self._listen()  # its last words
        finally:
            loop.remove_reader(self._pipe.fileno())
            self._pipe.close()
        process.join()
        status = process.exitcode
        assert status is not None, "it was waited for"
        self._process = None
        process.close()
        if not self._serves:  # perhaps since its port was taken meanwhile
            self.metrics_port = 0
        return status, self._serves

    def _listen(self) -> None:
        try:
            while self._pipe.poll():
                self._hear(self._pipe.recv())
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())

    def _hear(self, message: WorkerMessage) -> None:
        if isinstance(message, Serving):
            self._serves, self.metrics_port = True, message.metrics_port
        elif isinstance(message, Ended):
            self.reason = message.reason
        self._heard(self, message)


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Let a process that starts here begin with SIGINT and SIGHUP blocked: it is not ready for them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def work(settings: Settings, slot: WorkerSlot, pipe: Connection) -> None:
    """Serve in a slot until asked to stop: what the worker's process does."""
    serve_log(settings.log_level)
    try:
        uvloop.run(_work(settings, slot, pipe))
    except (TilbudError, OSError) as error:
        _tell(pipe, Ended(str(error)))
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - else multiprocessing would print it, with its text
        sys.excepthook(type(error), error, error.__traceback__)
        sys.exit(1)


async def _work(settings: Settings, slot: WorkerSlot, pipe: Connection) -> None:
    from tilbud.runtime.application import Application  # noqa: PLC0415 - which the supervisor does without

    stopping, loop = asyncio.Event(), asyncio.get_running_loop()

    def alone() -> None:
        loop.remove_reader(pipe.fileno())
        logger("runtime").error("supervisor_gone", worker=slot.number)
        stopping.set()

    loop.add_reader(pipe.fileno(), alone)
    application = Application(settings, slot, reloaded=lambda: _tell(pipe, Reloaded()))
    beating: list[asyncio.Task[None]] = []

    def started() -> None:
        _tell(pipe, Serving(application.metrics_port, application.files_refused))
        beating.append(asyncio.create_task(_beat(pipe, application, settings.limits.worker_beat_every_s)))

    await run(application, shutdown_timeout_s=settings.shutdown_timeout_s, started=started, stopping=stopping)
    for task in beating:
        task.cancel()


async def _beat(pipe: Connection, application: Application, every_s: float) -> None:
    """Tell now and then that the loop goes round, as long as the supervisor takes it in."""
    writable = select.poll()
    writable.register(pipe.fileno(), select.POLLOUT)
    while True:
        await asyncio.sleep(every_s)
        if writable.poll(0):  # a frozen supervisor must not hold up who serves
            _tell(pipe, Beat(application.files_refused))


def _tell(pipe: Connection, message: WorkerMessage) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        pipe.send(message)
