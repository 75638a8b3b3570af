"""The bytes that the answers of one batch may take.

What holds: what its caller could not receive is not recorded. A batch whose answers take too much is refused
whole before anything is recorded. Where a customer asks more than once, later questions are decided after
earlier ones were recorded: those count as the largest of the first round, and one that does not fit all the
same gets an error in its place, unrecorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from tilbud.domain.errors import AnswersTooLarge

Reply = TypeVar("Reply")
_ERROR_BYTES = 1_024  # of AnswersTooLarge in an answer's place


class AnswerSpace(Generic[Reply]):
    """What is left for one batch; `size_of` says how many bytes an answer or error takes on the wire."""

    def __init__(self, bytes_max: int, size_of: Callable[[Reply], int]) -> None:
        self._bytes_max = bytes_max
        self._size_of = size_of
        self._bytes: dict[int, int] = {}
        self._sum = 0

    def begin(self, replies: Mapping[int, Reply], waiting: Iterable[int]) -> None:
        """Keep space for the replies of the first round, and for the questions that wait.

        Raises AnswersTooLarge where there is too little.
        """
        self._bytes = {number: self._size_of(reply) for number, reply in replies.items()}
        largest = max(self._bytes.values(), default=0)
        self._bytes |= dict.fromkeys(waiting, max(largest, _ERROR_BYTES))
        self._sum = sum(self._bytes.values())
        if self._sum > self._bytes_max:
            raise self.too_large()

    def take(self, number: int, reply: Reply) -> bool:
        """Keep space for a reply instead of what its question had; say whether it fits."""
        size = self._size_of(reply)
        total = self._sum - self._bytes[number] + size
        if total > self._bytes_max:
            return False
        self._bytes[number], self._sum = size, total
        return True

    def too_large(self) -> AnswersTooLarge:
        """Return the error of a batch, or of a question, whose answer does not fit."""
        return AnswersTooLarge(self._bytes_max)
