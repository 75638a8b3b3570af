"""Requests become calls, and answers responses, by the Connect protocol."""

from __future__ import annotations

import asyncio
import gzip
import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from tilbud.domain import errors
from tilbud.domain.errors import TilbudError
from tilbud.domain.limits import Limits
from tilbud.telemetry.log import logger
from tilbud.telemetry.metrics import Metrics
from tilbud.transport.call import Call
from tilbud.transport.connect.calls import Calls
from tilbud.transport.connect.connection import Request
from tilbud.transport.connect.errors import STATUSES, code_name
from tilbud.transport.connect.origins import Origins
from tilbud.transport.connect.pages import Pages
from tilbud.transport.connect.responses import Response
from tilbud.transport.grpc.status import CODES, status_of
from tilbud.transport.grpc.unary import Rpc
from tilbud.v1 import decisions_pb2 as pb

DECIDE = "/tilbud.v1.DecisionService/Decide"
BAD_TIMEOUT = "connect-timeout-ms: must be whole milliseconds of at most 10 digits"
HEALTH = "/grpc.health.v1.Health/Check"
JSON = "application/json"
ERRORS = [
    errors.InvalidField("context.device", "too long"),
    errors.UnknownCampaign("c"),
    errors.IdReused("decision_id", "d"),
    errors.DecisionExpired("d"),
    errors.CustomerChanged(),
    errors.Overloaded("the ledger", 0.25),
    errors.LedgerUnavailable("disk full"),
]


class _Service:
    """What answers, with a handler of Decide that can be told what to do."""

    def __init__(self, limits: Limits | None = None, origins: tuple[str, ...] = ()) -> None:
        limits = limits or Limits()
        self.metrics = Metrics(CollectorRegistry(), version="test", vw_version="test")
        self.rpc = Rpc(metrics=self.metrics.process, limits=limits, log=logger("test"))
        self.error: Exception | None = None
        self.messages: list[pb.DecideRequest] = []
        self.left_s: float | None = None
        self.waits = False
        self.unready = ""
        self.serving = {"": 1, "tilbud.v1.DecisionService": 2}
        self._calls = Calls(
            rpc=self.rpc,
            handlers={"DecisionService": {"Decide": self._decide}},
            health=self.serving.get,
            origins=Origins(origins),
            pages=Pages(lambda: self.unready, 8080),
            metrics=self.metrics.process,
            limits=limits,
        )

    async def _decide(self, message: pb.DecideRequest, call: Call) -> bytes:
        self.messages.append(message)
        self.left_s = call.time_remaining()
        if self.waits:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return pb.DecideResponse(offer_id=f"for {message.campaign}").SerializeToString()

    async def ask(
        self,
        body: bytes = b'{"campaign": "shop"}',
        headers: Mapping[str, str] | None = None,
        *,
        target: str = DECIDE,
        method: str = "POST",
    ) -> Response:
        sent = {"content-type": JSON} | dict(headers or {})
        return await self._calls.answer(
            Request(
                peer="http:127.0.0.1:5",
                method=method.encode(),
                target=target.encode(),
                headers={name.encode(): value.encode() for name, value in sent.items()},
                body=body,
                keep_alive=True,
                size=len(body),
                began_s=perf_counter(),
            )
        )

    def calls(self, code: str) -> float | None:
        labels = {"method": "Decide", "code": code, "protocol": "connect"}
        return self.metrics.registry.get_sample_value("tilbud_rpc_duration_seconds_count", labels)

    def refused(self, status: int) -> float | None:
        return self.metrics.registry.get_sample_value("tilbud_http_refused_total", {"status": str(status)})


def _error(response: Response) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(response.body)
    return error


def _header(response: Response, name: str) -> str:
    return dict(response.headers).get(name, "")


async def test_json_and_binary_are_answered_in_kind() -> None:
    """By the content type, whose parameters do not matter; calls are counted as such."""
    service = _Service()
    response = await service.ask(headers={"content-type": "Application/JSON; charset=utf-8"})
    assert (response.status, response.content_type) == (200, JSON)
    assert json.loads(response.body) == {"offerId": "for shop"}
    asked = pb.DecideRequest(campaign="shop").SerializeToString()
    response = await service.ask(asked, {"content-type": "application/proto"})
    assert (response.status, response.content_type) == (200, "application/proto")
    assert pb.DecideResponse.FromString(response.body).offer_id == "for shop"
    assert service.calls("OK") == 2
    assert service.calls("NOT_FOUND") == 0


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("content_type", [JSON, "application/proto"])
async def test_an_error_is_the_one_of_grpc(error: TilbudError, content_type: str) -> None:
    """The same code, message and details, the HTTP status of the code, and when to try again."""
    service = _Service()
    service.error = error
    code, status = status_of(error)
    response = await service.ask(b"{}" if content_type == JSON else b"", {"content-type": content_type})
    assert (response.status, response.content_type) == (STATUSES[code], JSON)
    said = _error(response)
    assert said["code"] == code.name.lower()
    details = [
        {"@type": f"type.googleapis.com/{each['type']}", "value": each["value"]} for each in said["details"]
    ]
    assert said["message"] == status.message
    assert [each["@type"] for each in details] == [each.type_url for each in status.details]
    assert [b64decode(each["value"] + "==") for each in details] == [each.value for each in status.details]
    assert said["details"][0]["debug"]["domain"] == "tilbud"
    retries = isinstance(error, errors.Overloaded | errors.LedgerUnavailable)
    assert _header(response, "retry-after") == ("1" if retries else "")
    assert service.calls(code.name) == 1


async def test_an_unexpected_error_shows_a_correlation_id_only() -> None:
    """INTERNAL, as over gRPC."""
    service = _Service()
    service.error = ValueError("secret")
    response = await service.ask()
    assert response.status == 500
    assert _error(response)["message"].startswith("internal error; correlation id ")
    assert service.calls("INTERNAL") == 1


def test_every_code_has_its_status_and_its_name() -> None:
    """As the protocol's reference lists them."""
    names = {code_name(code): status for code, status in STATUSES.items()}
    assert names == {
        "canceled": 499, "unknown": 500, "invalid_argument": 400, "deadline_exceeded": 504, "not_found": 404,
        "already_exists": 409, "permission_denied": 403, "resource_exhausted": 429,
        "failed_precondition": 400, "aborted": 409, "out_of_range": 400, "unimplemented": 501,
        "internal": 500, "unavailable": 503, "data_loss": 500, "unauthenticated": 401,
    }  # fmt: skip
    assert {code for _, code, _ in CODES} <= set(STATUSES)
    assert set(STATUSES) == set(grpc.StatusCode) - {grpc.StatusCode.OK}


async def test_what_is_no_call_is_told_what_would_be() -> None:
    """404, 405 and 415 say where, how and in what; they are counted, and no method is."""
    service = _Service()
    response = await service.ask(target="/")
    assert (response.status, _error(response)["code"]) == (404, "unimplemented")
    response = await service.ask(method="GET", target=f"{DECIDE}?encoding=json&message=%7B%7D")
    assert (response.status, _header(response, "allow")) == (405, "POST")
    response = await service.ask(headers={"content-type": "application/x-www-form-urlencoded"})
    assert (response.status, _error(response)["message"]) == (
        415, "say content-type: application/json, or application/proto"
    )  # fmt: skip
    assert _header(response, "accept-post") == "application/json, application/proto"
    assert [service.refused(status) for status in (404, 405, 415)] == [1, 1, 1]
    assert service.messages == []


async def test_a_method_without_a_handler_is_not_implemented() -> None:
    """501, with the reason that gRPC gives."""
    response = await _Service().ask(target="/tilbud.v1.DecisionService/Activate", body=b"{}")
    assert (response.status, _error(response)["code"]) == (501, "unimplemented")
    assert _error(response)["details"][0]["debug"]["reason"] == "NOT_IMPLEMENTED_YET"


async def test_a_deadline_is_the_callers() -> None:
    """The handler knows what is left; when it is over, the call ends and says so."""
    service = _Service()
    await service.ask()
    assert service.left_s is None
    await service.ask(headers={"connect-timeout-ms": "60000"})
    assert service.left_s is not None
    assert 50 < service.left_s <= 60
    service.waits = True
    response = await service.ask(headers={"connect-timeout-ms": "1"})
    assert (response.status, _error(response)["code"]) == (504, "deadline_exceeded")
    assert service.rpc.in_flight == 0
    assert service.calls("CANCELLED") == 1


@pytest.mark.parametrize(
    ("name", "value", "status", "message"),
    [
        ("connect-timeout-ms", "soon", 400, BAD_TIMEOUT),
        ("connect-timeout-ms", "-1", 400, BAD_TIMEOUT),
        ("connect-timeout-ms", "9" * 11, 400, BAD_TIMEOUT),
        ("connect-protocol-version", "2", 400, 'connect-protocol-version: must be "1"'),
        ("content-encoding", "br", 501, "content-encoding: there are gzip and identity"),
        ("content-encoding", "gzip", 400, "request: is not gzip, as its content-encoding says"),
    ],
)  # fmt: skip
async def test_a_header_that_cannot_be_obeyed_is_named(
    name: str, value: str, status: int, message: str
) -> None:
    """And the call is counted as refused."""
    service = _Service()
    response = await service.ask(headers={name: value})
    assert (response.status, _error(response)["message"]) == (status, message)
    assert service.calls("INVALID_ARGUMENT" if status == 400 else "UNIMPLEMENTED") == 1
    assert service.messages == []


async def test_bodies_may_be_gzipped_and_are_bounded_unpacked() -> None:
    """A few bytes that would be many are refused by what they would be."""
    service = _Service(replace(Limits(), message_bytes_max=1_000))
    asked = {"content-encoding": "gzip"}
    assert (await service.ask(gzip.compress(b'{"campaign": "shop"}'), asked)).status == 200
    assert (await service.ask(b"", asked)).status == 400  # empty, which is not unpacked, and no JSON
    bomb = await service.ask(gzip.compress(b" " * 10**7), asked)
    assert _error(bomb)["message"] == "request: holds over 1,000 bytes, more than 1,000; send less at once"
    cut = await service.ask(gzip.compress(b"{}")[:-1], asked)
    assert _error(cut)["message"] == "request: is not one whole gzip, as its content-encoding says"


async def test_what_is_too_much_is_refused_before_it_is_read() -> None:
    """By the room that gRPC's calls share."""
    service = _Service(replace(Limits(), calls_in_flight_max=0))
    response = await service.ask(b"no JSON")
    assert (response.status, _error(response)["code"]) == (429, "resource_exhausted")
    assert service.calls("RESOURCE_EXHAUSTED") == 1


async def test_health_is_answered_however_busy_it_is() -> None:
    """Overall, and of each service; of another there is none."""
    service = _Service(replace(Limits(), calls_in_flight_max=0))
    assert json.loads((await service.ask(b"{}", target=HEALTH)).body) == {"status": "SERVING"}
    named = await service.ask(b'{"service": "tilbud.v1.DecisionService"}', target=HEALTH)
    assert json.loads(named.body) == {"status": "NOT_SERVING"}
    unknown = await service.ask(b'{"service": "x"}', target=HEALTH)
    assert (unknown.status, _error(unknown)["code"]) == (404, "not_found")
    assert (await service.ask(b"[", target=HEALTH)).status == 400


async def test_pages_of_browsers_may_not_call_unless_they_are_listed() -> None:
    """Off by default, also for a page that reached the service by another name."""
    shop, other = {"origin": "https://shop.example"}, {"origin": "http://evil.example"}
    assert (await _Service().ask(headers=shop)).status == 403
    service = _Service(origins=("https://shop.example",))
    assert (await service.ask(headers=other)).status == 403
    assert (await service.ask(headers=other, method="OPTIONS")).status == 403
    assert service.messages == []
    response = await service.ask(headers=shop)
    assert response.status == 200
    assert _header(response, "access-control-allow-origin") == "https://shop.example"
    preflight = await service.ask(b"", shop, method="OPTIONS")
    assert (preflight.status, preflight.body) == (204, b"")
    allowed = _header(preflight, "access-control-allow-headers")
    assert {"connect-timeout-ms", "traceparent"} <= set(allowed.split(", "))
    assert (await service.ask(method="OPTIONS")).status == 405
    assert (await _Service(origins=("*",)).ask(headers=other)).status == 200


async def test_a_process_can_be_probed_where_it_is_called() -> None:
    """/livez and /readyz answer at the address of calls too, whoever asks, and are no refused calls."""
    service = _Service()
    alive, ready = [await service.ask(target=page, method="GET", body=b"") for page in ("/livez", "/readyz")]
    assert (alive.status, alive.body, ready.status, ready.body) == (200, b"alive\n", 200, b"ready\n")
    service.unready = "the disk is full"
    unready = await service.ask(target="/readyz?verbose", method="GET", body=b"")
    assert (unready.status, unready.body) == (503, b"the disk is full\n")
    assert (await service.ask(target="/livez", method="HEAD", body=b"")).status == 200
    assert (await service.ask(target="/readyz")).status == 405
    assert not service.refused(503)


@pytest.mark.parametrize(
    ("host", "there"),
    [
        ("shop.example:8000", "http://shop.example:8080/metrics"),
        ("[::1]:8000", "http://[::1]:8080/metrics"),
        ("evil.example/x", "http://127.0.0.1:8080/metrics"),
        ("", "http://127.0.0.1:8080/metrics"),
    ],
)
async def test_who_asks_for_metrics_is_sent_to_them(host: str, there: str) -> None:
    """/metrics at the address of calls is the way to --metrics, of the host that was asked."""
    response = await _Service().ask(target="/metrics", method="GET", body=b"", headers={"host": host})
    assert (response.status, dict(response.headers)["location"]) == (307, there)
