"""The gRPC server: the services, health, reflection, and a stop that loses no call.

What holds: while it drains, health says NOT_SERVING and calls are still answered; then it takes no
new ones and finishes those in flight. TLS and credentials are not here yet: it listens where it is
told, loopback by default.

A server of grpcio takes in one call each time the loop comes round (`_server_main_loop` in its Cython), so
that under load calls wait outside, where none of our code can answer them together. So there are several
servers on the one address, and the kernel gives each connection to one of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from tilbud.domain.limits import Limits
from tilbud.transport.reflection_v1 import SERVICE_NAME as REFLECTION_V1
from tilbud.transport.reflection_v1 import reflection_v1
from tilbud.transport.rpc import Handle, Rpc
from tilbud.v1 import campaigns_pb2, customers_pb2, decisions_pb2, insights_pb2

_FILES = (decisions_pb2, customers_pb2, campaigns_pb2, insights_pb2)
_SERVICES = tuple(service for file in _FILES for service in file.DESCRIPTOR.services_by_name.values())
_MINUTE_MS = 60_000


class AddressRefused(OSError):
    """The address of the gRPC server cannot be had."""

    def __init__(self, listen: str, reason: str) -> None:
        super().__init__(f"cannot listen on {listen}: {reason}; choose another --listen")


class GrpcServer:
    """The gRPC side of one process. `handlers` maps a service's name to its methods' handlers.

    `listen` has a port, which is reserved (`port.py`): other processes may listen there too.
    """

    def __init__(
        self,
        *,
        listen: str,
        rpc: Rpc,
        handlers: Mapping[str, Mapping[str, Handle]],
        limits: Limits,
    ) -> None:
        self._listen = listen
        self._health = health.aio.HealthServicer()
        names = tuple(service.full_name for service in _SERVICES)
        self._health_names = ("", *names)
        services = tuple(rpc.service(service, handlers.get(service.name, {})) for service in _SERVICES)
        self._servers = [self._server(services, limits) for _ in range(limits.listeners)]

    def _server(self, services: Sequence[grpc.GenericRpcHandler], limits: Limits) -> grpc.aio.Server:
        server = grpc.aio.server(
            options=(
                ("grpc.so_reuseport", 1),
                ("grpc.max_receive_message_length", limits.refused_message_bytes_max),
                ("grpc.max_send_message_length", 16 * limits.message_bytes_max),
                ("grpc.max_connection_idle_ms", 15 * _MINUTE_MS),
                ("grpc.max_connection_age_ms", 60 * _MINUTE_MS),
                ("grpc.max_connection_age_grace_ms", _MINUTE_MS),
                ("grpc.keepalive_time_ms", 2 * _MINUTE_MS),
                ("grpc.keepalive_timeout_ms", 20_000),
                ("grpc.server_handshake_timeout_ms", 10_000),
            )
        )
        server.add_generic_rpc_handlers(services)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        shown = (*self._health_names[1:], health.SERVICE_NAME, reflection.SERVICE_NAME, REFLECTION_V1)
        reflection.enable_server_reflection(shown, server)
        server.add_generic_rpc_handlers((reflection_v1(shown),))
        return server

    async def start(self) -> None:
        """Serve, with every listener or none; raises AddressRefused where the address cannot be had."""
        await self.set_serving(serving=False)
        listening = asyncio.create_task(self._listen_all())
        try:
            await asyncio.shield(listening)  # a server whose start is cancelled cannot be stopped
        except BaseException:  # those that listen would answer while what they need is undone
            await asyncio.wait([listening])
            await self._stop(0)
            raise

    async def _listen_all(self) -> None:
        for server in self._servers:
            try:
                server.add_insecure_port(self._listen)
            except RuntimeError as error:
                raise AddressRefused(self._listen, str(error).rstrip(".")) from error
            await server.start()

    async def set_serving(self, *, serving: bool) -> None:
        """Say SERVING or NOT_SERVING, overall and for each service."""
        status = health_pb2.HealthCheckResponse
        for name in self._health_names:
            await self._health.set(name, status.SERVING if serving else status.NOT_SERVING)

    async def drain(self, notice_s: float, grace_s: float) -> None:
        """Tell clients to go elsewhere, serve `notice_s` longer, then finish what is in flight."""
        await self.set_serving(serving=False)
        await asyncio.sleep(notice_s)
        await self._stop(grace_s)

    async def _stop(self, grace_s: float) -> None:
        await asyncio.gather(*(server.stop(grace_s) for server in self._servers))
