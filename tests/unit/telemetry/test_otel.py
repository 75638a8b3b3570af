"""Spans of calls and decisions: where they belong, what they say, and what they never say."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter, time_ns

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from typer.testing import CliRunner

from tilbud.cli import cli
from tilbud.domain.limits import Limits
from tilbud.telemetry.otel import OtelTraces, resource

DECIDE = "tilbud.v1.DecisionService/Decide"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class _Kept:
    """Traces that are kept here."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.traces = OtelTraces(provider, Limits())

    def spans(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()


def test_a_calls_span_has_the_names_of_the_conventions() -> None:
    """A server's span by the method's whole name, as long as the call was handled, with its code."""
    kept = _Kept()
    before_ns = time_ns()
    kept.traces.call(DECIDE, "connect", [], perf_counter() - 0.5).end("OK")
    [span] = kept.spans()
    assert (span.name, span.kind, span.parent) == (DECIDE, SpanKind.SERVER, None)
    assert span.attributes == {
        "rpc.system.name": "connectrpc", "rpc.method": DECIDE, "rpc.response.status_code": "OK"
    }  # fmt: skip
    assert span.status.status_code is StatusCode.UNSET
    assert span.start_time is not None
    assert span.end_time is not None
    assert 0.4e9 < before_ns - span.start_time < 0.6e9 <= span.end_time - span.start_time + 0.1e9


@pytest.mark.parametrize(
    ("code", "ours"), [("INTERNAL", True), ("UNAVAILABLE", True), ("NOT_FOUND", False), ("CANCELLED", False)]
)
def test_only_our_faults_are_errors(code: str, *, ours: bool) -> None:
    """What a caller asked wrongly is no error of the service."""
    kept = _Kept()
    kept.traces.call(DECIDE, "grpc", [], perf_counter()).end(code)
    assert (kept.spans()[0].status.status_code is StatusCode.ERROR) == ours


@pytest.mark.parametrize("value", [f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-01".encode()])
def test_a_callers_trace_goes_on(value: str | bytes) -> None:
    """By `traceparent`; the decision's span lies in the call's, and the next call is none of it."""
    kept = _Kept()
    call = kept.traces.call(DECIDE, "grpc", [("a", b"\xff"), ("traceparent", value)], perf_counter())
    place, began_ns = kept.traces.place(), kept.traces.now_ns()
    kept.traces.decision(place, began_ns, campaign="c", variant="v", reason="control", recorded=True)
    call.end("OK")
    kept.traces.call(DECIDE, "grpc", [], perf_counter()).end("OK")
    decided, called, other = kept.spans()
    assert called.parent is not None
    assert (f"{called.parent.trace_id:032x}", f"{called.parent.span_id:016x}") == (TRACE, PARENT)
    assert (decided.name, decided.parent) == ("decide", called.context)
    assert decided.attributes == {
        "tilbud.campaign": "c", "tilbud.variant": "v", "tilbud.reason": "control", "tilbud.recorded": True
    }  # fmt: skip
    assert other.parent is None


@pytest.mark.parametrize("value", ["", "00-x-y-01", "x" * 10_000, f"00-{'0' * 32}-{PARENT}-01"])
def test_what_is_no_traceparent_is_passed_over(value: str) -> None:
    """The call has a trace of its own."""
    kept = _Kept()
    kept.traces.call(DECIDE, "grpc", [("traceparent", value)], perf_counter()).end("OK")
    assert kept.spans()[0].parent is None


def test_a_caller_who_keeps_no_trace_makes_none() -> None:
    """Nothing is kept of a call whose caller does not sample it."""
    kept = _Kept()
    metadata = [("traceparent", f"00-{TRACE}-{PARENT}-00")]
    call = kept.traces.call(DECIDE, "grpc", metadata, perf_counter())
    kept.traces.decision(kept.traces.place(), 1, campaign="c", variant="v", reason="r", recorded=True)
    call.end("INTERNAL")
    assert kept.traces.place() is None
    assert kept.spans() == ()


async def test_a_collector_that_hangs_holds_up_no_stop() -> None:
    """What it does not take within its time is lost."""
    hanging = threading.Event()

    class _Hangs(SpanExporter):
        def export(self, _spans: Sequence[ReadableSpan]) -> SpanExportResult:
            raise NotImplementedError

        def shutdown(self) -> None:
            hanging.wait()

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(_Hangs()))
    try:
        await OtelTraces(provider, replace(Limits(), spans_sent_within_s=0.01)).close()
    finally:
        hanging.set()


def test_the_variables_name_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """By default it is `tilbud`, with its version."""
    names = []
    for variables in ({}, {"OTEL_SERVICE_NAME": "shop", "OTEL_RESOURCE_ATTRIBUTES": "deployment=test"}):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        attributes = resource("1.2.3").attributes
        names.append(
            (attributes["service.name"], attributes.get("deployment"), attributes["service.version"])
        )
    assert names == [("tilbud", None, "1.2.3"), ("shop", "test", "1.2.3")]


def test_who_lacks_the_extra_is_told_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence, and status 2."""
    monkeypatch.delitem(sys.modules, "tilbud.telemetry.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    ended = CliRunner().invoke(cli, ["serve", "--otel"])
    assert ended.exit_code == 2
    assert "--otel: opentelemetry is not installed; pip install 'tilbud[otel]'" in ended.output


def test_a_protocol_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its variable's name."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    ended = CliRunner().invoke(cli, ["serve", "--otel"])
    assert ended.exit_code == 2
    assert "OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' is not here; spans go by http/protobuf" in ended.output
