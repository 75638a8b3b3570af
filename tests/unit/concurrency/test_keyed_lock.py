"""KeyedLock: one question of a customer at a time, first come, first served."""

from __future__ import annotations

import asyncio

from tilbud.concurrency.keyed_lock import KeyedLock


async def test_customers_do_not_wait_for_each_other():
    """A line is a customer's own."""
    locks = KeyedLock()
    await locks.acquire("anna")
    assert locks.try_acquire("bo")
    assert not locks.try_acquire("anna")


async def test_first_come_first_served():
    """Those who wait enter one by one, in the order they came, and the line is gone after the last."""
    locks = KeyedLock()
    order: list[int] = []

    async def ask(number: int) -> None:
        async with locks.holding("anna"):
            assert not locks.try_acquire("anna"), "alone"
            await asyncio.sleep(0)
            order.append(number)

    await asyncio.gather(*(ask(number) for number in range(5)))
    assert order == [0, 1, 2, 3, 4]
    assert locks.try_acquire("anna")


async def test_who_leaves_while_waiting_holds_nobody_up():
    """A caller who gave up is passed over, also where it was just their turn."""
    locks = KeyedLock()
    await locks.acquire("anna")
    waiting = [asyncio.create_task(locks.acquire("anna")) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    locks.release("anna")  # which gives the turn to the second
    waiting[1].cancel()
    await asyncio.wait(waiting, timeout=60)
    assert [task.cancelled() for task in waiting] == [True, True, False]
    locks.release("anna")
    assert locks.try_acquire("anna")
