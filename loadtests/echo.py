"""The no-op that Decide is measured against: a grpc.aio server that answers, and does nothing else.

It reads the same messages and writes an answer as long as the service's own; it takes outcomes as well.
Prints where it listens and serves until it is ended; `serving.echoing` starts it. `--like-service`: it
listens as often on its address as the service does, and runs in the same event loop (uvloop), which a plain
one does not.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import uvloop

from tilbud.domain.limits import Limits
from tilbud.v1 import decisions_pb2 as pb


def an_answer() -> pb.DecideResponse:
    """Return an answer like those of the sample shop."""
    answer = pb.DecideResponse(
        decision_id="01939f3e-0000-7000-8000-000000000000",
        offer_id="free-shipping",
        probability=0.1,
        reason=pb.DECISION_REASON_PERSONALIZED,
        variant="personalized",
        model_version="0123456789ab.1",
        recorded=True,
    )
    answer.payload["title"] = "Free shipping this week"
    answer.reward_deadline.GetCurrentTime()
    return answer


async def echo(listeners: int) -> None:
    """Serve on any free port."""
    answer = an_answer()

    received = pb.ReportOutcomeResponse(status=pb.OUTCOME_STATUS_ACCEPTED)

    async def decide(_request: pb.DecideRequest, _context: object) -> pb.DecideResponse:
        return answer

    async def report(_request: pb.ReportOutcomeRequest, _context: object) -> pb.ReportOutcomeResponse:
        return received

    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Decide": grpc.unary_unary_rpc_method_handler(
            decide,
            request_deserializer=pb.DecideRequest.FromString,
            response_serializer=pb.DecideResponse.SerializeToString,
        ),
        "ReportOutcome": grpc.unary_unary_rpc_method_handler(
            report,
            request_deserializer=pb.ReportOutcomeRequest.FromString,
            response_serializer=pb.ReportOutcomeResponse.SerializeToString,
        ),
    }
    port, servers = 0, []
    for _ in range(listeners):
        server = grpc.aio.server(options=(("grpc.so_reuseport", 1),))
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("tilbud.v1.DecisionService", methods),)
        )
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        servers.append(server)  # one that nobody holds is ended
    sys.stdout.write(f"127.0.0.1:{port}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    if "--like-service" in sys.argv:
        uvloop.run(echo(Limits().listeners))
    else:
        asyncio.run(echo(1))
