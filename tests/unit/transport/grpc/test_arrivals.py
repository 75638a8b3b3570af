"""The request message of a call, which may never come. Contexts here end as grpcio's do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import grpc
import pytest

from tilbud.domain.errors import RequestMissing
from tilbud.domain.limits import Limits
from tilbud.transport.grpc.arrivals import Arrivals


class _AbortError(Exception):
    """How a read ends whose call was aborted."""


class _Context:
    """A call whose message comes when the test says so."""

    def __init__(self) -> None:
        self.message: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.code: grpc.StatusCode | None = None

    async def read(self) -> object:
        return await self.message

    async def abort(self, code: grpc.StatusCode, *_: object) -> None:
        self.code = code
        self.message.set_exception(_AbortError())
        raise _AbortError


def _reading(arrivals: Arrivals, context: Any) -> asyncio.Task[object]:
    return asyncio.create_task(arrivals.read(context, "Decide"))


async def test_a_message_is_read_when_it_comes() -> None:
    """And nothing is ended."""
    ended: list[str] = []
    context = _Context()
    reading = _reading(Arrivals(Limits(), lambda *end: ended.append(end[1])), context)
    await asyncio.sleep(0)
    context.message.set_result("hello")
    assert await reading == "hello"
    assert not ended


async def test_an_end_without_a_message_is_the_callers_fault() -> None:
    """The stream was closed: no message can come."""
    context = _Context()
    reading = _reading(Arrivals(Limits(), lambda *_: None), context)
    context.message.set_result(grpc.aio.EOF)
    with pytest.raises(RequestMissing):
        await reading


async def test_a_call_waits_so_long_for_its_message() -> None:
    """Then it is ended and counted, and its read ends with it."""
    ended: list[tuple[str, str]] = []
    limits = replace(Limits(), request_wait_s=0.0)
    context = _Context()
    reading = _reading(Arrivals(limits, lambda *end: ended.append(end[:2])), context)
    with pytest.raises(_AbortError):
        await asyncio.wait_for(reading, 60)
    assert ended == [("Decide", "INVALID_ARGUMENT")]
    assert context.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_who_leaves_without_a_message_is_counted_once() -> None:
    """As a caller that left; and where the call was ended here, that is all that is counted."""
    ended: list[str] = []
    leaving = _reading(Arrivals(Limits(), lambda *end: ended.append(end[1])), _Context())
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert ended == ["CANCELLED"]


async def test_a_message_that_comes_as_its_call_is_ended_is_not_handled() -> None:
    """Its caller hears that the call was refused: nothing may be done for it."""
    ended: list[str] = []
    arrivals = Arrivals(replace(Limits(), calls_unread_max=1), lambda *end: ended.append(end[1]))
    first, second = _Context(), _Context()
    reading = _reading(arrivals, first)
    await asyncio.sleep(0)
    other = _reading(arrivals, second)  # for which the first is ended
    first.message.set_result("too late")
    second.message.set_result("here")
    assert await other == "here"
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert ended == ["RESOURCE_EXHAUSTED"]


async def test_of_too_many_the_one_that_waits_longest_is_ended() -> None:
    """So that whoever opens calls and says nothing keeps nobody else out."""
    ended: list[str] = []
    limits = replace(Limits(), calls_unread_max=2)
    arrivals = Arrivals(limits, lambda *end: ended.append(end[1]))
    contexts = [_Context() for _ in range(3)]
    readings = [_reading(arrivals, context) for context in contexts]
    with pytest.raises(_AbortError):
        await asyncio.wait_for(readings[0], 60)
    assert ended == ["RESOURCE_EXHAUSTED"]
    for context in contexts[1:]:
        context.message.set_result("here")
    assert [await reading for reading in readings[1:]] == ["here", "here"]
