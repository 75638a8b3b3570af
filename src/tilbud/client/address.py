"""What to dial for the address of a service, as people write it.

What holds: an address that a service listens on can be dialled as it stands: every address (0.0.0.0, [::],
or a port alone) is dialled on loopback. No name is looked up here.
"""

from __future__ import annotations

_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - where a service listens
_PORT_MAX = 65_535
UNIX = "unix:"
TIMEOUT_S = 10.0
"""How long a call may take where nobody says."""


def dialled(address: str) -> str:
    """Return the target that gRPC dials for HOST:PORT, [IPV6]:PORT, :PORT or unix:PATH; else ValueError."""
    if address.startswith(UNIX):
        if not address.removeprefix(UNIX).strip("/"):
            raise ValueError(f"{address!r} names no socket; write unix:/run/tilbud.sock")
        return address
    host, colon, port = address.rpartition(":")
    bare = host.startswith("[") and host.endswith("]")
    if not colon or not port.isdecimal() or int(port) > _PORT_MAX or (":" in host and not bare):
        raise ValueError(f"{address!r} is not HOST:PORT, such as 127.0.0.1:50051, nor unix:PATH")
    return f"{_EVERYWHERE.get(host, host)}:{port}"
