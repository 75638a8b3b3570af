"""One question of a customer at a time, in the order they came.

What holds: whoever entered a customer's line is alone in it until they leave; nobody waits for another
customer's. It spares work, it is no guarantee: that a decision was made on what its customer is now is the
ledger's business, since other processes ask too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class KeyedLock:
    """A line for each customer who is being decided on; for one loop."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    def try_acquire(self, customer_id: str) -> bool:
        """Enter where nobody is; return whether that was so."""
        if customer_id in self._waiting:
            return False
        self._waiting[customer_id] = deque()
        return True

    async def acquire(self, customer_id: str) -> None:
        """Enter when all who came before have left."""
        if self.try_acquire(customer_id):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[customer_id].append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was this one's turn already
                self.release(customer_id)
            raise

    def release(self, customer_id: str) -> None:
        """Let the next one enter."""
        waiting = self._waiting[customer_id]
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._waiting[customer_id]

    @asynccontextmanager
    async def holding(self, customer_id: str) -> AsyncIterator[None]:
        """Enter, and leave at the end."""
        await self.acquire(customer_id)
        try:
            yield
        finally:
            self.release(customer_id)
