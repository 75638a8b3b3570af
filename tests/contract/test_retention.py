"""What is forgotten of every ledger, and what stays."""

from __future__ import annotations

from dataclasses import replace

from tests.builders import (
    CAMPAIGN,
    activation,
    at,
    decision,
    outcome,
)
from tests.contract.settling import DUE_S, EXPIRED_S, settle

from tilbud.domain.decision.records import payload_text
from tilbud.domain.decision.rewards import OutcomeStatus

ACCEPTED, DUPLICATE, LATE, HELD = OutcomeStatus


async def test_purge_removes_what_ended_with_all_it_had(ledger):
    """A purged decision is unknown: no record, no settlement, and its outcomes may come as new."""
    await ledger.record([decision("d1")], at())
    await ledger.receive([outcome("d1")], at(1))
    await settle(ledger)
    later = at(100 * 86_400)
    assert await ledger.purge(CAMPAIGN, later.wall_us, 1, 10, later) == 1
    assert await ledger.find(CAMPAIGN, "d1") is None
    assert await ledger.settlements(CAMPAIGN, 0, 10) == []
    await ledger.record([decision("d1", later)], later)
    [met] = await ledger.receive([outcome("d1")], later)
    assert met is ACCEPTED


async def test_purge_keeps_what_a_checkpoint_needs(ledger):
    """Settlements above `keep_after` stay, with their decisions."""
    await ledger.record([decision(f"d{number}", at(number)) for number in range(5)], at())
    await settle(ledger, 10 + DUE_S)
    later = at(100 * 86_400)
    assert await ledger.purge(CAMPAIGN, later.wall_us, 3, 10, later) == 3
    assert await ledger.sequences(CAMPAIGN) == (4, 5)
    assert [row.decision_id for row in await ledger.settlements(CAMPAIGN, 0, 10)] == ["d3", "d4"]
    assert await ledger.find(CAMPAIGN, "d3") == decision("d3", at(3))


async def test_purge_keeps_what_is_young_or_open(ledger):
    """A decision made at `before_us` or later stays, and so does one that still waits."""
    await ledger.record([decision("old"), decision("young", at(10)), decision("open", at(-5))], at())
    await ledger.record([decision("p", deferred=True)], at())
    await ledger.receive([outcome("old", ends_now=True), outcome("young", ends_now=True)], at(11))
    await settle(ledger, 11)
    assert await ledger.purge(CAMPAIGN, at(10).wall_us, 9, 10, at(12)) == 1
    assert [await ledger.find(CAMPAIGN, each) is None for each in ("old", "young", "open", "p")] == [
        True, False, False, False,
    ]  # fmt: skip


async def test_a_clock_that_is_days_ahead_purges_nothing(ledger):
    """The younger of two ages counts: on the service clock the decision is young."""
    await ledger.record([decision("d1")], at())
    await settle(ledger)
    ahead_us = at(1_000 * 86_400).wall_us
    ahead = replace(at(DUE_S), wall_us=ahead_us, steady_us=ahead_us)
    assert await ledger.purge(CAMPAIGN, ahead_us - 90 * 86_400_000_000, 9, 10, ahead) == 0
    assert await ledger.find(CAMPAIGN, "d1") == decision("d1")


async def test_a_decision_of_the_future_does_not_end_retention(ledger):
    """One dated ten years ahead goes when it is old on the service clock, and so does what follows."""
    wrong = replace(at(1), wall_us=at(3_650 * 86_400).wall_us)
    await ledger.record([decision("d0"), decision("wrong", wrong), decision("d2", at(2))], at(2))
    pending = [decision("wrong void", wrong, deferred=True), decision("right void", at(3), deferred=True)]
    await ledger.record(pending, at(3))
    await settle(ledger, EXPIRED_S + 5)
    later = at(100 * 86_400)
    before_us = later.steady_us - 90 * 86_400_000_000
    assert await ledger.purge(CAMPAIGN, before_us, 9, 10, later) == 5


async def test_what_was_recorded_while_the_clock_was_behind_stays_whole(ledger):
    """A purge takes no payload from a decision that was made while the wall clock was far behind."""
    await ledger.record([decision("before", at())], at())
    behind = replace(at(1), wall_us=at(1).wall_us - 1_000 * 86_400_000_000, steady_us=at(1).wall_us)
    made = decision("behind", behind)._replace(payload=payload_text({"price": 1}))
    await ledger.record([made], behind)
    await ledger.purge(CAMPAIGN, at(-1).wall_us, 0, 10, at(2))
    assert await ledger.find(CAMPAIGN, "behind") == made


async def test_what_was_recorded_after_a_clock_ahead_stays_whole(ledger):
    """Nor from one that came just after a decision that was dated ahead."""
    day_us = 86_400_000_000
    ahead = replace(at(), wall_us=at().wall_us + 30 * day_us, steady_us=at().wall_us)
    await ledger.record([decision("ahead", ahead)], ahead)
    made = decision("after", at(1))._replace(payload=payload_text({"price": 1}))
    await ledger.record([made], at(1))
    later = at(31 * 86_400)
    await ledger.purge(CAMPAIGN, at(-1).wall_us, 0, 10, later)
    assert await ledger.find(CAMPAIGN, "after") == made


async def test_purge_takes_void_and_expired_decisions_too(ledger):
    """They have no settlement that a checkpoint could need."""
    await ledger.record([decision("void", deferred=True), decision("expired", deferred=True)], at())
    await ledger.activate([activation("void", shown_offer_id="bundle")], at(1))
    await settle(ledger, EXPIRED_S)
    later = at(100 * 86_400)
    assert await ledger.purge(CAMPAIGN, later.wall_us, 0, 10, later) == 2
    assert await ledger.purge(CAMPAIGN, later.wall_us, 0, 10, later) == 0


async def test_purge_goes_in_bounded_turns_without_gaps(ledger):
    """Turn by turn the oldest go; what is retained is always a run of sequences up to the last."""
    await ledger.record([decision(f"d{number}", at(number)) for number in range(7)], at())
    await settle(ledger, 10 + DUE_S)
    later = at(100 * 86_400)
    removed = []
    for first in (4, 7, 8):
        removed.append(await ledger.purge(CAMPAIGN, later.wall_us, 7, 3, later))
        assert await ledger.sequences(CAMPAIGN) == (first, 7)
    assert removed == [3, 3, 1]


async def test_purge_stays_within_its_campaign(ledger):
    """Another campaign's decisions stay."""
    await ledger.record([decision("d1"), decision("d1", campaign="other")], at())
    await settle(ledger)
    await settle(ledger, campaign="other")
    later = at(100 * 86_400)
    assert await ledger.purge(CAMPAIGN, later.wall_us, 9, 10, later) == 1
    assert await ledger.find("other", "d1") is not None
    assert await ledger.purge("unknown", later.wall_us, 9, 10, later) == 0


async def test_sequences_go_on_after_a_purge(ledger):
    """A campaign whose settlements are all gone counts on; what it retains is the empty run after them."""
    await ledger.record([decision("d1"), decision("d2")], at())
    await settle(ledger)
    later = at(100 * 86_400)
    await ledger.purge(CAMPAIGN, later.wall_us, 2, 10, later)
    assert await ledger.sequences(CAMPAIGN) == (3, 2)
    await ledger.record([decision("d3", later)], later)
    await settle(ledger, 101 * 86_400)
    assert [row.sequence for row in await ledger.settlements(CAMPAIGN, 0, 10)] == [3]
    assert await ledger.sequences(CAMPAIGN) == (3, 3)


async def test_shared_texts_outlive_the_decisions_that_brought_them(ledger):
    """Decisions that share offers and payload are whole after the first of them was purged."""
    await ledger.record([decision("old")], at())
    await settle(ledger)
    young = decision("young", at(80 * 86_400))
    await ledger.record([young], at(80 * 86_400))
    later = at(100 * 86_400)
    assert await ledger.purge(CAMPAIGN, at(50 * 86_400).wall_us, 9, 10, later) == 1
    assert await ledger.find(CAMPAIGN, "young") == young
