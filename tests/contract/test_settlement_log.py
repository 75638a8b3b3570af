"""What settling and learning are promised of every ledger: one order without gaps, each decision once."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from tests.builders import (
    CAMPAIGN,
    CUSTOMER,
    RULES,
    activation,
    at,
    contact,
    decision,
    outcome,
    settle_due,
)
from tests.contract import reads
from tests.contract.settling import CLOSED_S, DUE_S, EXPIRED_S, settle, settled_ids

from tilbud.domain.clock import Now
from tilbud.domain.decision.rewards import OutcomeStatus
from tilbud.ledger.answers import Settled, Standing
from tilbud.ledger.export import when

ACCEPTED, DUPLICATE, LATE, HELD = OutcomeStatus


async def test_a_decision_settles_when_it_is_due(ledger):
    """Not a microsecond before; once; with all that its learning needs."""
    recorded = decision("d1")
    await ledger.record([recorded], at())
    await ledger.receive([outcome("d1", "click", value=2.0)], at(1))
    due = at(DUE_S)
    early = Now(due.wall_us - 1, due.service_us - 1)
    assert await settle_due(ledger, CAMPAIGN, RULES, 10, early) == Settled(0, 0, more=False)
    assert await settle(ledger) == Settled(1, 0, more=False)
    assert await settle(ledger) == Settled(0, 0, more=False)
    [settlement] = await ledger.settlements(CAMPAIGN, 0, 10)
    kept = (
        "campaign", "decision_id", "variant", "offer_id", "device", "channel", "journey_stage",
        "offers", "drawn", "probability", "features", "due_service_us",
    )  # fmt: skip
    assert {name: getattr(settlement, name) for name in kept} == {
        name: getattr(recorded, name) for name in kept
    }
    assert (settlement.sequence, settlement.reward, settlement.clipped) == (1, 0.2, False)
    assert settlement.settled_us == due.wall_us


async def test_without_outcomes_the_default_is_the_reward_once(ledger):
    """Silence has its price, and a reward beyond the range is clipped and says so."""
    await ledger.record([decision("d1"), decision("d2")], at())
    await ledger.receive([outcome("d2", "purchase", value=7.0)], at(1))
    await settle_due(ledger, CAMPAIGN, replace(RULES, default=-0.5), 10, at(DUE_S))
    assert [(each.reward, each.clipped) for each in await ledger.settlements(CAMPAIGN, 0, 10)] == [
        (-0.5, False),
        (1.0, True),
    ]


async def test_settlements_come_in_order_of_due_then_recorded(ledger):
    """Decisions due first settle first; of those due together, the one recorded first."""
    late, early = at(50), at(10)
    await ledger.record([decision("late", late), decision("tie-1", early)], at())
    await ledger.record([decision("first", at(5)), decision("tie-0", early)], at())
    await settle(ledger, 100 + DUE_S)
    assert await settled_ids(ledger) == ["first", "tie-1", "tie-0", "late"]


async def test_sequences_have_no_gaps_across_turns_and_campaigns(ledger):
    """Each campaign counts 1, 2, 3, … however small the turns, and whatever the other one does."""
    for number in range(10):
        await ledger.record([decision(f"a{number}"), decision(f"b{number}", campaign="other")], at(number))
    turns = [(CAMPAIGN, 3), ("other", 4), (CAMPAIGN, 1), ("other", 5), (CAMPAIGN, 100), ("other", 100)]
    more = [(await settle(ledger, 20 + DUE_S, limit, campaign)).more for campaign, limit in turns]
    assert more == [True, True, True, True, False, False]
    for campaign, letter in ((CAMPAIGN, "a"), ("other", "b")):
        rows = await ledger.settlements(campaign, 0, 100)
        assert [row.sequence for row in rows] == list(range(1, 11))
        assert [row.decision_id for row in rows] == [f"{letter}{number}" for number in range(10)]
        assert await ledger.sequences(campaign) == (1, 10)


async def test_more_says_whether_more_is_due(ledger):
    """A turn that took the last due decision says that there is no more."""
    await ledger.record([decision(f"d{number}") for number in range(4)], at())
    assert await settle(ledger, DUE_S, 2) == Settled(2, 0, more=True)
    assert await settle(ledger, DUE_S, 2) == Settled(2, 0, more=False)


async def test_expiry_takes_no_sequence(ledger):
    """Deferred decisions that nobody activated expire in line, and leave no gap."""
    await ledger.record([decision("p1", deferred=True), decision("d1", at(EXPIRED_S - DUE_S + 1))], at())
    assert await settle(ledger, EXPIRED_S + 1, limit=1) == Settled(0, 1, more=True)
    assert await settle(ledger, EXPIRED_S + 1, limit=1) == Settled(1, 0, more=False)
    assert await ledger.receive([outcome("p1")], at(EXPIRED_S + 2)) == [LATE]
    assert await ledger.sequences(CAMPAIGN) == (1, 1)


async def test_settlements_are_read_on_from_any_sequence(ledger):
    """`after` and `limit` page through the order without overlap."""
    await ledger.record([decision(f"d{number}", at(number)) for number in range(7)], at())
    await settle(ledger, 10 + DUE_S)
    pages = [[row.sequence for row in await ledger.settlements(CAMPAIGN, after, 3)] for after in (0, 3, 6, 7)]
    assert pages == [[1, 2, 3], [4, 5, 6], [7], []]


async def test_before_anything_settled_there_are_no_sequences(ledger):
    """A campaign that settled nothing, or is unknown, has sequences (0, 0) and no settlements."""
    await ledger.record([decision("d1")], at())
    for campaign in (CAMPAIGN, "unknown"):
        assert await ledger.sequences(campaign) == (0, 0)
        assert await ledger.settlements(campaign, 0, 10) == []
    assert await settle(ledger, campaign="unknown") == Settled(0, 0, more=False)


async def test_an_outcome_that_ends_now_makes_its_decision_due(ledger):
    """It settles in the next turn with that outcome; what comes after it is late."""
    await ledger.record([decision("d1"), decision("d2")], at())
    final = outcome("d2", "purchase", ends_now=True)
    assert await ledger.receive([final, outcome("d2", "click")], at(1)) == [ACCEPTED, LATE]
    assert await ledger.oldest_due_service_us(CAMPAIGN) == at(1).service_us
    assert await settle(ledger, 1) == Settled(1, 0, more=False)
    [row] = await ledger.settlements(CAMPAIGN, 0, 10)
    assert (row.decision_id, row.reward, row.due_service_us) == ("d2", 1.0, at(1).service_us)


async def test_a_late_final_outcome_ends_nothing(ledger):
    """Only an outcome that counts makes its decision due."""
    await ledger.record([decision("d1")], at())
    occurred_us = at(CLOSED_S + 1).wall_us
    late = outcome("d1", "purchase", ends_now=True, occurred_us=occurred_us)
    assert await ledger.receive([late], at(CLOSED_S + 2)) == [LATE]
    assert await ledger.oldest_due_service_us(CAMPAIGN) == at(DUE_S).service_us


@pytest.mark.parametrize(("held", "due_s"), [("purchase", 9), ("click", 9 + DUE_S)])
async def test_a_held_final_outcome_ends_at_activation(ledger, held, due_s):
    """It settles its decision once that is activated, not before; an outcome that is not final does not."""
    await ledger.record([decision("d1", deferred=True)], at())
    assert await ledger.receive([outcome("d1", held, ends_now=held == "purchase")], at(1)) == [HELD]
    assert await ledger.oldest_due_service_us(CAMPAIGN) == at(EXPIRED_S).service_us
    await ledger.activate([activation("d1", ends_now=frozenset({"purchase", "dismiss"}))], at(9))
    assert await ledger.oldest_due_service_us(CAMPAIGN) == at(due_s).service_us


async def test_a_sum_is_the_same_in_whatever_order_its_outcomes_came(ledger):
    """To the last bit: it is rounded once."""
    values = [0.1, 1e16, 0.3, -1e16, 0.7]
    rules = replace(RULES, weights={"click": 1.0}, low=-1e17, high=1e17)
    outcomes = [
        outcome("d1", "click", value=value, event_id=f"e{number}", occurred_us=at(number // 2).wall_us)
        for number, value in enumerate(values)
    ]
    rewards: list[float] = []
    for name, order in (
        ("in", outcomes),
        ("back", outcomes[::-1]),
        ("mixed", outcomes[::2] + outcomes[1::2]),
    ):
        await ledger.record([decision(name)], at())
        for each in order:
            await ledger.receive([replace(each, decision_id=name)], at(50))
        await settle_due(ledger, CAMPAIGN, rules, 10, at(DUE_S))
        rewards.append((await ledger.settlements(CAMPAIGN, len(rewards), 1))[0].reward)
    assert rewards == 3 * [math.fsum(values)]


async def test_an_outcome_that_comes_within_the_grace_has_the_time_of_the_close(ledger):
    """Without a time of its own it is not later than what occurred as the window closed."""
    await ledger.record([decision("d1", customer=CUSTOMER)], at(), [contact()])
    assert await ledger.receive([outcome("d1")], at(CLOSED_S + 5)) == [ACCEPTED]
    rows = (await reads.export(ledger, CUSTOMER, "", 100, 10**6)).rows
    assert [row["time"] for row in rows if row["kind"] == "outcome"] == [when(at(CLOSED_S).wall_us)]


async def test_the_largest_of_negative_rewards_is_negative(ledger):
    """`max` over outcomes that all cost something is the least cost, not the default."""
    await ledger.record([decision("d1")], at())
    await ledger.receive(
        [outcome("d1", "dismiss", event_id="a", value=3.0), outcome("d1", "dismiss", event_id="b")], at(1)
    )
    await settle_due(ledger, CAMPAIGN, replace(RULES, aggregate="max"), 10, at(DUE_S))
    assert (await ledger.settlements(CAMPAIGN, 0, 10))[0].reward == -0.2


# Looking


async def test_pending_counts_what_waits(ledger):
    """Deferred and active decisions wait; settled, void and expired ones do not; campaigns are apart."""
    await ledger.record([decision("p1", deferred=True), decision("p2", deferred=True), decision("d1")], at())
    await ledger.record([decision("x", campaign="other")], at())
    assert await ledger.pending(CAMPAIGN) == 3
    await ledger.activate([activation("p1", shown_offer_id="bundle")], at(1))
    assert await ledger.pending(CAMPAIGN) == 2
    await settle(ledger, DUE_S)
    assert await ledger.pending(CAMPAIGN) == 1
    await settle(ledger, EXPIRED_S)
    assert (
        await ledger.pending(CAMPAIGN),
        await ledger.pending("other"),
        await ledger.pending("unknown"),
    ) == (0, 1, 0)


async def test_the_oldest_due_is_the_next_to_settle(ledger):
    """It follows what is recorded and settled, and is None where nothing waits."""
    assert await ledger.oldest_due_service_us(CAMPAIGN) is None
    await ledger.record([decision("d2", at(20)), decision("d1", at(10))], at())
    assert await ledger.oldest_due_service_us(CAMPAIGN) == at(10 + DUE_S).service_us
    await settle(ledger, 10 + DUE_S)
    assert await ledger.oldest_due_service_us(CAMPAIGN) == at(20 + DUE_S).service_us
    await settle(ledger, 20 + DUE_S)
    assert await ledger.oldest_due_service_us(CAMPAIGN) is None


async def test_one_read_tells_where_every_campaign_stands(ledger):
    """The last sequence, the erasures and the next due time of each, at any time."""
    assert await ledger.standings() == {}
    await ledger.record([decision("d1"), decision("d2", at(5)), decision("b1", campaign="other")], at(5))
    first = at(DUE_S).service_us
    assert await ledger.standings() == {CAMPAIGN: Standing(0, 0, 2, first), "other": Standing(0, 0, 1, first)}
    await settle(ledger, DUE_S)
    then = at(5 + DUE_S).service_us
    assert await ledger.standings() == {CAMPAIGN: Standing(1, 0, 1, then), "other": Standing(0, 0, 1, first)}
    await settle(ledger, 5 + DUE_S)
    assert (await ledger.standings())[CAMPAIGN] == Standing(2)
    assert await ledger.standings() == await ledger.standings()
