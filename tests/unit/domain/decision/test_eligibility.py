"""Rules only remove, and each removed offer has one reason."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.unit.domain.builders import LIMITS, NOON_US, campaign, context, utc

from tilbud.domain.campaign.contact_policy import NO_CONTACT_POLICY
from tilbud.domain.clock import Now
from tilbud.domain.context import ContextInput
from tilbud.domain.customer.customer import NOTHING_HAPPENED, UNKNOWN_CUSTOMER
from tilbud.domain.decision.eligibility import RULES, Rules
from tilbud.domain.decision.situation import Situations
from tilbud.domain.errors import InvalidField

EVERY_RULE: dict[str, Any] = {
    "channels": ["web"],
    "devices": ["mobile"],
    "journey_stages": ["purchase"],
    "places": ["Odense"],
    "languages": ["da"],
    "countries": ["DK"],
    "valid": {"from": "2026-11-01", "until": "2026-11-30"},
    "hours": "08:00-21:00",
    "when": {"basket": {"gt": 30}},
}
FITTING: dict[str, Any] = {
    "channel": "web",
    "device": "mobile",
    "journey_stage": "purchase",
    "place": "Odense",
    "language": "da",
    "country": "DK",
    "features": {"basket": 31.0},
}


def offer(offer_id: str = "x", **rules: Any) -> dict[str, Any]:
    """Return an offer as a file declares it."""
    return {"id": offer_id, **dated(rules)}


def dated(rules: dict[str, Any]) -> dict[str, Any]:
    """Return rules with their days as dates, as YAML reads them."""
    valid = rules.get("valid")
    if valid is None:
        return rules
    days = {key: context(time_us=utc(day)).moment.day for key, day in valid.items()}
    return {**rules, "valid": days}


def removed_by(rules: dict[str, Any], zone: str = "UTC", **said: Any) -> str:
    """Return the rule that removes an offer with these rules, or "" where it may be shown."""
    home = campaign(offer(**rules), time_zone=zone)
    result = Rules(home).check(context(home, **said))
    assert len(result.eligible) + len(result.removed) == 1
    return result.removed[0][1] if result.removed else ""


def test_an_offer_that_fits_every_rule_may_be_shown():
    """Rules that all hold remove nothing."""
    assert removed_by(EVERY_RULE, **FITTING) == ""


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("channels", {"channel": "app"}),
        ("channels", {"channel": ""}),
        ("devices", {"device": "fridge"}),
        ("journey_stages", {"journey_stage": "advocacy"}),
        ("places", {"place": "odense"}),
        ("places", {"place": ""}),
        ("languages", {"language": "sv"}),
        ("languages", {"language": ""}),
        ("countries", {"country": "SE"}),
        ("valid", {"time_us": utc("2026-12-01")}),
        ("valid", {"time_us": utc("2026-10-31T23:59")}),
        ("hours", {"time_us": utc("2026-11-02T07:59")}),
        ("hours", {"time_us": utc("2026-11-02T21:00")}),
        ("when", {"features": {"basket": 30.0}}),
        ("when", {"features": {}}),
    ],
)
def test_each_rule_removes_under_its_own_name(rule, said):
    """The one rule that does not hold is the reason, whatever the others say."""
    assert removed_by(EVERY_RULE, **{**FITTING, **said}) == rule
    assert removed_by({rule: EVERY_RULE[rule]}, **{**FITTING, **said}) == rule


def test_the_first_rule_is_the_reason():
    """Where several rules remove an offer, the reason is the first in the order of RULES."""
    wanted = [rule for rule in RULES if rule in EVERY_RULE]
    left = dict(EVERY_RULE)
    for rule in wanted:
        assert removed_by(left, time_us=utc("2026-12-01T03:00")) == rule
        del left[rule]


@pytest.mark.parametrize(
    ("declared", "said", "shown"),
    [
        ("da", "da", True),
        ("da", "da-DK", True),
        ("DA", "da-dk", True),
        ("da-DK", "da-dk", True),
        ("da-DK", "da", False),
        ("da", "dan", True),
        ("da", "dav", False),
        ("da", "", False),
        ("zh-Hant", "zh-Hant-TW", True),
        ("zh-Hant", "zh-Hans-CN", False),
        ("zh", "zh-Hant-TW", True),
    ],
)
def test_a_language_covers_its_regions(declared, said, shown):
    """A language covers what begins with it, da covers da-DK, and never the other way round."""
    assert (removed_by({"languages": [declared]}, language=said) == "") is shown


@pytest.mark.parametrize(
    ("declared", "said", "shown"),
    [("DK", "dk", True), ("dk", "DK", True), ("no", "NO", True), ("DK", "SE", False)],
)
def test_countries_have_no_case(declared, said, shown):
    """Countries are compared without case."""
    assert (removed_by({"countries": [declared]}, country=said) == "") is shown


def test_other_is_a_word_to_ask_for():
    """A rule may ask for `other`: any device that the campaign does not declare."""
    assert removed_by({"devices": ["other"]}, device="fridge") == ""
    assert removed_by({"devices": ["other"]}, device="mobile") == "devices"
    assert removed_by({"devices": ["other"]}) == "devices"


@pytest.mark.parametrize(
    ("when", "zone", "shown"),
    [
        ("2026-10-31T22:59", "Europe/Copenhagen", False),  # summer time has ended: UTC + 1
        ("2026-10-31T23:00", "Europe/Copenhagen", True),
        ("2026-11-30T22:59", "Europe/Copenhagen", True),
        ("2026-11-30T23:00", "Europe/Copenhagen", False),
        ("2026-11-01T03:59", "America/New_York", False),  # still UTC − 4 until that night
        ("2026-11-01T04:00", "America/New_York", True),
        ("2026-12-01T04:59", "America/New_York", True),  # UTC − 5 by then
        ("2026-12-01T05:00", "America/New_York", False),
    ],
)
def test_both_days_of_validity_are_included_where_the_campaign_is(when, zone, shown):
    """An offer may be shown from its first midnight to its last in the campaign's time zone, across DST."""
    for customers_zone in ("", "Asia/Tokyo", "Pacific/Honolulu"):
        found = removed_by({"valid": EVERY_RULE["valid"]}, zone, time_us=utc(when), time_zone=customers_zone)
        assert found == ("" if shown else "valid")


def test_validity_may_be_open():
    """A validity without a start began long ago, one without an end never ends."""
    early, late = utc("1970-01-01"), utc("9998-01-01")
    assert removed_by({"valid": {"from": "2026-11-01"}}, time_us=late) == ""
    assert removed_by({"valid": {"until": "2026-11-01"}}, time_us=early) == ""
    assert removed_by({"valid": {}}, time_us=early) == ""


@pytest.mark.parametrize(
    ("when", "zone", "shown"),
    [
        ("2026-11-01T21:00", "Europe/Copenhagen", True),
        ("2026-11-01T20:59", "Europe/Copenhagen", False),
        ("2026-11-02T00:59", "Europe/Copenhagen", True),
        ("2026-11-02T01:00", "Europe/Copenhagen", False),
        ("2026-07-01T20:00", "Europe/Copenhagen", True),
        ("2026-11-01T13:00", "Asia/Tokyo", True),
        ("2026-11-01T22:00", "", True),
        ("2026-11-01T13:00", "", False),
    ],
)
def test_hours_wrap_midnight_where_the_customer_is(when, zone, shown):
    """Hours from 22:00 to 02:00 hold across midnight on the customer's clock."""
    found = removed_by({"hours": "22:00-02:00"}, time_us=utc(when), time_zone=zone)
    assert found == ("" if shown else "hours")


def test_calls_narrow_the_catalogue():
    """Included offers are all that is left, minus the excluded, each removed under the list's name."""
    rules = Rules(campaign(offer("a"), offer("b"), offer("c"), offer("d", channels=["web"])))
    result = rules.check(context(), include=("a", "b", "d", "a"), exclude=("b", "c"))
    assert result.eligible == (0,)
    assert dict(result.removed) == {
        1: "exclude_offers", 2: "include_offers", 3: "channels"
    }  # fmt: skip


@pytest.mark.parametrize("field", ["include_offers", "exclude_offers"])
def test_a_strict_campaign_refuses_unknown_offers(field):
    """Where the campaign is strict, a list that names an offer it does not have is refused by its name."""
    rules = Rules(campaign(strict=True))
    lists = {"include": ("a", "zz")} if field == "include_offers" else {"exclude": ("zz",)}
    with pytest.raises(InvalidField) as refused:
        rules.check(context(), **lists)
    assert refused.value.field == field
    assert "zz" in refused.value.problem


def test_lists_may_name_offers_that_are_gone():
    """An offer that is gone is not there to exclude, and includes nothing; the rest of a list holds."""
    rules = Rules(campaign())
    assert rules.check(context(), exclude=("zz", "a")).eligible == (1,)
    assert rules.check(context(), include=("zz", "a")).eligible == (0,)
    assert rules.check(context(), include=("zz",)).eligible == ()
    assert rules.has(("a", "b", "a"))
    assert not rules.has(("a", "zz"))


def test_a_long_unknown_offer_makes_no_long_error():
    """An error repeats only the beginning of what it was given."""
    with pytest.raises(InvalidField) as refused:
        Rules(campaign(strict=True)).check(context(), include=("z" * 100_000,))
    assert len(str(refused.value)) < 200


def test_equal_contexts_share_a_result():
    """Offers without rules are all eligible, in the file's order."""
    result = Rules(campaign()).check(context())
    assert (result.eligible, result.removed) == ((0, 1), ())


RULE_SETS = st.fixed_dictionaries(
    {},
    optional={
        "channels": st.lists(st.sampled_from(["web", "app", "other"]), unique=True),
        "devices": st.lists(st.sampled_from(["mobile", "desktop"]), unique=True),
        "journey_stages": st.lists(st.sampled_from(["purchase", "other"]), unique=True),
        "places": st.lists(st.sampled_from(["Odense", "Oslo"]), min_size=1),
        "languages": st.lists(st.sampled_from(["da", "no-NO"]), min_size=1),
        "countries": st.lists(st.sampled_from(["dk", "NO"]), min_size=1),
        "valid": st.sampled_from([{"from": "2026-11-01"}, {"until": "2026-11-01"}, {}]),
        "hours": st.sampled_from(["08:00-21:00", "22:00-06:00"]),
        "when": st.sampled_from([
            {"basket": {"gt": 30}}, {"none_of": [{"tier": {"eq": "gold"}}]}, {"weekend": {"eq": True}}
        ]),
    },
)  # fmt: skip
SAID = st.fixed_dictionaries(
    {},
    optional={
        "channel": st.sampled_from(["web", "app", "fax"]),
        "device": st.sampled_from(["mobile", "desktop", "fridge"]),
        "journey_stage": st.sampled_from(["purchase", "x"]),
        "place": st.sampled_from(["Odense", "Oslo", "odense"]),
        "language": st.sampled_from(["da-DK", "no", "no-NO"]),
        "country": st.sampled_from(["DK", "no"]),
        "time_us": st.integers(NOON_US - 2 * 86_400_000_000, NOON_US + 2 * 86_400_000_000),
        "time_zone": st.sampled_from(["UTC", "Asia/Tokyo", "America/Los_Angeles"]),
        "features": st.sampled_from([{}, {"basket": 31.0}, {"tier": "gold"}, {"basket": 1.0, "tier": "x"}]),
    },
)
CATALOGUE = st.lists(RULE_SETS, min_size=1, max_size=6)
SOME = st.sets(st.integers(0, 5))


def check(offers: list[dict[str, Any]], said: dict[str, Any], include: set[int], exclude: set[int]):
    """Check a catalogue; offers are known by their number."""
    home = campaign(*[offer(str(number), **rules) for number, rules in enumerate(offers)])
    ids = tuple(str(number) for number in sorted(include) if number < len(offers))
    without = tuple(str(number) for number in sorted(exclude) if number < len(offers))
    return Rules(home).check(context(home, **said), ids, without)


@given(CATALOGUE, SAID, SOME, SOME)
def test_every_offer_is_eligible_or_removed_once(offers, said, include, exclude):
    """Each offer is eligible, or removed by exactly one rule, and both lists keep the file's order."""
    result = check(offers, said, include, exclude)
    removed = [number for number, _ in result.removed]
    assert sorted([*result.eligible, *removed]) == list(range(len(offers)))
    assert list(result.eligible) == sorted(result.eligible)
    assert removed == sorted(removed)
    assert {rule for _, rule in result.removed} <= set(RULES)


@given(CATALOGUE, SAID, SOME, SOME, st.data())
def test_fewer_rules_never_remove_more(offers, said, include, exclude, data):
    """Taking rules away from offers only adds to what may be shown."""
    fewer = [
        {rule: value for rule, value in rules.items() if rule in data.draw(st.sets(st.sampled_from(RULES)))}
        for rules in offers
    ]
    before = check(offers, said, include, exclude)
    after = check(fewer, said, include, exclude)
    assert set(before.eligible) <= set(after.eligible)


@given(CATALOGUE, SAID, SOME, SOME)
def test_lists_of_a_call_only_narrow(offers, said, include, exclude):
    """A call's lists never make an offer eligible that the rules removed."""
    free = check(offers, said, set(), set())
    narrowed = check(offers, said, include, exclude)
    assert set(narrowed.eligible) <= set(free.eligible)
    assert not exclude & set(narrowed.eligible)


@given(RULE_SETS, RULE_SETS, SAID)
def test_an_offers_rules_are_its_own(rules, others, said):
    """What removes an offer does not depend on the rules of the others."""
    alone = check([rules], said, set(), set())
    beside = check([rules, others], said, set(), set())
    assert (0 in alone.eligible) is (0 in beside.eligible)
    assert alone.removed == tuple(each for each in beside.removed if each[0] == 0)


NIGHT = {"hours": "22:00-04:00"}


@pytest.mark.parametrize(
    ("when", "found"),
    [
        ("2026-12-24T02:00", "valid"),  # of the night of the 23rd
        ("2026-12-24T21:59", "hours"),
        ("2026-12-24T22:00", ""),
        ("2026-12-25T03:59", ""),
        ("2026-12-25T04:00", "valid"),
        ("2026-12-25T22:00", "valid"),
    ],
)
def test_a_night_is_valid_as_the_day_on_which_it_begins(when, found):
    """Hours that wrap midnight, on one valid day, are that day's night and no other; on any clock."""
    rules = {**NIGHT, "valid": {"from": "2026-12-24", "until": "2026-12-24"}}
    assert removed_by(rules, time_us=utc(when)) == found
    here = utc(when) - 3_600_000_000  # Copenhagen is an hour ahead in winter
    assert removed_by(rules, "Europe/Copenhagen", time_us=here, time_zone="Europe/Copenhagen") == found


@given(
    days=st.integers(0, 400),
    minute=st.integers(0, 1439),
    start=st.integers(0, 1439),
    end=st.integers(0, 1439).filter(bool),
    zones=st.tuples(*2 * [st.sampled_from(["UTC", "Asia/Tokyo", "Asia/Kathmandu", "Etc/GMT+12"])]),
)
def test_a_whole_night_has_one_verdict(days, minute, start, end, zones):
    """Whatever the zones of campaign and customer: it is valid by the campaign's day when it began."""
    assume(start != end)
    hours = "-".join(f"{each // 60:02}:{each % 60:02}" for each in (start, end))
    ago = (minute - start) % 1440
    home, theirs = zones
    local = datetime(2026, 1, 1, minute // 60, minute % 60, tzinfo=ZoneInfo(theirs)) + timedelta(days=days)
    began = (local - timedelta(minutes=ago)).astimezone(ZoneInfo(home)).date()
    day = began if end < start else local.astimezone(ZoneInfo(home)).date()
    now_us = round(local.timestamp() * 1e6)
    inside = ago < (end - start) % 1440
    for shift in (-1, 0, 1):
        only = str(day + timedelta(days=shift))
        rules = {"hours": hours, "valid": {"from": only, "until": only}}
        found = removed_by(rules, home, time_us=now_us, time_zone=theirs)
        assert (found == "") == (inside and not shift)


@pytest.mark.parametrize(
    ("when", "shown"),
    [
        ("2026-11-06T02:00", False),  # Friday morning, of Thursday's night
        ("2026-11-06T23:00", True),
        ("2026-11-07T02:00", True),
        ("2026-11-07T23:00", False),
    ],
)
def test_a_weekday_asked_for_is_the_one_on_which_the_night_begins(when, shown):
    """So is the weekend; what has no hours that wrap is judged by the day it is."""
    friday = {"weekday": {"eq": "friday"}, "none_of": [{"weekend": {"eq": True}}]}
    assert removed_by({**NIGHT, "when": friday}, time_us=utc(when)) == ("" if shown else "when")
    is_friday = when.startswith("2026-11-06")
    assert removed_by({"when": friday}, time_us=utc(when)) == ("" if is_friday else "when")


@pytest.mark.parametrize(
    ("when", "shown"),
    [("2026-11-06T02:00", False), ("2026-11-07T02:00", True), ("2026-11-07T23:00", False)],
)
def test_a_segment_of_a_weekday_is_judged_on_that_day_too(when, shown):
    """What `when` asks for by a segment is asked for as if it stood there itself."""
    rules: dict[str, Any] = {**NIGHT, "when": {"out_on_friday": {"eq": True}}}
    segments = {"out_on_friday": {"any_of": [{"weekday": {"eq": "friday"}}]}}
    home = campaign(offer(**rules), segments=segments)
    situation = Situations(home, NO_CONTACT_POLICY).read(
        ContextInput(), UNKNOWN_CUSTOMER, NOTHING_HAPPENED, Now(utc(when), 0), LIMITS, consented=True
    )
    assert situation.context.features["out_on_friday"] is when.startswith("2026-11-06")
    assert bool(Rules(home).check(situation.context).eligible) is shown
