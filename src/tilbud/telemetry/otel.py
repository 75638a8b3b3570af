"""Traces by OpenTelemetry: a span for each call, one within it for each single decision.

What holds: a caller's `traceparent` says where its call's span belongs, and whether it is kept. No span has
an id of a customer or a decision, nor other words of a caller: methods and campaigns are those there are.
Where spans go and how many are kept, the variables of OpenTelemetry say (OTEL_EXPORTER_OTLP_ENDPOINT and
others); a thread of its own sends them, and what a collector does not take is dropped, never waited for by a
call.

What it does not do: a span for each decision of a batch, nor for calls that are refused before their message
is read. Only this module imports OpenTelemetry, which the extra `otel` installs.

Source: https://opentelemetry.io/docs/specs/semconv/rpc/
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from threading import Thread
from time import perf_counter, time_ns
from typing import Any

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_PROTOCOL,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tilbud.domain.limits import Limits
from tilbud.telemetry.spans import Metadata

_CARRIED = ("traceparent", "tracestate")
_SYSTEMS = {"grpc": "grpc", "connect": "connectrpc"}
_OUR_FAULTS = frozenset(
    ("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
)
"""Codes that make a server's span one of an error, by the conventions; all else is the caller's."""
_HTTP = "http/protobuf"


class _CallSpan:
    __slots__ = ("_span", "_token")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        recorded = span.is_recording()  # else nothing of its task is
        self._token = context.attach(trace.set_span_in_context(span)) if recorded else None

    def end(self, code: str) -> None:
        if self._token is None:
            return
        context.detach(self._token)
        self._span.set_attribute("rpc.response.status_code", code)
        if code in _OUR_FAULTS:
            self._span.set_attribute("error.type", code)
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()


class OtelTraces:
    """Makes the spans of one process, of a provider that is its own."""

    def __init__(self, provider: TracerProvider, limits: Limits) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("tilbud")
        self._limits = limits
        self._propagator = TraceContextTextMapPropagator()

    def call(self, method: str, protocol: str, metadata: Metadata, began_s: float) -> _CallSpan:
        carried = {name: _text(value) for name, value in metadata if name in _CARRIED}
        return _CallSpan(
            self._tracer.start_span(
                method,
                self._propagator.extract(carried, context.Context()) if carried else context.Context(),
                trace.SpanKind.SERVER,
                {"rpc.system.name": _SYSTEMS.get(protocol, protocol), "rpc.method": method},
                start_time=time_ns() - round((perf_counter() - began_s) * 1e9),
            )
        )

    def place(self) -> context.Context | None:
        return context.get_current() if trace.get_current_span().is_recording() else None

    def now_ns(self) -> int:
        return time_ns()

    def decision(
        self, place: Any, began_ns: int, *, campaign: str, variant: str, reason: str, recorded: bool
    ) -> None:
        if place is None:
            return
        attributes: dict[str, str | bool] = {
            "tilbud.campaign": campaign,
            "tilbud.variant": variant,
            "tilbud.reason": reason,
            "tilbud.recorded": recorded,
        }
        self._tracer.start_span("decide", place, attributes=attributes, start_time=began_ns).end()

    async def close(self) -> None:
        """Send what is left, for a while; what a collector does not take by then is lost."""
        sent, loop = asyncio.Event(), asyncio.get_running_loop()

        def send() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # nobody waits any more
                loop.call_soon_threadsafe(sent.set)

        Thread(target=send, name="last spans", daemon=True).start()  # which keeps no process
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(sent.wait(), self._limits.spans_sent_within_s)


def check_variables() -> None:
    """Raise ValueError where the variables ask for what is not here."""
    for name in (OTEL_EXPORTER_OTLP_TRACES_PROTOCOL, OTEL_EXPORTER_OTLP_PROTOCOL):
        asked = os.environ.get(name, _HTTP)
        if asked != _HTTP:
            raise ValueError(f"{name}: {asked!r} is not here; spans go by {_HTTP}")


def resource(version: str) -> Resource:
    """Return what spans are said to come from: `tilbud`, or what the variables of OpenTelemetry say."""
    own = Resource.create({"service.name": "tilbud", "service.version": version})
    return own.merge(OTELResourceDetector().detect())


def otlp_traces(*, version: str, limits: Limits) -> OtelTraces:
    """Return traces that go where the variables of OpenTelemetry say, by default to a collector here."""
    provider = TracerProvider(resource=resource(version), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return OtelTraces(provider, limits)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
