"""The bytes of answers that were given and not yet taken.

gRPC keeps an answer until its caller has read it, however slowly. What holds: small answers are not counted;
where a connection has too many bytes of large ones waiting, or all have, further calls are refused until some
were taken.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import grpc

from tilbud.domain.errors import Overloaded
from tilbud.domain.limits import Limits


class Unsent:
    """What is on its way, by connection."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._bytes: Counter[str] = Counter()
        self._sum = 0

    def check(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Raise Overloaded where a call's connection, or all together, leave too much of their answers."""
        if not self._sum:
            return
        limits = self._limits
        if self._sum > limits.unsent_bytes_max:
            raise Overloaded("the room for answers not yet taken", limits.retry_after_s)
        if self._bytes[context.peer()] > limits.connection_unsent_bytes_max:
            raise Overloaded("this connection's room for answers not yet taken", limits.retry_after_s)

    def add(self, context: grpc.aio.ServicerContext[Any, Any], size: int) -> None:
        """Count an answer until its call is over."""
        if size < self._limits.unsent_counted_bytes:
            return
        peer = context.peer()
        self._bytes[peer] += size
        self._sum += size

        def taken(_: Any) -> None:
            self._sum -= size
            self._bytes[peer] -= size
            if not self._bytes[peer]:
                del self._bytes[peer]

        callback: Any = taken  # its type is one of grpcio's own
        context.add_done_callback(callback)
