"""The options of `tilbud serve` that no other command has."""

from __future__ import annotations

from typing import Annotated

import typer

from tilbud.domain.limits import Limits
from tilbud.ledger.durability import Durability

Http = Annotated[
    str,
    typer.Option(
        envvar="TILBUD_HTTP",
        help="Address of the same calls over HTTP, as JSON: HOST:PORT, :PORT or unix:PATH; off: only gRPC.",
    ),
]
CorsOrigins = Annotated[
    list[str] | None,
    typer.Option(
        "--cors-origin",
        envvar="TILBUD_CORS_ORIGIN",
        help="Origin whose pages may call over HTTP, such as https://shop.example; may be repeated."
        " Default: none.",
    ),
]
MetricsAddress = Annotated[
    str,
    typer.Option(
        envvar="TILBUD_METRICS",
        help="Address of /metrics, /livez and /readyz, HOST:PORT; where the default is taken, any free port.",
    ),
]
DurabilityOption = Annotated[
    Durability,
    typer.Option(
        envvar="TILBUD_DURABILITY",
        help="What acknowledged rows survive: the end of the process, or also the loss of power.",
    ),
]
DrainNotice = Annotated[
    float,
    typer.Option(
        envvar="TILBUD_DRAIN_NOTICE_S", min=0.0, max=600.0, help="Seconds of NOT_SERVING before the stop."
    ),
]
DrainGrace = Annotated[
    float,
    typer.Option(
        envvar="TILBUD_DRAIN_GRACE_S", min=0.0, max=600.0, help="Seconds for calls in flight to finish."
    ),
]
RetentionDays = Annotated[
    float,
    typer.Option(
        envvar="TILBUD_RETENTION_DAYS",
        min=0.01,
        max=36_500,
        help="How long decisions that ended are kept.",
    ),
]
DrawKey = Annotated[
    str,
    typer.Option(
        envvar="TILBUD_DRAW_KEY",
        help="Hexadecimal key of draws and splits. Default: the ledger's own, made once at random.",
    ),
]
AcceptLoss = Annotated[
    bool,
    typer.Option(
        "--accept-loss",
        envvar="TILBUD_ACCEPT_LOSS",
        help="Begin on a ledger that lacks commits which were acknowledged; the log says how many.",
    ),
]
Otel = Annotated[
    bool,
    typer.Option(
        "--otel",
        envvar="TILBUD_OTEL",
        help="Send traces by OTLP over HTTP, as OpenTelemetry's variables say, such as"
        " OTEL_EXPORTER_OTLP_ENDPOINT; needs pip install 'tilbud[otel]'.",
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        envvar="TILBUD_WORKERS",
        min=1,
        max=Limits.workers_max,
        help="Processes that answer at --listen and --http; each has a --metrics port, counted from that.",
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        envvar="TILBUD_STRICT",
        help="Do not start where a campaign file is bad. Default: start with the others, and say so.",
    ),
]
LogLevel = Annotated[str, typer.Option(envvar="TILBUD_LOG_LEVEL", help="debug, info, warning or error.")]
