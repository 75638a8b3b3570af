"""The one place that wires the rooms: reads like a table of contents.

What holds: everything is built here by keyword arguments, started in order, and stopped in the
opposite order; before the process ends, what was acknowledged is committed and, where this is the process
that settles, what was learned is checkpointed. An Application is one process: alone it is the whole service,
in a `WorkerSlot` it is one worker of several (supervisor.py), which differ in nothing but where they serve
and who began on the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import os
import secrets
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import IO

import structlog
from prometheus_client import CollectorRegistry

from tilbud.bandit.checkpoints.store import Checkpoints
from tilbud.bandit.model import Model
from tilbud.campaigns.loader import CampaignLoader
from tilbud.campaigns.served import Catalog
from tilbud.deciding.ids import uuid7
from tilbud.deciding.pipeline import DecideService
from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.clock import Now, SteadyClock
from tilbud.domain.errors import TilbudError
from tilbud.domain.limits import Limits
from tilbud.learning.beside import Beside
from tilbud.learning.learner import Learner
from tilbud.learning.replica import open_model, open_stand_in
from tilbud.learning.settling_lease import SettlingLease
from tilbud.ledger.ports import Coordination
from tilbud.ledger.sqlite.adapter import Serving, SqliteLedger
from tilbud.ledger.sqlite.opening_check import ACKNOWLEDGED_LOST
from tilbud.runtime.heartbeat import Beats
from tilbud.runtime.memory import watch_memory
from tilbud.runtime.process import begin
from tilbud.runtime.reserved_address import reserve
from tilbud.runtime.settings import Settings, WorkerSlot, host_and_port, split_address
from tilbud.service.customers import CustomerService
from tilbud.service.outcomes import ReportService
from tilbud.service.pauses import SwitchService
from tilbud.telemetry.disk import Disk
from tilbud.telemetry.log import lines_dropped, logger
from tilbud.telemetry.metrics import Metrics
from tilbud.telemetry.stalls import watch_stalls
from tilbud.transport.grpc.campaigns import campaign_handlers
from tilbud.transport.grpc.customers import customer_handlers
from tilbud.transport.grpc.decisions import DecisionHandlers
from tilbud.transport.grpc.explain import explain_handler
from tilbud.transport.grpc.server import AddressRefused, GrpcServer
from tilbud.transport.grpc.unary import Rpc
from tilbud.transport.http.metrics_server import HttpSide

LEDGER_FILE = "ledger.sqlite3"
LOCK_FILE = "serving.lock"
CHECKPOINTS_DIRECTORY = "checkpoints"


class SystemClock:
    """Wall time as the machine has it, service time as the ledger has it, and wall time without its jumps."""

    def __init__(self, coordination: Coordination, limits: Limits, last_us: int | None) -> None:
        self._coordination = coordination
        self._steady = SteadyClock(
            tolerance_us=int(limits.wall_clock_tolerance_s * 1e6),
            accepted_after_us=int(limits.wall_clock_accepted_after_s * 1e6),
            away_max_us=int(limits.wall_clock_away_max_s * 1e6),
            last_us=last_us,
        )

    def now(self) -> Now:
        """Return one reading of the clocks."""
        wall_us = time.time_ns() // 1_000
        return Now(wall_us, self._coordination.service_us(), self._steady.read(wall_us, monotonic_us()))


def monotonic_us() -> int:
    """Return CLOCK_MONOTONIC, which the service clock follows."""
    return time.monotonic_ns() // 1_000


def ledger_at(data: Path, settings: Settings, serving: Serving | None = None) -> SqliteLedger:
    """Return the ledger of a data directory, not yet open; `serving`: to serve from it."""
    return SqliteLedger(
        path=data / LEDGER_FILE, durability=settings.durability, limits=settings.limits, serving=serving
    )


def checkpoints_at(data: Path, settings: Settings) -> Checkpoints:
    """Return the checkpoints of a data directory."""
    return Checkpoints(data / CHECKPOINTS_DIRECTORY, settings.limits.checkpoint_generations)


def hold(data: Path, *, shared: bool = False) -> IO[bytes]:
    """Make a data directory and return a lock on it; raises OSError where another service has it.

    `shared` is the lock of a service's workers: while one of them lives, no other service begins.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = (data / LOCK_FILE).open("ab")
    except OSError as error:
        raise OSError(
            f"{data} cannot be the data directory: {error.strerror}; choose another --data"
        ) from error
    try:
        lock_as(lock, data, shared=shared)
    except OSError:
        lock.close()
        raise
    return lock


def lock_as(lock: IO[bytes], data: Path, *, shared: bool) -> None:
    """Lock a data directory, or turn the lock on it into a shared one; raises OSError as `hold` does."""
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        raise OSError(f"another process serves {data}; stop it, or choose another --data") from None


@contextlib.contextmanager
def reserved(listen: str) -> Iterator[int]:
    """Keep an address for one service, port 0: any; give the port. Raises AddressRefused."""
    with contextlib.ExitStack() as undo:
        try:
            sockets = [undo.enter_context(each) for each in reserve(*host_and_port(listen))]
        except OSError as error:
            raise AddressRefused(listen, error.strerror or str(error)) from error
        yield int(sockets[0].getsockname()[1])


class Application:
    """One process that serves: built by `start`, undone in the opposite order by `stop`.

    `place` makes it a worker; `reloaded` hears of each ReloadCampaigns that was answered.
    """

    def __init__(
        self,
        settings: Settings,
        place: WorkerSlot | None = None,
        reloaded: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._place = place
        self._reloaded = reloaded
        self._log = self._logger("app")
        self._undo = contextlib.AsyncExitStack()
        self._ready = False
        self._beats: Beats | None = None
        self.grpc_port = 0
        self.http_port = 0

    async def start(self) -> None:
        """Open the ledger, bring every model up to date, and serve.

        Raises CampaignInvalid, LedgerInvalid, or OSError where an address or directory cannot be had;
        what was begun is undone.
        """
        await begin(self._start(), self._undo.aclose)

    async def stop(self) -> None:
        """Drain: tell clients, finish calls, learn what settled, checkpoint, close. Loses nothing."""
        self._ready = False
        self._log.info("draining")
        await self._undo.aclose()
        self._log.info("stopped")

    async def reload(self) -> None:
        """Load changed campaign files, as SIGHUP asks; problems are logged and change nothing."""
        with contextlib.suppress(TilbudError):
            await self._loader.reload()

    async def _start(self) -> None:
        settings, place, limits = self._settings, self._place, self._settings.limits
        self._undo.callback(hold(settings.data, shared=place is not None).close)
        metrics = Metrics(CollectorRegistry(), version=version("tilbud"), vw_version=version("vowpalwabbit"))
        ledger_file = settings.data / LEDGER_FILE
        Disk(
            settings.data,
            {"database": ledger_file, "log": Path(f"{ledger_file}-wal")},
            registry=metrics.registry,
        )
        metrics.process.watch_log(lines_dropped)
        metrics.process.lost_commits(place.lost_commits if place is not None else 0)
        metrics.process.watch_ready(lambda: not self._unready())
        self._start_http(metrics)

        self._ledger = ledger = ledger_at(settings.data, settings, self._serving(metrics))
        info = await ledger.start(metrics.process.committed)
        self._undo.push_async_callback(ledger.close)
        reader = await self._undo.enter_async_context(ledger.reader())
        clock = SystemClock(ledger, limits, info.steady_us)

        catalog = Catalog()
        checkpoints = checkpoints_at(settings.data, settings)
        lease = SettlingLease(
            holder=f"{os.getpid()}-{secrets.token_hex(4)}",  # one start of one process
            coordination=ledger,
            clock=clock,
            metrics=metrics.learning,
            limits=limits,
            log=self._logger("learning"),
        )
        self._learner = learner = Learner(
            lease=lease,
            campaigns=catalog.all,
            settlement_log=ledger,
            retention=ledger,
            coordination=ledger,
            pauses=ledger,
            checkpoints=checkpoints,
            clock=clock,
            metrics=metrics.learning,
            limits=limits,
            log=self._logger("learning"),
        )

        async def open_campaign(campaign: Campaign, erasures: int) -> Model:
            return await open_model(
                campaign,
                history=ledger,
                checkpoints=checkpoints,
                limits=limits,
                log=self._logger("learning"),
                on_bad_checkpoint=metrics.learning.checkpoint_errors.labels(campaign.campaign).inc,
                erasures=erasures,
            )

        async def open_standing_in(campaign: Campaign, erasures: int) -> Model:
            return await open_stand_in(
                campaign,
                erasures,
                history=ledger,
                checkpoints=checkpoints,
                limits=limits,
                log=self._logger("learning"),
            )

        self._loader = loader = CampaignLoader(
            paths=settings.campaigns,
            catalog=catalog,
            settlement_log=ledger,
            coordination=ledger,
            clock=clock,
            learner=learner,
            open_model=open_campaign,
            open_stand_in=open_standing_in,
            beside=Beside(
                history=ledger,
                ledger_file=ledger_file,
                checkpoints=checkpoints,
                directory=settings.data / CHECKPOINTS_DIRECTORY,
                metrics=metrics.learning,
                limits=limits,
                log=self._logger("learning"),
            ),
            metrics=metrics,
            limits=limits,
            log=self._logger("campaigns"),
        )
        self._undo.push_async_callback(loader.stop)
        await loader.start(strict=settings.strict)
        await self._start_learning()

        decide = DecideService(
            catalog=catalog,
            decisions=ledger,
            clock=clock,
            draw_key=settings.draw_key or info.draw_key,
            ledger_key=info.draw_key,  # so that retries and customers outlive another draw key
            metrics=metrics.decisions,
            limits=limits,
            new_id=uuid7,
        )
        report = ReportService(
            catalog=catalog,
            outcomes=ledger,
            clock=clock,
            metrics=metrics.decisions,
            limits=limits,
            wake=learner.wake,
        )
        switches = SwitchService(
            catalog=catalog, pauses=ledger, clock=clock, limits=limits, log=self._logger("switches")
        )
        customers = CustomerService(
            customers=ledger,
            clock=clock,
            ledger_key=info.draw_key,
            metrics=metrics.decisions,
            limits=limits,
            relearn=loader.relearn,
            log=self._logger("customers"),
        )
        rpc = Rpc(metrics=metrics.process, limits=limits, log=self._logger("transport"))
        metrics.process.watch_calls(lambda: rpc.in_flight, limits.calls_in_flight_max)
        listen = place.listen if place else self._reserved()
        server = GrpcServer(
            listen=listen,
            rpc=rpc,
            handlers={
                "DecisionService": {
                    **DecisionHandlers(decide, report, rpc.unsent, limits).by_name(),
                    "ExplainDecision": explain_handler(catalog, reader.find, limits),
                },
                "CampaignService": campaign_handlers(catalog, loader, switches, limits, self._reloaded),
                "CustomerService": customer_handlers(customers, limits),
            },
            limits=limits,
        )
        # A full collection walks every object there is: without what was loaded by now, which stays, it is
        # short, where it would stall every call.
        gc.collect()
        gc.freeze()
        gc.set_threshold(self._settings.limits.young_objects_max)
        await server.start()
        self.grpc_port = split_address(listen)[1]
        self._watch(metrics)  # before the drain, to end after it: who drains does not hang
        self._undo.push_async_callback(server.drain, settings.drain_notice_s, settings.drain_grace_s)
        self._ready = True
        self._beat(ledger, clock, metrics, server)
        await server.set_serving(serving=True)
        self._log.info("serving", grpc_port=self.grpc_port, http_port=self.http_port)

    def _reserved(self) -> str:
        """Keep the address for as long as this lives; return it with its port."""
        listen = self._settings.listen
        return f"{split_address(listen)[0]}:{self._undo.enter_context(reserved(listen))}"

    def _start_http(self, metrics: Metrics) -> None:
        address = self._place.http if self._place else self._settings.http
        host, port = host_and_port(address)
        try:
            http = HttpSide(
                host=host, port=port, registry=metrics.registry, ready=self._unready, missing=self._missing
            )
        except OSError as error:
            raise OSError(f"cannot listen on {address}: {error.strerror}; choose another --http") from error
        http.start()
        self._undo.callback(http.stop)
        self.http_port = http.port

    async def _start_learning(self) -> None:
        learning = asyncio.create_task(self._learner.run(), name="learner")
        relearning = asyncio.create_task(self._loader.run(), name="relearner")

        async def stop_learning() -> None:
            relearning.cancel()
            await asyncio.wait([relearning])
            await self._loader.stop()
            self._learner.stop()
            done, _ = await asyncio.wait([learning], timeout=self._settings.drain_grace_s)
            if done:
                await self._learner.checkpoint_all()
                await self._learner.release()
            else:  # a disk that hangs must not keep the process: what is left is learned at the next start
                learning.cancel()
                self._log.error("learner_hangs")

        self._undo.push_async_callback(stop_learning)

    def _watch(self, metrics: Metrics) -> None:
        self._watching = [
            asyncio.create_task(watch_stalls(metrics.process.stalled), name="stalls"),
            asyncio.create_task(watch_memory(), name="memory"),
        ]
        for watching in self._watching:
            self._undo.callback(watching.cancel)

    def _beat(self, ledger: SqliteLedger, clock: SystemClock, metrics: Metrics, server: GrpcServer) -> None:
        self._beats = beats = Beats(
            ledger=ledger,
            clock=clock,
            unready=self._unready,
            set_serving=server.set_serving,
            metrics=metrics.process,
            limits=self._settings.limits,
            log=self._logger("app"),
        )
        self._beating = asyncio.create_task(beats.run(), name="beats")
        self._undo.callback(self._beating.cancel)

    def _serving(self, metrics: Metrics) -> Serving:
        log = self._logger("ledger")

        def tell(event: str, values: dict[str, object]) -> None:
            log.error(event, **values)
            if event == ACKNOWLEDGED_LOST:
                metrics.process.lost_commits(int(str(values["commits"])))

        def outage(seconds: float) -> None:
            if self._ready:
                metrics.process.outage(seconds)
                log.warning("service_clock_set_back", away_s=round(seconds, 3))
            else:  # whoever starts slowly was not there to fail anybody
                log.info("service_clock_stood_still", away_s=round(seconds, 3))

        return Serving(
            monotonic_us=monotonic_us,
            place=self._place.number if self._place else 0,
            joins=self._place.ledger if self._place else None,
            accept_loss=self._settings.accept_loss,
            tell=tell,
            observe_outage=outage,
        )

    def _logger(self, room: str) -> structlog.typing.FilteringBoundLogger:
        log = logger(room)
        return log if self._place is None else log.bind(worker=self._place.number)

    @property
    def files_refused(self) -> int:
        """How many campaign files are not served, for what is wrong with them."""
        return self._loader.files_refused

    def _missing(self) -> tuple[str, ...]:
        return tuple(map(str, self._loader.refused)) if self._ready else ()

    def _unready(self) -> str:
        if not self._ready:
            return "starting or draining"
        _, trouble = self._ledger.trouble()
        stalled = self._beats.stalled() if self._beats is not None else ""
        return trouble or stalled or self._learner.trouble()
