"""A queue in which connections take turns."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from tilbud.concurrency.fair_queue import FairQueue


@given(st.lists(st.sampled_from("abc")))
def test_each_connection_has_its_turn_and_keeps_its_order(connections: list[str]) -> None:
    """Of those that have something waiting, no one comes twice before another came once."""
    queue: FairQueue[tuple[str, int]] = FairQueue()
    left: defaultdict[str, list[int]] = defaultdict(list)
    for number, connection in enumerate(connections):
        queue.put(connection, (connection, number))
        left[connection].append(number)
    came: set[str] = set()
    while queue:
        connection, number = queue.take()
        assert number == left[connection].pop(0)
        if connection in came:
            assert came == {each for each, numbers in left.items() if numbers} | {connection}
            came = set()
        came = {each for each in came | {connection} if left[each]}
    assert not any(left.values())


def test_who_comes_back_waits_behind_the_others() -> None:
    """A connection whose last item was taken has had its turn."""
    queue: FairQueue[int] = FairQueue()
    queue.put("a", 1)
    queue.put("b", 2)
    assert queue.take() == 1
    queue.put("a", 3)
    assert [queue.take(), queue.take()] == [2, 3]
    assert len(queue) == 0
