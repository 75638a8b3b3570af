"""A server listens with all of its listeners, or with none."""

from __future__ import annotations

import asyncio
import resource
import socket
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from tilbud.domain.limits import Limits
from tilbud.runtime.reserved_address import reserve
from tilbud.telemetry.log import logger
from tilbud.telemetry.metrics import Metrics
from tilbud.transport.address import AddressRefused
from tilbud.transport.grpc.server import GrpcServer, connections_of_a_listener
from tilbud.transport.grpc.unary import Rpc


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_start_that_ends_half_way_leaves_no_listener(
    monkeypatch: pytest.MonkeyPatch, *, cancelled: bool
) -> None:
    """The last of its listeners is refused, or it is cancelled there: the first ones answer nobody either."""
    limits = Limits()
    rpc = Rpc(
        metrics=Metrics(CollectorRegistry(), version="test", vw_version="test").process,
        limits=limits,
        log=logger("test"),
    )
    [reserved] = reserve("127.0.0.1", 0)
    address = reserved.getsockname()
    listen = f"127.0.0.1:{address[1]}"
    servers: list[grpc.aio.Server] = []
    real = grpc.aio.server

    def made(**options: Any) -> grpc.aio.Server:
        servers.append(real(**options))
        return servers[-1]

    monkeypatch.setattr(grpc.aio, "server", made)
    server = GrpcServer(listen=listen, rpc=rpc, handlers={}, limits=limits)
    last = servers[-1]
    bind = last.add_insecure_port

    def refuse(_address: str) -> int:
        socket.create_connection(address).close()  # others listen by now
        if cancelled:
            starting.cancel()
            return bind(listen)
        raise RuntimeError("it is refused.")

    monkeypatch.setattr(last, "add_insecure_port", refuse)
    starting = asyncio.create_task(server.start())
    with pytest.raises(asyncio.CancelledError if cancelled else AddressRefused) as ended:
        await starting
    if not cancelled:
        assert str(ended.value) == f"cannot listen on {listen}: it is refused; choose another --listen"
    with reserved, pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


@pytest.mark.parametrize(("descriptors", "connections"), [(1_024, 36), (1_000_000, 512), (100, 1)])
def test_connections_leave_descriptors_to_the_ledger(
    monkeypatch: pytest.MonkeyPatch, descriptors: int, connections: int
) -> None:
    """However few a process has, connections do not take all of them."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, descriptors))
    assert connections_of_a_listener(Limits(), Limits().listeners) == connections
