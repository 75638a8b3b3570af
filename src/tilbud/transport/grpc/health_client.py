"""Asks a running service how it is, as a load balancer would (grpc.health.v1)."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tilbud.client.address import dialled
from tilbud.client.refusals import refusal

SERVING = "SERVING"


def ask_health(listen: str, service: str, timeout_s: float) -> str:
    """Return the status that who listens at an address gives of a service ("": of all), or why there is none.

    Where it listens on every address, it is asked on loopback. Never through a proxy. ValueError where that
    is no address.
    """
    with grpc.insecure_channel(dialled(listen), [("grpc.enable_http_proxy", 0)]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # its types know no methods
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:  # of which grpcio tells no more
                return f"NOT_FOUND: it has no service {service!r}"
            problem = refusal(
                error.code().name,
                error.details() or "",
                None,
                target=listen,
                timeout_s=timeout_s,
                option="--listen",
            )
            return str(problem).removeprefix(f"{listen}: ")
    status: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return status
