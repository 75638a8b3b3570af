"""A world with known truth, invented over any campaign."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tilbud.simulator.sources import Outcome
from tilbud.simulator.world import CampaignFacts, CampaignWorld, OutcomeFact, WorldConfig
from tilbud.v1 import customers_pb2, decisions_pb2

FACTS = CampaignFacts(
    campaign="any",
    offers=("a", "b", "c"),
    outcomes=(OutcomeFact("click", 0.1), OutcomeFact("buy", 0.9, final=True), OutcomeFact("hide", -0.5)),
    words={"device": ("mobile", "desktop"), "place": ("Oslo", "elsewhere")},
    features={"age": tuple(float(age) for age in range(10)), "vip": (False, True), "app": ("1.0", "2.0")},
    ordered=frozenset({"age", "app"}),
    range=(-1.0, 1.0),
)
CONFIG = WorldConfig(visits=3_000)
WORLD = CampaignWorld(FACTS, CONFIG, 1)


def outcomes(world: CampaignWorld, visits: int, offer: str = "a") -> list[Outcome]:
    """What came of showing one offer to so many."""
    found = [world.outcome(number, offer) for number in range(visits)]
    return [outcome for outcome in found if outcome is not None]


def test_a_question_says_what_the_campaign_declares():
    """Every word and feature is sent, of its kind, by a customer who consents."""
    question = WORLD.question(7)
    assert question.consent == decisions_pb2.CONSENT_GRANTED
    assert question.customer_id
    assert question.context.device in FACTS.words["device"]
    assert question.context.place in FACTS.words["place"]
    assert not question.context.channel
    kinds = {name: value.WhichOneof("kind") for name, value in question.context.features.items()}
    assert kinds == {"age": "number", "vip": "flag", "app": "category"}
    assert question.context.HasField("time")


def test_it_is_the_same_whenever_asked():
    """Another world of the same seed asks and answers the same; another seed does not."""
    again, other = CampaignWorld(FACTS, CONFIG, 1), CampaignWorld(FACTS, CONFIG, 2)
    asked = [WORLD.question(number) for number in range(50)]
    assert [again.question(number) for number in range(50)] == asked
    assert [other.question(number) for number in range(50)] != asked
    assert outcomes(again, 300) == outcomes(WORLD, 300) != outcomes(other, 300)


def test_expected_and_realised_rewards_agree():
    """Over many visits what happened is worth about what was expected."""
    visits = 6_000
    expected = sum(WORLD.worth(number, "b", FACTS.offers).shown for number in range(visits)) / visits
    realised = sum(outcome.reward for outcome in outcomes(WORLD, visits, "b")) / visits
    assert realised == pytest.approx(expected, abs=0.01)


def test_uniform_earns_the_base_rate():
    """Of offers shown by chance one visit in ten ends well, in an outcome that is worth more than none."""
    ends = [
        outcome.reports[0][0]
        for offer in FACTS.offers
        for outcome in outcomes(WORLD, 3_000, offer)
        if outcome.reports
    ]
    assert sum(end in ("click", "buy") for end in ends) / 9_000 == pytest.approx(0.10, abs=0.02)
    assert ends.count("click") > ends.count("buy") > 0
    assert ends.count("hide") > 0


def test_only_what_might_be_shown_is_compared():
    """The best is the best of the eligible offers; where there is none, nothing could be earned."""
    worths = {offer: WORLD.worth(5, offer, FACTS.offers).shown for offer in FACTS.offers}
    worst = sorted(worths, key=lambda offer: worths[offer])[:2]
    assert WORLD.worth(5, worst[0], worst).best == worths[worst[1]]
    assert WORLD.worth(5, worst[0], worst).uniform == pytest.approx(sum(map(worths.__getitem__, worst)) / 2)
    assert WORLD.worth(5, "fallback", ()).best == 0


def test_what_a_fallback_brings_nobody_knows():
    """An offer that is not the campaign's has no outcome."""
    assert WORLD.outcome(1, "fallback") is None


def test_wide_rewards_are_taken_for_amounts():
    """Where one outcome is a sliver of the range it comes with values, and rewards spread over it."""
    money = replace(
        FACTS, outcomes=(OutcomeFact("click", 0.1), OutcomeFact("order", 1.0)), range=(0.0, 500.0)
    )
    world = CampaignWorld(money, CONFIG, 1)
    assert world.invents_amounts
    assert not WORLD.invents_amounts
    amounts = {outcome.reward for outcome in outcomes(world, 10_000) if outcome.reward > 1}
    assert len(amounts) > 1
    assert 50 < max(amounts) <= 500


def test_bad_outcomes_alone_are_something_to_avoid():
    """Where no outcome is good, a visit without any is the good end."""
    facts = replace(FACTS, outcomes=(OutcomeFact("complaint", -1.0),), default=1.0)
    ended = outcomes(CampaignWorld(facts, CONFIG, 1), 500)
    assert {outcome.reward for outcome in ended} == {1.0, -1.0}
    assert {outcome.reports for outcome in ended if outcome.reward == 1.0} == {()}


def test_an_outcome_that_shows_decides_what_was_seen():
    """Of deferred decisions half are seen, which the first report says; of the others nothing is."""
    facts = replace(FACTS, outcomes=(*FACTS.outcomes, OutcomeFact("opened", 0.0, shows=True)), deferred=True)
    ended = outcomes(CampaignWorld(facts, CONFIG, 1), 500)
    seen = [outcome for outcome in ended if outcome.shown]
    assert 150 < len(seen) < 350
    assert {outcome.reports[0][0] for outcome in seen} == {"opened"}
    assert all(outcome.tells_shown for outcome in seen)


def test_events_and_opt_ins_are_told_before():
    """An event precedes some visits, and every other customer opted in to what is sensitive."""
    facts = replace(FACTS, events=("add_to_cart",), sensitive_topics=("family",))
    world = CampaignWorld(facts, CONFIG, 1)
    told = [telling for number in range(200) for telling in world.before(number)]
    events = [one for one in told if isinstance(one, customers_pb2.ReportCustomerEventRequest)]
    opted = [one for one in told if isinstance(one, customers_pb2.UpdateCustomerRequest)]
    assert 30 < len(events) < 110
    assert {event.event for event in events} == {"add_to_cart"}
    assert 60 < len(opted) < 140
    assert not any(WORLD.before(number) for number in range(200))


def test_tastes_change_when_they_should():
    """From the visit named on another truth holds; before it nothing is different."""
    changed = CampaignWorld(FACTS, replace(CONFIG, taste_change_at=100), 1)
    assert changed.worth(99, "a", FACTS.offers) == WORLD.worth(99, "a", FACTS.offers)
    assert changed.worth(100, "a", FACTS.offers) != WORLD.worth(100, "a", FACTS.offers)


def test_a_campaign_that_declares_nothing_has_a_world():
    """Without a context one offer is best for everyone."""
    facts = CampaignFacts("bare", ("a", "b"), (OutcomeFact("click", 1.0),), {}, {}, reads_time=False)
    world = CampaignWorld(facts, CONFIG, 1)
    worths = [world.worth(number, "a", facts.offers) for number in range(50)]
    assert {worth.best for worth in worths} == {worths[0].best_single}
