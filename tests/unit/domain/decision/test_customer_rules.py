"""Rules that look at the customer: what they forbid, what needs their leave, what happened to them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.domain.builders import NOON_US, campaign, context

from tilbud.domain.customer.customer import NO_PREFERENCES, NOTHING_HAPPENED, Happened, Preferences
from tilbud.domain.decision.eligibility import NOBODY, RULES, CustomerFacts, Eligibility, Rules

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
BASE: dict[str, Any] = {
    "context": {"events": ["cart", "bought"], "features": {"basket": "number"}},
    "reward": {"outcomes": {"click": 1, "dismiss": 0, "bought": 1}},
}


def facts(
    *,
    known: bool = True,
    quiet: bool = False,
    channel: str = "",
    events: dict[str, int] | None = None,
    outcomes: dict[tuple[str, str], int] | None = None,
    **preferences: Any,
) -> CustomerFacts:
    """Return what is known of a customer; events and outcomes as ages in µs."""
    happened = Happened(
        {name: NOON_US - age_us for name, age_us in (events or {}).items()},
        {key: NOON_US - age_us for key, age_us in (outcomes or {}).items()},
    )
    wishes: dict[str, Any] = {name: frozenset(each) for name, each in preferences.items()}
    return CustomerFacts(replace(NO_PREFERENCES, **wishes), quiet, known, happened, NOON_US, channel)


def removed_by(rules: dict[str, Any], of: CustomerFacts = NOBODY, **said: Any) -> str:
    """Return the rule that removes an offer x with these rules, or "" where it may be shown."""
    home = campaign({"id": "x", **rules}, **BASE)
    result = Rules(home).check(context(home, **said), facts=of)
    assert len(result.eligible) + len(result.removed) == 1
    return result.removed[0][1] if result.removed else ""


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("wish", "said", "rule"),
    [
        ({"blocked_channels": ["push"]}, {"channel": "push"}, "blocked_channels"),
        ({"blocked_channels": ["push"]}, {"channel": "web"}, ""),
        ({"blocked_channels": ["push"]}, {}, ""),
        ({"blocked_channels": ["sms"], "channel": "sms"}, {"channel": "sms"}, "blocked_channels"),
        ({"quiet": True}, {}, "quiet_hours"),
        ({"blocked_offers": ["x"]}, {}, "blocked_offers"),
        ({"blocked_offers": ["y"]}, {}, ""),
        ({"blocked_topics": ["sale"]}, {}, "blocked_topics"),
        ({"blocked_topics": ["Sale"]}, {}, ""),
        ({}, {}, ""),
    ],
)
def test_a_customers_wish_is_heeded_whatever_the_consent(wish, said, rule, known):
    """What a customer blocks removes the offer under its own name, known or not."""
    assert removed_by({"topics": ["sale", "fashion"]}, facts(known=known, **wish), **said) == rule


@pytest.mark.parametrize(
    ("of", "rule"),
    [
        (NOBODY, "sensitive_topic"),
        (facts(), "sensitive_topic"),
        (facts(opted_in_topics=["other"]), "sensitive_topic"),
        (facts(opted_in_topics=["family"]), ""),
        (facts(opted_in_topics=["family"], known=False), "sensitive_topic"),
        (facts(opted_in_topics=["family"], blocked_topics=["family"]), "blocked_topics"),
    ],
)
def test_a_sensitive_topic_is_for_those_who_asked_for_it(of, rule):
    """Only a known customer who opted in sees it, and a block stands above the opt-in."""
    assert removed_by({"sensitive_topic": "family"}, of) == rule


@pytest.mark.parametrize(
    ("of", "rule"),
    [
        (NOBODY, "requires"),
        (facts(), "requires"),
        (facts(events={"bought": 0}), "requires"),
        (facts(events={"cart": 2 * HOUR_US}), "requires"),
        (facts(events={"cart": 2 * HOUR_US - 1}), ""),
        (facts(events={"cart": -HOUR_US}), ""),
        (facts(events={"cart": 0}, known=False), "requires"),
    ],
)
def test_a_required_event_must_be_recent(of, rule):
    """The event must have happened less long ago than was asked, to a known customer."""
    assert removed_by({"requires": {"cart": "2h"}}, of) == rule


def test_every_required_event_must_be_there():
    """Of several events each must have happened."""
    both = {"requires": {"cart": "2h", "bought": "1d"}}
    assert removed_by(both, facts(events={"cart": 0})) == "requires"
    assert removed_by(both, facts(events={"cart": 0, "bought": 0})) == ""


@pytest.mark.parametrize(
    ("of", "rule"),
    [
        (NOBODY, ""),
        (facts(), ""),
        (facts(outcomes={("x", "dismiss"): 14 * DAY_US - 1}), "suppress_after"),
        (facts(outcomes={("x", "dismiss"): 14 * DAY_US}), ""),
        (facts(outcomes={("x", "dismiss"): -DAY_US}), "suppress_after"),
        (facts(outcomes={("y", "dismiss"): 0}), ""),
        (facts(outcomes={("x", "click"): 0}), ""),
        (facts(events={"cart": HOUR_US}), "suppress_after"),
        (facts(events={"cart": DAY_US}), ""),
        (facts(events={"bought": 0}), "suppress_after"),
        (facts(outcomes={("x", "bought"): 0}), "suppress_after"),
        (facts(events={"bought": 9 * DAY_US}, outcomes={("x", "bought"): 0}), "suppress_after"),
        (facts(events={"bought": 0}, known=False), ""),
    ],
)
def test_an_offer_rests_after_what_happened(of, rule):
    """After an outcome of the offer itself, or a customer event, of that name the offer rests so long."""
    assert removed_by({"suppress_after": {"dismiss": "14d", "cart": "1d", "bought": "7d"}}, of) == rule


def test_paused_offers_are_removed():
    """A paused offer is removed; one that the campaign does not have changes nothing."""
    rules = Rules(campaign())
    result = rules.check(context(), paused=frozenset({"b", "gone"}))
    assert result == Eligibility((0,), ((1, "paused"),))
    assert rules.check(context(), exclude=("b",), paused=frozenset({"b"})).removed == ((1, "exclude_offers"),)


def test_customers_who_ask_for_nothing_share_a_result():
    """Where neither offers nor the customer restrict anything, everybody gets the same object."""
    rules = Rules(campaign())
    of = CustomerFacts(NO_PREFERENCES, quiet=False, known=True, happened=NOTHING_HAPPENED, now_us=NOON_US)
    assert rules.check(context(), facts=of) is rules.check(context())


@given(st.lists(st.integers(0, 5), unique=True), st.sampled_from(RULES))
def test_removing_more_keeps_the_order(indexes, rule):
    """What is removed later joins what was removed before, in the file's order, and nothing is lost."""
    before = Eligibility((0, 2, 3, 5), ((1, "when"), (4, "hours")))
    gone = [(index, rule) for index in indexes if index in before.eligible]
    after = before.without(gone)
    assert sorted([*after.eligible, *(index for index, _ in after.removed)]) == list(range(6))
    assert [index for index, _ in after.removed] == sorted(index for index, _ in after.removed)
    assert set(before.removed) | set(gone) == set(after.removed)
    assert (after is before) is (not gone)


DURATIONS = st.sampled_from(["1h", "1d", "7d"])
RULE_SETS = st.fixed_dictionaries(
    {},
    optional={
        "topics": st.lists(st.sampled_from(["sale", "fashion"]), unique=True),
        "sensitive_topic": st.sampled_from(["family", "health"]),
        "channels": st.lists(st.sampled_from(["web", "push"]), unique=True),
        "when": st.sampled_from([{"basket": {"gt": 30}}, {"last_event": {"eq": "cart"}}]),
        "requires": st.dictionaries(st.sampled_from(["cart", "bought"]), DURATIONS),
        "suppress_after": st.dictionaries(st.sampled_from(["cart", "bought", "dismiss"]), DURATIONS),
    },
)
CATALOGUE = st.lists(RULE_SETS, min_size=1, max_size=5)
SAID = st.fixed_dictionaries(
    {}, optional={"channel": st.sampled_from(["web", "push", "sms"]), "features": st.just({"basket": 31.0})}
)
SUBSETS = st.frozensets
AGES = st.integers(-DAY_US, 9 * DAY_US)
FACTS = st.builds(
    facts,
    known=st.booleans(),
    quiet=st.booleans(),
    channel=st.sampled_from(["", "web", "push", "sms"]),
    events=st.dictionaries(st.sampled_from(["cart", "bought"]), AGES),
    outcomes=st.dictionaries(
        st.tuples(st.sampled_from("0123"), st.sampled_from(["dismiss", "bought"])), AGES
    ),
    blocked_offers=SUBSETS(st.sampled_from("012"), max_size=1),
    blocked_topics=SUBSETS(st.sampled_from(["sale", "family"]), max_size=1),
    blocked_channels=SUBSETS(st.sampled_from(["web", "sms"]), max_size=1),
    opted_in_topics=SUBSETS(st.sampled_from(["family", "health"])),
)
PAUSED = SUBSETS(st.sampled_from("01234"), max_size=2)


def check(
    offers: list[dict[str, Any]],
    said: dict[str, Any],
    of: CustomerFacts,
    paused: frozenset[str] = frozenset(),
) -> Eligibility:
    """Check a catalogue; offers are known by their number."""
    home = campaign(*[{"id": str(number), **rules} for number, rules in enumerate(offers)], **BASE)
    return Rules(home).check(context(home, **said), paused=paused, facts=of)


@given(CATALOGUE, SAID, FACTS | st.just(NOBODY), PAUSED)
def test_every_offer_is_eligible_or_removed_once(offers, said, of, paused):
    """Each offer is eligible, or removed by exactly one rule, and both lists keep the file's order."""
    result = check(offers, said, of, paused)
    removed = [number for number, _ in result.removed]
    assert sorted([*result.eligible, *removed]) == list(range(len(offers)))
    assert (list(result.eligible), removed) == (sorted(result.eligible), sorted(removed))
    assert {rule for _, rule in result.removed} <= set(RULES)


def reasons_alone(rules: dict[str, Any], said: dict[str, Any], of: CustomerFacts, number: int) -> set[str]:
    """Return every rule that removes the offer when it is the only one declared or wished for."""
    wishes = of.preferences
    found = set()
    for key, value in rules.items():
        if key in {"topics", "sensitive_topic"}:
            continue
        alone = of._replace(preferences=NO_PREFERENCES, quiet=False)
        found |= {rule for _, rule in check([*({},) * number, {key: value}], said, alone).removed}
    topics: dict[str, Any] = {key: rules[key] for key in ("topics", "sensitive_topic") if key in rules}
    for wish in (
        Preferences(blocked_channels=wishes.blocked_channels, opted_in_topics=wishes.opted_in_topics),
        Preferences(blocked_offers=wishes.blocked_offers, opted_in_topics=wishes.opted_in_topics),
        Preferences(blocked_topics=wishes.blocked_topics, opted_in_topics=wishes.opted_in_topics),
    ):
        for quiet in {False, of.quiet}:
            offers: list[dict[str, Any]] = [*({},) * number, topics]
            removed = check(offers, said, of._replace(preferences=wish, quiet=quiet)).removed
            found |= {rule for index, rule in removed if index == number}
    return found


@given(CATALOGUE, SAID, FACTS | st.just(NOBODY))
def test_the_reason_is_the_first_rule_that_applies(offers, said, of):
    """Of all the rules that would remove an offer alone, the reason is the first in the order of RULES."""
    reasons = dict(check(offers, said, of).removed)
    for number, rules in enumerate(offers):
        alone = reasons_alone(rules, said, of, number)
        assert reasons.get(number) == min(alone, key=RULES.index, default=None)


@given(CATALOGUE, SAID, FACTS | st.just(NOBODY), PAUSED, st.data())
def test_another_rule_never_brings_an_offer_back(offers, said, of, paused, data):
    """An offer that is removed stays removed when any offer gets another rule."""
    number = data.draw(st.integers(0, len(offers) - 1))
    stricter = [*offers]
    stricter[number] = {**data.draw(RULE_SETS), **offers[number]}
    before, after = check(offers, said, of, paused), check(stricter, said, of, paused)
    assert set(after.eligible) <= set(before.eligible)


@given(CATALOGUE, SAID, FACTS, PAUSED)
def test_the_unknown_never_see_what_needs_to_know_them(offers, said, of, paused):
    """Nobody who is anonymous or without consent gets a sensitive offer, or one that requires an event."""
    for anybody in (NOBODY, of._replace(known=False)):
        for number in check(offers, said, anybody, paused).eligible:
            assert "sensitive_topic" not in offers[number]
            assert not offers[number].get("requires")


@given(CATALOGUE, SAID, FACTS, PAUSED)
def test_what_is_blocked_never_passes(offers, said, of, paused):
    """Whatever else holds, nothing blocked or paused passes, and nothing at all in quiet hours."""
    channel, wishes = said.get("channel", ""), of.preferences
    eligible = check(offers, said, of._replace(channel=channel), paused).eligible
    for number in eligible:
        topics = {*offers[number].get("topics", ()), offers[number].get("sensitive_topic")}
        assert str(number) not in wishes.blocked_offers | paused
        assert not topics & wishes.blocked_topics
    if of.quiet or channel in wishes.blocked_channels:
        assert not eligible
