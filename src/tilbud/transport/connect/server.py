"""The HTTP server of the contract: listeners, connections, and a stop that loses no call.

What holds: it runs on the event loop that decides. Connections are bounded; where there are too many, one
that is idle ends for the newest, else the newest is refused. Each has its time, looked at twice a second.
While the service drains, calls are still answered, each the last of its connection; then nothing new is
taken, and what is in flight is finished.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Awaitable, Callable, Sequence

from tilbud.domain.limits import Limits
from tilbud.transport.connect.connection import Connection, Request
from tilbud.transport.connect.responses import Response

Answer = Callable[[Request], Awaitable[Response]]


def connections_max(limits: Limits) -> int:
    """Return how many connections there may be: what the limit says, but an eighth of the descriptors.

    As many again hear why they are refused.
    """
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return limits.connect_connections_max
    return max(1, min(limits.connect_connections_max, (descriptors - limits.descriptors_kept) // 8))


class ConnectServer:
    """Serves on sockets that are bound, from `start` on; `answer` never raises."""

    def __init__(self, *, sockets: Sequence[socket.socket], answer: Answer, limits: Limits) -> None:
        self._sockets = sockets
        self.answer = answer
        self.limits = limits
        self.closing = False
        self._connections_max = connections_max(limits)
        self._connections: dict[Connection, None] = {}
        self._refused: dict[Connection, None] = {}
        self._held_bytes = 0
        self._servers: list[asyncio.Server] = []
        self._looking: asyncio.TimerHandle | None = None
        self._emptied = asyncio.Event()

    async def start(self) -> None:
        """Listen; raises OSError where that cannot be, and then nothing listens."""
        loop = asyncio.get_running_loop()
        try:
            for bound in self._sockets:
                serve = loop.create_unix_server if bound.family == socket.AF_UNIX else loop.create_server
                self._servers.append(
                    await serve(lambda: Connection(self), sock=bound, backlog=self._connections_max)
                )
        except BaseException:
            self._stop_listening()
            raise
        self._look()

    async def drain(self, notice_s: float, grace_s: float) -> None:
        """Serve `notice_s` longer, each answer the last of its connection; then finish what is in flight."""
        self.closing = True
        await asyncio.sleep(notice_s)
        self._stop_listening()
        for connection in list(self._connections):
            if connection.idle:
                connection.close()
        self._tell_emptied()
        try:
            await asyncio.wait_for(self._emptied.wait(), grace_s)
        except TimeoutError:
            for connection in [*self._connections, *self._refused]:
                connection.close()
        if self._looking is not None:
            self._looking.cancel()

    def opened(self, connection: Connection) -> bool:
        """Know of a connection; False: there are too many."""
        if len(self._connections) >= self._connections_max:
            idle = next((other for other in self._connections if other.idle), None)
            if idle is None:
                self._refused[connection] = None
                if len(self._refused) > self._connections_max:  # who would hear why
                    connection.close()
                return False
            idle.close()
            del self._connections[idle]
        self._connections[connection] = None
        return True

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.pop(connection, None)
        self._refused.pop(connection, None)
        self._tell_emptied()

    def hold(self, more: int) -> bool:
        """Count bytes of requests that are not answered yet; False: there are too many of them."""
        self._held_bytes += more
        return self._held_bytes <= self.limits.request_bytes_in_flight_max

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        for connection in [*self._connections, *self._refused]:
            if connection.due_s < now_s:
                connection.overdue()
        self._looking = loop.call_later(self.limits.request_sweep_every_s, self._look)

    def _tell_emptied(self) -> None:
        if self.closing and not self._connections and not self._refused:
            self._emptied.set()

    def _stop_listening(self) -> None:
        for server in self._servers:
            server.close()
        for bound in self._sockets:
            bound.close()
