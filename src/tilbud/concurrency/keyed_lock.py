"""A lock for each key, such as a customer's id, which callers get in the order in which they came.

What holds: whoever has a key's lock is alone with it until they release it; nobody waits for another key's.
It spares work and guarantees nothing: that a decision was made on what its customer is now is the ledger's
business, since other processes ask too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class KeyedLock:
    """The locks of the keys that somebody has or waits for; for one loop."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    def try_acquire(self, key: str) -> bool:
        """Acquire the lock of a key where it is free; return whether it was."""
        if key in self._waiting:
            return False
        self._waiting[key] = deque()
        return True

    async def acquire(self, key: str) -> None:
        """Acquire the lock of a key when all who came before have released it."""
        if self.try_acquire(key):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[key].append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was this one's turn already
                self.release(key)
            raise

    def release(self, key: str) -> None:
        """Give the lock of a key to the next who waits for it."""
        waiting = self._waiting[key]
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._waiting[key]

    @asynccontextmanager
    async def holding(self, key: str) -> AsyncIterator[None]:
        """Acquire the lock of a key, and release it at the end."""
        await self.acquire(key)
        try:
            yield
        finally:
            self.release(key)
