"""The bytes of answers that were given and not yet taken.

An answer is kept until its caller has read it, however slowly. What holds: small answers are not counted;
where a connection has too many bytes of large ones waiting, or all have, further calls are refused until some
were taken.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from tilbud.domain.errors import Overloaded
from tilbud.domain.limits import Limits
from tilbud.transport.call import Call


class Unsent:
    """What is on its way, by connection."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._bytes: Counter[str] = Counter()
        self._sum = 0

    def check(self, call: Call) -> None:
        """Raise Overloaded where a call's connection, or all together, leave too much of their answers."""
        if not self._sum:
            return
        limits = self._limits
        if self._sum > limits.unsent_bytes_max:
            raise Overloaded("the room for answers not yet taken", limits.retry_after_s)
        if self._bytes[call.peer()] > limits.connection_unsent_bytes_max:
            raise Overloaded("this connection's room for answers not yet taken", limits.retry_after_s)

    def add(self, call: Call, size: int) -> None:
        """Count an answer until its call is over."""
        if size < self._limits.unsent_counted_bytes:
            return
        peer = call.peer()
        self._bytes[peer] += size
        self._sum += size

        def taken(_: Any) -> None:
            self._sum -= size
            self._bytes[peer] -= size
            if not self._bytes[peer]:
                del self._bytes[peer]

        call.add_done_callback(taken)
