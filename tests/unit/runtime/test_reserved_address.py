"""A port that a service's listeners share is refused to all who would reserve it too."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from tilbud.runtime.reserved_address import reserve

LOOPBACK = "127.0.0.1"
NOWHERE = "192.0.2.1"  # set aside for documents: an address of no machine
_getaddrinfo = socket.getaddrinfo


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


def _named(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every name stand for these addresses."""
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda _, port, **how: [each for name in addresses for each in _getaddrinfo(name, port, **how)],
    )


def test_every_address_of_a_name_is_reserved(undo: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """At one port; and one where somebody listens at any of them is refused, leaving none reserved."""
    other = "127.0.0.2"
    _named(monkeypatch, LOOPBACK, other, LOOPBACK)
    reserved = [undo.enter_context(each) for each in reserve("localhost", 0)]
    [port] = {each.getsockname()[1] for each in reserved}
    assert [each.getsockname()[0] for each in reserved] == [LOOPBACK, other]
    for each in reserved:
        each.close()
    _named(monkeypatch, other, LOOPBACK)
    listening = _listening(undo, port)
    with pytest.raises(OSError, match="in use"):
        reserve("localhost", listening)
    undo.enter_context(_bound(other, listening))


def _bound(host: str, port: int) -> socket.socket:
    bound = socket.socket()
    bound.bind((host, port))
    return bound


@pytest.mark.parametrize("absent", [NOWHERE, "2001:db8::1"])
def test_an_address_this_machine_lacks_is_passed_over(
    undo: ExitStack, monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    """A name may have one of a family that is off; where it has no other it is refused."""
    _named(monkeypatch, absent, LOOPBACK)
    assert [undo.enter_context(each).getsockname()[0] for each in reserve("localhost", 0)] == [LOOPBACK]
    _named(monkeypatch, absent)
    with pytest.raises(OSError, match=r"assign requested address|not supported"):
        reserve("localhost", 0)


@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::"])  # noqa: S104 - for a moment
def test_a_wildcard_is_reserved_for_both_families(undo: ExitStack, wildcard: str) -> None:
    """As gRPC listens: whoever has the port of one family, also sharing it, is not let in."""
    reserved = [undo.enter_context(each) for each in reserve(wildcard, 0)]
    port = reserved[0].getsockname()[1]
    with pytest.raises(OSError, match="in use"):
        reserve(LOOPBACK, port)
    for each in reserved:
        each.close()
    _listening(undo, port, socket.SO_REUSEADDR, socket.SO_REUSEPORT)
    with pytest.raises(OSError, match="in use"):
        reserve(wildcard, port)


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
