"""What every ledger promises: one suite over every adapter of the port, sentence by sentence."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import pytest
from tests.builders import (
    ACTIVATION_WINDOW_US,
    CAMPAIGN,
    CUSTOMER,
    DAY_US,
    GRACE_US,
    RULES,
    WINDOW_US,
    activation,
    at,
    contact,
    decision,
    fallback,
    outcome,
    pause,
    settle_due,
)
from tests.contract.adapters import ADAPTERS, ignore_commit, make

from tilbud.domain.clock import Now
from tilbud.domain.decision.activation import Activated
from tilbud.domain.decision.draw import draw
from tilbud.domain.decision.records import InternedText, OfferSet, Reason, Removed, Repeat, payload_text
from tilbud.domain.decision.rewards import OutcomeStatus
from tilbud.domain.errors import (
    DecisionExpired,
    IdReused,
    LedgerUnavailable,
    TooManyOutcomes,
    UnknownDecision,
)
from tilbud.domain.limits import Limits
from tilbud.ledger.customer_rows import when
from tilbud.ledger.ports import Ledger, Settled, Standing

ACCEPTED, DUPLICATE, LATE, HELD = OutcomeStatus
CLOSED_S = WINDOW_US / 1e6
DUE_S = (WINDOW_US + GRACE_US) / 1e6
EXPIRED_S = (ACTIVATION_WINDOW_US + GRACE_US) / 1e6


async def settle(
    ledger: Ledger, seconds: float = DUE_S, limit: int = 1_000, campaign: str = CAMPAIGN
) -> Settled:
    """Settle what is due some seconds after the start."""
    return await settle_due(ledger, campaign, RULES, limit, at(seconds))


def settled_ids(ledger: Ledger, campaign: str = CAMPAIGN) -> list[str]:
    """Return the ids of settled decisions, in order of sequence."""
    return [each.decision_id for each in ledger.settlements(campaign, 0, 10_000)]


# Recording


async def test_a_decision_is_found_word_for_word(ledger):
    """What was recorded is found equal in every field, every float bit for bit."""
    offers = OfferSet.of(("a", "b", "c", "æ"), ("|Offer x", "|Offer y:1.5", "", "|Offer \u00e6\u2028"))
    probabilities = (0.1 + 0.2, 1e-300, 5e-324, 1.0 - (0.1 + 0.2))
    recorded = decision(
        "d1",
        offers=offers,
        probabilities=probabilities,
        drawn=1,
        sequence=2**53 + 1,
        removed=InternedText.of('{"bundle":"hours"}'),
        dropped=InternedText.of('{"place":"no consent"}'),
        variant_share=1.0 - 0.1,
        split="customer",
    )
    await ledger.record([recorded], at())
    found = ledger.find(CAMPAIGN, "d1")
    assert found == recorded
    assert found.probabilities == probabilities
    assert repr(found) == repr(recorded)


async def test_a_fallback_is_found_word_for_word(ledger):
    """A decision that had nothing to draw from is kept as well."""
    recorded = fallback("f1", context='{"place":"søen 🚲"}')
    await ledger.record([recorded], at())
    assert ledger.find(CAMPAIGN, "f1") == recorded


async def test_what_was_never_recorded_is_not_found(ledger):
    """An unknown id, and an unknown campaign, find nothing."""
    await ledger.record([decision("d1")], at())
    assert ledger.find(CAMPAIGN, "d2") is None
    assert ledger.find("other", "d1") is None


async def test_the_first_decision_of_an_id_stays(ledger):
    """A second record under one id returns the first, and changes nothing."""
    first = decision("d1", drawn=1)
    second = decision("d1", drawn=2)
    assert await ledger.record([first], at()) == [first]
    assert await ledger.record([second], at(1)) == [first]
    assert ledger.find(CAMPAIGN, "d1") == first
    assert ledger.pending(CAMPAIGN) == 1


async def test_one_call_with_one_id_twice_stores_one(ledger):
    """Also within one call the first of an id wins, and its neighbours are stored."""
    first, second, other = decision("d1", drawn=1), decision("d1", drawn=2), decision("d2")
    assert await ledger.record([first, second, other], at()) == [first, first, other]
    assert ledger.pending(CAMPAIGN) == 2


async def test_parallel_records_of_one_id_store_one_and_all_see_it(ledger):
    """Of 64 different decisions under one id, recorded at once, one is stored and all 64 return it."""
    rivals = [decision("d1", drawn=number % 3, features=f"rival {number}") for number in range(64)]
    returned = await asyncio.gather(*(ledger.record([rival], at()) for rival in rivals))
    assert {each.features for [each] in returned} == {returned[0][0].features}
    assert ledger.find(CAMPAIGN, "d1") == returned[0][0]
    assert ledger.pending(CAMPAIGN) == 1


async def test_an_id_belongs_to_its_campaign(ledger):
    """The same id in two campaigns is two decisions."""
    here, there = decision("d1"), decision("d1", campaign="other", drawn=2)
    assert await ledger.record([here, there], at()) == [here, there]
    assert ledger.find("other", "d1") == there


async def test_a_read_sees_every_acknowledged_write(ledger):
    """After each of many awaited records the very next read finds it."""
    for number in range(50):
        await ledger.record([decision(f"d{number}")], at())
        assert ledger.find(CAMPAIGN, f"d{number}") is not None
        assert ledger.pending(CAMPAIGN) == number + 1


async def test_nothing_in_nothing_out(ledger):
    """Calls without rows return at once without results."""
    assert await ledger.record([], at()) == []
    assert await ledger.receive([], at()) == []
    assert await ledger.activate([], at()) == []


CONTRADICTIONS = {
    "a probability too few": {"probabilities": (0.5, 0.5)},
    "another offer than drawn": {"offer_id": "ten-off", "drawn": 0},
    "another probability than drawn": {"probability": 0.5},
    "no probability": {"probabilities": (0.5, float("nan"), 0.5), "drawn": 0},
    "drawn beyond the last": {"drawn": 3, "offer_id": "ten-off", "probability": 0.7},
}


@pytest.mark.parametrize("said", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
async def test_a_record_that_contradicts_itself_is_refused_alone(ledger, said):
    """Our own mistake raises in the call that made it; a call at the same time is not disturbed."""
    results: list[object] = await asyncio.gather(
        ledger.record([decision("wrong", **said)], at()),
        ledger.record([decision("right")], at()),
        return_exceptions=True,
    )
    wrong, right = results
    assert isinstance(wrong, AssertionError | IndexError)
    assert right == [decision("right")]
    assert ledger.find(CAMPAIGN, "wrong") is None


async def test_a_decision_among_some_of_the_offers_is_kept_as_it_was(ledger):
    """Which were eligible, why others were not, and each probability, bit for bit; and so it is learned."""
    ids = tuple(f"offer-{number}" for number in range(60))
    whole = OfferSet.of(ids, tuple(f"|Offer {number}" for number in range(60)))
    offers = whole.only(tuple(range(0, 60, 2)))
    rules = tuple((number, "caps" if number % 3 else "hours") for number in range(1, 60, 2))
    scores = [0.25 + number / 64 for number in range(30)]
    choice = draw(scores, 30, 0.02, 0.5)
    made = decision(
        "some", offers=offers, probabilities=choice.probabilities, drawn=choice.drawn, scores=choice.scores,
        offer_id=offers.ids[choice.drawn], probability=choice.probability, removed=Removed(ids, rules),
    )  # fmt: skip
    none = fallback(
        "none", offers=whole.only(()), removed=Removed(ids, tuple((n, "caps") for n in range(60)))
    )
    await ledger.record([made, none, decision("d1")], at())
    assert ledger.find(CAMPAIGN, "some") == made
    assert ledger.find(CAMPAIGN, "none") == none
    assert ledger.find(CAMPAIGN, "d1") == decision("d1")
    await settle_due(ledger, CAMPAIGN, RULES, 10, at(DUE_S))
    settled = {each.decision_id: each for each in ledger.settlements(CAMPAIGN, 0, 10)}
    assert (settled["some"].offers, settled["some"].drawn) == (offers, made.drawn)
    assert (settled["none"].offers.ids, settled["none"].drawn) == ((), -1)


# Repeats


REPEAT = Repeat(CAMPAIGN, "again", bytes(16), "d1")


async def test_a_repeat_is_found_as_what_it_stands_for(ledger):
    """The earlier decision, word for word, but with the fingerprint of the request that asked again."""
    await ledger.record([decision("d1")], at())
    stands_for = decision("d1")._replace(fingerprint=REPEAT.fingerprint)
    assert await ledger.repeat([REPEAT], at(1)) == [stands_for]
    assert ledger.find(CAMPAIGN, "again") == stands_for
    assert ledger.find(CAMPAIGN, "d1") == decision("d1")
    assert ledger.pending(CAMPAIGN) == 1
    assert len(ledger.drawn(CAMPAIGN, "c0ffee", 0, 10)) == 1


async def test_a_repeat_shows_what_its_offer_showed_then(ledger):
    """Its id is answered with its own payload for good; other ids, and the decision's own, keep theirs."""
    await ledger.record([decision("d1")], at())
    corrected, again = payload_text({"title": "corrected"}), replace(REPEAT, decision_id="later")
    shown = decision("d1")._replace(fingerprint=REPEAT.fingerprint, payload=corrected)
    assert await ledger.repeat([replace(REPEAT, payload=corrected)], at(1)) == [shown]
    assert await ledger.repeat([REPEAT], at(2)) == [shown]
    assert await ledger.repeat([again], at(2)) == [decision("d1")._replace(fingerprint=REPEAT.fingerprint)]
    assert ledger.find(CAMPAIGN, "again") == shown
    assert ledger.find(CAMPAIGN, "d1") == decision("d1")


async def test_a_repeat_leaves_an_id_that_is_taken(ledger):
    """An id that is a decision's, or an earlier repeat's, goes on standing for what it did."""
    await ledger.record([decision("d1"), decision("d2", drawn=2), decision("again", drawn=0)], at())
    assert await ledger.repeat([REPEAT], at(1)) == [decision("again", drawn=0)]
    once = replace(REPEAT, decision_id="once")
    twice = replace(once, stands_for="d2", fingerprint=bytes(range(1, 17)))
    first = decision("d1")._replace(fingerprint=once.fingerprint)
    assert await ledger.repeat([once, twice], at(1)) == [first, first]
    assert await ledger.repeat([twice], at(2)) == [first]


async def test_a_repeat_of_what_is_gone_is_told(ledger):
    """None, and the id stays free; its neighbour is stored."""
    await ledger.record([decision("d1")], at())
    lost = replace(REPEAT, decision_id="lost", stands_for="d2")
    met = await ledger.repeat([lost, REPEAT], at(1))
    assert met[0] is None
    assert met[1] is not None
    assert ledger.find(CAMPAIGN, "lost") is None
    assert await ledger.repeat([replace(REPEAT, campaign="other")], at(1)) == [None]
    assert await ledger.repeat([], at(1)) == []


async def test_what_is_said_of_a_repeat_is_said_of_what_it_stands_for(ledger):
    """Outcomes and activations under a repeat's id meet the earlier decision, and count once there."""
    await ledger.record([decision(REPEAT.stands_for, deferred=True)], at())
    await ledger.repeat([REPEAT], at(1))
    both = [outcome(REPEAT.decision_id, event_id="e"), outcome(REPEAT.stands_for, event_id="e")]
    assert await ledger.receive(both, at(2)) == [HELD, DUPLICATE]
    [opened] = await ledger.activate([activation(REPEAT.decision_id)], at(3))
    assert opened == Activated(at(3 + CLOSED_S).wall_us, repeated=False, held=1)
    await settle(ledger, DUE_S + 10)
    assert settled_ids(ledger) == [REPEAT.stands_for]


async def test_a_purged_decision_takes_its_repeats_along(ledger):
    """No id stands for what is gone, nor for what later comes under its id."""
    await ledger.record([decision("d1")], at())
    await ledger.repeat([REPEAT], at(1))
    await settle(ledger)
    later = at(100 * 86_400)
    assert await ledger.purge(CAMPAIGN, later.wall_us, 1, 10, later) == 1
    assert ledger.find(CAMPAIGN, "again") is None
    await ledger.record([decision("d1", later)], later)
    assert ledger.find(CAMPAIGN, "again") is None


# Switches


async def test_a_pause_is_seen_until_it_is_resumed(ledger):
    """By campaign, before anything of it was recorded; resuming tells whether it was off."""
    assert ledger.every_pause() == ledger.pauses(CAMPAIGN) == ()
    whole, offer = pause(offer_id=""), pause(until_us=at(60).wall_us)
    elsewhere = pause(campaign="other", reason="søen 🚲 is closed")
    for each in (offer, whole, elsewhere):
        await ledger.pause(each, at())
    assert ledger.every_pause() == (whole, offer, elsewhere)
    assert ledger.pauses(CAMPAIGN) == (whole, offer)
    assert ledger.pauses("other") == (elsewhere,)
    assert ledger.pauses("unknown") == ()
    assert await ledger.resume(CAMPAIGN, "", at(1)) is True
    assert await ledger.resume(CAMPAIGN, "", at(1)) is False
    assert await ledger.resume("unknown", "", at(1)) is False
    assert ledger.every_pause() == (offer, elsewhere)
    assert ledger.pauses(CAMPAIGN) == (offer,)


async def test_a_pause_replaces_the_one_before(ledger):
    """Reason, start and end are the last ones said."""
    await ledger.pause(pause(until_us=at(60).wall_us), at())
    again = pause(reason="still", since_us=at(5).wall_us)
    await ledger.pause(again, at(5))
    assert ledger.pauses(CAMPAIGN) == (again,)


async def test_a_pause_that_is_over_is_no_longer_off(ledger):
    """It is still told until someone resumes it, and resuming it then changed nothing."""
    over = pause(until_us=at(60).wall_us)
    await ledger.pause(over, at())
    assert ledger.pauses(CAMPAIGN) == (over,)
    assert await ledger.resume(CAMPAIGN, over.offer_id, at(60)) is False
    assert ledger.pauses(CAMPAIGN) == ()


async def test_pauses_that_are_over_go_with_the_next_one(ledger):
    """Of every campaign; one that ends this moment is over, and what still holds stays."""
    over = [pause(offer_id="a", until_us=at(59).wall_us), pause(campaign="other", until_us=at(60).wall_us)]
    holding = [pause(offer_id="b", until_us=at(61).wall_us), pause(offer_id="c")]
    for each in (*over, *holding):
        await ledger.pause(each, at())
    said = pause(offer_id="d", since_us=at(60).wall_us)
    await ledger.pause(said, at(60))
    assert ledger.every_pause() == (*holding, said)


# Outcomes


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
    assert ledger.settlements(CAMPAIGN, 0, 10)[0].reward == 0.1


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
    assert ledger.settlements(CAMPAIGN, 0, 10)[0].reward == 0.1


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
    assert ledger.settlements(CAMPAIGN, 0, 10)[0].reward == pytest.approx(0.2)
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
    assert ledger.settlements(CAMPAIGN, 0, 10)[0].reward == 0.0


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
    assert [each.reward for each in ledger.settlements(CAMPAIGN, 0, 10)] == [1.0, 0.1]


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
    assert ledger.oldest_due_service_us(CAMPAIGN) == at(100 + DUE_S).service_us
    assert await ledger.receive([outcome("d1")], at(100 + DUE_S - 1)) == [ACCEPTED]


async def test_activation_leaves_the_record_as_it_was(ledger):
    """A retry of the decision is still answered word for word after its activation and settlement."""
    recorded = decision("d1", deferred=True)
    await ledger.record([recorded], at())
    await ledger.activate([activation("d1")], at(100))
    await settle(ledger, 100 + DUE_S)
    assert ledger.find(CAMPAIGN, "d1") == recorded


async def test_held_outcomes_count_once_activated(ledger):
    """An outcome before the activation is held, a copy of it a duplicate; then it counts."""
    await ledger.record([decision("d1", deferred=True)], at())
    assert await ledger.receive([outcome("d1"), outcome("d1", "purchase")], at(1)) == [HELD, HELD]
    assert await ledger.receive([outcome("d1")], at(2)) == [DUPLICATE]
    [activated] = await ledger.activate([activation("d1")], at(3))
    assert activated == Activated(at(3 + CLOSED_S).wall_us, repeated=False, held=2)
    await settle(ledger, 3 + DUE_S)
    assert ledger.settlements(CAMPAIGN, 0, 10)[0].reward == 1.0  # 1.1, clipped


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
    assert ledger.oldest_due_service_us(CAMPAIGN) is None


async def test_a_decision_whose_offer_was_not_shown_is_void(ledger):
    """It never settles, its outcomes are late, and a repeat says the same."""
    await ledger.record([decision("d1", deferred=True)], at())
    await ledger.receive([outcome("d1", "click")], at(1))
    other = activation("d1", shown_offer_id="bundle")
    assert await ledger.activate([other], at(2)) == [Activated(None, repeated=False, held=0)]
    assert await ledger.activate([other], at(3)) == [Activated(None, repeated=True, held=0)]
    assert await ledger.receive([outcome("d1", "purchase")], at(4)) == [LATE]
    assert ledger.pending(CAMPAIGN) == 0
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
    assert ledger.pending(CAMPAIGN) == 0


async def test_a_settled_decision_is_void_no_more(ledger):
    """Its reward is final: a late report that another offer was shown finds the window unchanged."""
    await ledger.record([decision("d1", deferred=True)], at())
    [first] = await ledger.activate([activation("d1")], at(1))
    await settle(ledger, 1 + DUE_S)
    late = await ledger.activate([activation("d1", shown_offer_id="bundle")], at(2 + DUE_S))
    assert late == [replace(first, repeated=True)]
    assert settled_ids(ledger) == ["d1"]


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


# Settling


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
    [settlement] = ledger.settlements(CAMPAIGN, 0, 10)
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
    assert [(each.reward, each.clipped) for each in ledger.settlements(CAMPAIGN, 0, 10)] == [
        (-0.5, False),
        (1.0, True),
    ]


async def test_settlements_come_in_order_of_due_then_recorded(ledger):
    """Decisions due first settle first; of those due together, the one recorded first."""
    late, early = at(50), at(10)
    await ledger.record([decision("late", late), decision("tie-1", early)], at())
    await ledger.record([decision("first", at(5)), decision("tie-0", early)], at())
    await settle(ledger, 100 + DUE_S)
    assert settled_ids(ledger) == ["first", "tie-1", "tie-0", "late"]


async def test_sequences_have_no_gaps_across_turns_and_campaigns(ledger):
    """Each campaign counts 1, 2, 3, … however small the turns, and whatever the other one does."""
    for number in range(10):
        await ledger.record([decision(f"a{number}"), decision(f"b{number}", campaign="other")], at(number))
    turns = [(CAMPAIGN, 3), ("other", 4), (CAMPAIGN, 1), ("other", 5), (CAMPAIGN, 100), ("other", 100)]
    more = [(await settle(ledger, 20 + DUE_S, limit, campaign)).more for campaign, limit in turns]
    assert more == [True, True, True, True, False, False]
    for campaign, letter in ((CAMPAIGN, "a"), ("other", "b")):
        rows = ledger.settlements(campaign, 0, 100)
        assert [row.sequence for row in rows] == list(range(1, 11))
        assert [row.decision_id for row in rows] == [f"{letter}{number}" for number in range(10)]
        assert ledger.sequences(campaign) == (1, 10)


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
    assert ledger.sequences(CAMPAIGN) == (1, 1)


async def test_settlements_are_read_on_from_any_sequence(ledger):
    """`after` and `limit` page through the order without overlap."""
    await ledger.record([decision(f"d{number}", at(number)) for number in range(7)], at())
    await settle(ledger, 10 + DUE_S)
    pages = [[row.sequence for row in ledger.settlements(CAMPAIGN, after, 3)] for after in (0, 3, 6, 7)]
    assert pages == [[1, 2, 3], [4, 5, 6], [7], []]


async def test_before_anything_settled_there_are_no_sequences(ledger):
    """A campaign that settled nothing, or is unknown, has sequences (0, 0) and no settlements."""
    await ledger.record([decision("d1")], at())
    for campaign in (CAMPAIGN, "unknown"):
        assert ledger.sequences(campaign) == (0, 0)
        assert ledger.settlements(campaign, 0, 10) == []
    assert await settle(ledger, campaign="unknown") == Settled(0, 0, more=False)


async def test_an_outcome_that_ends_now_makes_its_decision_due(ledger):
    """It settles in the next turn with that outcome; what comes after it is late."""
    await ledger.record([decision("d1"), decision("d2")], at())
    final = outcome("d2", "purchase", ends_now=True)
    assert await ledger.receive([final, outcome("d2", "click")], at(1)) == [ACCEPTED, LATE]
    assert ledger.oldest_due_service_us(CAMPAIGN) == at(1).service_us
    assert await settle(ledger, 1) == Settled(1, 0, more=False)
    [row] = ledger.settlements(CAMPAIGN, 0, 10)
    assert (row.decision_id, row.reward, row.due_service_us) == ("d2", 1.0, at(1).service_us)


async def test_a_late_final_outcome_ends_nothing(ledger):
    """Only an outcome that counts makes its decision due."""
    await ledger.record([decision("d1")], at())
    occurred_us = at(CLOSED_S + 1).wall_us
    late = outcome("d1", "purchase", ends_now=True, occurred_us=occurred_us)
    assert await ledger.receive([late], at(CLOSED_S + 2)) == [LATE]
    assert ledger.oldest_due_service_us(CAMPAIGN) == at(DUE_S).service_us


@pytest.mark.parametrize(("held", "due_s"), [("purchase", 9), ("click", 9 + DUE_S)])
async def test_a_held_final_outcome_ends_at_activation(ledger, held, due_s):
    """It settles its decision once that is activated, not before; an outcome that is not final does not."""
    await ledger.record([decision("d1", deferred=True)], at())
    assert await ledger.receive([outcome("d1", held, ends_now=held == "purchase")], at(1)) == [HELD]
    assert ledger.oldest_due_service_us(CAMPAIGN) == at(EXPIRED_S).service_us
    await ledger.activate([activation("d1", ends_now=frozenset({"purchase", "dismiss"}))], at(9))
    assert ledger.oldest_due_service_us(CAMPAIGN) == at(due_s).service_us


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
        rewards.append(ledger.settlements(CAMPAIGN, len(rewards), 1)[0].reward)
    assert rewards == 3 * [math.fsum(values)]


async def test_an_outcome_that_comes_within_the_grace_has_the_time_of_the_close(ledger):
    """Without a time of its own it is not later than what occurred as the window closed."""
    await ledger.record([decision("d1", customer=CUSTOMER)], at(), [contact()])
    assert await ledger.receive([outcome("d1")], at(CLOSED_S + 5)) == [ACCEPTED]
    rows = ledger.export(CUSTOMER, "", 100, 10**6).rows
    assert [row["time"] for row in rows if row["kind"] == "outcome"] == [when(at(CLOSED_S).wall_us)]


async def test_the_largest_of_negative_rewards_is_negative(ledger):
    """`max` over outcomes that all cost something is the least cost, not the default."""
    await ledger.record([decision("d1")], at())
    await ledger.receive(
        [outcome("d1", "dismiss", event_id="a", value=3.0), outcome("d1", "dismiss", event_id="b")], at(1)
    )
    await settle_due(ledger, CAMPAIGN, replace(RULES, aggregate="max"), 10, at(DUE_S))
    assert ledger.settlements(CAMPAIGN, 0, 10)[0].reward == -0.2


# Looking


async def test_pending_counts_what_waits(ledger):
    """Deferred and active decisions wait; settled, void and expired ones do not; campaigns are apart."""
    await ledger.record([decision("p1", deferred=True), decision("p2", deferred=True), decision("d1")], at())
    await ledger.record([decision("x", campaign="other")], at())
    assert ledger.pending(CAMPAIGN) == 3
    await ledger.activate([activation("p1", shown_offer_id="bundle")], at(1))
    assert ledger.pending(CAMPAIGN) == 2
    await settle(ledger, DUE_S)
    assert ledger.pending(CAMPAIGN) == 1
    await settle(ledger, EXPIRED_S)
    assert (ledger.pending(CAMPAIGN), ledger.pending("other"), ledger.pending("unknown")) == (0, 1, 0)


async def test_the_oldest_due_is_the_next_to_settle(ledger):
    """It follows what is recorded and settled, and is None where nothing waits."""
    assert ledger.oldest_due_service_us(CAMPAIGN) is None
    await ledger.record([decision("d2", at(20)), decision("d1", at(10))], at())
    assert ledger.oldest_due_service_us(CAMPAIGN) == at(10 + DUE_S).service_us
    await settle(ledger, 10 + DUE_S)
    assert ledger.oldest_due_service_us(CAMPAIGN) == at(20 + DUE_S).service_us
    await settle(ledger, 20 + DUE_S)
    assert ledger.oldest_due_service_us(CAMPAIGN) is None


async def test_drawn_decisions_are_the_bandits_own_in_order(ledger):
    """In the order of recording, page by page; control, fallbacks and other lineages are left out."""
    await ledger.record(
        [
            decision("s3", sequence=3),
            decision("s1", sequence=1),
            decision("other", sequence=2, lineage="decade"),
            decision("control", sequence=2, reason=Reason.CONTROL, variant="control"),
            fallback("f", sequence=2),
            decision("s4", sequence=4),
        ],
        at(),
    )
    drawn = ledger.drawn(CAMPAIGN, "c0ffee", 0, 10)
    assert [each.decision_id for _, each in drawn] == ["s3", "s1", "s4"]
    assert drawn[1][1] == decision("s1", sequence=1)
    first_page = ledger.drawn(CAMPAIGN, "c0ffee", 0, 2)
    assert first_page + ledger.drawn(CAMPAIGN, "c0ffee", first_page[-1][0], 2) == drawn
    assert ledger.drawn("unknown", "c0ffee", 0, 2) == []


# Keeping


async def test_purge_removes_what_ended_with_all_it_had(ledger):
    """A purged decision is unknown: no record, no settlement, and its outcomes may come as new."""
    await ledger.record([decision("d1")], at())
    await ledger.receive([outcome("d1")], at(1))
    await settle(ledger)
    later = at(100 * 86_400)
    assert await ledger.purge(CAMPAIGN, later.wall_us, 1, 10, later) == 1
    assert ledger.find(CAMPAIGN, "d1") is None
    assert ledger.settlements(CAMPAIGN, 0, 10) == []
    await ledger.record([decision("d1", later)], later)
    [met] = await ledger.receive([outcome("d1")], later)
    assert met is ACCEPTED


async def test_purge_keeps_what_a_checkpoint_needs(ledger):
    """Settlements above `keep_after` stay, with their decisions."""
    await ledger.record([decision(f"d{number}", at(number)) for number in range(5)], at())
    await settle(ledger, 10 + DUE_S)
    later = at(100 * 86_400)
    assert await ledger.purge(CAMPAIGN, later.wall_us, 3, 10, later) == 3
    assert ledger.sequences(CAMPAIGN) == (4, 5)
    assert [row.decision_id for row in ledger.settlements(CAMPAIGN, 0, 10)] == ["d3", "d4"]
    assert ledger.find(CAMPAIGN, "d3") == decision("d3", at(3))


async def test_purge_keeps_what_is_young_or_open(ledger):
    """A decision made at `before_us` or later stays, and so does one that still waits."""
    await ledger.record([decision("old"), decision("young", at(10)), decision("open", at(-5))], at())
    await ledger.record([decision("p", deferred=True)], at())
    await ledger.receive([outcome("old", ends_now=True), outcome("young", ends_now=True)], at(11))
    await settle(ledger, 11)
    assert await ledger.purge(CAMPAIGN, at(10).wall_us, 9, 10, at(12)) == 1
    assert [ledger.find(CAMPAIGN, each) is None for each in ("old", "young", "open", "p")] == [
        True, False, False, False,
    ]  # fmt: skip


async def test_a_clock_that_is_days_ahead_purges_nothing(ledger):
    """The younger of two ages counts: on the service clock the decision is young."""
    await ledger.record([decision("d1")], at())
    await settle(ledger)
    ahead_us = at(1_000 * 86_400).wall_us
    ahead = replace(at(DUE_S), wall_us=ahead_us, steady_us=ahead_us)
    assert await ledger.purge(CAMPAIGN, ahead_us - 90 * 86_400_000_000, 9, 10, ahead) == 0
    assert ledger.find(CAMPAIGN, "d1") == decision("d1")


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
    assert ledger.find(CAMPAIGN, "behind") == made


async def test_what_was_recorded_after_a_clock_ahead_stays_whole(ledger):
    """Nor from one that came just after a decision that was dated ahead."""
    day_us = 86_400_000_000
    ahead = replace(at(), wall_us=at().wall_us + 30 * day_us, steady_us=at().wall_us)
    await ledger.record([decision("ahead", ahead)], ahead)
    made = decision("after", at(1))._replace(payload=payload_text({"price": 1}))
    await ledger.record([made], at(1))
    later = at(31 * 86_400)
    await ledger.purge(CAMPAIGN, at(-1).wall_us, 0, 10, later)
    assert ledger.find(CAMPAIGN, "after") == made


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
        assert ledger.sequences(CAMPAIGN) == (first, 7)
    assert removed == [3, 3, 1]


async def test_purge_stays_within_its_campaign(ledger):
    """Another campaign's decisions stay."""
    await ledger.record([decision("d1"), decision("d1", campaign="other")], at())
    await settle(ledger)
    await settle(ledger, campaign="other")
    later = at(100 * 86_400)
    assert await ledger.purge(CAMPAIGN, later.wall_us, 9, 10, later) == 1
    assert ledger.find("other", "d1") is not None
    assert await ledger.purge("unknown", later.wall_us, 9, 10, later) == 0


async def test_sequences_go_on_after_a_purge(ledger):
    """A campaign whose settlements are all gone counts on; what it retains is the empty run after them."""
    await ledger.record([decision("d1"), decision("d2")], at())
    await settle(ledger)
    later = at(100 * 86_400)
    await ledger.purge(CAMPAIGN, later.wall_us, 2, 10, later)
    assert ledger.sequences(CAMPAIGN) == (3, 2)
    await ledger.record([decision("d3", later)], later)
    await settle(ledger, 101 * 86_400)
    assert [row.sequence for row in ledger.settlements(CAMPAIGN, 0, 10)] == [3]
    assert ledger.sequences(CAMPAIGN) == (3, 3)


async def test_shared_texts_outlive_the_decisions_that_brought_them(ledger):
    """Decisions that share offers and payload are whole after the first of them was purged."""
    await ledger.record([decision("old")], at())
    await settle(ledger)
    young = decision("young", at(80 * 86_400))
    await ledger.record([young], at(80 * 86_400))
    later = at(100 * 86_400)
    assert await ledger.purge(CAMPAIGN, at(50 * 86_400).wall_us, 9, 10, later) == 1
    assert ledger.find(CAMPAIGN, "young") == young


# Opening and closing


async def test_a_closed_ledger_refuses_writes(ledger):
    """Closing twice is safe; a write after it is LedgerUnavailable."""
    await ledger.record([decision("d1")], at())
    await ledger.close()
    await ledger.close()
    with pytest.raises(LedgerUnavailable):
        await ledger.record([decision("d2")], at())


async def test_close_commits_what_was_handed_over(ledger):
    """Calls that wait when the ledger closes are answered like any other."""
    handed_over = [
        asyncio.ensure_future(ledger.record([decision(f"d{number}")], at())) for number in range(20)
    ]
    await asyncio.sleep(0)
    await ledger.close()
    assert [each.decision_id for [each] in await asyncio.gather(*handed_over)] == [
        f"d{number}" for number in range(20)
    ]


async def test_the_draw_key_is_long_and_random(ledger, tmp_path):
    """It has 32 bytes, and two ledgers have two."""
    keys = set()
    for adapter in ("memory", "sqlite"):
        for number in range(2):
            directory = tmp_path / str(number)
            directory.mkdir(exist_ok=True)
            other = make(adapter, directory)
            keys.add((await other.start(ignore_commit)).draw_key)
            await other.close()
    assert len(keys) == 4
    assert {len(key) for key in keys} == {32}


async def test_touch_stores_no_rows(ledger):
    """Remembering the clock leaves everything else as it was."""
    await ledger.touch(at(5))
    assert ledger.pending(CAMPAIGN) == 0


async def test_one_read_tells_where_every_campaign_stands(ledger):
    """The last sequence, the erasures and the next due time of each, at any time."""
    assert ledger.standings() == {}
    await ledger.record([decision("d1"), decision("d2", at(5)), decision("b1", campaign="other")], at(5))
    first = at(DUE_S).service_us
    assert ledger.standings() == {CAMPAIGN: Standing(0, 0, 2, first), "other": Standing(0, 0, 1, first)}
    await settle(ledger, DUE_S)
    then = at(5 + DUE_S).service_us
    assert ledger.standings() == {CAMPAIGN: Standing(1, 0, 1, then), "other": Standing(0, 0, 1, first)}
    await settle(ledger, 5 + DUE_S)
    assert ledger.standings()[CAMPAIGN] == Standing(2)
    assert ledger.standings() == ledger.standings()
