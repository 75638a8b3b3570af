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
import errno
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

import structlog
from prometheus_client import CollectorRegistry

from tilbud.bandit.checkpoints.store import Checkpoints
from tilbud.bandit.model import Model
from tilbud.campaigns.loader import CampaignLoader
from tilbud.campaigns.served import Catalog
from tilbud.deciding.ids import uuid7
from tilbud.deciding.pipeline import DecideService
from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.errors import TilbudError
from tilbud.learning.beside import Beside
from tilbud.learning.learner import Learner
from tilbud.learning.replica import open_model, open_stand_in
from tilbud.learning.settling_lease import SettlingLease
from tilbud.ledger.ports import Reader
from tilbud.ledger.sqlite.adapter import SqliteLedger
from tilbud.runtime.clock import SystemClock, monotonic_us
from tilbud.runtime.data_directory import DataDirectory
from tilbud.runtime.garbage import freeze_objects
from tilbud.runtime.heartbeat import Beats
from tilbud.runtime.memory import watch_memory
from tilbud.runtime.process import start_or_undo
from tilbud.runtime.reserved_address import reserved, shared
from tilbud.runtime.serving_ledger import serving_ledger
from tilbud.runtime.serving_line import serving_line
from tilbud.runtime.settings import OFF, Settings, WorkerSlot
from tilbud.service.customers import CustomerService
from tilbud.service.outcomes import ReportService
from tilbud.service.pauses import PauseService
from tilbud.telemetry.disk import Disk
from tilbud.telemetry.log import lines_dropped, logger
from tilbud.telemetry.metrics import Metrics
from tilbud.telemetry.spans import Traces
from tilbud.telemetry.stalls import watch_stalls
from tilbud.transport.address import unbracketed, with_port
from tilbud.transport.call import Handle
from tilbud.transport.connect.calls import Calls, Health
from tilbud.transport.connect.origins import Origins
from tilbud.transport.connect.pages import Pages
from tilbud.transport.connect.server import ConnectServer
from tilbud.transport.grpc.campaigns import campaign_handlers
from tilbud.transport.grpc.customers import customer_handlers
from tilbud.transport.grpc.decisions import DecisionHandlers
from tilbud.transport.grpc.explain import explain_handler
from tilbud.transport.grpc.server import GrpcServer
from tilbud.transport.grpc.unary import Rpc
from tilbud.transport.http.metrics_server import HttpSide


@dataclass(frozen=True, slots=True, kw_only=True)
class _Foundation:
    """What all parts of a process stand on."""

    metrics: Metrics
    ledger: SqliteLedger
    reader: Reader
    ledger_key: bytes  # the ledger's own, so that retries and customers outlive another draw key
    clock: SystemClock
    catalog: Catalog
    checkpoints: Checkpoints


class Application:
    """One process that serves: built by `start`, undone in the opposite order by `stop`.

    `slot` makes it a worker; `reloaded` hears of each ReloadCampaigns that was answered; `monotonic_us` is
    the machine's clock.
    """

    def __init__(
        self,
        settings: Settings,
        slot: WorkerSlot | None = None,
        reloaded: Callable[[], None] = lambda: None,
        monotonic_us: Callable[[], int] = monotonic_us,
    ) -> None:
        self._settings = settings
        self._limits = settings.limits
        self._data = DataDirectory(settings.data)
        self._slot = slot
        self._reloaded = reloaded
        self._monotonic_us = monotonic_us
        self._log = self._logger("runtime")
        self._undo = contextlib.AsyncExitStack()
        self._ready = False
        self._beats: Beats | None = None
        self.grpc_address = ""
        self.http_address = OFF  # where the contract is served over HTTP
        self.metrics_port = 0

    @property
    def metrics(self) -> tuple[str, ...]:
        """Where it shows its metrics."""
        address = self._slot.metrics if self._slot else self._settings.metrics
        return (with_port(address, self.metrics_port),)

    async def start(self) -> None:
        """Open the ledger, bring every model up to date, and serve.

        Raises CampaignInvalid, LedgerInvalid, or OSError where an address or directory cannot be had;
        what was begun is undone.
        """
        await start_or_undo(self._start(), self._undo.aclose)

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
        self._undo.callback(self._data.hold(shared=self._slot is not None).close)
        metrics = self._make_metrics()
        self._start_http(metrics)
        base = await self._open_ledger(metrics)
        self._learner = self._make_learner(base)
        self._loader = self._make_loader(base, self._learner)
        self._undo.push_async_callback(self._loader.stop)
        await self._loader.start(strict=self._settings.strict)
        await self._start_learning()
        await self._serve(base)

    def _make_metrics(self) -> Metrics:
        metrics = Metrics(CollectorRegistry(), version=version("tilbud"), vw_version=version("vowpalwabbit"))
        Disk(
            self._data.path,
            {"database": self._data.ledger, "log": self._data.ledger_log},
            registry=metrics.registry,
        )
        metrics.process.watch_log(lines_dropped)
        metrics.process.lost_commits(self._slot.lost_commits if self._slot is not None else 0)
        metrics.process.watch_ready(lambda: not self._unready())
        return metrics

    def _start_http(self, metrics: Metrics) -> None:
        address = self._slot.metrics if self._slot else self._settings.metrics
        host, port = unbracketed(address)
        side = partial(
            HttpSide, host=host, registry=metrics.registry, ready=self._unready, missing=self._missing
        )
        try:
            http = side(port=port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or self._slot or address != Settings().metrics:
                raise OSError(
                    f"cannot listen on {address}: {error.strerror}; choose another --metrics"
                ) from error
            http = side(port=0)  # of a default that nobody chose, and many programs have
            self._log.warning("metrics_elsewhere", taken=address, metrics_port=http.port)
        http.start()
        self._undo.callback(http.stop)
        self.metrics_port = http.port

    async def _open_ledger(self, metrics: Metrics) -> _Foundation:
        self._ledger = ledger = serving_ledger(
            self._settings,
            self._data,
            slot=self._slot,
            monotonic_us=self._monotonic_us,
            lost_commits=metrics.process.lost_commits,
            observe_outage=partial(self._observe_outage, metrics),
            log=self._logger("ledger"),
        )
        info = await ledger.start(metrics.process.committed)
        self._undo.push_async_callback(ledger.close)
        return _Foundation(
            metrics=metrics,
            ledger=ledger,
            reader=await self._undo.enter_async_context(ledger.reader()),
            ledger_key=info.draw_key,
            clock=SystemClock(ledger, self._limits, info.steady_us, self._monotonic_us),
            catalog=Catalog(),
            checkpoints=Checkpoints(self._data.checkpoints, self._limits.checkpoint_generations),
        )

    def _observe_outage(self, metrics: Metrics, seconds: float) -> None:
        log = self._logger("ledger")
        if self._ready:
            metrics.process.outage(seconds)
            log.warning("service_clock_set_back", away_s=round(seconds, 3))
        else:  # whoever starts slowly was not there to fail anybody
            log.info("service_clock_stood_still", away_s=round(seconds, 3))

    def _make_learner(self, base: _Foundation) -> Learner:
        log = self._logger("learning")
        lease = SettlingLease(
            holder=f"{os.getpid()}-{secrets.token_hex(4)}",  # one start of one process
            coordination=base.ledger,
            clock=base.clock,
            metrics=base.metrics.learning,
            limits=self._limits,
            log=log,
        )
        return Learner(
            lease=lease,
            campaigns=base.catalog.all,
            settlement_log=base.ledger,
            retention=base.ledger,
            coordination=base.ledger,
            pauses=base.ledger,
            checkpoints=base.checkpoints,
            clock=base.clock,
            metrics=base.metrics.learning,
            limits=self._limits,
            log=log,
        )

    def _make_loader(self, base: _Foundation, learner: Learner) -> CampaignLoader:
        log = self._logger("learning")

        async def open_own_model(campaign: Campaign, policy: str, erasures: int) -> Model:
            return await open_model(
                campaign,
                policy,
                history=base.ledger,
                checkpoints=base.checkpoints,
                limits=self._limits,
                log=log,
                on_bad_checkpoint=base.metrics.learning.checkpoint_errors.labels(campaign.campaign).inc,
                erasures=erasures,
            )

        async def open_standing_in(campaign: Campaign, policy: str, erasures: int) -> Model:
            return await open_stand_in(
                campaign,
                policy,
                erasures,
                history=base.ledger,
                checkpoints=base.checkpoints,
                limits=self._limits,
                log=log,
            )

        beside = Beside(
            history=base.ledger,
            ledger_file=self._data.ledger,
            checkpoints=base.checkpoints,
            directory=self._data.checkpoints,
            metrics=base.metrics.learning,
            limits=self._limits,
            log=log,
        )
        return CampaignLoader(
            paths=self._settings.campaigns,
            catalog=base.catalog,
            settlement_log=base.ledger,
            coordination=base.ledger,
            clock=base.clock,
            learner=learner,
            open_model=open_own_model,
            open_stand_in=open_standing_in,
            beside=beside,
            metrics=base.metrics,
            limits=self._limits,
            log=self._logger("campaigns"),
            speaks=self._slot is None or self._slot.number == 0,
        )

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

    async def _serve(self, base: _Foundation) -> None:
        settings = self._settings
        traces = self._make_traces()
        rpc = Rpc(
            metrics=base.metrics.process, limits=self._limits, log=self._logger("transport"), traces=traces
        )
        base.metrics.process.watch_calls(lambda: rpc.in_flight, self._limits.calls_in_flight_max)
        listen = self._slot.listen if self._slot else self._undo.enter_context(reserved(settings.listen))
        handlers = self._handlers(base, rpc, traces)
        server = GrpcServer(listen=listen, rpc=rpc, handlers=handlers, limits=self._limits)
        connect = self._make_connect(base, rpc, handlers, server.health.status)
        freeze_objects(self._limits)
        await server.start()
        self.grpc_address = listen
        self._watch(base.metrics, rpc)  # before the drain, to end after it: who drains does not hang
        self._undo.push_async_callback(self._drain, server, connect)
        if connect is not None:
            await connect.start()
        self._ready = True
        self._beat(base, server)
        await server.set_serving(serving=True)
        self._log.info(
            "serving", **serving_line(settings, self.grpc_address, self.http_address, self.metrics)
        )

    async def _drain(self, server: GrpcServer, connect: ConnectServer | None) -> None:
        settings = self._settings
        draining = [server.drain(settings.drain_notice_s, settings.drain_grace_s)]
        if connect is not None:
            draining.append(connect.drain(settings.drain_notice_s, settings.drain_grace_s))
        await asyncio.gather(*draining)

    def _make_connect(
        self, base: _Foundation, rpc: Rpc, handlers: Mapping[str, Mapping[str, Handle]], health: Health
    ) -> ConnectServer | None:
        settings, limits = self._settings, self._limits
        if settings.http == OFF:
            return None
        http = self._slot.http if self._slot else self._undo.enter_context(reserved(settings.http, "--http"))
        self.http_address = http
        calls = Calls(
            rpc=rpc,
            handlers=handlers,
            health=health,
            origins=Origins(settings.cors_origins),
            pages=Pages(self._unready, self.metrics_port),
            metrics=base.metrics.process,
            limits=limits,
        )
        return ConnectServer(sockets=shared(http), answer=calls.answer, limits=limits)

    def _make_traces(self) -> Traces | None:
        if not self._settings.otel:
            return None
        from tilbud.telemetry.otel import otlp_traces  # noqa: PLC0415 - only who has --otel need have it

        traces = otlp_traces(version=version("tilbud"), limits=self._limits)
        self._undo.push_async_callback(traces.close)
        return traces

    def _handlers(
        self, base: _Foundation, rpc: Rpc, traces: Traces | None
    ) -> Mapping[str, Mapping[str, Handle]]:
        limits = self._limits
        decisions = DecisionHandlers(
            self._make_decide(base), self._make_report(base), rpc.unsent, limits, traces
        )
        explain = explain_handler(base.catalog, base.reader.find, limits)
        pauses = PauseService(
            catalog=base.catalog,
            pauses=base.ledger,
            clock=base.clock,
            limits=limits,
            log=self._logger("service"),
        )
        return {
            "DecisionService": {**decisions.by_name(), "ExplainDecision": explain},
            "CampaignService": campaign_handlers(base.catalog, self._loader, pauses, limits, self._reloaded),
            "CustomerService": customer_handlers(self._make_customers(base), limits),
        }

    def _make_decide(self, base: _Foundation) -> DecideService:
        return DecideService(
            catalog=base.catalog,
            decisions=base.ledger,
            clock=base.clock,
            draw_key=self._settings.draw_key or base.ledger_key,
            ledger_key=base.ledger_key,
            metrics=base.metrics.decisions,
            limits=self._limits,
            new_id=uuid7,
        )

    def _make_report(self, base: _Foundation) -> ReportService:
        return ReportService(
            catalog=base.catalog,
            outcomes=base.ledger,
            clock=base.clock,
            metrics=base.metrics.decisions,
            limits=self._limits,
            wake=self._learner.wake,
        )

    def _make_customers(self, base: _Foundation) -> CustomerService:
        return CustomerService(
            customers=base.ledger,
            record=base.reader,
            clock=base.clock,
            ledger_key=base.ledger_key,
            metrics=base.metrics.decisions,
            limits=self._limits,
            relearn=self._loader.relearn,
            log=self._logger("service"),
        )

    def _watch(self, metrics: Metrics, rpc: Rpc) -> None:
        self._watching = [
            asyncio.create_task(
                watch_stalls(metrics.process.stalled, lambda: rpc.in_flight > 0), name="stalls"
            ),
            asyncio.create_task(watch_memory(), name="memory"),
        ]
        for watching in self._watching:
            self._undo.callback(watching.cancel)

    def _beat(self, base: _Foundation, server: GrpcServer) -> None:
        self._beats = beats = Beats(
            ledger=base.ledger,
            clock=base.clock,
            unready=self._unready,
            set_serving=server.set_serving,
            metrics=base.metrics.process,
            limits=self._limits,
            log=self._logger("runtime"),
        )
        self._beating = asyncio.create_task(beats.run(), name="beats")
        self._undo.callback(self._beating.cancel)

    def _logger(self, room: str) -> structlog.typing.FilteringBoundLogger:
        log = logger(room)
        return log if self._slot is None else log.bind(worker=self._slot.number)

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
