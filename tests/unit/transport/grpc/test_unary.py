"""What the outermost wrapper knows of the calls it wraps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from tilbud.domain.errors import InvalidField
from tilbud.domain.limits import Limits
from tilbud.telemetry.log import logger
from tilbud.telemetry.metrics import Metrics
from tilbud.transport.call import Method
from tilbud.transport.grpc.unary import Rpc
from tilbud.v1 import decisions_pb2 as pb


class _Details:
    method = "/tilbud.v1.DecisionService/Decide"
    invocation_metadata = ()


class _AbortError(Exception):
    """How grpcio leaves a method whose call it aborted."""


class _Context:
    def __init__(self, message: object) -> None:
        self._message = message

    async def read(self) -> object:
        return self._message

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    async def abort(self, *_: object) -> None:
        raise _AbortError


async def test_a_call_is_in_flight_while_it_is_handled() -> None:
    """From before its handler begins until after it ended, however it ended."""
    metrics = Metrics(CollectorRegistry(), version="test", vw_version="test")
    rpc = Rpc(metrics=metrics.process, limits=Limits(), log=logger("test"))
    seen: list[int] = []
    waiting = asyncio.Event()

    async def handle(message: Any, _context: Any) -> pb.DecideResponse:
        seen.append(rpc.in_flight)
        if message.campaign == "outer":
            await call("inner")
        elif message.campaign == "raises":
            raise ValueError
        elif message.campaign == "waits":
            waiting.set()
            await asyncio.Event().wait()
        return pb.DecideResponse()

    service = rpc.service(pb.DESCRIPTOR.services_by_name["DecisionService"], {"Decide": handle})
    method: Any = service.service(_Details()).stream_unary  # type: ignore[union-attr, arg-type]

    def call(campaign: str) -> Awaitable[bytes]:
        return method(None, _Context(pb.DecideRequest(campaign=campaign).SerializeToString()))  # type: ignore[no-any-return]

    await call("outer")
    assert seen == [1, 2]
    assert rpc.in_flight == 0
    with pytest.raises(_AbortError):
        await call("raises")
    assert rpc.in_flight == 0
    waits = asyncio.ensure_future(call("waits"))
    await waiting.wait()
    assert rpc.in_flight == 1
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    assert rpc.in_flight == 0


async def test_a_call_that_is_too_much_is_refused_before_its_message_is_parsed() -> None:
    """It reaches no handler, whatever its bytes are, and is counted."""
    metrics = Metrics(CollectorRegistry(), version="test", vw_version="test")
    limits = replace(Limits(), calls_in_flight_max=0)
    rpc = Rpc(metrics=metrics.process, limits=limits, log=logger("test"))
    service = rpc.service(pb.DESCRIPTOR.services_by_name["DecisionService"], {})
    method: Any = service.service(_Details()).stream_unary  # type: ignore[union-attr, arg-type]
    with pytest.raises(_AbortError):
        await method(None, _Context(b"\xff no message"))
    labels = {"method": "Decide", "code": "RESOURCE_EXHAUSTED", "protocol": "grpc"}
    assert metrics.registry.get_sample_value("tilbud_rpc_duration_seconds_count", labels) == 1


async def test_a_refused_call_is_logged_for_who_looks_closely() -> None:
    """At debug, with its method and code, and with nothing that came with it."""
    metrics = Metrics(CollectorRegistry(), version="test", vw_version="test")
    rpc = Rpc(metrics=metrics.process, limits=Limits(), log=logger("test"))

    async def handle(_message: Any, _context: Any) -> pb.DecideResponse:
        raise InvalidField("customer_id", "no 'secret' here")

    service = rpc.service(pb.DESCRIPTOR.services_by_name["DecisionService"], {"Decide": handle})
    method: Any = service.service(_Details()).stream_unary  # type: ignore[union-attr, arg-type]
    with capture_logs() as logged, pytest.raises(_AbortError):
        await method(None, _Context(pb.DecideRequest(customer_id="secret").SerializeToString()))
    [line] = logged
    assert line["log_level"] == "debug"
    assert (line["event"], line["method"], line["code"]) == ("call_refused", "Decide", "INVALID_ARGUMENT")
    assert "secret" not in str(line)


class _Answered:
    """A call whose caller takes its answer when it is told to."""

    def __init__(self) -> None:
        self.done: list[Any] = []

    def peer(self) -> str:
        return "http:127.0.0.1:1"

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def time_remaining(self) -> None:
        return None

    def add_done_callback(self, callback: Any) -> None:
        self.done.append(callback)


class _Writing:
    """A way to write messages in which a long one takes until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = asyncio.Event(), asyncio.Event()

    async def read(self, method: Method, _data: bytes) -> Any:
        return method.request()

    async def write(self, _method: Method, answer: Any) -> bytes:
        self.begun.set()
        await self.go.wait()
        return bytes(answer) * 2


async def test_an_answer_takes_its_room_while_it_waits_to_be_written() -> None:
    """Else answers that are made faster than they are written would pile up; all of it is given back."""
    metrics = Metrics(CollectorRegistry(), version="test", vw_version="test")
    limits = replace(Limits(), unsent_bytes_max=150, unsent_counted_bytes=1)
    rpc = Rpc(metrics=metrics.process, limits=limits, log=logger("test"))

    async def handle(_message: Any, _call: Any) -> bytes:
        return b"x" * 200

    method = Method("Decide", "tilbud.v1.DecisionService", pb.DecideRequest, pb.DecideResponse, handle)
    writing, slow, other = _Writing(), _Answered(), _Answered()
    answer = asyncio.ensure_future(rpc.answer(method, writing, b"", slow, protocol="connect", started=0.0))
    await writing.begun.wait()
    refused = await rpc.answer(method, writing, b"", other, protocol="connect", started=0.0)
    assert isinstance(refused, tuple)
    assert "answers not yet taken" in refused[1].message
    writing.go.set()
    assert await answer == b"x" * 400
    for taken in slow.done:
        taken(None)
    assert await rpc.answer(method, writing, b"", other, protocol="connect", started=0.0) == b"x" * 400
