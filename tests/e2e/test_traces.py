"""Traces, as a collector gets them: `--otel` and OpenTelemetry's own variables."""

from __future__ import annotations

import gzip
import json
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests.conftest import Serve
from tests.e2e.campaigns import SLOW
from tests.running import CALL_S, until

from tilbud.v1 import decisions_pb2 as pb

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
DECISION, CUSTOMER = "decision-that-nobody-traces", "customer-that-nobody-traces"


class _Collector(ThreadingHTTPServer):
    """Takes what is sent by OTLP over HTTP."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        bodies = self.bodies

        class _Takes(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                packed = self.headers.get("content-encoding") == "gzip"
                bodies.append(gzip.decompress(body) if packed else body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), _Takes)

    def spans(self) -> dict[str, Any]:
        """Return the newest span of each name."""
        return {
            span.name: span
            for body in self.bodies
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Collector]:
    """A collector that the variables name."""
    with _Collector() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")  # ms
        yield server
        server.shutdown()
        thread.join()


def _attributes(span: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


def test_a_callers_trace_goes_on_to_the_decision(serve: Serve, collector: _Collector) -> None:
    """Over gRPC and HTTP: the call in the caller's span, the decision in the call; no id of anybody."""
    service = serve(SLOW, options=("--otel",))
    traceparent = f"00-{TRACE}-{PARENT}-01"
    question = pb.DecideRequest(
        campaign="slow", decision_id=DECISION, customer_id=CUSTOMER, consent=pb.CONSENT_GRANTED
    )
    decided = service.decisions.Decide(question, metadata=(("traceparent", traceparent),))
    report = {"campaign": "slow", "decisionId": DECISION, "outcome": "click"}
    request = urllib.request.Request(
        f"{service.http}/tilbud.v1.DecisionService/ReportOutcome",
        json.dumps(report).encode(),
        {"content-type": "application/json", "traceparent": traceparent},
    )
    with urllib.request.urlopen(request, timeout=CALL_S) as response:
        assert response.status == 200
    names = {f"tilbud.v1.DecisionService/{method}" for method in ("Decide", "ReportOutcome")} | {"decide"}
    until(lambda: names <= collector.spans().keys())
    spans = collector.spans()
    call, decision = spans["tilbud.v1.DecisionService/Decide"], spans["decide"]
    reported = spans["tilbud.v1.DecisionService/ReportOutcome"]
    for span in (call, reported):
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert (decision.trace_id.hex(), decision.parent_span_id) == (TRACE, call.span_id)
    assert call.start_time_unix_nano <= decision.start_time_unix_nano <= decision.end_time_unix_nano
    assert decision.end_time_unix_nano <= call.end_time_unix_nano
    assert _attributes(call)["rpc.system.name"] == "grpc"
    assert _attributes(reported)["rpc.system.name"] == "connectrpc"
    assert _attributes(decision) == {
        "tilbud.campaign": "slow",
        "tilbud.variant": decided.variant,
        "tilbud.reason": pb.DecisionReason.Name(decided.reason).removeprefix("DECISION_REASON_").lower(),
        "tilbud.recorded": True,
    }
    sent = b"".join(collector.bodies)
    assert DECISION.encode() not in sent
    assert CUSTOMER.encode() not in sent


def test_nobody_waits_for_a_collector_that_is_away(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are answered, the service stops as it should, and the log tells of it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    service = serve(SLOW, options=("--otel",))
    assert service.decisions.Decide(pb.DecideRequest(campaign="slow")).recorded
    assert service.stop() == 0
    assert "opentelemetry" in service.log.read_text()
