"""The contract over HTTP: what any program with an HTTP library sees, beside what gRPC answers."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from grpc_status import rpc_status
from tests.conftest import Serve
from tests.e2e.campaigns import RULES, SLOW
from tests.running import CALL_S, START_S, Service

from tilbud.v1 import campaigns_pb2, customers_pb2
from tilbud.v1 import decisions_pb2 as pb

JSON = "application/json"
DECIDE = "/tilbud.v1.DecisionService/Decide"
GRPC = {"DecisionService": "decisions", "CampaignService": "campaigns", "CustomerService": "customers"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that tests share."""
    made = tmp_path_factory.mktemp("http")
    (made / "campaigns").mkdir()
    (made / "campaigns" / "rules.yaml").write_text(RULES)
    started = Service(made / "campaigns", made / "data", made / "log")
    yield started
    started.close()


@contextmanager
def connected(service: Service) -> Iterator[HTTPConnection]:
    """A connection to the service's HTTP port."""
    connection = HTTPConnection(service.http.removeprefix("http://"), timeout=CALL_S)
    try:
        yield connection
    finally:
        connection.close()


def ask(
    connection: HTTPConnection, path: str, message: Message | dict[str, Any] | bytes, content_type: str = JSON
) -> tuple[int, bytes]:
    """Make a call and return status and body."""
    if isinstance(message, Message):
        binary = content_type != JSON
        body = message.SerializeToString() if binary else json.dumps(MessageToDict(message)).encode()
    else:
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
    connection.request("POST", path, body, {"content-type": content_type})
    response = connection.getresponse()
    return response.status, response.read()


def raw(service: Service, sent: bytes) -> bytes:
    """Send bytes on a connection of their own and return all that comes back."""
    host, port = service.http.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=CALL_S) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_a_decision_is_the_one_of_grpc(service: Service) -> None:
    """Asked again under its id, as JSON and as binary, it is answered word for word."""
    request = pb.DecideRequest(campaign="rules", decision_id="same", include_ranking=True)
    request.context.features["tier"].category = "gold"
    expected = service.decisions.Decide(request)
    with connected(service) as connection:
        status, body = ask(connection, DECIDE, request)
        assert status == 200
        assert ParseDict(json.loads(body), pb.DecideResponse()) == expected
        assert json.loads(body) == MessageToDict(expected)
        status, body = ask(connection, DECIDE, request, "application/proto")
        assert status == 200
        assert pb.DecideResponse.FromString(body) == expected


NOBODY = customers_pb2.Customer(id="nobody", language="da")
CHANGED = customers_pb2.Customer(id="anna", etag="old", consent=pb.CONSENT_GRANTED)
REFUSED = [
    ("DecisionService/Decide", pb.DecideRequest(), "invalid_argument"),
    ("DecisionService/Decide", pb.DecideRequest(campaign="no"), "not_found"),
    (
        "DecisionService/Decide",
        pb.DecideRequest(campaign="rules", decision_id="once", include_offers=["anyone"]),
        "already_exists",
    ),
    (
        "DecisionService/ExplainDecision",
        pb.ExplainDecisionRequest(campaign="rules", decision_id="x"),
        "not_found",
    ),
    (
        "DecisionService/BatchDecide",
        pb.BatchDecideRequest(requests=[pb.DecideRequest()] * 1_001),
        "invalid_argument",
    ),
    (
        "CustomerService/UpdateCustomer",
        customers_pb2.UpdateCustomerRequest(customer=NOBODY),
        "failed_precondition",
    ),
    ("CustomerService/UpdateCustomer", customers_pb2.UpdateCustomerRequest(customer=CHANGED), "aborted"),
    ("CampaignService/GetCampaign", campaigns_pb2.GetCampaignRequest(), "invalid_argument"),
]


@pytest.mark.parametrize(
    ("method", "request_", "code"), REFUSED, ids=[f"{method} {code}" for method, _, code in REFUSED]
)
@pytest.mark.parametrize("content_type", [JSON, "application/proto"])
def test_an_error_is_the_one_of_grpc(
    service: Service, method: str, request_: Message, code: str, content_type: str
) -> None:
    """Code, message and details, whichever way a message is written."""
    service.decisions.Decide(pb.DecideRequest(campaign="rules", decision_id="once"))
    name, _, call = method.partition("/")
    with pytest.raises(grpc.RpcError) as refused:
        getattr(getattr(service, GRPC[name]), call)(request_)
    expected: Any = rpc_status.from_call(refused.value)
    with connected(service) as connection:
        _, body = ask(connection, f"/tilbud.v1.{method}", request_, content_type)
    error = json.loads(body)
    assert error["code"] == code == refused.value.code().name.lower()
    assert error["message"] == expected.message
    details = [(each["type"], b64decode(each["value"] + "==")) for each in error["details"]]
    assert details == [(each.TypeName(), each.value) for each in expected.details]


def test_one_connection_serves_a_whole_visit(service: Service) -> None:
    """Decide, report, explain; what a customer said; what is served; health. All of it is in the metrics."""
    with connected(service) as connection:

        def called(path: str, message: dict[str, Any]) -> Any:
            status, body = ask(connection, path, message)
            assert status == 200, body
            return json.loads(body)

        decision = called(DECIDE, {"campaign": "rules", "context": {"device": "mobile"}})
        outcome = {"campaign": "rules", "decisionId": decision["decisionId"], "outcome": "looked"}
        reported = called("/tilbud.v1.DecisionService/ReportOutcome", outcome)
        assert reported == {"status": "OUTCOME_STATUS_ACCEPTED"}
        del outcome["outcome"]
        explained = called("/tilbud.v1.DecisionService/ExplainDecision", outcome)
        assert explained["decision"]["offerId"] == decision["offerId"]
        customer = {"id": "http", "consent": "CONSENT_GRANTED"}
        updated = called("/tilbud.v1.CustomerService/UpdateCustomer", {"customer": customer})
        assert updated["customer"]["consent"] == "CONSENT_GRANTED"
        assert len(called("/tilbud.v1.CampaignService/ListCampaigns", {})["campaigns"]) == 1
        assert called("/grpc.health.v1.Health/Check", {}) == {"status": "SERVING"}
    name = "tilbud_rpc_duration_seconds_count"
    assert service.metric(name, method="ReportOutcome", code="OK", protocol="connect") >= 1
    assert service.metric(name, method="Decide", code="OK", protocol="grpc") >= 0


def test_large_batches_go_both_ways(service: Service) -> None:
    """A thousand decisions of one call, in chunks as some clients send them, each with its ranking."""
    requests = [
        {"campaign": "rules", "decisionId": f"many-{number}", "includeRanking": True}
        for number in range(1_000)
    ]
    body = json.dumps({"requests": requests}).encode()
    parts = (body[at : at + 10_000] for at in range(0, len(body), 10_000))
    with connected(service) as connection:
        path = "/tilbud.v1.DecisionService/BatchDecide"
        connection.request("POST", path, parts, {"content-type": JSON}, encode_chunked=True)
        response = connection.getresponse()
        results = json.loads(response.read())["results"]
    assert [each["decision"]["decisionId"] for each in results] == [
        f"many-{number}" for number in range(1_000)
    ]


def _head(length: int, *more: str) -> bytes:
    lines = [
        f"POST {DECIDE} HTTP/1.1",
        "Host: x",
        f"Content-Type: {JSON}",
        f"Content-Length: {length}",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


HOSTILE = {
    "no HTTP": (b"\x00\xff" * 1_000, b"HTTP/1.1 400 "),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500, b"HTTP/1.1 400 "),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"gRPC is on the address of --listen"),
    "two lengths": (_head(2, "Content-Length: 3") + b"{}", b"HTTP/1.1 400 "),
    "length and chunks": (_head(2, "Transfer-Encoding: chunked") + b"{}", b"HTTP/1.1 400 "),
    "a long head": (_head(2, "X: " + "y" * 100_000) + b"{}", b"HTTP/1.1 431 "),
    "many headers": (_head(2, *["X: y"] * 1_000) + b"{}", b"HTTP/1.1 431 "),
    "a huge body": (
        _head(5_000_000) + b"x" * 5_000_000,
        b"request: holds 5,000,000 bytes, more than 4,194,304",
    ),
    "a huge body, unsaid": (
        _head(0, "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
        + b"".join(b"10000\r\n" + b"x" * 65_536 + b"\r\n" for _ in range(80)),
        b"request: holds over 4,194,304 bytes",
    ),
    "bad JSON": (_head(1) + b"{", b"request: is not JSON: line 1, column 2 cannot be read"),
    "deep JSON": (_head(200_000) + b"[" * 200_000, b"HTTP/1.1 400 "),
    "half a body": (_head(100) + b"{", b""),
    "a method of nobody": (b"BREW /pot HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 "),
    "a file": (b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 404 "),
    "a form": (_head(2).replace(JSON.encode(), b"text/plain") + b"{}", b"HTTP/1.1 415 "),
}


@pytest.mark.parametrize(("sent", "answer"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_are_answered_and_hurt_nobody(service: Service, sent: bytes, answer: bytes) -> None:
    """One clear answer, or none where nothing whole was asked; the next caller is served."""
    answered = raw(service, sent)
    assert answer in answered
    assert answered.count(b"HTTP/1.1 ") <= 1
    with connected(service) as connection:
        assert ask(connection, DECIDE, {"campaign": "rules"})[0] == 200
    assert "unexpected_error" not in service.log.read_text()


def test_requests_sent_together_are_answered_in_order(service: Service) -> None:
    """Pipelined, on one connection."""
    bodies = [
        json.dumps({"campaign": "rules", "decisionId": f"piped-{number}"}).encode() for number in range(10)
    ]
    answered = raw(service, b"".join(_head(len(body)) + body for body in bodies))
    assert re.findall(rb'"decisionId":"(piped-\d)"', answered) == [
        b"piped-%d" % number for number in range(10)
    ]


def test_what_a_call_needs_is_said(service: Service) -> None:
    """To whoever opens the address in a browser, or forgets the content type."""
    with connected(service) as connection:
        connection.request("GET", "/")
        response = connection.getresponse()
        assert response.status == 404
        assert "/tilbud.v1.DecisionService/Decide" in json.loads(response.read())["message"]
        status, body = ask(connection, DECIDE, {}, "application/x-www-form-urlencoded")
        assert status == 415
        assert "content-type: application/json" in json.loads(body)["message"]


def test_who_is_in_flight_at_a_stop_is_answered(serve: Serve) -> None:
    """While it drains, an open connection gets its answer, and hears that it is the last one."""
    service = serve(SLOW, options=("--drain-notice-s", "2"))
    with connected(service) as connection:
        assert ask(connection, DECIDE, {"campaign": "slow"})[0] == 200
        stopping = threading.Thread(target=service.stop)
        stopping.start()
        _until_it_drains(service)
        connection.request("POST", DECIDE, b'{"campaign": "slow"}', {"content-type": JSON})
        response: HTTPResponse = connection.getresponse()
        assert response.status == 200
        assert response.getheader("connection") == "close"
        assert json.loads(response.read())["recorded"]
        stopping.join(START_S)
    assert service.process.returncode == 0


def _until_it_drains(service: Service) -> None:
    """Wait for the log's word of it."""
    for _ in range(10_000):
        if service.events("draining"):
            return
    raise AssertionError("it does not drain")


def test_workers_share_the_port(serve: Serve) -> None:
    """Each of several processes answers on it, and a retry is the same decision whoever it reaches."""
    service = serve(SLOW, options=("--workers", "2"))
    name = "tilbud_rpc_duration_seconds_count"
    offers = set()
    for _ in range(64):
        with connected(service) as connection:
            status, body = ask(connection, DECIDE, {"campaign": "slow", "decisionId": "same"})
            assert status == 200
            offers.add(json.loads(body)["offerId"])
        if all(service.metrics(name, method="Decide", code="OK", protocol="connect")):
            break
    assert all(service.metrics(name, method="Decide", code="OK", protocol="connect"))
    assert len(offers) == 1


def test_it_can_be_left_out(serve: Serve) -> None:
    """`--http off` serves gRPC alone."""
    service = serve(SLOW, options=("--http", "off"))
    assert service.http == ""
    assert service.decisions.Decide(pb.DecideRequest(campaign="slow")).recorded


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--http", "TAKEN"), "choose another --http"),
        (("--http", "8000"), "'8000' is not HOST:PORT"),
        (
            ("--http", "127.0.0.1:0", "--cors-origin", "shop.example"),
            "no origin, such as https://shop.example",
        ),
    ],
)
def test_a_mistake_is_a_sentence(
    service: Service, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    """An address that is taken or none, an origin that is none: status 2, and what would be right."""
    taken = service.http.removeprefix("http://")
    ended = subprocess.run(
        [sys.executable, "-m", "tilbud", "serve", "--data", tmp_path / "data", "--metrics", "127.0.0.1:0",
         "--listen", "127.0.0.1:0", *(taken if each == "TAKEN" else each for each in options)],
        check=False, capture_output=True, text=True, timeout=2 * START_S,
    )  # fmt: skip
    assert ended.returncode == 2, ended.stderr
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_pages_that_are_listed_may_call(serve: Serve) -> None:
    """By CORS; others are refused."""
    service = serve(SLOW, options=("--cors-origin", "https://shop.example"))
    with connected(service) as connection:

        def call(method: str, origin: str) -> HTTPResponse:
            headers = {"content-type": JSON, "origin": origin}
            connection.request(method, DECIDE, b'{"campaign": "slow"}' if method == "POST" else None, headers)
            response = connection.getresponse()
            response.read()
            return response

        preflight = call("OPTIONS", "https://shop.example")
        assert (preflight.status, preflight.getheader("access-control-allow-methods")) == (204, "POST")
        answered = call("POST", "https://shop.example")
        assert (answered.status, answered.getheader("access-control-allow-origin")) == (
            200,
            "https://shop.example",
        )
        assert call("POST", "https://evil.example").status == 403


def test_gzip_and_http_2_wishes_of_curl_work(service: Service, tmp_path: Path) -> None:
    """`--http2` asks for an upgrade, which is passed over; a body may be gzipped."""
    curl, gzip = shutil.which("curl"), shutil.which("gzip")
    if curl is None or gzip is None:
        pytest.skip("no curl or no gzip here")
    body = tmp_path / "body"
    body.write_text('{"campaign": "rules"}')
    subprocess.run([gzip, body], check=True)
    headers = ["-H", f"content-type: {JSON}", "-H", "content-encoding: gzip"]
    command = [curl, "-sSf", "--http2", *headers, "--data-binary", f"@{body}.gz", service.http + DECIDE]
    ran = subprocess.run(command, check=True, capture_output=True, timeout=CALL_S)
    assert json.loads(ran.stdout)["recorded"]
