"""The ledgers answer alike: whatever happens, in whatever order, SQLite and memory say the same."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import CAMPAIGN, DAY_US, RULES, activation, at, decision, outcome

from tilbud.domain.errors import TilbudError
from tilbud.domain.limits import Limits
from tilbud.ledger.memory import MemoryLedger
from tilbud.ledger.port import Durability, Ledger
from tilbud.ledger.sqlite import SqliteLedger

IDS = st.sampled_from(["d1", "d2", "d3", "d4"])
NAMES = st.sampled_from(["click", "purchase", "dismiss", "undeclared"])
SECONDS = st.sampled_from([0, 1, 5, 600, 1_795, 1_800, 1_805, 1_810, 3_600, 3_605, 3_610])
TIMES = st.none() | st.integers(-10, 8_000)
FINAL = frozenset({"purchase"})

STEPS = st.one_of(
    st.tuples(st.just("record"), st.lists(st.tuples(IDS, st.booleans(), st.integers(0, 2)), max_size=4)),
    st.tuples(
        st.just("receive"),
        st.lists(
            st.tuples(
                IDS,
                NAMES,
                st.sampled_from(["", "e1", "e2"]),
                st.sampled_from([1.0, -2.5, 0.1]),
                TIMES,
                st.booleans(),
            ),
            max_size=5,
        ),
    ),
    st.tuples(
        st.just("activate"),
        st.lists(st.tuples(IDS, st.sampled_from(["", "bundle", "ten-off"]), st.booleans()), max_size=3),
    ),
    st.tuples(st.just("settle"), st.integers(1, 3)),
    st.tuples(st.just("purge"), st.tuples(st.integers(0, 4), st.integers(0, 8_000), st.integers(1, 3))),
)


async def take(ledger: Ledger, step: tuple[str, Any], seconds: int) -> object:
    """Take one step and return all that it answers."""
    what, said = step
    now = at(seconds)
    if what == "record":
        return await ledger.record(
            [decision(each, now, deferred=deferred, drawn=drawn) for each, deferred, drawn in said], now
        )
    if what == "receive":
        reported = [
            outcome(
                each,
                name,
                event_id=event_id,
                value=value,
                occurred_us=None if occurred_s is None else at(occurred_s).wall_us,
                ends_now=learns_at_once and name in FINAL,
            )
            for each, name, event_id, value, occurred_s, learns_at_once in said
        ]
        return [told(met) for met in await ledger.receive(reported, now)]
    if what == "activate":
        shown = [
            activation(each, shown_offer_id=offer, ends_now=FINAL if learns_at_once else frozenset())
            for each, offer, learns_at_once in said
        ]
        return [told(answer) for answer in await ledger.activate(shown, now)]
    if what == "settle":
        return await ledger.settle(CAMPAIGN, RULES, said, now)
    keep_after, before_s, limit = said
    return await ledger.purge(CAMPAIGN, at(before_s).wall_us, keep_after, limit, at(100 * DAY_US / 1e6))


def told(answer: object) -> object:
    """Return an answer, or what an error says, so that they can be compared."""
    return (type(answer), str(answer)) if isinstance(answer, TilbudError) else answer


def seen(ledger: Ledger) -> object:
    """Return all that reads can see."""
    return (
        [ledger.find(CAMPAIGN, each) for each in ("d1", "d2", "d3", "d4")],
        ledger.settlements(CAMPAIGN, 0, 100),
        ledger.sequences(CAMPAIGN),
        [each for _, each in ledger.drawn(CAMPAIGN, "c0ffee", 0, 10)],
        ledger.pending(CAMPAIGN),
        ledger.oldest_due_service_us(CAMPAIGN),
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(STEPS, SECONDS), max_size=25))
def test_twins(story):
    """Every answer of every step is the same, and so is all there is to see after it."""

    async def live(directory: Path) -> None:
        twins: list[Ledger] = [
            MemoryLedger(limits=Limits()),
            SqliteLedger(directory / "ledger.sqlite3", durability=Durability.PROCESS, limits=Limits()),
        ]
        for twin in twins:
            await twin.start(lambda _seconds, _rows: None)
        try:
            seconds = 0
            for step, passed_s in story:
                seconds += passed_s
                in_memory, in_sqlite = [await take(twin, step, seconds) for twin in twins]
                assert in_memory == in_sqlite
                assert seen(twins[0]) == seen(twins[1])
        finally:
            for twin in twins:
                await twin.close()

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(live(Path(directory)))
