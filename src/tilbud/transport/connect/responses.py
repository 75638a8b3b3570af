"""What is written back: status, headers, body."""

from __future__ import annotations

from dataclasses import dataclass

JSON = "application/json"
PROTO = "application/proto"


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response; `close` ends the connection after it."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    close: bool = False
