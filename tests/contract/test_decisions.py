"""What deciding is promised of every ledger: recorded once, and found word for word."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.builders import (
    CAMPAIGN,
    RULES,
    activation,
    at,
    decision,
    fallback,
    outcome,
    settle_due,
)
from tests.contract import reads
from tests.contract.settling import CLOSED_S, DUE_S, settle, settled_ids

from tilbud.domain.decision.activation import Activated
from tilbud.domain.decision.draw import draw
from tilbud.domain.decision.records import InternedText, OfferSet, Removed, Repeat, payload_text
from tilbud.domain.decision.rewards import OutcomeStatus

ACCEPTED, DUPLICATE, LATE, HELD = OutcomeStatus


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
    found = await ledger.find(CAMPAIGN, "d1")
    assert found == recorded
    assert found.probabilities == probabilities
    assert repr(found) == repr(recorded)


async def test_a_fallback_is_found_word_for_word(ledger):
    """A decision that had nothing to draw from is kept as well."""
    recorded = fallback("f1", context='{"place":"søen 🚲"}')
    await ledger.record([recorded], at())
    assert await ledger.find(CAMPAIGN, "f1") == recorded


async def test_what_was_never_recorded_is_not_found(ledger):
    """An unknown id, and an unknown campaign, find nothing."""
    await ledger.record([decision("d1")], at())
    assert await ledger.find(CAMPAIGN, "d2") is None
    assert await ledger.find("other", "d1") is None


async def test_the_first_decision_of_an_id_stays(ledger):
    """A second record under one id returns the first, and changes nothing."""
    first = decision("d1", drawn=1)
    second = decision("d1", drawn=2)
    assert await ledger.record([first], at()) == [first]
    assert await ledger.record([second], at(1)) == [first]
    assert await ledger.find(CAMPAIGN, "d1") == first
    assert await ledger.pending(CAMPAIGN) == 1


async def test_one_call_with_one_id_twice_stores_one(ledger):
    """Also within one call the first of an id wins, and its neighbours are stored."""
    first, second, other = decision("d1", drawn=1), decision("d1", drawn=2), decision("d2")
    assert await ledger.record([first, second, other], at()) == [first, first, other]
    assert await ledger.pending(CAMPAIGN) == 2


async def test_parallel_records_of_one_id_store_one_and_all_see_it(ledger):
    """Of 64 different decisions under one id, recorded at once, one is stored and all 64 return it."""
    rivals = [decision("d1", drawn=number % 3, features=f"rival {number}") for number in range(64)]
    returned = await asyncio.gather(*(ledger.record([rival], at()) for rival in rivals))
    assert {each.features for [each] in returned} == {returned[0][0].features}
    assert await ledger.find(CAMPAIGN, "d1") == returned[0][0]
    assert await ledger.pending(CAMPAIGN) == 1


async def test_an_id_belongs_to_its_campaign(ledger):
    """The same id in two campaigns is two decisions."""
    here, there = decision("d1"), decision("d1", campaign="other", drawn=2)
    assert await ledger.record([here, there], at()) == [here, there]
    assert await ledger.find("other", "d1") == there


async def test_a_read_sees_every_acknowledged_write(ledger):
    """After each of many awaited records the very next read finds it."""
    for number in range(50):
        await ledger.record([decision(f"d{number}")], at())
        assert await ledger.find(CAMPAIGN, f"d{number}") is not None
        assert await ledger.pending(CAMPAIGN) == number + 1


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
    assert await ledger.find(CAMPAIGN, "wrong") is None


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
    assert await ledger.find(CAMPAIGN, "some") == made
    assert await ledger.find(CAMPAIGN, "none") == none
    assert await ledger.find(CAMPAIGN, "d1") == decision("d1")
    await settle_due(ledger, CAMPAIGN, RULES, 10, at(DUE_S))
    settled = {each.decision_id: each for each in await ledger.settlements(CAMPAIGN, 0, 10)}
    assert (settled["some"].offers, settled["some"].drawn) == (offers, made.drawn)
    assert (settled["none"].offers.ids, settled["none"].drawn) == ((), -1)


# Repeats


REPEAT = Repeat(CAMPAIGN, "again", bytes(16), "d1")


async def test_a_repeat_is_found_as_what_it_stands_for(ledger):
    """The earlier decision, word for word, but with the fingerprint of the request that asked again."""
    await ledger.record([decision("d1")], at())
    stands_for = decision("d1")._replace(fingerprint=REPEAT.fingerprint)
    assert await ledger.repeat([REPEAT], at(1)) == [stands_for]
    assert await ledger.find(CAMPAIGN, "again") == stands_for
    assert await ledger.find(CAMPAIGN, "d1") == decision("d1")
    assert await ledger.pending(CAMPAIGN) == 1
    assert len(await reads.drawn(ledger)) == 1


async def test_a_repeat_shows_what_its_offer_showed_then(ledger):
    """Its id is answered with its own payload for good; other ids, and the decision's own, keep theirs."""
    await ledger.record([decision("d1")], at())
    corrected, again = payload_text({"title": "corrected"}), replace(REPEAT, decision_id="later")
    shown = decision("d1")._replace(fingerprint=REPEAT.fingerprint, payload=corrected)
    assert await ledger.repeat([replace(REPEAT, payload=corrected)], at(1)) == [shown]
    assert await ledger.repeat([REPEAT], at(2)) == [shown]
    assert await ledger.repeat([again], at(2)) == [decision("d1")._replace(fingerprint=REPEAT.fingerprint)]
    assert await ledger.find(CAMPAIGN, "again") == shown
    assert await ledger.find(CAMPAIGN, "d1") == decision("d1")


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
    assert await ledger.find(CAMPAIGN, "lost") is None
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
    assert await settled_ids(ledger) == [REPEAT.stands_for]


async def test_a_purged_decision_takes_its_repeats_along(ledger):
    """No id stands for what is gone, nor for what later comes under its id."""
    await ledger.record([decision("d1")], at())
    await ledger.repeat([REPEAT], at(1))
    await settle(ledger)
    later = at(100 * 86_400)
    assert await ledger.purge(CAMPAIGN, later.wall_us, 1, 10, later) == 1
    assert await ledger.find(CAMPAIGN, "again") is None
    await ledger.record([decision("d1", later)], later)
    assert await ledger.find(CAMPAIGN, "again") is None
