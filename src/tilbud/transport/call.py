"""What a handler may know of a call, whichever transport it came by, and what becomes of its message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.message import Message


class Call(Protocol):
    """One call."""

    def peer(self) -> str:
        """Return the connection it came by, which takes turns with others."""

    def invocation_metadata(self) -> Any:
        """Return what its caller said beside the message: pairs, names in lower case."""

    def time_remaining(self) -> float | None:
        """Return the seconds its caller still waits; None: for ever."""

    def add_done_callback(self, callback: Any) -> None:
        """Let `callback` hear, with one argument, when the caller has taken the answer, or has left."""


Handle = Callable[[Any, Call], Awaitable[Message | bytes]]
"""Answers a request message; bytes are a serialized response message."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method of the contract."""

    name: str
    service: str  # with its package
    request: type[Message]
    response: type[Message]
    handle: Handle


class Codec(Protocol):
    """How messages of a call are written. Raises InvalidField, which names what cannot be read."""

    async def read(self, method: Method, data: bytes) -> Message:
        """Return the request message."""

    async def write(self, method: Method, answer: Message | bytes) -> bytes:
        """Return the response message as it is sent; bytes are a serialized one."""
