"""The writer: batches, bounds, who commits, and who hears of a failure."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tilbud.domain.errors import LedgerUnavailable, Overloaded
from tilbud.domain.limits import Limits
from tilbud.ledger.writer import Writer


class Store:
    """Keeps the batches it is given; waits at its gate, and answers each work with itself."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.gate = threading.Event()
        self.gate.set()

    def commit(self, works: Sequence[Any]) -> list[Any]:
        """Take a batch."""
        assert self.gate.wait(10)
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
    store = Store()
    writer = build(store)
    waiting = writer.submit("a", 1)
    await asyncio.gather(writer.stop(), writer.stop())
    assert waiting.result() == "a"
    assert not writer._thread.is_alive()
    with pytest.raises(LedgerUnavailable):
        writer.submit("b", 1)


class Committers:
    """A store that notes what was committed at once, on the loop, and what in the writer's thread."""

    def __init__(self) -> None:
        self.committed: list[tuple[str, list[Any]]] = []
        self.free = True

    def commit(self, works: Sequence[Any]) -> list[Any]:
        """Commit in the thread."""
        self.committed.append(("thread", list(works)))
        return list(works)

    def commit_now(self, works: Sequence[Any]) -> list[Any] | None:
        """Commit on the loop, unless somebody else writes."""
        if not self.free:
            return None
        self.committed.append(("loop", list(works)))
        return list(works)


async def test_few_rows_are_committed_by_the_loop_and_many_by_the_thread():
    """Each in one batch, in the order they came, and everyone hears of theirs."""
    store, seen = Committers(), list[int]()
    limits = replace(Limits(), ledger_loop_rows_max=3)
    writer = Writer(store.commit, lambda _s, rows: seen.append(rows), limits, store.commit_now)
    few = await asyncio.gather(*(writer.submit(each, 1) for each in "abc"))
    many = await asyncio.gather(*(writer.submit(each, 1) for each in "defg"))
    assert await writer.submit("h", 1) == "h"
    assert [*few, *many] == list("abcdefg")
    assert store.committed == [("loop", list("abc")), ("thread", list("defg")), ("loop", ["h"])]
    await writer.stop()
    assert seen == [3, 4, 1]


async def test_the_loop_commits_nothing_while_the_thread_does():
    """What comes meanwhile waits for its turn, be it ever so little."""
    store, gated = Committers(), Store()
    gated.gate.clear()
    limits = replace(Limits(), ledger_loop_rows_max=1)
    writer = Writer(gated.commit, lambda _s, _r: None, limits, store.commit_now)
    both = [writer.submit("many", 2)]
    await asyncio.sleep(0)
    both.append(writer.submit("few", 1))
    await asyncio.sleep(0)
    assert not store.committed
    gated.gate.set()
    assert await asyncio.gather(*both) == ["many", "few"]
    assert (gated.batches, store.committed) == ([["many"]], [("loop", ["few"])])
    await writer.stop()


async def test_where_the_loop_would_have_to_wait_the_thread_commits():
    """Another process writes: the loop goes on, and the call is answered all the same."""
    store = Committers()
    store.free = False
    writer = Writer(store.commit, lambda _s, _r: None, Limits(), store.commit_now)
    assert await writer.submit("a", 1) == "a"
    assert store.committed == [("thread", ["a"])]
    await writer.stop()


async def test_a_mistake_on_the_loop_reaches_its_caller_and_ends_nothing():
    """As one in the thread does."""

    def commit_now(works: Sequence[Any]) -> list[Any]:
        if works == ["bad"]:
            raise ZeroDivisionError("ours")
        return list(works)

    writer = Writer(Store().commit, lambda _s, _r: None, Limits(), commit_now)
    with pytest.raises(ZeroDivisionError):
        await writer.submit("bad", 1)
    assert await writer.submit("fine", 1) == "fine"
    await writer.stop()
