"""A queue in which connections take turns, so that who asks for much keeps nobody else waiting.

What holds: the next item is of the connection whose turn was the longest ago, and those of one connection
come in the order they were put in. How many may wait is the business of whoever puts them in.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """What waits, by connection."""

    def __init__(self) -> None:
        self._turns: deque[str] = deque()  # the connections of which something waits, the next one first
        self._waiting: dict[str, deque[Item]] = {}
        self._items = 0

    def __len__(self) -> int:
        return self._items

    def put(self, connection: str, item: Item) -> None:
        """Let an item wait behind the others of its connection."""
        self._items += 1
        waiting = self._waiting.get(connection)
        if waiting is None:
            self._waiting[connection] = deque((item,))
            self._turns.append(connection)
        else:
            waiting.append(item)

    def first(self) -> Item:
        """Return the item whose turn it is, and leave it there; raises IndexError where none waits."""
        return self._waiting[self._turns[0]][0]

    def take(self) -> Item:
        """Return the item whose turn it is; raises IndexError where none waits."""
        connection = self._turns.popleft()
        waiting = self._waiting[connection]
        if len(waiting) > 1:
            self._turns.append(connection)
        else:
            del self._waiting[connection]
        self._items -= 1
        return waiting.popleft()
