"""What the outermost wrapper knows of the calls it wraps."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry

from tilbud.domain.limits import Limits
from tilbud.telemetry.log import logger
from tilbud.telemetry.metrics import Metrics
from tilbud.transport.rpc import Rpc
from tilbud.v1 import decisions_pb2 as pb


class _Details:
    method = "/tilbud.v1.DecisionService/Decide"
    invocation_metadata = ()


async def test_a_call_is_in_flight_while_it_is_handled() -> None:
    """From before its handler begins until after it ended, however it ended."""
    metrics = Metrics(CollectorRegistry(), version="test", vw_version="test")
    rpc = Rpc(metrics=metrics, limits=Limits(), log=logger("test"))
    seen: list[int] = []

    async def handle(message: Any, _context: Any) -> pb.DecideResponse:
        seen.append(rpc.in_flight)
        if message.campaign == "outer":
            await method(pb.DecideRequest(campaign="inner"), None)
        return pb.DecideResponse()

    service = rpc.service(pb.DESCRIPTOR.services_by_name["DecisionService"], {"Decide": handle})
    method: Any = service.service(_Details()).unary_unary  # type: ignore[union-attr, arg-type]
    await method(pb.DecideRequest(campaign="outer"), None)
    assert seen == [1, 2]
    assert rpc.in_flight == 0
