"""What to dial for the address of a service, as people write it.

What holds: an address that a service listens on can be dialled as it stands: every address (0.0.0.0, [::],
or a port alone) is dialled on loopback. No name is looked up here.
"""

from __future__ import annotations

_EVERYWHERE = {"": "localhost", "0.0.0.0": "127.0.0.1", "[::]": "localhost"}  # noqa: S104 - where a service listens
PORT_MAX = 65_535
UNIX = "unix:"
TIMEOUT_S = 10.0
"""How long a call may take where nobody says."""


def dialled(address: str) -> str:
    """Return the target that gRPC dials for HOST:PORT, [IPV6]:PORT, :PORT or unix:PATH; else ValueError."""
    if path := socket_path(address):
        return f"{UNIX}{path}"
    host, port = host_and_port(address)
    return f"{_EVERYWHERE.get(host, host)}:{port}"


def socket_path(address: str) -> str:
    """Return the path of unix:PATH, "" for an address of another kind; ValueError where it has none."""
    if not address.startswith(UNIX):
        return ""
    path = address.removeprefix(UNIX)
    if not path.strip("/"):
        raise ValueError(f"{address!r} names no socket; write unix:/run/tilbud.sock")
    return f"/{path.lstrip('/')}" if path.startswith("//") else path  # unix:///run/… is known from URLs


def host_and_port(address: str) -> tuple[str, int]:
    """Return the parts of HOST:PORT; the host may be "", or be in brackets. ValueError for anything else."""
    host, colon, port = address.rpartition(":")
    bare = host.startswith("[") and host.endswith("]")
    digits = port.isascii() and port.isdecimal()
    if not colon or not digits or int(port) > PORT_MAX or (":" in host and not bare):
        raise ValueError(
            f"{address!r} is not HOST:PORT, such as 127.0.0.1:50051 or [::1]:50051, nor unix:PATH"
        )
    return host, int(port)
