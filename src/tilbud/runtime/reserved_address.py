"""The port of a service, shared by all who listen on it for that service.

What holds: while it is reserved, whoever reserves it too, as every Tilbud does, is refused, and whoever
shares it may listen. It listens to nothing itself.

What it does not do: keep out another server of the same user that shares ports, as those of grpcio do by
default.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Any

from tilbud.runtime.settings import host_and_port
from tilbud.transport.address import AddressRefused

_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared with, and bound only where asked for
_MISSING = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}  # a name may stand for an address of another family


@contextlib.contextmanager
def reserved(listen: str, option: str = "--listen") -> Iterator[int]:
    """Keep an address for one service, port 0: any; give the port. Raises AddressRefused."""
    with contextlib.ExitStack() as undo:
        try:
            sockets = [undo.enter_context(bound) for bound in reserve(*host_and_port(listen))]
        except OSError as error:
            raise AddressRefused(listen, error.strerror or str(error), option) from error
        yield int(sockets[0].getsockname()[1])


def reserve(host: str, port: int) -> list[socket.socket]:
    """Return sockets bound to an address (port 0: any) that share it with listeners, and listen to nothing.

    Of a name's addresses those that this machine has, as gRPC does. Raises OSError where it has none of them,
    and where somebody listens there already: sharing would let even them in.
    """
    with contextlib.ExitStack() as undo:
        sockets: list[socket.socket] = []
        missing = OSError(errno.EADDRNOTAVAIL, f"{host} has no address here")
        for family, address in _addresses(host):
            try:
                bound = undo.enter_context(_bound_shared(family, (address[0], port, *address[2:])))
            except OSError as error:
                if error.errno not in _MISSING:
                    raise
                missing = error
                continue
            sockets.append(bound)
            port = bound.getsockname()[1]
        if not sockets:
            raise missing
        undo.pop_all()
        return sockets


def shared(host: str, port: int) -> list[socket.socket]:
    """Return sockets bound to a reserved address, to listen there; raises OSError."""
    with contextlib.ExitStack() as undo:
        sockets: list[socket.socket] = []
        for family, address in _addresses(host):
            options = (socket.SO_REUSEPORT, socket.SO_REUSEADDR)
            try:
                bound = _bound(family, (address[0], port, *address[2:]), *options)
            except OSError as error:
                if error.errno not in _MISSING:
                    raise
                continue
            sockets.append(undo.enter_context(bound))
        undo.pop_all()
        return sockets


def _addresses(host: str) -> list[tuple[int, tuple[Any, ...]]]:
    """Return family and address of all that a host's name stands for; to gRPC a wildcard is one of both."""
    addresses = [
        (family, address)
        for name in (_WILDCARDS if host in _WILDCARDS else (host,))
        for family, _, _, _, address in socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM)
    ]
    return list(dict.fromkeys(addresses))


def _bound_shared(family: int, address: tuple[Any, ...]) -> socket.socket:
    _bound(family, address, socket.SO_REUSEADDR).close()
    try:
        return _bound(family, address, socket.SO_REUSEPORT)
    except OSError:  # connections of an earlier service have yet to time out
        return _bound(family, address, socket.SO_REUSEPORT, socket.SO_REUSEADDR)


def _bound(family: int, address: tuple[Any, ...], *options: int) -> socket.socket:
    unbound = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in options:
            unbound.setsockopt(socket.SOL_SOCKET, option, 1)
        if family == socket.AF_INET6:
            unbound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        unbound.bind(address)
    except OSError:
        unbound.close()
        raise
    return unbound
