"""The writer thread: batches, bounds, and who hears of a failure."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tilbud.domain.errors import LedgerUnavailable, Overloaded
from tilbud.domain.limits import Limits
from tilbud.ledger.answers import StillCommitting
from tilbud.ledger.sqlite.writer import Writer


class Store:
    """Keeps the batches it is given; waits at its gate, and answers each work with itself."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.gate = threading.Event()
        self.gate.set()

    def commit(self, works: Sequence[Any]) -> list[Any]:
        """Take a batch."""
        assert self.gate.wait(60)
        self.batches.append(list(works))
        return list(works)


def build(
    store: Store, limits: Limits | None = None, observe: Callable[[float, int], None] = lambda _s, _r: None
) -> Writer:
    """Build a writer on a store."""
    return Writer(store.commit, observe, limits or Limits())


async def test_what_waits_during_a_commit_is_the_next_one():
    """The calls of one turn are one batch; those that come while it commits are the next, in order."""
    store = Store()
    store.gate.clear()
    writer = build(store)
    first = [writer.submit(number, 1) for number in range(3)]
    await asyncio.sleep(0)
    then = [writer.submit(number, 1) for number in range(3, 6)]
    store.gate.set()
    assert await asyncio.gather(*first, *then) == [0, 1, 2, 3, 4, 5]
    assert store.batches == [[0, 1, 2], [3, 4, 5]]
    await writer.stop()


async def test_a_batch_is_bounded_in_rows():
    """A batch ends before the row too many; a call larger than a batch goes alone."""
    store = Store()
    writer = build(store, replace(Limits(), ledger_batch_rows_max=4))
    await asyncio.gather(*(writer.submit(rows, rows) for rows in (2, 2, 1, 9, 3, 1)))
    assert store.batches == [[2, 2], [1], [9], [3, 1]]
    await writer.stop()


async def test_the_queue_is_bounded_in_rows():
    """Rows that wait and rows being committed count; when they are done there is room again."""
    store = Store()
    writer = build(store, replace(Limits(), ledger_queue_rows_max=5))
    waiting = writer.submit("a", 5)
    with pytest.raises(Overloaded):
        writer.submit("b", 1)
    await waiting
    await writer.submit("c", 50)
    assert store.batches == [["a"], ["c"]]
    await writer.stop()


async def test_a_mistake_in_the_store_reaches_every_caller_and_ends_nothing():
    """Nobody waits for ever, and the next batch is committed."""
    store = Store()
    works = [ZeroDivisionError("ours"), "fine"]

    def commit(given: Sequence[Any]) -> list[Any]:
        if isinstance(given[0], Exception):
            raise given[0]
        return store.commit(given)

    writer = Writer(commit, lambda _s, _r: None, Limits())
    with pytest.raises(ZeroDivisionError):
        await writer.submit(works[0], 1)
    assert await writer.submit(works[1], 1) == "fine"
    await writer.stop()


async def test_an_observer_that_fails_disturbs_nobody():
    """What was committed is acknowledged, whoever watches."""

    def observe(seconds: float, rows: int) -> None:
        raise RuntimeError("watching failed")

    writer = build(Store(), observe=observe)
    assert await writer.submit("a", 1) == "a"
    assert await writer.submit("b", 1) == "b"
    await writer.stop()


async def test_stopping_commits_what_waits_and_then_refuses():
    """Stop twice, also at once: what waits is answered, what comes after is LedgerUnavailable."""
    before = set(threading.enumerate())
    store = Store()
    writer = build(store)
    waiting = writer.submit("a", 1)
    await asyncio.gather(writer.stop(), writer.stop())
    assert waiting.result() == "a"
    assert [thread.name for thread in threading.enumerate() if thread not in before] == []
    with pytest.raises(LedgerUnavailable):
        writer.submit("b", 1)


async def test_who_waits_for_a_commit_that_was_held_up_in_vain_fails_with_it():
    """A ledger that is locked costs each call one wait for the lock, however many wait."""
    gate, limits = threading.Event(), replace(Limits(), lock_wait_s=0.0)

    def commit(given: Sequence[Any]) -> list[Any]:
        assert gate.wait(60)
        return [LedgerUnavailable("locked") for _ in given]

    writer = Writer(commit, lambda _s, _r: None, limits)
    first = writer.submit("a", 1)
    await asyncio.sleep(0)
    then = [writer.submit(number, 1) for number in range(3)]
    gate.set()
    answers = await asyncio.gather(first, *then, return_exceptions=True)
    assert {str(answer) for answer in answers} == {"locked"}
    await writer.stop()


async def test_nobody_waits_for_a_commit_that_does_not_come_back():
    """Who waits for it or behind it is refused; what it did is told later, and the next is committed."""
    store = Store()
    store.gate.clear()
    writer = build(store)
    first = writer.submit("a", 1)
    await asyncio.sleep(0)
    then = writer.submit("b", 1)
    writer.give_up(LedgerUnavailable("hangs"))
    with pytest.raises(StillCommitting, match="hangs") as given_up:
        await first
    with pytest.raises(LedgerUnavailable, match="hangs"):
        await then
    assert not given_up.value.later.done()
    store.gate.set()
    assert await writer.submit("c", 1) == "c"
    assert given_up.value.later.result() == "a"
    assert store.batches == [["a"], ["c"]]
    await writer.stop()
