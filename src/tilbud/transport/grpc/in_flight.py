"""The calls that are being answered, and the bytes of their messages, in all and by connection.

What holds: both are bounded. Half of the room is anybody's; the other half is for connections that have less
than an even share of the first, so that whoever asks for much is refused before those who ask for little.
"""

from __future__ import annotations

from tilbud.domain.errors import Overloaded
from tilbud.domain.limits import Limits


class _Load:
    """What one connection has in flight."""

    __slots__ = ("bytes", "calls")

    def __init__(self) -> None:
        self.calls = self.bytes = 0


class InFlight:
    """What one process has in flight."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._bytes = 0
        self._of: dict[str, _Load] = {}  # only of connections that have something
        self.calls = 0

    def enter(self, connection: str, size: int) -> None:
        """Count a call and the bytes of its message; raises Overloaded, and then counts nothing."""
        limits = self._limits
        load = self._of.get(connection) or _Load()
        if self._full(self.calls, load.calls, 1, limits.calls_in_flight_max):
            raise Overloaded("the room for calls", limits.retry_after_s)
        if self._full(self._bytes, load.bytes, size, limits.request_bytes_in_flight_max):
            raise Overloaded("the room for requests", limits.retry_after_s)
        self._of[connection] = load
        self.calls += 1
        self._bytes += size
        load.calls += 1
        load.bytes += size

    def leave(self, connection: str, size: int) -> None:
        """Count a call no more, when it is over."""
        load = self._of[connection]
        self.calls -= 1
        self._bytes -= size
        load.calls -= 1
        load.bytes -= size
        if not load.calls:
            del self._of[connection]

    def _full(self, there: int, its: int, more: int, at_most: int) -> bool:
        """Say whether there is no room for more, where a connection has so much of what is there."""
        if there + more <= at_most // 2:
            return False
        share = at_most // 2 // max(1, len(self._of))
        return there + more > at_most or its + more > max(share, more)
