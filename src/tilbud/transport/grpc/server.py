"""The gRPC server: the services, health, reflection, and a stop that loses no call.

What holds: while it drains, health says NOT_SERVING and calls are still answered; then it takes no
new ones and finishes those in flight. TLS and credentials are not here yet: it listens where it
is asked to, loopback by default.

A server of grpcio takes in one call each time the loop comes round (`_server_main_loop` in its Cython), so
that under load calls wait outside, where none of our code can answer them together. So there are several
servers on the one address, and the kernel gives each connection to one of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import Mapping, Sequence

import grpc

from tilbud.client.address import socket_path
from tilbud.domain.limits import Limits
from tilbud.transport.address import AddressRefused, owner_and_group_alone
from tilbud.transport.call import Handle
from tilbud.transport.grpc.health_service import SERVICE_NAME as HEALTH
from tilbud.transport.grpc.health_service import HealthService
from tilbud.transport.grpc.reflection import SERVICE_NAMES as REFLECTION
from tilbud.transport.grpc.reflection import reflection_handlers
from tilbud.transport.grpc.unary import Rpc
from tilbud.v1 import campaigns_pb2, customers_pb2, decisions_pb2, insights_pb2

_FILES = (decisions_pb2, customers_pb2, campaigns_pb2, insights_pb2)
SERVICES = tuple(service for file in _FILES for service in file.DESCRIPTOR.services_by_name.values())
_MINUTE_MS = 60_000


def connections_of_a_listener(limits: Limits, listeners: int) -> int:
    """Return how many connections each may have, which leaves descriptors to everything else."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        descriptors = limits.connections_max + limits.descriptors_kept
    allowed = min(
        limits.connections_max, (descriptors - limits.descriptors_kept) * 3 // 4
    )  # the rest: HTTP's
    return max(1, allowed // listeners)


class GrpcServer:
    """The gRPC side of one process. `handlers` maps a service's name to its methods' handlers.

    `listen` is a reserved address (`runtime/reserved_address.py`): other processes may share its port.
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
        names = tuple(service.full_name for service in SERVICES)
        self.health = HealthService(names, limits)
        services = (
            *(rpc.service(service, handlers.get(service.name, {})) for service in SERVICES),
            self.health.handler(),
            *reflection_handlers((*names, HEALTH, *REFLECTION), limits),
        )
        self._is_file = bool(socket_path(listen))
        listeners = 1 if self._is_file else limits.listeners
        connections = connections_of_a_listener(limits, listeners)
        self._servers = [self._server(services, limits, connections) for _ in range(listeners)]

    def _server(
        self, services: Sequence[grpc.GenericRpcHandler], limits: Limits, connections: int
    ) -> grpc.aio.Server:
        server = grpc.aio.server(
            options=(
                ("grpc.so_reuseport", 1),
                ("grpc.max_allowed_incoming_connections", connections),
                ("grpc.max_concurrent_streams", limits.streams_max),
                ("grpc.http.overload_protection", 0),  # it refuses a stream that follows one just answered
                ("grpc.server.max_pending_requests", limits.pending_max),
                ("grpc.server.max_pending_requests_hard_limit", 2 * limits.pending_max),
                ("grpc.max_receive_message_length", limits.refused_message_bytes_max),
                ("grpc.max_send_message_length", 16 * limits.message_bytes_max),
                ("grpc.max_connection_idle_ms", 15 * _MINUTE_MS),
                ("grpc.max_connection_age_ms", 60 * _MINUTE_MS),
                ("grpc.max_connection_age_grace_ms", _MINUTE_MS),
                ("grpc.keepalive_time_ms", 2 * _MINUTE_MS),
                ("grpc.keepalive_timeout_ms", 20_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", int(limits.ping_interval_min_s * 1_000)),
                ("grpc.server_handshake_timeout_ms", 10_000),
            )
        )
        server.add_generic_rpc_handlers(services)
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
                with owner_and_group_alone() if self._is_file else contextlib.nullcontext():
                    server.add_insecure_port(self._listen)
            except RuntimeError as error:
                raise AddressRefused(self._listen, str(error).rstrip(".")) from error
            await server.start()

    async def set_serving(self, *, serving: bool) -> None:
        """Say SERVING or NOT_SERVING, overall and for each service."""
        self.health.set(serving=serving)

    async def drain(self, notice_s: float, grace_s: float) -> None:
        """Tell clients to go elsewhere, serve `notice_s` longer, then finish what is in flight."""
        await self.set_serving(serving=False)
        await asyncio.sleep(notice_s)
        await self._stop(grace_s)

    async def _stop(self, grace_s: float) -> None:
        self.health.end()
        await asyncio.gather(*(server.stop(grace_s) for server in self._servers))
