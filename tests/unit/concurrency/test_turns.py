"""Batches take turns."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tilbud.concurrency.turns import Turns
from tilbud.domain.errors import Overloaded
from tilbud.domain.limits import Limits

LIMITS = replace(Limits(), batch_items_at_once=2, batch_items_waiting_max=10, connection_items_waiting_max=6)


class _Work:
    """Batches that end when the test says so."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._over: dict[str, asyncio.Event] = {}

    def begin(self, turns: Turns, name: str, items: int = 2, connection: str = "a") -> asyncio.Task[str]:
        async def work() -> str:
            self.begun.append(name)
            await self._over[name].wait()
            return name

        self._over[name] = asyncio.Event()
        return asyncio.create_task(turns.run(connection, items, work))

    def end(self, name: str) -> None:
        self._over[name].set()


async def _turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_batches_are_worked_on_in_the_order_they_came() -> None:
    """One after the other, where there is room for one at a time; each gets its own answer."""
    turns, work = Turns(LIMITS), _Work()
    tasks = [work.begin(turns, name) for name in "xyz"]
    for number, name in enumerate("xyz", start=1):
        await _turn()
        assert work.begun == list("xyz")[:number]
        work.end(name)
    assert await asyncio.gather(*tasks) == list("xyz")


async def test_small_batches_are_worked_on_at_once() -> None:
    """As many as have room together; a large one that waits for more of it is not overtaken."""
    turns, work = Turns(LIMITS), _Work()
    for name, items in (("x", 1), ("y", 1), ("large", 2), ("z", 1)):
        work.begin(turns, name, items)
    await _turn()
    assert work.begun == ["x", "y"]
    work.end("x")
    await _turn()
    assert work.begun == ["x", "y"]
    work.end("y")
    await _turn()
    assert work.begun == ["x", "y", "large"]
    work.end("large")
    await _turn()
    assert work.begun == ["x", "y", "large", "z"]


async def test_room_that_one_gives_up_goes_to_those_behind_it() -> None:
    """A large batch whose caller leaves lets small ones begin that waited behind it."""
    turns, work = Turns(LIMITS), _Work()
    work.begin(turns, "x", 1)
    await _turn()
    large, _ = work.begin(turns, "large", 2), work.begin(turns, "y", 1)
    await _turn()
    assert work.begun == ["x"]
    large.cancel()
    await _turn()
    assert work.begun == ["x", "y"]


async def test_connections_take_turns() -> None:
    """A batch waits for one of each other connection, not for all that came before it."""
    turns, work = Turns(LIMITS), _Work()
    for name in ("a1", "a2", "a3"):
        work.begin(turns, name)
    await _turn()
    work.begin(turns, "b1", connection="b")
    for name in ("a1", "a2", "b1", "a3"):
        await _turn()
        assert work.begun[-1] == name
        work.end(name)


async def test_too_many_items_are_refused_at_once() -> None:
    """In all, and of one connection; a single batch always may, and space comes back when one is done."""
    turns, work = Turns(LIMITS), _Work()
    first = work.begin(turns, "first", 6)
    await _turn()
    with pytest.raises(Overloaded):
        await work.begin(turns, "of the same", 1)
    with pytest.raises(Overloaded):
        await work.begin(turns, "of another", 5, "b")
    other = work.begin(turns, "fits", 4, "b")
    work.end("first")
    work.end("fits")
    assert await first == "first"
    assert await other == "fits"
    large = work.begin(turns, "larger than all", 1_000)
    work.end("larger than all")
    assert await large == "larger than all"


async def test_who_leaves_while_waiting_costs_nobody_a_turn() -> None:
    """And what has begun goes on, keeping its turn, where its caller leaves."""
    turns, work = Turns(LIMITS), _Work()
    first, second, third = (work.begin(turns, name) for name in "xyz")
    await _turn()
    second.cancel()
    first.cancel()
    await _turn()
    assert work.begun == ["x"]
    work.end("x")
    await _turn()
    assert work.begun == ["x", "z"]
    work.end("z")
    assert await third == "z"
