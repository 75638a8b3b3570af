"""Who sends the outcomes that wait: a thread, or a task of an event loop.

What holds: whoever reports never waits; one batch at a time is on its way; what becomes of an outcome is told
once, to `on_report` too. Nothing that is raised there, or by a source of metadata, ends the sending.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from tilbud.client.outbox import CLOSE_S, Outbox, Outcomes, Report
from tilbud.client.refusals import Refusal
from tilbud.client.words import Delivery
from tilbud.v1 import decisions_pb2 as pb

OnReport = Callable[[Report], None] | None
"""Called with each report once it is final, by who sends, or who reports what is not sent: so be quick."""
_CLOSED = "the client was closed before the service took it"
_LOG = logging.getLogger("tilbud.client")


class Sender:
    """Sends by a thread of its own, which starts with the first outcome.

    A program that ends without closing it waits for what is buffered as long as closing would.
    """

    def __init__(
        self,
        send: Callable[[pb.BatchReportOutcomesRequest], pb.BatchReportOutcomesResponse],
        *,
        outcomes_max: int,
        on_report: OnReport,
    ) -> None:
        self._send = send
        self._on_report = on_report
        self._outcomes_max = outcomes_max
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._outbox = Outbox(outcomes_max=self._outcomes_max, chance=random.random)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._telling = False

    def _begin_in_fork(self) -> None:
        """Begin anew in a process that was forked: the thread, and what it had to send, are its parent's."""
        if self._process != os.getpid():
            self._begin()

    @property
    def outcomes(self) -> Outcomes:
        """How many are where."""
        self._begin_in_fork()
        with self._changed:
            return self._outbox.outcomes

    def put(self, request: pb.ReportOutcomeRequest) -> Report:
        """Take an outcome in; return at once."""
        self._begin_in_fork()
        with self._changed:
            report = self._outbox.put(request, time.monotonic())
            final = self._outbox.abandon(_CLOSED) if self._closed else []
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="tilbud-outcomes", daemon=True)
                self._thread.start()
                atexit.register(self._end)  # a program may end without closing
            self._changed.notify_all()
        _tell(self._on_report, final or [report])
        return report

    def flush(self, timeout_s: float) -> bool:
        """Wait until nothing waits and all is told; return whether that is so."""
        self._begin_in_fork()
        with self._changed:
            self._outbox.hurry()
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not (len(self._outbox) or self._telling), timeout_s)

    def close(self) -> None:
        """Drop what still waits, and send no more."""
        self._begin_in_fork()
        with self._changed:
            self._closed = True
            atexit.unregister(self._end)
            dropped = self._outbox.abandon(_CLOSED)
            self._changed.notify_all()
        _tell(self._on_report, dropped)

    def _end(self) -> None:
        self.flush(CLOSE_S)
        self.close()

    def _run(self) -> None:
        while (request := self._next()) is not None:
            answer = self._answer(request)
            with self._changed:
                final, self._telling = _came_back(self._outbox, answer), True
            _tell(self._on_report, final)
            with self._changed:
                self._telling = False
                self._changed.notify_all()

    def _next(self) -> pb.BatchReportOutcomesRequest | None:
        """Wait for the next batch; None once closed."""
        while True:
            with self._changed:
                if self._closed:
                    return None
                request, too_old = self._outbox.take(time.monotonic())
                if request is None and not too_old:
                    self._changed.wait(self._outbox.wait_s(time.monotonic()))
            _tell(self._on_report, too_old)
            if request is not None:
                return request

    def _answer(self, request: pb.BatchReportOutcomesRequest) -> pb.BatchReportOutcomesResponse | Refusal:
        try:
            return self._send(request)
        except Refusal as refused:
            return refused


class AsyncSender:
    """Sends by a task of the running loop, which starts with the first outcome."""

    def __init__(
        self,
        send: Callable[[pb.BatchReportOutcomesRequest], Awaitable[pb.BatchReportOutcomesResponse]],
        *,
        outcomes_max: int,
        on_report: OnReport,
    ) -> None:
        self._send = send
        self._on_report = on_report
        self._outbox = Outbox(outcomes_max=outcomes_max, chance=random.random)
        self._changed = asyncio.Event()
        self._empty = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def outcomes(self) -> Outcomes:
        """How many are where."""
        return self._outbox.outcomes

    def put(self, request: pb.ReportOutcomeRequest) -> Report:
        """Take an outcome in; return at once."""
        report = self._outbox.put(request, time.monotonic())
        final = self._outbox.abandon(_CLOSED) if self._closed else []
        self._begin()
        self._changed.set()
        _tell(self._on_report, final or [report])
        return report

    async def flush(self, timeout_s: float) -> bool:
        """Wait until nothing waits; return whether that is so."""
        self._outbox.hurry()
        self._begin()
        self._changed.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while len(self._outbox):
                    self._empty.clear()
                    await self._empty.wait()
        return not len(self._outbox)

    def _begin(self) -> None:
        """Start the task where there is none, or it was cancelled with others, or its loop has ended."""
        if self._closed or not len(self._outbox) or (self._task is not None and not self._task.done()):
            return
        self._changed, self._empty = asyncio.Event(), asyncio.Event()  # which belong to one loop
        self._task = asyncio.get_running_loop().create_task(self._run(), name="tilbud-outcomes")

    async def close(self) -> None:
        """Drop what still waits, and send no more."""
        self._closed = True
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        _tell(self._on_report, self._outbox.abandon(_CLOSED))

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            request, too_old = self._outbox.take(time.monotonic())
            _tell(self._on_report, too_old)
            if request is not None:
                final = _came_back(self._outbox, await self._answer(request))
                _tell(self._on_report, final)
            if not len(self._outbox):
                self._empty.set()
            if request is None:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), self._outbox.wait_s(time.monotonic()))

    async def _answer(
        self, request: pb.BatchReportOutcomesRequest
    ) -> pb.BatchReportOutcomesResponse | Refusal:
        try:
            return await self._send(request)
        except Refusal as refused:
            return refused
        except asyncio.CancelledError:
            self._outbox.failed(Refusal("CANCELLED", ["its task was cancelled"]), time.monotonic())
            raise


def _came_back(outbox: Outbox, answer: pb.BatchReportOutcomesResponse | Refusal) -> list[Report]:
    now_s = time.monotonic()
    return outbox.failed(answer, now_s) if isinstance(answer, Refusal) else outbox.answered(answer, now_s)


def _tell(on_report: OnReport, reports: Iterable[Report]) -> None:
    for report in reports:
        if on_report is not None and report.delivery is not Delivery.BUFFERED:
            try:
                on_report(report)
            except (Exception, SystemExit):  # noqa: BLE001 - whatever a caller's own function raises
                _LOG.exception("on_report failed")
