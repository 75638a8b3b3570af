"""Where a service listens: HOST:PORT, [IPV6]:PORT, :PORT for every address that there is, or unix:PATH.

What holds: what `listening` returned can be listened at, and dialled, as it stands: its host is not empty,
its path absolute. A port alone is the same as [::] with that port, so whatever holds of listening beyond
loopback holds of it. The file of a unix socket lets its owner and group connect, and nobody else.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from tilbud.client.address import UNIX, host_and_port, socket_path
from tilbud.domain.limits import Limits


class AddressRefused(OSError):
    """The address that an option names cannot be had."""

    def __init__(self, listen: str, reason: str, option: str = "--listen") -> None:
        super().__init__(f"cannot listen on {listen}: {reason}; choose another {option}")


def listening(address: str, option: str) -> str:
    """Return an address as all else takes it; raises ValueError, which names the option."""
    try:
        path = socket_path(address)
        host, port = ("", 0) if path else host_and_port(address)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None
    if path:
        absolute = Path(path).absolute()
        if len(os.fsencode(absolute)) > Limits.unix_path_bytes_max:
            longest = f"{Limits.unix_path_bytes_max} bytes at most"
            raise ValueError(f"{option}: the path of a unix socket has {longest}; choose a shorter one")
        return f"{UNIX}{absolute}"
    every = "[::]" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104 - where that is asked for
    return f"{host or every}:{port}"


def unbracketed(address: str) -> tuple[str, int]:
    """Return host and port as the system takes them."""
    host, port = host_and_port(address)
    return host.strip("[]"), port


def with_port(address: str, port: int) -> str:
    """Return the same address at another port."""
    return f"{host_and_port(address)[0]}:{port}"


@contextlib.contextmanager
def owner_and_group_alone() -> Iterator[None]:
    """Let the file of a unix socket that is bound meanwhile be of its owner and group, from its beginning."""
    before = os.umask(0o117)
    try:
        yield
    finally:
        os.umask(before)
