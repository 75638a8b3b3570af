"""How often is enough: no offer passes its cap, and none below it is removed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.domain.builders import NOON_US, campaign

from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.campaign.contact_policy import NO_CONTACT_POLICY, ContactPolicy
from tilbud.domain.customer.customer import channel_scope, group_scope, offer_scope
from tilbud.domain.decision.eligibility import Eligibility
from tilbud.domain.decision.facts import NO_SCOPES
from tilbud.domain.decision.frequency_caps import Caps

DAY_US = 86_400_000_000


def cap(times: int, days: int = 7) -> dict[str, Any]:
    """Return a cap as a file has it."""
    return {"times": times, "per": f"{days}d"}


POLICY = ContactPolicy.model_validate(
    {"channels": {"push": {"caps": [cap(2, 1)]}, "sms": {"caps": [cap(1, 1)]}}}
)
HOME = campaign(
    {"id": "a", "caps": [cap(3)], "group": "g"},
    {"id": "b", "group": "g"},
    {"id": "c", "caps": [cap(1, 1), cap(5, 7)]},
    {"id": "d"},
    groups={"g": {"caps": [cap(4)]}, "h": {"caps": [cap(1)]}},
)
ALL = Eligibility((0, 1, 2, 3), ())
A, C = offer_scope("c", "a"), offer_scope("c", "c")
G, H, PUSH = group_scope("c", "g"), group_scope("c", "h"), channel_scope("push")


def applied(exposures: dict[str, int], channel: str = "web", eligibility: Eligibility = ALL) -> Eligibility:
    """Return what is left after so many exposures under each scope, all of them just now."""
    times_us = {scope: [NOON_US] * times for scope, times in exposures.items()}
    return Caps(HOME, POLICY).without_capped(eligibility, times_us, channel, NOON_US)


def test_what_counts_at_all_is_known_before_anything_is_decided():
    """Every scope of a cap, in one range each, and none that counts elsewhere."""
    caps = Caps(HOME, POLICY)
    for channel, also in (("web", set()), ("push", {PUSH})):
        counted = caps.counted(channel)
        assert set(counted.names) == {A, C, G, H} | also
        assert counted.per_us == 7 * DAY_US, "the longest"
        for name in counted.names:
            assert sum(low <= name < high for low, high in counted.ranges) == 1
        others = (
            offer_scope("c2", "a"),
            offer_scope("b", "a"),
            channel_scope("push-2"),
            channel_scope("web"),
        )
        assert not [name for name in others for low, high in counted.ranges if low <= name < high]
    assert Caps(campaign({"id": "a"}, {"id": "b"}), NO_CONTACT_POLICY).counted("web") == NO_SCOPES


@pytest.mark.parametrize(
    ("home", "policy", "eligibility", "channel"),
    [
        (campaign(), NO_CONTACT_POLICY, ALL, "push"),
        (campaign(), POLICY, ALL, "web"),
        (HOME, POLICY, Eligibility((), ()), "push"),
        (HOME, POLICY, Eligibility((3,), ()), "web"),
    ],
)
def test_nothing_is_removed_where_nothing_caps(home, policy, eligibility, channel):
    """However often the customer was met."""
    exposures = {scope: [NOON_US] * 100 for scope in (A, C, channel_scope("web"), channel_scope("other"))}
    assert Caps(home, policy).without_capped(eligibility, exposures, channel, NOON_US) is eligibility


@pytest.mark.parametrize(
    ("exposures", "channel", "removed"),
    [
        ({A: 2, G: 3, C: 0, PUSH: 9}, "web", {}),
        ({A: 3}, "web", {0: "caps"}),
        ({A: 4}, "web", {0: "caps"}),
        ({G: 4}, "web", {0: "group_caps", 1: "group_caps"}),
        ({G: 4, A: 3}, "web", {0: "group_caps", 1: "group_caps"}),
        ({C: 1}, "web", {2: "caps"}),
        ({PUSH: 1}, "push", {}),
        ({PUSH: 2, G: 4}, "push", dict.fromkeys(range(4), "contact_policy")),
        ({channel_scope("sms"): 1}, "sms", dict.fromkeys(range(4), "contact_policy")),
    ],
)
def test_the_widest_cap_is_the_reason(exposures, channel, removed):
    """An offer at several caps is removed by the channel's, then the group's, then its own."""
    result = applied(exposures, channel)
    assert dict(result.removed) == removed
    assert result.eligible == tuple(index for index in range(4) if index not in removed)


def test_what_was_removed_before_stays_with_its_reason():
    """Caps add to what other rules removed, in the file's order."""
    before = Eligibility((0, 2, 3), ((1, "when"),))
    assert applied({A: 3, G: 9}, eligibility=before).removed == ((0, "group_caps"), (1, "when"))
    assert applied({}, eligibility=before) is before


@pytest.mark.parametrize(
    ("index", "channel", "scopes"),
    [
        (0, "web", (A, G, channel_scope("web"))),
        (2, "push", (C, PUSH)),
        (3, "", (offer_scope("c", "d"), channel_scope("unknown"))),
        (3, "sms", (offer_scope("c", "d"), channel_scope("sms"))),
        (3, "anna@example.org", (offer_scope("c", "d"), channel_scope("other"))),
        (3, "other", (offer_scope("c", "d"), channel_scope("other"))),
    ],
)
def test_an_exposure_counts_under_offer_group_and_channel(index, channel, scopes):
    """An exposure counts whether or not it is capped today; a made-up channel is no scope of its own."""
    assert Caps(HOME, POLICY).scopes(index, channel) == scopes


CAPS = st.lists(st.builds(cap, st.integers(1, 3), st.sampled_from([1, 7])), max_size=2)
OFFERS = st.lists(
    st.fixed_dictionaries({}, optional={"caps": CAPS, "group": st.sampled_from(["g", "h"])}),
    min_size=1,
    max_size=4,
)
HISTORY = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["web", "push", "sms"]), st.integers(0, 8 * DAY_US)),
    max_size=8,
)


def per_us(written: dict[str, Any]) -> int:
    """Return a written cap's stretch of time."""
    return int(written["per"].removesuffix("d")) * DAY_US


def at_a_cap(caps: list[dict[str, Any]], ages_us: list[int]) -> bool:
    """Say whether exposures of these ages reach any of the caps, counted by hand."""
    return any(sum(age_us < per_us(each) for age_us in ages_us) >= each["times"] for each in caps)


@given(OFFERS, CAPS, CAPS, HISTORY, st.sampled_from(["web", "push", "sms", ""]))
def test_exactly_what_is_at_a_cap_is_removed(offers, group_caps, push_caps, history, channel):
    """An offer is removed exactly if it, its group or the channel met the customer as often as allowed."""
    home: Campaign = campaign(
        *[{"id": str(number), **each} for number, each in enumerate(offers)],
        groups={"g": {"caps": group_caps}, "h": {}},
    )
    policy = ContactPolicy.model_validate({"channels": {"push": {"caps": push_caps}}})
    caps, everything = Caps(home, policy), Eligibility(tuple(range(len(offers))), ())
    past = [(number, where, age_us) for number, where, age_us in history if number < len(offers)]
    times_us: dict[str, list[int]] = {}
    for number, where, age_us in past:
        for scope in caps.scopes(number, where):
            times_us.setdefault(scope, []).append(NOON_US - age_us)
    reasons = dict(caps.without_capped(everything, times_us, channel, NOON_US).removed)
    full = channel == "push" and at_a_cap(push_caps, [age_us for _, where, age_us in past if where == "push"])
    assert caps.channel_is_full(times_us, channel, NOON_US) == full
    for number, each in enumerate(offers):
        group = each.get("group")
        in_group = [age_us for other, _, age_us in past if offers[other].get("group") == group]
        wanted = None
        if full:
            wanted = "contact_policy"
        elif group == "g" and at_a_cap(group_caps, in_group):
            wanted = "group_caps"
        elif at_a_cap(each.get("caps", []), [age_us for other, _, age_us in past if other == number]):
            wanted = "caps"
        assert reasons.get(number) == wanted
