"""What is known of the customer completes the situation, with their consent and not without it."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.domain.builders import LIMITS, NOON_US, campaign, context, utc

from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.campaign.contact_policy import NO_CONTACT_POLICY, ContactPolicy
from tilbud.domain.clock import Now
from tilbud.domain.context import Consent, ContextInput
from tilbud.domain.customer.customer import (
    NOTHING_HAPPENED,
    UNKNOWN_CUSTOMER,
    Customer,
    Happened,
    Preferences,
    Profile,
    Trait,
)
from tilbud.domain.decision.situation import Situation, Situations
from tilbud.domain.durations import Hours
from tilbud.domain.errors import InvalidField
from tilbud.domain.versions import version_of

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
FULL: dict[str, Any] = {
    "time_zone": "Europe/Copenhagen",
    "context": {
        "features": {"basket": "number"},
        "traits": {"tier": "category", "value": {"kind": "number", "max_age": "30d"}},
        "max_age": "180d",
        "events": ["cart", "bought", "called"],
    },
    "journey": {"bought": "retention", "cart": "purchase"},
    "segments": {
        "rich": {"value": {"gt": 500}},
        "left": {"last_event": {"eq": "cart"}, "none_of": [{"last_event_recency": {"eq": "older"}}]},
        "mobile": {"device": {"eq": "mobile"}},
    },
}
HOME = campaign(**FULL)
PLAIN = campaign()


def profile(**said: Any) -> Profile:
    """Return a profile with consent; traits as (value, age in µs)."""
    traits = {
        name: Trait(value, NOON_US - age_us) for name, (value, age_us) in said.pop("traits", {}).items()
    }
    return Profile(consent=Consent.GRANTED, traits=traits, changes=1, **said)


def known(**said: Any) -> Customer:
    """Return a customer with that profile."""
    return Customer(number=7, version=3, profile=profile(**said))


def read(
    home: Campaign = HOME,
    customer: Customer = UNKNOWN_CUSTOMER,
    events: dict[str, int] | None = None,
    *,
    consented: bool = True,
    quiet_channels: tuple[str, ...] | None = None,
    customer_named: bool | None = None,
    **said: Any,
) -> Situation:
    """Read a situation at noon UTC; events as ages in µs."""
    happened = Happened(events={name: NOON_US - age_us for name, age_us in (events or {}).items()})
    policy = ContactPolicy(quiet_channels=quiet_channels) if quiet_channels is not None else NO_CONTACT_POLICY
    return Situations(home, policy).read(
        ContextInput(**said),
        customer,
        happened if events else NOTHING_HAPPENED,
        Now(NOON_US, 0),
        LIMITS,
        consented=consented,
        customer_named=customer is not UNKNOWN_CUSTOMER if customer_named is None else customer_named,
    )


def test_the_profile_speaks_where_the_call_is_silent():
    """Time zone, language and journey stage are the profile's where the call says none."""
    customer = known(time_zone="Asia/Tokyo", language="da-DK", journey_stage="advocacy")
    found = read(customer=customer).context
    assert (found.moment.hour, found.language, found.journey_stage) == (21, "da-dk", "advocacy")
    said = read(customer=customer, time_zone="UTC", language="sv", journey_stage="awareness").context
    assert (said.moment.hour, said.language, said.journey_stage) == (12, "sv", "awareness")


def test_a_profiles_stage_that_is_not_declared_is_other():
    """A stage of another campaign's vocabulary counts as `other`, as a caller's would."""
    assert read(customer=known(journey_stage="prospect")).context.journey_stage == "other"


@pytest.mark.parametrize("zone", ["Mars/Base", "", "../etc", "a" * 128])
def test_a_time_zone_that_is_gone_does_not_fail_a_decision(zone):
    """Where the profile's time zone is none any more the campaign's is used, for quiet hours too."""
    preferences = Preferences(quiet_hours=Hours(13 * 60, 14 * 60))
    found = read(customer=known(time_zone=zone, preferences=preferences))
    assert found.context.moment.hour == 13
    assert found.quiet


def test_a_profiles_language_that_grows_in_small_letters_is_not_used():
    """A language within its limit that is beyond it in small letters does not fail a decision."""
    assert read(customer=known(language="İ" * 128)).context.language == ""


@pytest.mark.parametrize(
    ("events", "stage"),
    [
        ({}, "advocacy"),
        ({"cart": 2 * HOUR_US}, "purchase"),
        ({"cart": 2 * HOUR_US, "bought": HOUR_US}, "retention"),
        ({"cart": HOUR_US, "bought": 2 * HOUR_US}, "purchase"),
        ({"cart": DAY_US}, "advocacy"),
        ({"cart": DAY_US - 1}, "purchase"),
        ({"called": HOUR_US}, "advocacy"),
        ({"bought": HOUR_US, "cart": HOUR_US}, "retention"),
        ({"bought": -DAY_US}, "retention"),
    ],
)
def test_the_latest_event_moves_a_customer_on_the_journey(events, stage):
    """The latest event that leads somewhere is the stage, if it is later than the profile's own word."""
    customer = known(journey_stage="advocacy", journey_stage_us=NOON_US - DAY_US)
    assert read(customer=customer, events=events).context.journey_stage == stage
    assert (
        read(customer=customer, events=events, journey_stage="awareness").context.journey_stage == "awareness"
    )


@pytest.mark.parametrize(
    ("trait", "used", "dropped"),
    [
        (("gold", 0), "gold", None),
        (("gold", 180 * DAY_US), "gold", None),
        (("gold", 180 * DAY_US + 1), None, "too_old"),
        (("gold", -DAY_US), "gold", None),
        ((1.0, 0), None, "wrong_kind"),
        ((True, 900 * DAY_US), None, "wrong_kind"),
    ],
)
def test_a_trait_is_used_if_it_is_of_its_kind_and_young_enough(trait, used, dropped):
    """A trait of another kind, or older than its age, is not used, and named with the reason."""
    found = read(customer=known(traits={"tier": trait}))
    assert found.context.features.get("tier") == used
    assert found.dropped.get("tier") == dropped
    assert set(found.dropped) <= {"tier"}


@pytest.mark.parametrize(
    ("trait", "used", "dropped"),
    [
        (("v10.2", 0), version_of("10.2"), None),
        (("ten", 0), None, "not_a_version"),
        ((10.2, 0), None, "wrong_kind"),
        (("10.2", 401 * DAY_US), None, "too_old"),
    ],
)
def test_a_trait_may_be_a_version(trait, used, dropped):
    """It is stored as text, and used where that is a version."""
    home = campaign(context={"traits": {"app": "version"}})
    found = read(home, known(traits={"app": trait}))
    assert found.context.features.get("app") == used
    assert found.dropped.get("app") == dropped


@pytest.mark.parametrize(
    ("said", "dropped"),
    [
        ("ten", "not_a_version"),
        (10.2, "wrong_kind"),
        ("", "empty"),
        ("x" * 129, "too_long"),
        ("1\n", "control_characters"),
    ],
)
def test_a_version_that_is_none_costs_itself_alone(said, dropped):
    """A text that is no version is dropped with its reason; a strict campaign refuses it by name."""
    declared = {"features": {"app": "version", "web": "version"}}
    found = read(campaign(context=declared), features={"app": said, "web": "2"})
    assert (dict(found.dropped), found.context.features) == ({"app": dropped}, {"web": version_of("2.0")})
    with pytest.raises(InvalidField) as refused:
        read(campaign(strict=True, context=declared), features={"app": said})
    assert refused.value.field == "context.features[app]"


def test_segments_may_ask_for_a_version():
    """A segment compares versions, and what is known of one is told as text."""
    home = campaign(context={"features": {"app": "version"}}, segments={"new": {"app": {"ge": "10.2"}}})
    for said, new in (("10.10", True), ("10.2-beta", False)):
        found = read(home, features={"app": said}).context
        assert found.known()["new"] is new
    assert found.known()["app"] == "10.2.0-beta"


def test_a_traits_own_age_counts_before_that_of_all():
    """The age of one trait stands before the one all traits share."""
    found = read(customer=known(traits={"value": (7.0, 30 * DAY_US + 1), "tier": ("gold", 31 * DAY_US)}))
    assert found.dropped == {"value": "too_old"}
    assert found.context.features["tier"] == "gold"


def test_what_the_call_says_is_fresher_than_a_trait():
    """A trait that the call says is the call's, and the stored one is not called dropped."""
    customer = known(traits={"tier": ("gold", 900 * DAY_US), "value": (1.0, 0)})
    found = read(customer=customer, features={"tier": "silver", "value": 600.0})
    assert (found.context.features["tier"], found.context.features["value"]) == ("silver", 600.0)
    assert found.context.features["rich"] is True
    assert found.dropped == {}


def test_traits_a_campaign_does_not_declare_are_not_its_business():
    """A trait that is not declared is neither used nor mentioned, with consent or without."""
    customer = known(traits={"shoe_size": (44.0, 0)})
    for consented in (True, False):
        found = read(customer=customer, consented=consented)
        assert "shoe_size" not in {**found.context.features, **found.dropped}


@pytest.mark.parametrize(
    ("age_us", "recency"),
    [
        (-DAY_US, "within_an_hour"),
        (0, "within_an_hour"),
        (HOUR_US - 1, "within_an_hour"),
        (HOUR_US, "within_a_day"),
        (DAY_US, "within_a_week"),
        (7 * DAY_US, "within_a_month"),
        (30 * DAY_US, "older"),
        (4_000 * DAY_US, "older"),
    ],
)
def test_the_last_event_is_known_with_its_recency(age_us, recency):
    """The last declared event is a feature, and so is how long ago it was; the future is now."""
    events = {"cart": age_us, "bought": 5_000 * DAY_US, "cancelled": 0}
    features = read(customer=known(), events=events).context.features
    assert (features["last_event"], features["last_event_recency"]) == ("cart", recency)


def test_nothing_declared_has_no_last_event():
    """Without declared events, or where none of them happened, there is no last event."""
    assert "last_event" not in read(PLAIN, known(), {"cart": 0}).context.features
    assert "last_event" not in read(HOME, known(), {"cancelled": 0}).context.features
    assert "last_event" not in read(HOME).context.features


def test_history_is_asked_for_where_something_looks_at_it():
    """Events, `requires` and `suppress_after` need history; nothing else does."""
    suppressing = campaign({"id": "a", "suppress_after": {"click": "1d"}})
    for home, needs in ((PLAIN, False), (HOME, True), (suppressing, True)):
        assert Situations(home, NO_CONTACT_POLICY).needs_history is needs


def test_features_come_in_order_of_their_names():
    """Whatever a feature comes from, all are in one order, so that equal situations have equal keys."""
    customer = known(traits={"value": (600.0, 0), "tier": ("gold", 0)})
    features = read(customer=customer, events={"cart": 0}, features={"basket": 3.0}).context.features
    assert list(features) == sorted(features)
    assert features == {
        "basket": 3.0, "last_event": "cart", "last_event_recency": "within_an_hour", "left": True,
        "mobile": False, "rich": True, "tier": "gold", "value": 600.0,
    }  # fmt: skip


def test_without_consent_what_is_not_used_is_named():
    """Each thing the call said that is not used is named once, in order; of the profile nothing is told."""
    customer = known(traits={"tier": ("gold", 0)}, language="da", journey_stage="advocacy")
    found = read(
        customer=customer, events={"cart": 0}, consented=False,
        place="Odense", country="DK", features={"basket": 1.0},
    )  # fmt: skip
    assert list(found.dropped) == ["basket", "country", "customer_id", "place"]
    assert set(found.dropped.values()) == {"no_consent"}


@pytest.mark.parametrize(("consented", "dropped"), [(True, {}), (False, {"customer_id": "no_consent"})])
def test_an_id_without_consent_is_dropped(consented, dropped):
    """A customer id is named as dropped without consent, also of a customer nothing is known of."""
    assert read(consented=consented, customer_named=True).dropped == dropped
    assert read(consented=consented).dropped == {}


@pytest.mark.parametrize(
    ("zone_said", "zone_known", "hour_utc", "quiet"),
    [
        ("", "", 20, True),  # 21:00 in Copenhagen
        ("", "", 19, False),
        ("", "Asia/Tokyo", 12, True),  # 21:00 in Tokyo
        ("", "Asia/Tokyo", 20, True),  # 05:00
        ("", "Asia/Tokyo", 23, False),  # 08:00
        ("UTC", "Asia/Tokyo", 12, False),
        ("UTC", "Asia/Tokyo", 21, True),
    ],
)
@pytest.mark.parametrize("consented", [True, False])
def test_quiet_hours_are_on_the_customers_clock(zone_said, zone_known, hour_utc, quiet, consented):
    """Quiet is kept on the call's clock, else the customer's, else the campaign's, whatever the consent."""
    customer = known(time_zone=zone_known, preferences=Preferences(quiet_hours=Hours(21 * 60, 8 * 60)))
    when = utc(f"2026-11-02T{hour_utc:02}:00")
    found = read(customer=customer, consented=consented, time_us=when, time_zone=zone_said)
    assert found.quiet is quiet


@pytest.mark.parametrize(
    ("channels", "channel", "quiet"),
    [
        (None, "web", True), (None, "", True), (("push", "email"), "push", True), (("push",), "web", False),
        (("push",), "", False), ((), "push", False), (("sms",), "sms", True), (("other",), "fax", True),
    ],
)  # fmt: skip
def test_quiet_hours_count_in_the_quiet_channels(channels, channel, quiet):
    """Quiet hours count in the channels the policy names, declared by the campaign or not; else in all."""
    customer = known(preferences=Preferences(quiet_hours=Hours(0, 23 * 60)))
    assert read(customer=customer, quiet_channels=channels, channel=channel).quiet is quiet


@pytest.mark.parametrize("consented", [True, False])
@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"place": "\0"}, "context.place"),
        ({"time_zone": "Mars/Base"}, "context.time_zone"),
        ({"time_us": -1}, "context.time"),
        ({"features": {"rich": True}}, "context.features[rich]"),
        ({"features": {"last_event": "cart"}}, "context.features[last_event]"),
        ({"features": {"tier": 1.0}}, "context.features[tier]"),
        ({"device": "a\n"}, "context.device"),
    ],
)
def test_a_strict_campaign_names_the_field_of_bad_input(said, field, consented):
    """Of a strict campaign, what a caller must not say is refused by name, whoever the customer is."""
    strict = campaign(strict=True, **FULL)
    for customer in (UNKNOWN_CUSTOMER, known(traits={"tier": ("gold", 0)})):
        with pytest.raises(InvalidField) as refused:
            read(strict, customer, consented=consented, **said)
        assert refused.value.field == field


@pytest.mark.parametrize(
    ("said", "dropped"),
    [
        ({"place": "\0"}, {"place": "control_characters"}),
        ({"place": "x" * 129}, {"place": "too_long"}),
        ({"language": "x" * 129}, {"language": "too_long"}),
        ({"country": "ß" * 128}, {"country": "too_long"}),
        ({"time_zone": "Mars/Base"}, {"time_zone": "unknown_zone"}),
        ({"time_zone": "x" * 129}, {"time_zone": "too_long"}),
        ({"device": "x" * 129}, {"device": "too_long"}),
        ({"journey_stage": "a\n"}, {"journey_stage": "control_characters"}),
        ({"features": {"rich": True, "gone": 1.0, "last_event": "cart"}}, {"features": "undeclared"}),
        ({"features": {"tier": 1.0, "basket": "x"}}, {"tier": "wrong_kind", "basket": "wrong_kind"}),
        ({"features": {"basket": True}}, {"basket": "wrong_kind"}),
        ({"features": {"basket": float("nan")}}, {"basket": "out_of_range"}),
        ({"features": {"basket": -1e39}}, {"basket": "out_of_range"}),
        ({"features": {"basket": "", "tier": ""}}, {"basket": "empty", "tier": "empty"}),
        ({"features": {"tier": "x" * 129}}, {"tier": "too_long"}),
    ],
)  # fmt: skip
def test_a_bad_value_costs_itself_alone(said, dropped):
    """What is undeclared, of another kind or beyond its limit is dropped with its reason alone."""
    features = {"value": 3.0, **said.pop("features", {})}
    found = read(features=features, channel="web", **said)
    assert dict(found.dropped) == dropped
    assert list(found.dropped) == sorted(dropped)
    assert found.context.channel == "web"
    assert found.context.features["value"] == 3.0
    assert set(found.context.features) <= {"value", "rich", "left", "mobile"}
    assert found.context.value("place") is found.context.value("language") is None
    assert found.context.device == ("other" if "device" in dropped else "unknown")
    without = read(features=features, channel="web", consented=False, **said)
    assert dropped.items() <= without.dropped.items()
    assert "gone" not in without.dropped


def test_what_is_dropped_was_not_said():
    """A bad trait, time zone or language of a call leaves room for what is stored of the customer."""
    customer = known(traits={"tier": ("gold", 0)}, language="da", time_zone="Asia/Tokyo")
    found = read(customer=customer, time_zone="x", language="x" * 200, features={"tier": 1.0})
    assert found.context.features["tier"] == "gold"
    assert found.context.language == "da"
    assert found.context.moment.hour == 21


def test_a_time_that_is_none_and_too_many_features_are_refused():
    """They are no value among others: the call is refused by the field's name, strict or not."""
    for said, field in (
        ({"time_us": -1}, "context.time"),
        ({"features": {f"f{number}": 1.0 for number in range(101)}}, "context.features"),
    ):
        with pytest.raises(InvalidField) as refused:
            read(**said)
        assert refused.value.field == field


def test_a_plain_call_is_read_once_a_minute():
    """Equal calls without a customer share one situation within a minute, and none beyond it."""
    situations = Situations(HOME, NO_CONTACT_POLICY)

    def at(now_us: int, **said: Any) -> Situation:
        return situations.read(
            ContextInput(**said), UNKNOWN_CUSTOMER, NOTHING_HAPPENED, Now(now_us, 0), LIMITS, consented=True
        )

    assert at(NOON_US, device="mobile") is at(NOON_US + 59_999_999, device="mobile")
    assert at(NOON_US + HOUR_US, device="mobile").context.moment.hour == 14
    assert at(NOON_US, device="tablet").context.device == "tablet"


def test_calls_of_many_kinds_are_not_all_kept():
    """However many devices callers write, no more situations stay than the limit says."""
    situations = Situations(HOME, NO_CONTACT_POLICY)
    before = _situations()
    for number in range(3_000):
        raw = ContextInput(device=f"d{number}")
        situations.read(raw, UNKNOWN_CUSTOMER, NOTHING_HAPPENED, Now(NOON_US, 0), LIMITS, consented=True)
    assert _situations() - before <= LIMITS.plain_situations_cached_max


def _situations() -> int:
    """Return how many there are in this process."""
    gc.collect()
    return sum(isinstance(thing, Situation) for thing in gc.get_objects())


SAID = st.fixed_dictionaries(
    {},
    optional={
        "device": st.sampled_from(["", "mobile", "fridge"]),
        "channel": st.sampled_from(["", "web", "push"]),
        "journey_stage": st.sampled_from(["", "purchase", "x"]),
        "time_us": st.integers(NOON_US - 9 * DAY_US, NOON_US + 9 * DAY_US),
        "time_zone": st.sampled_from(["", "UTC", "Asia/Tokyo"]),
        "language": st.sampled_from(["", "da-DK"]),
        "country": st.sampled_from(["", "dk"]),
        "place": st.sampled_from(["", "Odense"]),
        "features": st.fixed_dictionaries(
            {}, optional={"basket": st.floats(0, 99), "tier": st.sampled_from(["gold", "x"]),
                          "value": st.sampled_from([1.0, 501.0])}
        ),
    },
)  # fmt: skip
AGES = st.integers(-DAY_US, 200 * DAY_US)
CUSTOMERS = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "time_zone": st.sampled_from(["", "Asia/Tokyo", "Mars/Base"]),
        "language": st.sampled_from(["", "da", "İ" * 128]),
        "journey_stage": st.sampled_from(["", "advocacy", "x"]),
        "journey_stage_us": st.integers(0, NOON_US),
        "traits": st.dictionaries(
            st.sampled_from(["tier", "value", "shoe_size"]),
            st.tuples(st.sampled_from(["gold", 501.0, True]), AGES),
        ),
        "preferences": st.builds(Preferences, quiet_hours=st.sampled_from([None, Hours(0, 720)])),
    },
)
EVENTS = st.dictionaries(st.sampled_from(["cart", "bought", "called", "cancelled"]), AGES)
HOMES = st.sampled_from([HOME, campaign(**{**FULL, "segments": {}})])


@given(HOMES, SAID, CUSTOMERS, EVENTS)
def test_without_consent_the_customer_is_anybody(home, said, customer, events):
    """Without consent the context is that of an anonymous call of device, channel, stage and time alone."""
    asked = UNKNOWN_CUSTOMER if customer is None else known(**customer)
    bare = {
        name: said[name]
        for name in ("device", "channel", "journey_stage", "time_us", "time_zone")
        if name in said
    }
    found = read(home, asked, events, consented=False, **said)
    for consented in (True, False):
        anonymous = read(home, consented=consented, **bare)
        assert found.context == anonymous.context
        assert found.context.key() == anonymous.context.key()
        assert anonymous.dropped == {}


@given(SAID, CUSTOMERS, EVENTS, st.booleans())
def test_segments_are_their_conditions(said, customer, events, consented):
    """Each segment's flag is what its condition says of the rest of the context, evaluated by hand."""
    asked = UNKNOWN_CUSTOMER if customer is None else known(**customer)
    found = read(HOME, asked, events, consented=consented, **said).context
    features = found.features
    value = features.get("value")
    assert features["rich"] is (isinstance(value, float) and value > 500)
    assert features["mobile"] is (found.device == "mobile")
    assert features["left"] is (
        features.get("last_event") == "cart" and features["last_event_recency"] != "older"
    )


@given(SAID, CUSTOMERS, EVENTS, st.booleans())
def test_any_customer_makes_a_clean_situation(said, customer, events, consented):
    """Whatever is known, features are declared, of their kind and in order, and reasons are known ones."""
    asked = UNKNOWN_CUSTOMER if customer is None else known(**customer)
    found = read(HOME, asked, events, consented=consented, **said)
    kinds = {"category": str, "number": float, "flag": bool}
    schema = dict(HOME.feature_schema())
    assert all(type(value) is kinds[schema[name]] for name, value in found.context.features.items())
    assert list(found.context.features) == sorted(found.context.features)
    assert list(found.dropped) == sorted(found.dropped)
    assert set(found.dropped.values()) <= {"no_consent", "too_old", "wrong_kind"}
    assert not set(found.dropped) & set(found.context.features)


@given(SAID)
def test_a_plain_campaign_reads_what_it_always_read(said):
    """Where nothing of customers is declared, the situation is the caller's context and nothing else."""
    home = campaign(context={"features": {"basket": "number", "tier": "category", "value": "number"}})
    for customer in (UNKNOWN_CUSTOMER, replace(UNKNOWN_CUSTOMER, version=2), Customer(profile=Profile())):
        found = read(home, customer, **said)
        assert found.context == context(home, **said)
        assert (found.dropped, found.quiet) == ({}, False)
