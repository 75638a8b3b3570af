"""The one thread that writes: what waits while it commits becomes its next commit.

What holds: rows wait in a bounded number; beyond it a call fails at once with Overloaded, though never
for an empty queue. Calls are committed in the order they came, a batch at a time, and all of a batch
hear of it in one turn of the loop. Where a batch waited for long and failed, those that waited for it
fail too. What a batch does is the business of whoever gave `commit`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from time import perf_counter
from typing import Any

from tilbud.domain.errors import LedgerUnavailable, Overloaded
from tilbud.domain.limits import Limits
from tilbud.ledger.answers import StillCommitting

_LOG = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Queued:
    """One call on its way to the writer: what to do, how many rows it may touch, who waits for it.

    `later` is for the result of a call that was given up on.
    """

    work: Any
    rows: int
    future: asyncio.Future[Any]
    later: asyncio.Future[Any] | None = None


class Writer:
    """Hands batches of calls to a thread and its answers back to the loop it was built in.

    `commit` runs in that thread: it returns a result for each work given, or the exception the call
    shall raise. `observe(seconds, rows)` hears of every batch in which something was committed.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Any]], list[Any]],
        observe: Callable[[float, int], None],
        limits: Limits,
    ) -> None:
        self._commit = commit
        self._observe = observe
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Queued] = deque()
        self._rows = 0  # waiting or being committed
        self._busy = False
        self._committing: list[Queued] = []
        self._slow_s = limits.lock_wait_s / 2
        self._stopped: asyncio.Future[None] | None = None
        self._batches: SimpleQueue[list[Queued] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, work: object, rows: int) -> asyncio.Future[Any]:
        """Queue some work; raises Overloaded or LedgerUnavailable before it changes anything."""
        if self._stopped is not None:
            raise LedgerUnavailable("the ledger is closed")
        if self._rows and self._rows + rows > self._limits.ledger_queue_rows_max:
            raise Overloaded("the queue of the ledger", self._limits.retry_after_s)
        queued = Queued(work, rows, self._loop.create_future())
        self._rows += rows
        self._waiting.append(queued)
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._hand_over)  # with all that comes in this turn of the loop
        return queued.future

    async def stop(self) -> None:
        """Commit what waits, then end the thread; safe to call twice."""
        if self._stopped is None:
            self._stopped = self._loop.create_future()
            if not self._busy:
                self._end()
        await asyncio.shield(self._stopped)

    def _hand_over(self) -> None:
        batch: list[Queued] = []
        rows = 0
        while self._waiting and (
            not batch or rows + self._waiting[0].rows <= self._limits.ledger_batch_rows_max
        ):
            rows += self._waiting[0].rows
            batch.append(self._waiting.popleft())
        self._committing = batch
        if batch:
            self._batches.put(batch)
        else:
            self._busy = False
            if self._stopped is not None:
                self._end()

    def _end(self) -> None:
        self._batches.put(None)
        self._thread.join()
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(None)

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            started_s = perf_counter()
            try:
                results = self._commit([queued.work for queued in batch])
            except Exception as error:  # noqa: BLE001 - our own mistake: no caller may wait for ever
                results = [error] * len(batch)
            seconds = perf_counter() - started_s
            held_up = seconds >= self._slow_s and all(
                isinstance(result, LedgerUnavailable) for result in results
            )
            with suppress(RuntimeError):  # the loop is gone, and with it everyone who waited
                self._loop.call_soon_threadsafe(self._resolve, batch, results, held_up)
            committed = sum(
                queued.rows
                for queued, result in zip(batch, results, strict=True)
                if not isinstance(result, Exception)
            )
            if committed or any(isinstance(result, LedgerUnavailable) for result in results):
                self._tell(seconds, committed)

    def _tell(self, seconds: float, rows: int) -> None:
        try:
            self._observe(seconds, rows)
        except Exception:  # noqa: BLE001 - what was committed stays so, whoever watches
            _LOG.exception("the observer of commits failed")

    def give_up(self, error: LedgerUnavailable) -> None:
        """Let nobody wait any longer; what is being committed may yet be, and its callers ask again."""
        for queued in self._committing:
            if not queued.future.done():
                queued.later = self._loop.create_future()
                queued.future.set_exception(StillCommitting(str(error), queued.later))
        self._refuse(error)

    def _refuse(self, error: Exception) -> None:
        """Refuse all that waits: it would wait as long again."""
        waiting = list(self._waiting)
        self._waiting.clear()
        for queued in waiting:
            self._rows -= queued.rows
            if not queued.future.done():
                queued.future.set_exception(error)

    def _resolve(self, batch: list[Queued], results: list[Any], held_up: bool) -> None:
        if held_up:
            self._refuse(results[0])
        for queued, result in zip(batch, results, strict=True):
            self._rows -= queued.rows
            if queued.later is not None and not isinstance(result, Exception):
                queued.later.set_result(result)
            if queued.future.done():
                continue  # its caller is gone; what it asked for happened all the same
            if isinstance(result, Exception):
                queued.future.set_exception(result)
            else:
                queued.future.set_result(result)
        self._hand_over()
