"""The commands of a service: `serve`, and `health`, which asks one that runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from tilbud.cli.errors import fail, finished
from tilbud.cli.options import DATA, DEFAULTS, LISTEN, Asked, Campaigns, Data, Listen
from tilbud.cli.serve_options import (
    AcceptLoss,
    CorsOrigins,
    DrainGrace,
    DrainNotice,
    DrawKey,
    DurabilityOption,
    Http,
    LogLevel,
    MetricsAddress,
    Otel,
    RetentionDays,
    Strict,
    Workers,
)
from tilbud.client.address import socket_path
from tilbud.domain.limits import Limits
from tilbud.runtime.settings import OFF, SAMPLES, Settings, check_origins


def serve(
    campaigns: Campaigns = None,
    data: Data = DATA,
    listen: Listen = LISTEN,
    http: Http = DEFAULTS.http,
    cors_origins: CorsOrigins = None,
    metrics: MetricsAddress = DEFAULTS.metrics,
    durability: DurabilityOption = DEFAULTS.durability,
    drain_notice_s: DrainNotice = DEFAULTS.drain_notice_s,
    drain_grace_s: DrainGrace = DEFAULTS.drain_grace_s,
    retention_days: RetentionDays = 90.0,
    draw_key: DrawKey = "",
    accept_loss: AcceptLoss = False,
    workers: Workers = DEFAULTS.workers,
    strict: Strict = False,
    otel: Otel = False,
    log_level: LogLevel = DEFAULTS.log_level,
) -> None:
    """Serve campaigns over gRPC and HTTP until SIGINT or SIGTERM; SIGHUP loads changed campaign files.

    With --workers more processes answer, on the same ports and from one data directory.
    """
    import uvloop

    from tilbud.runtime.process import raise_descriptors
    from tilbud.telemetry.log import serve_log

    raise_descriptors()
    try:
        listen, http, metrics = _addresses(listen, http, metrics, workers)
        check_origins(cors_origins or ())
        key = _draw_key(draw_key)
        if otel:
            _check_otel()
        serve_log(log_level)
    except ValueError as error:
        fail(str(error))
    settings = Settings(
        campaigns=tuple(campaigns or [SAMPLES]),
        data=data,
        listen=listen,
        http=http,
        cors_origins=tuple(cors_origins or ()),
        metrics=metrics,
        durability=durability,
        drain_notice_s=drain_notice_s,
        drain_grace_s=drain_grace_s,
        draw_key=key,
        accept_loss=accept_loss,
        workers=workers,
        log_level=log_level,
        strict=strict,
        otel=otel,
        limits=replace(Limits(), retention_s=retention_days * 86_400.0),
    )
    finished(_serve(settings), uvloop.run)  # a sixth more decisions a second than on asyncio's own loop


def _addresses(listen: str, http: str, metrics: str, workers: int) -> tuple[str, str, str]:
    from tilbud.transport.address import listening

    listen, metrics = listening(listen, "--listen"), listening(metrics, "--metrics")
    http = http if http == OFF else listening(http, "--http")
    if socket_path(metrics):
        raise ValueError(
            "--metrics: Prometheus scrapes no unix socket; write HOST:PORT, such as 127.0.0.1:8080"
        )
    if workers > 1 and (socket_path(listen) or socket_path(http)):
        raise ValueError(
            "--workers: a unix socket is one process's alone; leave --workers out, or write HOST:PORT"
        )
    return listen, http, metrics


def _draw_key(text: str) -> bytes | None:
    if not text:
        return None
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if not 16 <= len(key) <= 64:  # noqa: PLR2004 - what BLAKE2b takes, and no guessable ones
        raise ValueError(
            "--draw-key: write 32 to 128 hexadecimal digits, such as `openssl rand -hex 32` gives"
        )
    return key


def _check_otel() -> None:
    try:
        from tilbud.telemetry.otel import check_variables
    except ImportError as error:
        raise ValueError(f"--otel: {error.name} is not installed; pip install 'tilbud[otel]'") from None
    check_variables()


async def _serve(settings: Settings) -> None:
    import asyncio

    from tilbud.runtime.process import run

    if settings.workers > 1:
        from tilbud.runtime.supervisor import Supervisor

        supervisor = Supervisor(settings)
        await run(
            supervisor,
            shutdown_timeout_s=supervisor.shutdown_timeout_s,
            started=lambda: _announce(supervisor.grpc_address, supervisor.http_address, supervisor.metrics),
            stopping=asyncio.Event(),
        )
        return
    from tilbud.runtime.application import Application

    application = Application(settings)
    await run(
        application,
        shutdown_timeout_s=settings.shutdown_timeout_s,
        started=lambda: _announce(application.grpc_address, application.http_address, application.metrics),
        stopping=asyncio.Event(),
    )


def _announce(grpc: str, http: str, metrics: Sequence[str]) -> None:
    from tilbud.telemetry.log import last_words

    over_http = "" if http == OFF else f", HTTP on {http if socket_path(http) else f'http://{http}'}"
    scraped = ", ".join(f"http://{address}/metrics" for address in metrics)
    last_words()  # whoever reads this line finds in the log what came before
    try:
        # The first line a newcomer looks for.
        print(f"tilbud serves gRPC on {grpc}{over_http}, metrics on {scraped}", flush=True)  # noqa: T201 - to a person
    except OSError:  # nobody reads it, which is no reason not to serve
        with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123 - a device
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def health(
    listen: Asked = LISTEN,
    service: Annotated[
        str, typer.Option(help="One service, such as tilbud.v1.DecisionService. Default: all of it.")
    ] = "",
    timeout: Annotated[
        float, typer.Option(min=0.001, max=600.0, help="Seconds to wait for the answer.")
    ] = 3.0,
) -> None:
    """Ask a running service whether it serves, over grpc.health.v1: status 0 if so, else 1 and the reason.

    What listens on every address (0.0.0.0, [::] or a port alone) is asked on loopback.
    """
    from tilbud.transport.grpc.health_client import SERVING, ask_health

    try:
        status = ask_health(listen, service, timeout)
    except ValueError as error:
        fail(f"--listen: {error}")
    print(f"{listen}: {status}")  # noqa: T201 - to a person
    if status != SERVING:
        raise typer.Exit(1)
