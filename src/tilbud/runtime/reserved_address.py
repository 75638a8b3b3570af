"""The address of a service: a port, shared by all who listen on it for that service, or a unix socket.

What holds: while a port is reserved, whoever reserves it too, as every Tilbud does, is refused, and whoever
shares it may listen. It listens to nothing itself. A unix socket where nobody answers, as a process that was
killed leaves it, gives way; one where somebody does is refused, and so is any other file.

What it does not do: keep out another server of the same user that shares ports, as those of grpcio do by
default.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tilbud.client.address import socket_path
from tilbud.transport.address import AddressRefused, owner_and_group_alone, unbracketed, with_port

_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared with, and bound only where asked for
_MISSING = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}  # a name may stand for an address of another family


@contextlib.contextmanager
def reserved(listen: str, option: str = "--listen") -> Iterator[str]:
    """Keep an address for one service, port 0: any; give it with its port. Raises AddressRefused."""
    with contextlib.ExitStack() as undo:
        try:
            if path := socket_path(listen):
                undo.enter_context(_free(Path(path)))
                address = listen
            else:
                sockets = [undo.enter_context(bound) for bound in reserve(*unbracketed(listen))]
                address = with_port(listen, sockets[0].getsockname()[1])
        except OSError as error:
            raise AddressRefused(listen, error.strerror or str(error), option) from error
        yield address


@contextlib.contextmanager
def _free(path: Path) -> Iterator[None]:
    """See to it that a unix socket can be made there, and that none is left there; raises OSError."""
    _clear(path)
    unix_socket(path).close()  # since gRPC would not say why it cannot
    path.unlink()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # another service has it by now
            _clear(path)


def _clear(path: Path) -> None:
    """Remove a unix socket where nobody answers; raises OSError for one where somebody does, and any file."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(errno.EEXIST, "a file is there that is no socket")
        with socket.socket(socket.AF_UNIX) as asking, contextlib.suppress(ConnectionRefusedError):
            asking.connect(str(path))
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        path.unlink()


def unix_socket(path: Path) -> socket.socket:
    """Return a unix socket bound to a path; raises OSError."""
    bound = socket.socket(socket.AF_UNIX)
    try:
        with owner_and_group_alone():
            bound.bind(str(path))
    except OSError:
        bound.close()
        raise
    return bound


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


def shared(listen: str) -> list[socket.socket]:
    """Return sockets bound to a reserved address, to listen there; raises OSError."""
    if path := socket_path(listen):
        return [unix_socket(Path(path))]
    host, port = unbracketed(listen)
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
