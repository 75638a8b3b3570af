"""The request message of a call, which may never come.

grpcio leaves a unary call whose stream ends without a message unanswered, and waits for ever for one that
does not come; either way nobody frees it. So calls are read here.

What holds: a call waits for its message so long and no longer, and so many calls wait at most: beyond that
the one that waits longest is ended, since an honest caller's message comes at once. Nobody's read is
cancelled, as gRPC may still be writing into it; the call is ended under it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from time import perf_counter
from typing import Any

import grpc

from tilbud.domain.errors import Overloaded, RequestMissing, TilbudError
from tilbud.domain.limits import Limits
from tilbud.transport.grpc.status import status_of, trailers_of

Context = grpc.aio.ServicerContext[Any, Any]
Ended = Callable[[str, str, float], None]  # method, code, seconds


class Arrivals:
    """Reads the one message of each call; `ended` hears of those that were ended, or left, without one."""

    def __init__(self, limits: Limits, ended: Ended) -> None:
        self._limits = limits
        self._ended = ended
        self._waiting: dict[Context, tuple[float, str]] = {}  # the longest first
        self._sweep: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def read(self, context: Context, method: str) -> Any:
        """Return a call's message; raises RequestMissing where it has none.

        Where the caller leaves or the call is ended meanwhile, grpcio's own error passes through, and `ended`
        was called.
        """
        self._waiting[context] = perf_counter(), method
        if len(self._waiting) > self._limits.calls_unread_max:
            self._end(
                next(iter(self._waiting)),
                Overloaded("the room of calls without a message", self._limits.retry_after_s),
            )
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(
                self._limits.request_sweep_every_s, self._end_overdue
            )
        try:
            message = await context.read()
        except BaseException:
            if waiting := self._waiting.pop(context, None):  # else it was ended here, and counted
                self._ended(method, grpc.StatusCode.CANCELLED.name, perf_counter() - waiting[0])
            raise
        if self._waiting.pop(context, None) is None:  # it came too late: its caller hears that it was ended
            raise asyncio.CancelledError
        if message is grpc.aio.EOF:
            raise RequestMissing("the call ended without one")
        return message

    def _end_overdue(self) -> None:
        self._sweep = None
        until = perf_counter() - self._limits.request_wait_s
        for context, (since, _) in list(self._waiting.items()):
            if since > until:
                break
            self._end(context, RequestMissing(f"none came within {self._limits.request_wait_s:g} s"))
        if self._waiting:
            self._sweep = asyncio.get_running_loop().call_later(
                self._limits.request_sweep_every_s, self._end_overdue
            )

    def _end(self, context: Context, error: TilbudError) -> None:
        since, method = self._waiting.pop(context)
        code, status = status_of(error)
        self._ended(method, code.name, perf_counter() - since)

        async def end() -> None:
            with contextlib.suppress(Exception):  # that it was aborted, or that the caller left
                await context.abort(code, status.message, trailers_of(status))

        ending = asyncio.create_task(end())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
