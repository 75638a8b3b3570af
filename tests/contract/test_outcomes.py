"""What outcomes and activations are promised of every ledger."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.builders import (
    ACTIVATION_WINDOW_US,
    CAMPAIGN,
    DAY_US,
    RULES,
    activation,
    at,
    decision,
    outcome,
    settle_due,
)
from tests.contract.adapters import ADAPTERS, ignore_commit, make
from tests.contract.settling import CLOSED_S, DUE_S, EXPIRED_S, settle, settled_ids

from tilbud.domain.clock import Now
from tilbud.domain.decision.activation import Activated
from tilbud.domain.decision.rewards import OutcomeStatus
from tilbud.domain.errors import (
    DecisionExpired,
    IdReused,
    TooManyOutcomes,
    UnknownDecision,
)
from tilbud.domain.limits import Limits
from tilbud.ledger.answers import Settled

ACCEPTED, DUPLICATE, LATE, HELD = OutcomeStatus


async def test_an_outcome_in_its_window_is_accepted(ledger):
    """Until the window closes, and within the grace if it says no time, an outcome counts."""
    await ledger.record([decision("d1")], at())
    assert await ledger.receive([outcome("d1", "click")], at(1)) == [ACCEPTED]
    assert await ledger.receive([outcome("d1", "purchase")], at(DUE_S - 1)) == [ACCEPTED]


async def test_copies_of_an_outcome_count_once(ledger):
    """Of 100 copies sent at once one is accepted and 99 are duplicates, and the reward has it once."""
    await ledger.record([decision("d1")], at())
    met = await asyncio.gather(*(ledger.receive([outcome("d1", "click")], at(1)) for _ in range(100)))
    assert sorted(each for [each] in met) == [ACCEPTED] + 99 * [DUPLICATE]
    await settle(ledger)
    assert (await ledger.settlements(CAMPAIGN, 0, 10))[0].reward == 0.1


async def test_copies_within_one_call_count_once(ledger):
    """A batch that repeats an outcome gets one acceptance and duplicates."""
    await ledger.record([decision("d1")], at())
    assert await ledger.receive(3 * [outcome("d1")], at(1)) == [ACCEPTED, DUPLICATE, DUPLICATE]


async def test_an_outcome_without_an_event_id_counts_once_whatever_its_value(ledger):
    """Without an event id the name is the key: another value is a duplicate."""
    await ledger.record([decision("d1")], at())
    met = await ledger.receive([outcome("d1", value=1.0), outcome("d1", value=2.0)], at(1))
    assert met == [ACCEPTED, DUPLICATE]


async def test_outcomes_with_event_ids_count_each(ledger):
    """Two event ids of one outcome are two outcomes."""
    await ledger.record([decision("d1")], at())
    met = await ledger.receive([outcome("d1", event_id="a"), outcome("d1", event_id="b")], at(1))
    assert met == [ACCEPTED, ACCEPTED]


async def test_an_event_id_and_a_name_never_collide(ledger):
    """An event id that reads like an outcome's name is a key of its own."""
    await ledger.record([decision("d1")], at())
    met = await ledger.receive([outcome("d1", "click"), outcome("d1", "click", event_id="click")], at(1))
    assert met == [ACCEPTED, ACCEPTED]


@pytest.mark.parametrize("said", [{"value": 2.0}, {"name": "purchase"}])
async def test_an_event_id_with_another_outcome_or_value_is_refused(ledger, said):
    """One event id for two different outcomes is IdReused, and the first stays."""
    await ledger.record([decision("d1")], at())
    await ledger.receive([outcome("d1", event_id="e")], at(1))
    [met] = await ledger.receive([outcome("d1", **{"event_id": "e", **said})], at(2))
    assert isinstance(met, IdReused)
    await settle(ledger)
    assert (await ledger.settlements(CAMPAIGN, 0, 10))[0].reward == 0.1


@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_a_decision_takes_so_many_outcomes(adapter, tmp_path):
    """One more is refused and not stored; those there are stay known, and other decisions take theirs."""
    ledger = make(adapter, tmp_path, replace(Limits(), outcomes_max=2))
    await ledger.start(ignore_commit)
    await ledger.record([decision("d1"), decision("d2")], at())
    first, second, third = (outcome("d1", event_id=each) for each in "abc")
    met = await ledger.receive([first, second, third, second, outcome("d2", event_id="c")], at(1))
    assert [met[0], met[1], met[3], met[4]] == [ACCEPTED, ACCEPTED, DUPLICATE, ACCEPTED]
    assert isinstance(met[2], TooManyOutcomes)
    await settle(ledger)
    assert (await ledger.settlements(CAMPAIGN, 0, 10))[0].reward == pytest.approx(0.2)
    await ledger.close()


async def test_an_outcome_of_an_unknown_decision_stores_nothing(ledger):
    """It is told so, its neighbours are not disturbed, and recording the decision later starts clean."""
    await ledger.record([decision("d1")], at())
    met = await ledger.receive([outcome("d2"), outcome("d1"), outcome("d1", campaign="other")], at(1))
    assert [type(each) for each in met] == [UnknownDecision, OutcomeStatus, UnknownDecision]
    await ledger.record([decision("d2")], at(2))
    assert await ledger.receive([outcome("d2")], at(3)) == [ACCEPTED]


async def test_an_outcome_after_the_decision_is_due_is_late(ledger):
    """Late also before the settling came round; a copy of it is a duplicate; neither counts."""
    await ledger.record([decision("d1")], at())
    assert await ledger.receive([outcome("d1")], at(DUE_S)) == [LATE]
    assert await ledger.receive([outcome("d1")], at(DUE_S)) == [DUPLICATE]
    await settle(ledger)
    assert await ledger.receive([outcome("d1", "purchase")], at(DUE_S + 1)) == [LATE]
    assert (await ledger.settlements(CAMPAIGN, 0, 10))[0].reward == 0.0


@pytest.mark.parametrize("ahead_s", [1, 3_600, 10 * 365 * 86_400])
async def test_an_outcome_from_a_clock_ahead_of_ours_counts_as_now(ledger, ahead_s):
    """It is no later than its arrival, whatever its caller's clock says; a repeat, corrected, is one."""
    await ledger.record([decision("d1"), decision("d2")], at())
    ahead = outcome("d1", event_id="e", occurred_us=at(10 + ahead_s).wall_us)
    assert await ledger.receive([ahead], at(10)) == [ACCEPTED]
    assert await ledger.receive([replace(ahead, occurred_us=at(10).wall_us)], at(11)) == [DUPLICATE]
    final = outcome("d2", "purchase", ends_now=True, occurred_us=at(10 + ahead_s).wall_us)
    assert await ledger.receive([final], at(10)) == [ACCEPTED]
    await settle(ledger)
    assert [each.reward for each in await ledger.settlements(CAMPAIGN, 0, 10)] == [1.0, 0.1]


async def test_an_outcome_that_says_it_occurred_after_the_window_is_late(ledger):
    """Within the grace, what occurred in the window counts and what occurred after it does not."""
    await ledger.record([decision("d1")], at())
    closed_us = at(CLOSED_S).wall_us
    met = await ledger.receive(
        [outcome("d1", "click", occurred_us=closed_us), outcome("d1", "purchase", occurred_us=closed_us + 1)],
        at(CLOSED_S + 5),
    )
    assert met == [ACCEPTED, LATE]


async def test_a_jump_of_the_wall_clock_closes_no_window(ledger):
    """Windows are kept on the service clock: where only the wall jumps, an outcome still counts."""
    await ledger.record([decision("d1")], at())
    jumped = Now(at().wall_us + 30 * DAY_US, at(1).service_us)
    assert await ledger.receive([outcome("d1", occurred_us=jumped.wall_us)], jumped) == [ACCEPTED]
    assert await settle_due(ledger, CAMPAIGN, RULES, 10, jumped) == Settled(0, 0, more=False)


# Activation


async def test_activation_opens_the_window(ledger):
    """A deferred decision's window counts from its activation."""
    await ledger.record([decision("d1", deferred=True)], at())
    assert await ledger.activate([activation("d1")], at(100)) == [
        Activated(at(100 + CLOSED_S).wall_us, repeated=False, held=0)
    ]
    assert await ledger.oldest_due_service_us(CAMPAIGN) == at(100 + DUE_S).service_us
    assert await ledger.receive([outcome("d1")], at(100 + DUE_S - 1)) == [ACCEPTED]


async def test_activation_leaves_the_record_as_it_was(ledger):
    """A retry of the decision is still answered word for word after its activation and settlement."""
    recorded = decision("d1", deferred=True)
    await ledger.record([recorded], at())
    await ledger.activate([activation("d1")], at(100))
    await settle(ledger, 100 + DUE_S)
    assert await ledger.find(CAMPAIGN, "d1") == recorded


async def test_held_outcomes_count_once_activated(ledger):
    """An outcome before the activation is held, a copy of it a duplicate; then it counts."""
    await ledger.record([decision("d1", deferred=True)], at())
    assert await ledger.receive([outcome("d1"), outcome("d1", "purchase")], at(1)) == [HELD, HELD]
    assert await ledger.receive([outcome("d1")], at(2)) == [DUPLICATE]
    [activated] = await ledger.activate([activation("d1")], at(3))
    assert activated == Activated(at(3 + CLOSED_S).wall_us, repeated=False, held=2)
    await settle(ledger, 3 + DUE_S)
    assert (await ledger.settlements(CAMPAIGN, 0, 10))[0].reward == 1.0  # 1.1, clipped


async def test_a_repeated_activation_changes_nothing(ledger):
    """It returns the window as it was first opened, before and after it settled, whatever the clocks say."""
    await ledger.record([decision("d1", deferred=True)], at())
    [first] = await ledger.activate([activation("d1")], at(100))
    repeated = replace(first, repeated=True)
    assert await ledger.activate([activation("d1", window_us=1)], at(200)) == [repeated]
    await settle(ledger, 100 + DUE_S)
    jumped = Now(at().wall_us + DAY_US, at(5_000).service_us)
    assert await ledger.activate([activation("d1")], jumped) == [repeated]


async def test_a_decision_that_was_not_deferred_keeps_its_window(ledger):
    """Activating it returns its window; naming another offer voids it, as of any that is not settled."""
    recorded = decision("d1")
    await ledger.record([recorded], at())
    unchanged = Activated(recorded.deadline_us, repeated=True, held=0)
    assert await ledger.activate([activation("d1")], at(5)) == [unchanged]
    void = Activated(None, repeated=False, held=0)
    assert await ledger.activate([activation("d1", shown_offer_id="bundle")], at(5)) == [void]
    assert await ledger.oldest_due_service_us(CAMPAIGN) is None


async def test_a_decision_whose_offer_was_not_shown_is_void(ledger):
    """It never settles, its outcomes are late, and a repeat says the same."""
    await ledger.record([decision("d1", deferred=True)], at())
    await ledger.receive([outcome("d1", "click")], at(1))
    other = activation("d1", shown_offer_id="bundle")
    assert await ledger.activate([other], at(2)) == [Activated(None, repeated=False, held=0)]
    assert await ledger.activate([other], at(3)) == [Activated(None, repeated=True, held=0)]
    assert await ledger.receive([outcome("d1", "purchase")], at(4)) == [LATE]
    assert await ledger.pending(CAMPAIGN) == 0
    assert await settle(ledger, 10 * EXPIRED_S) == Settled(0, 0, more=False)


async def test_naming_the_offer_that_was_drawn_is_activating(ledger):
    """The caller may name the decision's own offer."""
    await ledger.record([decision("d1", deferred=True)], at())
    [activated] = await ledger.activate([activation("d1", shown_offer_id="ten-off")], at(1))
    assert activated == Activated(at(1 + CLOSED_S).wall_us, repeated=False, held=0)


@pytest.mark.parametrize("shown", [("", "bundle"), ("bundle", "")])
async def test_contradicting_activations_void_in_either_order(ledger, shown):
    """What may not have been shown is not learned, whichever report came first."""
    await ledger.record([decision("d1", deferred=True)], at())
    for offer in shown:
        await ledger.activate([activation("d1", shown_offer_id=offer)], at(1))
    assert await settle(ledger, 10 * EXPIRED_S) == Settled(0, 0, more=False)
    assert await ledger.pending(CAMPAIGN) == 0


async def test_a_settled_decision_is_void_no_more(ledger):
    """Its reward is final: a late report that another offer was shown finds the window unchanged."""
    await ledger.record([decision("d1", deferred=True)], at())
    [first] = await ledger.activate([activation("d1")], at(1))
    await settle(ledger, 1 + DUE_S)
    late = await ledger.activate([activation("d1", shown_offer_id="bundle")], at(2 + DUE_S))
    assert late == [replace(first, repeated=True)]
    assert await settled_ids(ledger) == ["d1"]


async def test_activation_after_its_window_fails(ledger):
    """To the last microsecond of the activation window it works; after it, and once expired, it does not."""
    await ledger.record([decision("d1", deferred=True), decision("d2", deferred=True)], at())
    last = at(ACTIVATION_WINDOW_US / 1e6)
    after = Now(last.wall_us + 1, last.service_us + 1)
    [activated] = await ledger.activate([activation("d1")], last)
    assert isinstance(activated, Activated)
    [refused] = await ledger.activate([activation("d2")], after)
    assert isinstance(refused, DecisionExpired)
    assert await settle(ledger, EXPIRED_S) == Settled(0, 1, more=False)
    [refused] = await ledger.activate([activation("d2", shown_offer_id="bundle")], at(EXPIRED_S))
    assert isinstance(refused, DecisionExpired)


async def test_activating_the_unknown_is_told(ledger):
    """An unknown decision fails alone, its neighbour is activated."""
    await ledger.record([decision("d1", deferred=True)], at())
    unknown, known = await ledger.activate([activation("d2"), activation("d1")], at(1))
    assert isinstance(unknown, UnknownDecision)
    assert isinstance(known, Activated)
