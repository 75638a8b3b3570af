"""Batches take turns, so that many of them keep no single call waiting.

What holds: so many items of them are worked on at once, so that small batches share a commit and large ones
do not pile up; of the others each connection has its turn. What waits is bounded in items, in all and for one
connection, and what is beyond is refused at once, before anything of it is done. Who leaves while waiting
costs nobody a turn.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tilbud.concurrency.fair_queue import FairQueue
from tilbud.domain.errors import Overloaded
from tilbud.domain.limits import Limits

Done = TypeVar("Done")


class Turns:
    """The turns of one process."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._at_work = 0  # items
        self._items = 0  # of all that are at work or wait
        self._of: Counter[str] = Counter()  # the same, by connection
        self._waiting: FairQueue[tuple[asyncio.Future[None], int]] = FairQueue()

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
            await self._take(connection, items)
        except asyncio.CancelledError:
            self._leave(connection, items)
            raise
        try:
            work = asyncio.create_task(begin())
        except BaseException:
            self._end(items)
            self._leave(connection, items)
            raise

        def done(_: object) -> None:
            self._end(items)
            self._leave(connection, items)

        work.add_done_callback(done)
        return await asyncio.shield(work)

    def _leave(self, connection: str, items: int) -> None:
        self._items -= items
        self._of[connection] -= items
        if not self._of[connection]:
            del self._of[connection]

    async def _take(self, connection: str, items: int) -> None:
        if not self._waiting and self._fits(items):
            self._at_work += items
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.put(connection, (turn, items))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was this one's turn already
                self._end(items)
            else:
                self._begin()  # those behind it may fit where it did not
            raise

    def _fits(self, items: int) -> bool:
        return not self._at_work or self._at_work + items <= self._limits.batch_items_at_once

    def _end(self, items: int) -> None:
        self._at_work -= items
        self._begin()

    def _begin(self) -> None:
        """Let those begin whose turn it is, as far as they fit: a large one is not overtaken for ever."""
        while self._waiting:
            turn, items = self._waiting.first()
            if not turn.done() and not self._fits(items):
                return
            self._waiting.take()
            if not turn.done():
                self._at_work += items
                turn.set_result(None)
