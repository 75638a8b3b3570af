"""Calls that arrive together are answered together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tilbud.concurrency.batching import MicroBatcher
from tilbud.domain.errors import Overloaded


class _Answering:
    """Doubles numbers, when it is let; remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()

    async def __call__(self, numbers: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(numbers))
        await self.open.wait()
        if 13 in numbers:
            raise OSError("for the test")
        return [ValueError(str(number)) if number < 0 else 2 * number for number in numbers]


@pytest.fixture
async def answering() -> _Answering:
    """Answers nothing until it is opened."""
    return _Answering()


async def test_what_comes_together_is_one_batch_and_what_comes_later_the_next(answering: _Answering) -> None:
    """Calls of one turn are one batch; those that come meanwhile are the next, in order, up to its size."""
    batcher = MicroBatcher(answering, batch_max=3, waiting_max=9, retry_after_s=0.25)
    first = [batcher.submit("a", number) for number in (1, 2)]
    await asyncio.sleep(0.0)
    await asyncio.sleep(0.0)
    later = [batcher.submit("a", number) for number in (3, 4, 5, 6)]
    answering.open.set()
    assert await asyncio.gather(*first, *later) == [2, 4, 6, 8, 10, 12]
    assert answering.batches == [[1, 2], [3, 4, 5], [6]]


async def test_batches_begin_at_most_so_often(answering: _Answering) -> None:
    """What comes soon after a batch, though not together, is one batch."""
    batcher = MicroBatcher(answering, batch_max=3, waiting_max=9, retry_after_s=0.25, every_s=0.3)
    answering.open.set()
    assert await batcher.submit("a", 1) == 2
    soon = [batcher.submit("a", 2)]
    for _ in range(5):
        await asyncio.sleep(0.0)
    soon.append(batcher.submit("a", 3))
    assert await asyncio.gather(*soon) == [4, 6]
    assert answering.batches == [[1], [2, 3]]


async def test_each_gets_its_own_error(answering: _Answering) -> None:
    """An error in one place is that caller's alone."""
    batcher = MicroBatcher(answering, batch_max=3, waiting_max=9, retry_after_s=0.25)
    answering.open.set()
    good, bad = batcher.submit("a", 1), batcher.submit("a", -1)
    assert await good == 2
    with pytest.raises(ValueError, match="-1"):
        await bad


async def test_a_failing_batch_reaches_everyone_in_it_and_nobody_after(answering: _Answering) -> None:
    """An unexpected error is everyone's in the batch; the next batch is answered."""
    batcher = MicroBatcher(answering, batch_max=2, waiting_max=9, retry_after_s=0.25)
    answering.open.set()
    unlucky, innocent, next_one = batcher.submit("a", 13), batcher.submit("a", 1), batcher.submit("a", 2)
    for future in (unlucky, innocent):
        with pytest.raises(OSError, match="for the test"):
            await future
    assert await next_one == 4


async def test_who_left_before_the_batch_began_is_not_answered(answering: _Answering) -> None:
    """A cancelled call that still waited is dropped: nothing is decided for nobody."""
    batcher = MicroBatcher(answering, batch_max=3, waiting_max=9, retry_after_s=0.25)
    leaving, staying = batcher.submit("a", 1), batcher.submit("a", 2)
    leaving.cancel()
    answering.open.set()
    assert await staying == 4
    assert answering.batches == [[2]]


async def test_who_leaves_later_takes_nothing_from_the_others(answering: _Answering) -> None:
    """A call that is cancelled while it is answered changes nothing for the others."""
    batcher = MicroBatcher(answering, batch_max=3, waiting_max=9, retry_after_s=0.25)
    leaving, staying = batcher.submit("a", 1), batcher.submit("a", 2)
    await asyncio.sleep(0.0)
    await asyncio.sleep(0.0)
    leaving.cancel()
    answering.open.set()
    assert await staying == 4
    assert answering.batches == [[1, 2]]


async def test_the_queue_is_bounded(answering: _Answering) -> None:
    """Where too many wait, the next is refused at once, and those that wait are answered."""
    batcher = MicroBatcher(answering, batch_max=2, waiting_max=3, retry_after_s=0.25)
    waiting = [batcher.submit("a", number) for number in (1, 2, 3)]
    with pytest.raises(Overloaded):
        batcher.submit("a", 4)
    answering.open.set()
    assert await asyncio.gather(*waiting) == [2, 4, 6]


async def test_connections_take_turns(answering: _Answering) -> None:
    """Who asks one question waits for one of each other connection's, not for all of them."""
    batcher = MicroBatcher(answering, batch_max=2, waiting_max=9, retry_after_s=0.25)
    many = [batcher.submit("many", number) for number in (1, 2, 3, 4)]
    one = batcher.submit("one", 5)
    answering.open.set()
    assert await asyncio.gather(*many, one) == [2, 4, 6, 8, 10]
    assert answering.batches == [[1, 5], [2, 3], [4]]
