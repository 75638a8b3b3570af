"""`tilbud serve --workers N`: starts the processes that serve, starts again those that die, stops them all.

What holds:
 * It serves nothing itself. The workers listen on one gRPC port and one for HTTP, which it keeps for as long
   as it lives; each has a port of its own for metrics.
 * What is wrong with the data directory, the campaign files or the port is reported once, before any worker.
   Until all of them serve, the end of one is the end of the service; from then on it is started again, at the
   same addresses, while the others go on. Whatever goes wrong with one, its slot does not stay empty unseen.
 * While a worker serves every campaign, none begins that would not, since a file was spoiled meanwhile: one
   service would know a campaign on some connections and not on others. Else each serves what it can.
 * Each worker holds a shared lock on the data directory: no other service begins there while one lives.
 * It begins on the ledger: its file is checked once, and no worker, also no later one, makes or takes
   another file. All of them go by the one service clock that is in it.
 * A worker whose event loop stands still is killed and started again: it may hold the lock of the ledger, and
   with it keep every other from committing. So is one that starts and has stopped working; one that works may
   take as long as it needs. Where the whole service was frozen, nobody is blamed.

Who settles is agreed in the ledger (learning/), and every worker learns from it: nothing of that comes by
here.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Sequence
from time import monotonic

from tilbud.campaigns.source import load_campaigns, load_good
from tilbud.client.address import PORT_MAX, host_and_port
from tilbud.domain.errors import TilbudError
from tilbud.ledger.sqlite.same_file import Identity
from tilbud.runtime.clock import monotonic_us
from tilbud.runtime.data_directory import DataDirectory
from tilbud.runtime.process import start_or_undo
from tilbud.runtime.reserved_address import reserved
from tilbud.runtime.serving_ledger import serving_ledger
from tilbud.runtime.serving_line import serving_line
from tilbud.runtime.settings import OFF, Settings, WorkerSlot
from tilbud.runtime.worker import Beat, Reloaded, Serving, Worker, WorkerMessage
from tilbud.telemetry.log import logger
from tilbud.transport.address import with_port


class WorkerEnded(TilbudError):
    """A worker ended before the whole service served, or before it had drained."""


class Watchdog:
    """Knows who serves and has been silent for too long, on the clock of whoever looks (seconds).

    What holds: time in which nobody looked counts against nobody. A supervisor that was frozen together with
    its workers, or starved, has not seen the beats they sent, or kept them from sending any.
    """

    def __init__(self, *, silence_max_s: float, look_every_s: float) -> None:
        self._silence_max_s = silence_max_s
        self._look_every_s = look_every_s
        self._heard_s: dict[int, float] = {}
        self._looked_s: float | None = None

    def heard(self, worker: int, now_s: float) -> None:
        """Know that a worker lives."""
        self._heard_s[worker] = now_s

    def forget(self, worker: int) -> None:
        """Expect nothing of a worker until it is heard again."""
        self._heard_s.pop(worker, None)

    def look(self, now_s: float) -> Sequence[int]:
        """Return who hangs; each is named once, and expected to beat when it serves again."""
        if self._looked_s is not None and now_s - self._looked_s > 2 * self._look_every_s:
            self._heard_s = dict.fromkeys(self._heard_s, now_s)
        self._looked_s = now_s
        hanging = [
            worker for worker, heard_s in self._heard_s.items() if now_s - heard_s > self._silence_max_s
        ]
        for worker in hanging:
            self.forget(worker)
        return hanging


class StartWatchdog:
    """Knows who starts and no longer works, by how much of a processor each has used (seconds).

    What holds: who learns a large ledger, reads many files or waits its turn for a core is left alone,
    however long that takes; so is everybody where the machine does not tell how much they worked.
    """

    def __init__(self, *, idle_max_s: float, work_min_s: float, look_every_s: float) -> None:
        self._idle = Watchdog(silence_max_s=idle_max_s, look_every_s=look_every_s)
        self._work_min_s = work_min_s
        self._worked_s: dict[int, float] = {}

    def begins(self, worker: int, now_s: float) -> None:
        """Know that a worker starts."""
        self._worked_s[worker] = 0.0
        self._idle.heard(worker, now_s)

    def forget(self, worker: int) -> None:
        """Expect no work of a worker: it serves, or ended."""
        self._worked_s.pop(worker, None)
        self._idle.forget(worker)

    def look(self, now_s: float, worked_s: Callable[[int], float | None]) -> Sequence[int]:
        """Return who hangs, each once; `worked_s` says how much a worker has worked since it was started."""
        for worker, before_s in self._worked_s.items():
            by_now_s = worked_s(worker)
            if by_now_s is None or by_now_s - before_s >= self._work_min_s:
                self._worked_s[worker] = before_s if by_now_s is None else by_now_s
                self._idle.heard(worker, now_s)
        hanging = self._idle.look(now_s)
        for worker in hanging:
            self.forget(worker)
        return hanging


class Supervisor:
    """A service of several processes, with the life of an Application."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._log = logger("runtime")
        self._undo = contextlib.ExitStack()
        self._stopping = asyncio.Event()
        self._complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # all serve
        self._workers: list[Worker] = []
        self._keeping: list[asyncio.Task[None]] = []
        self._unclean: list[str] = []
        limits = settings.limits
        self._watchdog = Watchdog(
            silence_max_s=limits.worker_silent_max_s, look_every_s=limits.worker_beat_every_s
        )
        self._start_watchdog = StartWatchdog(
            idle_max_s=limits.worker_start_idle_max_s,
            work_min_s=limits.worker_start_work_min_s,
            look_every_s=limits.worker_beat_every_s,
        )
        self._watching: asyncio.Task[None] | None = None
        self._whole: set[int] = set()  # the workers that serve every campaign file
        self.grpc_address = ""
        self.http_address = OFF  # where the contract is served over HTTP

    @property
    def shutdown_timeout_s(self) -> float:
        """How long `stop` may take."""
        return self._settings.shutdown_timeout_s + 2 * self._settings.limits.worker_killed_after_s

    @property
    def metrics(self) -> tuple[str, ...]:
        """Where each worker shows its metrics, in order."""
        return tuple(with_port(self._settings.metrics, worker.metrics_port) for worker in self._workers)

    async def start(self) -> None:
        """Serve; returns once every worker does.

        Raises CampaignInvalid, LedgerInvalid, or OSError where an address or directory cannot be had, and
        WorkerEnded with the words of a worker that ended; what was begun is undone.
        """
        await start_or_undo(self._start(), self._end)

    async def stop(self) -> None:
        """Let every worker drain, and wait for them; raises WorkerEnded where one had to be killed."""
        self._log.info("draining")
        await self._end()
        if self._unclean:
            raise WorkerEnded("\n".join(self._unclean))
        self._log.info("stopped")

    async def reload(self) -> None:
        """Let every worker load changed campaign files."""
        for worker in self._workers:
            worker.signal(signal.SIGHUP)

    async def _start(self) -> None:
        settings = self._settings
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, which may be inherited, it hides ends
        data = DataDirectory(settings.data)
        lock = self._undo.enter_context(data.hold())
        load = load_campaigns if settings.strict else load_good
        await asyncio.to_thread(load, settings.campaigns, settings.limits)
        self.grpc_address = self._undo.enter_context(reserved(settings.listen))
        if settings.http != OFF:
            self.http_address = self._undo.enter_context(reserved(settings.http, "--http"))
        metrics_addresses = self._metrics_addresses()
        ledger, lost_commits = await self._open_ledger(data)
        data.lock_as(lock, shared=True)
        for number, metrics in enumerate(metrics_addresses):
            slot = WorkerSlot(
                number=number,
                listen=self.grpc_address,
                http=self.http_address,
                metrics=metrics,
                ledger=ledger,
                lost_commits=lost_commits,
            )
            self._workers.append(Worker(settings, slot, self._heard))
        self._keeping = [asyncio.create_task(self._keep(worker)) for worker in self._workers]
        self._watching = asyncio.create_task(self._watch())
        await self._complete
        self._log.info(
            "serving", **serving_line(settings, self.grpc_address, self.http_address, self.metrics)
        )

    def _metrics_addresses(self) -> list[str]:
        _, port = host_and_port(self._settings.metrics)
        last = port + self._settings.workers - 1
        if last > PORT_MAX:
            raise OSError(
                f"{last} is no port: each worker has one, counted from --metrics; choose a lower one"
            )
        ports = [port + number if port else 0 for number in range(self._settings.workers)]
        return [with_port(self._settings.metrics, each) for each in ports]

    async def _open_ledger(self, data: DataDirectory) -> tuple[Identity, int]:
        """Check, make or migrate the ledger, and begin its clock; return what its file is, and lacks."""
        lost: list[int] = []
        ledger = serving_ledger(
            self._settings, data, monotonic_us=monotonic_us, lost_commits=lost.append, log=self._log
        )
        await ledger.start(lambda _seconds, _rows: None)
        await ledger.close()
        return ledger.identity(), sum(lost)

    async def _keep(self, worker: Worker) -> None:
        """Start a worker, and start it again whenever it ends, until the stop."""
        pause_s = self._settings.limits.worker_pause_min_s
        while not self._stopping.is_set():
            started_s = monotonic()
            try:
                reason = await self._live(worker)
            except Exception as error:  # noqa: BLE001 - nobody awaits this task before the stop
                worker.signal(signal.SIGKILL)
                reason = f"worker {worker.number} was lost: {error!r}"
            if self._stopping.is_set():
                return
            if not self._complete.done():
                self._complete.set_exception(WorkerEnded(reason))
            if self._complete.exception():
                return
            if monotonic() - started_s >= self._settings.limits.worker_served_s:
                pause_s = self._settings.limits.worker_pause_min_s
            self._log.error("worker_ended", worker=worker.number, reason=reason, again_in_s=pause_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)
            pause_s = min(2 * pause_s, self._settings.limits.worker_pause_max_s)

    async def _live(self, worker: Worker) -> str:
        """Start a worker and wait for its end; return how it ended."""
        worker.strict = self._settings.strict or bool(self._whole)
        self._start_watchdog.begins(worker.number, monotonic())
        try:
            worker.start()
        except OSError as error:
            self._start_watchdog.forget(worker.number)
            return f"worker {worker.number} could not be started: {error.strerror}"
        self._log.info("worker_started", worker=worker.number, pid=worker.pid)
        status, served = await worker.ended()
        self._watchdog.forget(worker.number)
        self._start_watchdog.forget(worker.number)
        self._whole.discard(worker.number)
        reason = f"worker {worker.number} ended with status {status}; see the log"
        if self._stopping.is_set() and status and served:
            self._unclean.append(reason)
        return worker.reason or reason

    async def _watch(self) -> None:
        """Kill workers that hang, until cancelled."""
        limits = self._settings.limits
        while True:
            await asyncio.sleep(limits.worker_beat_every_s)
            for number in self._watchdog.look(monotonic()):
                self._log.error("worker_hangs", worker=number, silent_s=limits.worker_silent_max_s)
                self._workers[number].signal(signal.SIGKILL)
            for number in self._start_watchdog.look(
                monotonic(), lambda number: self._workers[number].worked_s()
            ):
                self._log.error("worker_hangs_at_start", worker=number, idle_s=limits.worker_start_idle_max_s)
                self._workers[number].signal(signal.SIGKILL)

    def _heard(self, worker: Worker, message: WorkerMessage) -> None:
        if isinstance(message, Serving | Beat):
            self._watchdog.heard(worker.number, monotonic())
            if not message.files_refused:
                self._whole.add(worker.number)
        if isinstance(message, Serving):
            self._start_watchdog.forget(worker.number)
            if all(each.metrics_port for each in self._workers) and not self._complete.done():
                self._complete.set_result(None)
        elif isinstance(message, Reloaded):
            for other in self._workers:
                if other is not worker:
                    other.signal(signal.SIGHUP)

    async def _end(self) -> None:
        """End every worker and give up what was held."""
        self._stopping.set()
        if self._watching is not None:
            self._watching.cancel()  # who drains has its own time
        for worker in self._workers:
            worker.signal(signal.SIGTERM)
        if self._keeping:
            shutdown_timeout_s = (
                self._settings.shutdown_timeout_s + self._settings.limits.worker_killed_after_s
            )
            _, hanging = await asyncio.wait(self._keeping, timeout=shutdown_timeout_s)
            if hanging:
                for worker in self._workers:
                    worker.signal(signal.SIGKILL)
                await asyncio.wait(hanging)
        self._undo.close()
