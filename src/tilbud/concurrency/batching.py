"""Calls that arrive together are answered together.

Between two calls gRPC's own work leaves none of our code in the processor's caches, so that one call
alone costs about three times what it costs amid others. Under load, calls that arrive while others
are answered wait for them and are then one batch: read, decided, recorded in one transaction, and
written in one go. Batches begin at most so often, since short ones one after another keep the process busy
with few calls; a call that comes after a pause is answered at once. Where more wait than a batch takes,
connections take turns.

What holds: each question gets its own answer or error; who left before a batch began is not answered,
who leaves later takes nothing from the others; an unexpected error of a batch reaches everyone in it;
the queue is bounded.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Generic, TypeVar

from tilbud.concurrency.fair_queue import FairQueue
from tilbud.domain.errors import Overloaded
from tilbud.domain.limits import Limits

Question = TypeVar("Question")
Reply = TypeVar("Reply")
AnswerAll = Callable[[Sequence[Question]], Awaitable[Sequence[Reply | Exception]]]


class MicroBatcher(Generic[Question, Reply]):
    """Answers questions in batches of at most `batch_max`, one at a time; `waiting_max` may wait.

    A batch begins `every_s` after the one before, or later.
    """

    def __init__(
        self,
        answer_all: AnswerAll[Question, Reply],
        *,
        batch_max: int,
        waiting_max: int,
        retry_after_s: float,
        every_s: float = 0.0,
    ) -> None:
        self._answer_all = answer_all
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._retry_after_s = retry_after_s
        self._every_s = every_s
        self._began_s = -math.inf
        self._waiting: FairQueue[tuple[Question, asyncio.Future[Reply]]] = FairQueue()
        self._batch: asyncio.Task[None] | None = None
        self._busy = False

    def submit(self, connection: str, question: Question) -> asyncio.Future[Reply]:
        """Return the future answer to a connection's question; raises Overloaded where too many wait."""
        if len(self._waiting) >= self._waiting_max:
            raise Overloaded("the queue of calls", self._retry_after_s)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.put(connection, (question, future))
        if not self._busy:
            self._busy = True
            self._begin_soon()
        return future

    def _begin_soon(self) -> None:
        loop = asyncio.get_running_loop()
        left_s = self._began_s + self._every_s - perf_counter()
        if left_s > Limits.timer_min_s:
            loop.call_later(left_s, self._begin)
        else:
            loop.call_soon(self._begin)  # with all that comes in this turn of the loop

    def _begin(self) -> None:
        self._began_s = perf_counter()
        batch: list[tuple[Question, asyncio.Future[Reply]]] = []
        while self._waiting and len(batch) < self._batch_max:
            question, future = self._waiting.take()
            if not future.done():  # else its caller has left, and asked for nothing that was begun
                batch.append((question, future))
        self._batch = asyncio.create_task(self._answer(batch))
        self._batch.add_done_callback(self._end)

    def _end(self, _: asyncio.Task[None]) -> None:
        if self._waiting:
            self._begin_soon()
        else:
            self._busy = False

    async def _answer(self, batch: list[tuple[Question, asyncio.Future[Reply]]]) -> None:
        replies: Sequence[Reply | Exception]
        try:
            replies = await self._answer_all([question for question, _ in batch])
        except Exception as error:  # noqa: BLE001 - everyone who waits must hear of it
            replies = [error] * len(batch)
        for (_, future), reply in zip(batch, replies, strict=True):
            if future.done():
                continue  # its caller left
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)
