"""The bytes of answers that were given and not yet taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tilbud.domain.errors import Overloaded
from tilbud.domain.limits import Limits
from tilbud.transport.grpc.unsent import Unsent

LARGE = 100_000
LIMITS = replace(Limits(), unsent_bytes_max=3 * LARGE, connection_unsent_bytes_max=LARGE)


class _Call:
    """A call of a connection."""

    def __init__(self, connection: str) -> None:
        self._connection = connection
        self._callbacks: list[Callable[[object], None]] = []

    def peer(self) -> str:
        return self._connection

    def add_done_callback(self, callback: Callable[[object], None]) -> None:
        self._callbacks.append(callback)

    def end(self) -> None:
        for callback in self._callbacks:
            callback(self)


def _given(unsent: Unsent, connection: str, size: int = LARGE) -> Any:
    call: Any = _Call(connection)
    unsent.add(call, size)
    return call


def test_a_connection_that_does_not_read_gets_no_more() -> None:
    """Others do; and so does it, once it has read."""
    unsent = Unsent(LIMITS)
    first, _ = _given(unsent, "slow"), _given(unsent, "slow")
    with pytest.raises(Overloaded):
        unsent.check(_Call("slow"))  # type: ignore[arg-type]  # all that is needed of a call
    unsent.check(_Call("other"))  # type: ignore[arg-type]
    first.end()
    unsent.check(_Call("slow"))  # type: ignore[arg-type]


def test_all_together_may_have_so_much() -> None:
    """However many connections it is spread over."""
    unsent = Unsent(LIMITS)
    calls = [_given(unsent, f"slow-{number}") for number in range(4)]
    with pytest.raises(Overloaded):
        unsent.check(_Call("other"))  # type: ignore[arg-type]
    calls[0].end()
    unsent.check(_Call("other"))  # type: ignore[arg-type]


def test_small_answers_are_not_counted() -> None:
    """They are what most calls get, and cost nothing to count this way."""
    unsent = Unsent(LIMITS)
    for _ in range(1_000):
        _given(unsent, "busy", 1_000)
    unsent.check(_Call("busy"))  # type: ignore[arg-type]
