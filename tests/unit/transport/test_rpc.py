"""What the outermost wrapper knows of the calls it wraps."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tilbud.domain.limits import Limits
from tilbud.telemetry.log import logger
from tilbud.telemetry.metrics import Metrics
from tilbud.transport.rpc import Rpc
from tilbud.v1 import decisions_pb2 as pb


class _Details:
    method = "/tilbud.v1.DecisionService/Decide"
    invocation_metadata = ()


class _AbortError(Exception):
    """How grpcio leaves a method whose call it aborted."""


class _Context:
    async def abort(self, *_: object) -> None:
        raise _AbortError


async def test_a_call_is_in_flight_while_it_is_handled() -> None:
    """From before its handler begins until after it ended, however it ended."""
    metrics = Metrics(CollectorRegistry(), version="test", vw_version="test")
    rpc = Rpc(metrics=metrics, limits=Limits(), log=logger("test"))
    seen: list[int] = []
    waiting = asyncio.Event()

    async def handle(message: Any, _context: Any) -> pb.DecideResponse:
        seen.append(rpc.in_flight)
        if message.campaign == "outer":
            await method(pb.DecideRequest(campaign="inner"), None)
        elif message.campaign == "raises":
            raise ValueError
        elif message.campaign == "waits":
            waiting.set()
            await asyncio.Event().wait()
        return pb.DecideResponse()

    service = rpc.service(pb.DESCRIPTOR.services_by_name["DecisionService"], {"Decide": handle})
    method: Any = service.service(_Details()).unary_unary  # type: ignore[union-attr, arg-type]
    await method(pb.DecideRequest(campaign="outer"), None)
    assert seen == [1, 2]
    assert rpc.in_flight == 0
    with pytest.raises(_AbortError):
        await method(pb.DecideRequest(campaign="raises"), _Context())
    assert rpc.in_flight == 0
    call = asyncio.create_task(method(pb.DecideRequest(campaign="waits"), None))
    await waiting.wait()
    assert rpc.in_flight == 1
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert rpc.in_flight == 0
