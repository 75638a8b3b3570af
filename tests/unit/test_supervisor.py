"""The port that workers share is one service's own."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from tilbud.supervisor import reserve

LOOPBACK = "127.0.0.1"


@pytest.fixture
def undo() -> Iterator[ExitStack]:
    """Closes what is entered."""
    with ExitStack() as stack:
        yield stack


def _reserved(undo: ExitStack, port: int) -> int:
    [reserved] = reserve(LOOPBACK, port)
    return int(undo.enter_context(closing(reserved)).getsockname()[1])


def _listening(undo: ExitStack, port: int, *options: int) -> int:
    listening = undo.enter_context(closing(socket.socket()))
    for option in options:
        listening.setsockopt(socket.SOL_SOCKET, option, 1)
    listening.bind((LOOPBACK, port))
    listening.listen()
    return int(listening.getsockname()[1])


def test_workers_may_listen_on_a_reserved_port(undo: ExitStack) -> None:
    """As many as share it, as gRPC does; any port where none was asked for."""
    port = _reserved(undo, 0)
    assert port
    for _ in range(2):
        assert _listening(undo, port, socket.SO_REUSEADDR, socket.SO_REUSEPORT) == port


@pytest.mark.parametrize("options", [(), (socket.SO_REUSEADDR,), (socket.SO_REUSEADDR, socket.SO_REUSEPORT)])
def test_a_port_where_somebody_listens_is_refused(undo: ExitStack, options: tuple[int, ...]) -> None:
    """Also where they would share it: then their callers and ours would meet either service."""
    port = _listening(undo, 0, *options)
    with pytest.raises(OSError, match="in use"):
        reserve(LOOPBACK, port)


def test_a_port_that_another_service_reserved_is_refused(undo: ExitStack) -> None:
    """Also while none of its workers listens yet."""
    port = _reserved(undo, 0)
    with pytest.raises(OSError, match="in use"):
        reserve(LOOPBACK, port)


def test_a_port_with_connections_that_time_out_is_free(undo: ExitStack) -> None:
    """A service may start where one just stopped, whether that one shared its port or not."""
    with ExitStack() as ended:
        listening = ended.enter_context(closing(socket.socket()))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((LOOPBACK, 0))
        listening.listen()
        port = int(listening.getsockname()[1])
        caller = ended.enter_context(closing(socket.create_connection((LOOPBACK, port))))
        listening.accept()[0].close()  # who closes first has to wait
        caller.recv(1)
    assert _reserved(undo, port) == port
