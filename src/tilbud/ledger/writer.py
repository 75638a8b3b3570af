"""The one who writes: what waits while it commits becomes its next commit.

What holds: rows wait in a bounded number; beyond it a call fails at once with Overloaded, though never
for an empty queue. Calls are committed in the order they came, a batch at a time, and all of a batch
hear of it in one turn of the loop. What a batch does is the business of whoever gave `commit`.

A thread commits, while the loop goes on; but for a few rows the way there and back takes longer than their
commit, and each step of it waits for the other thread to let go of the interpreter. So the loop commits
those itself, where it need not wait.
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
from typing import Any, TypeVar

from tilbud.domain.errors import LedgerUnavailable, Overloaded
from tilbud.domain.limits import Limits

_LOG = logging.getLogger(__name__)
_Results = TypeVar("_Results", list[Any], list[Any] | None)


@dataclass(slots=True, eq=False)
class Queued:
    """One call on its way to the writer: what to do, how many rows it may touch, who waits for it."""

    work: Any
    rows: int
    future: asyncio.Future[Any]


class Writer:
    """Hands batches of calls to a thread and its answers back to the loop it was built in.

    `commit` runs in that thread: it returns a result for each work given, or the exception the call
    shall raise. `commit_now` does the same on the loop, for few rows; it returns None, and has done nothing,
    where it would have to wait. `observe(seconds, rows)` hears of all in which something was committed.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Any]], list[Any]],
        observe: Callable[[float, int], None],
        limits: Limits,
        commit_now: Callable[[Sequence[Any]], list[Any] | None] | None = None,
    ) -> None:
        self._commit = commit
        self._commit_now = commit_now
        self._observe = observe
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Queued] = deque()
        self._rows = 0  # waiting or being committed
        self._busy = False
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
        if batch:
            if rows > self._limits.ledger_loop_rows_max or not self._committed_now(batch):
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

    def _committed_now(self, batch: list[Queued]) -> bool:
        if self._commit_now is None:
            return False
        started_s = perf_counter()
        results = _results(self._commit_now, batch)
        if results is None:
            return False
        seconds = perf_counter() - started_s
        self._loop.call_soon(self._resolve, batch, results)
        self._observed(batch, results, seconds)
        return True

    def _run(self) -> None:
        while (batch := self._batches.get()) is not None:
            started_s = perf_counter()
            results = _results(self._commit, batch)
            seconds = perf_counter() - started_s
            with suppress(RuntimeError):  # the loop is gone, and with it everyone who waited
                self._loop.call_soon_threadsafe(self._resolve, batch, results)
            self._observed(batch, results, seconds)

    def _observed(self, batch: list[Queued], results: list[Any], seconds: float) -> None:
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

    def _resolve(self, batch: list[Queued], results: list[Any]) -> None:
        for queued, result in zip(batch, results, strict=True):
            self._rows -= queued.rows
            if queued.future.done():
                continue  # its caller is gone; what it asked for happened all the same
            if isinstance(result, Exception):
                queued.future.set_exception(result)
            else:
                queued.future.set_result(result)
        self._hand_over()


def _results(commit: Callable[[Sequence[Any]], _Results], batch: list[Queued]) -> _Results | list[Any]:
    try:
        return commit([queued.work for queued in batch])
    except Exception as error:  # noqa: BLE001 - our own mistake: no caller may wait for ever
        return [error] * len(batch)
