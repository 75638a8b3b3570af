"""Batches take turns, so that many of them keep no single call waiting.

What holds: so many are worked on at once, and of the others each connection has its turn; what waits is
bounded in items, in all and for one connection, and what is beyond is refused at once, before anything of it
is done. Who leaves while waiting costs nobody a turn.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tilbud.domain.errors import Overloaded
from tilbud.domain.limits import Limits
from tilbud.transport.fair_queue import FairQueue

Done = TypeVar("Done")


class Turns:
    """The turns of one process."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._busy = 0
        self._items = 0  # of all who are busy or wait
        self._of: Counter[str] = Counter()  # the same, by connection
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()

    async def run(self, connection: str, items: int, begin: Callable[[], Coroutine[Any, Any, Done]]) -> Done:
        """Wait for a turn, begin the work, and return what it returns; raises Overloaded where too many wait.

        Work that has begun goes on where its caller leaves, and keeps its turn until it is done.
        """
        limits = self._limits
        if self._items and self._items + items > limits.batch_items_waiting_max:
            raise Overloaded("the queue of batches", limits.retry_after_s)
        if self._of[connection] and self._of[connection] + items > limits.connection_items_waiting_max:
            raise Overloaded("this connection's queue of batches", limits.retry_after_s)
        self._items += items
        self._of[connection] += items
        try:
            await self._take(connection)
        except asyncio.CancelledError:
            self._leave(connection, items)
            raise
        try:
            work = asyncio.create_task(begin())
        except BaseException:
            self._end()
            self._leave(connection, items)
            raise

        def done(_: object) -> None:
            self._end()
            self._leave(connection, items)

        work.add_done_callback(done)
        return await asyncio.shield(work)

    def _leave(self, connection: str, items: int) -> None:
        self._items -= items
        self._of[connection] -= items
        if not self._of[connection]:
            del self._of[connection]

    async def _take(self, connection: str) -> None:
        if self._busy < self._limits.batches_at_once:
            self._busy += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.put(connection, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was this one's turn already
                self._end()
            raise

    def _end(self) -> None:
        """Let the next one begin."""
        while self._waiting:
            turn = self._waiting.take()
            if not turn.done():
                turn.set_result(None)
                return
        self._busy -= 1
