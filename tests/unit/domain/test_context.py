"""What the caller said becomes a small, clean context, read in local time."""

from __future__ import annotations

import math
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.domain.builders import LIMITS, NOON_US, campaign, context, utc

from tilbud.domain.context import (
    BUILT_IN_FEATURES,
    PARTS_OF_DAY,
    TIME_US_MAX,
    Context,
    ContextInput,
    moment_at,
    read_context,
    time_zone,
)
from tilbud.domain.errors import InvalidField
from tilbud.domain.text import is_clean

VOCABULARY = campaign().vocabulary()


def refused(**said: Any) -> InvalidField:
    """Return what a context is refused with."""
    with pytest.raises(InvalidField) as error:
        context(**said)
    return error.value


@pytest.mark.parametrize("field", ["device", "channel", "journey_stage"])
def test_vocabularies_bound_what_is_said(field):
    """A declared word stands, any other is `other`, and none is `unknown`."""
    word = {"device": "mobile", "channel": "web", "journey_stage": "purchase"}[field]
    for text, expected in ((word, word), (word.upper(), "other"), ("fridge", "other"), ("", "unknown")):
        said: dict[str, Any] = {field: text}
        assert getattr(context(**said), field) == expected
    assert getattr(context(), field) == "unknown"


@pytest.mark.parametrize(
    ("when", "zone", "expected"),
    [
        # (day, minute of day, weekday, part of day, weekend)
        ("2026-11-01T12:00", "UTC", (date(2026, 11, 1), 720, "sunday", "afternoon", True)),
        ("2026-11-01T23:59:59.999", "UTC", (date(2026, 11, 1), 1439, "sunday", "evening", True)),
        ("2026-11-02T00:00", "UTC", (date(2026, 11, 2), 0, "monday", "night", False)),
        ("2026-11-06T23:30", "Europe/Copenhagen", (date(2026, 11, 7), 30, "saturday", "night", True)),
        # Clocks in Copenhagen go from 01:59:59 to 03:00 on 29 March 2026.
        ("2026-03-29T00:59", "Europe/Copenhagen", (date(2026, 3, 29), 119, "sunday", "night", True)),
        ("2026-03-29T01:00", "Europe/Copenhagen", (date(2026, 3, 29), 180, "sunday", "night", True)),
        # … and show 02:30 twice on 25 October 2026.
        ("2026-10-25T00:30", "Europe/Copenhagen", (date(2026, 10, 25), 150, "sunday", "night", True)),
        ("2026-10-25T01:30", "Europe/Copenhagen", (date(2026, 10, 25), 150, "sunday", "night", True)),
        ("2026-07-01T04:00", "America/New_York", (date(2026, 7, 1), 0, "wednesday", "night", False)),
        ("2026-01-01T04:00", "America/New_York", (date(2025, 12, 31), 1380, "wednesday", "evening", False)),
        ("2026-01-01T00:20", "Asia/Kathmandu", (date(2026, 1, 1), 365, "thursday", "morning", False)),
        ("2026-01-01T10:30", "Pacific/Kiritimati", (date(2026, 1, 2), 30, "friday", "night", False)),
        ("1970-01-01T00:00", "America/New_York", (date(1969, 12, 31), 1140, "wednesday", "evening", False)),
    ],
)
def test_time_is_read_where_the_customer_is(when, zone, expected):
    """Day, minute, weekday, part of day and weekend are those of the clock on the wall, also across DST."""
    moment = context(time_us=utc(when), time_zone=zone).moment
    assert (
        moment.day, moment.minute_of_day, moment.weekday, moment.part_of_day, moment.weekend
    ) == expected  # fmt: skip
    assert moment.hour == moment.minute_of_day // 60


@pytest.mark.parametrize("hour", range(24))
def test_parts_of_day_last_six_hours(hour):
    """Night, morning, afternoon and evening follow each other every six hours from midnight."""
    moment = context(time_us=utc(f"2026-11-01T{hour:02}:30")).moment
    assert moment.part_of_day == PARTS_OF_DAY[hour // 6]


def test_the_servers_clock_stands_in():
    """Where the caller gave no time, the service's own is used; time 0 is a time."""
    assert context().moment == moment_at(NOON_US, time_zone("UTC"))
    assert context(time_us=0).moment.day == date(1970, 1, 1)


def test_the_campaigns_zone_stands_in():
    """Where the caller gave no time zone, the campaign's is used, and its days are always its own."""
    home = campaign(time_zone="Asia/Tokyo")
    assert context(home).moment.hour == 21
    abroad = context(home, time_us=utc("2026-11-01T16:00"), time_zone="America/New_York")
    assert (abroad.moment.day, abroad.campaign_day) == (date(2026, 11, 1), date(2026, 11, 2))


def test_every_zone_reads_every_time():
    """The first and the last time that may be said can be read in every time zone there is."""
    for zone in available_timezones():
        assert context(time_us=0, time_zone=zone).moment.day.year in (1969, 1970)
        assert context(time_us=TIME_US_MAX - 1, time_zone=zone).moment.day.year in (9998, 9999)


@pytest.mark.parametrize("time_us", [-1, TIME_US_MAX, -(2**63), 2**63, 10**30])
def test_times_out_of_reach_are_refused(time_us):
    """Times before 1970 or after 9998 name the field."""
    assert refused(time_us=time_us).field == "context.time"


@pytest.mark.parametrize(
    "zone",
    ["Mars/Base", "Europe", "../etc/passwd", "/etc/localtime", ".", "..", "utc ", "a" * 129, "é", "\0"],
)
def test_what_is_no_time_zone_is_refused(zone):
    """A zone that is not an IANA name names the field."""
    assert refused(time_zone=zone).field == "context.time_zone"


TEXTS = ["device", "channel", "journey_stage", "place", "language", "country", "time_zone"]


@pytest.mark.parametrize("field", TEXTS)
@pytest.mark.parametrize(
    "text", ["a" * 129, "a\nb", "\0", "a|\x1f", "\ud800", "\ufdd0", "a\x85b", "\uffff", "\x7f"]
)
def test_bad_text_names_its_field(field, text):
    """Oversized text and control characters are refused by the name of the field."""
    assert refused(**{field: text}).field == f"context.{field}"


@pytest.mark.parametrize("field", ["place", "language", "country"])
def test_text_at_its_limit_is_kept(field):
    """128 characters are taken."""
    said: dict[str, Any] = {field: "x" * 128}
    assert len(getattr(context(**said), field)) == 128


def test_case_may_not_lengthen_a_text_beyond_its_limit():
    """A country of 128 characters that are two in capitals is refused."""
    assert refused(country="ß" * 128).field == "context.country"


def test_languages_and_countries_lose_their_case():
    """Language is kept in small letters, country in capitals."""
    read = context(language="da-DK", country="dk")
    assert (read.language, read.country) == ("da-dk", "DK")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("basket", math.nan), ("basket", math.inf), ("basket", -math.inf), ("basket", 1e39),
        ("basket", -1e39), ("basket", 10**400), ("basket", "12"), ("basket", True),
        ("tier", ""), ("tier", "a" * 129), ("tier", "a\nb"), ("tier", 1.0), ("tier", False),
        ("returning", 1.0), ("returning", "true"),
        ("cart", 1.0), ("", "x"), ("Basket", 1.0),
    ],
)  # fmt: skip
def test_a_bad_feature_is_named(name, value):
    """A feature with a bad value, of another kind, or undeclared is refused by its name."""
    assert refused(features={name: value}).field == f"context.features[{name}]"


@pytest.mark.parametrize("name", ["a" * 129, "a\nb"])
def test_a_feature_name_that_cannot_be_shown_is_not(name):
    """A feature name that is too long or not printable is refused without repeating it."""
    error = refused(features={name: 1.0})
    assert error.field == "context.features"
    assert name not in str(error)


def test_too_many_features_are_refused():
    """More than 100 features are refused before any is looked at."""
    assert refused(features={f"f{number}": 1.0 for number in range(101)}).field == "context.features"


@pytest.mark.parametrize("number", [0.0, -0.0, 3.4028234e38, -3.4028234e38, 5e-324])
def test_numbers_within_float32_are_taken(number):
    """Any finite number within the range of a 32-bit float is a feature."""
    assert context(features={"basket": number}).features == {"basket": number}


def test_without_consent_little_survives():
    """Without consent only device, channel, journey stage and time are kept."""
    said: dict[str, Any] = {
        "device": "mobile",
        "channel": "web",
        "journey_stage": "purchase",
        "time_us": utc("2026-11-02T09:30"),
        "place": "Odense",
        "language": "da",
        "country": "DK",
        "features": {"tier": "gold", "basket": 30.0, "returning": True},
    }
    kept = context(consented=False, **said)
    assert kept == context(**{name: said[name] for name in ("device", "channel", "journey_stage", "time_us")})
    assert (kept.place, kept.language, kept.country, dict(kept.features)) == ("", "", "", {})
    assert set(kept.known()) == {
        "device", "channel", "journey_stage", "hour", "weekday", "part_of_day", "weekend"
    }  # fmt: skip


def test_a_mistake_shows_without_consent_too():
    """What is dropped for want of consent is still checked."""
    with pytest.raises(InvalidField):
        context(consented=False, features={"basket": math.nan})
    with pytest.raises(InvalidField):
        context(consented=False, place="\0")


def test_known_says_what_has_a_value():
    """Known features are those that were said, and the time; `other` is known, `unknown` is not."""
    known = context(device="fridge", features={"returning": False, "basket": 0.0}).known()
    assert known == {
        "device": "other", "hour": 12, "weekday": "sunday", "part_of_day": "afternoon", "weekend": True,
        "returning": False, "basket": 0.0,
    }  # fmt: skip
    assert set(known) <= set(BUILT_IN_FEATURES) | set(VOCABULARY.features)


VARIED = st.fixed_dictionaries(
    {},
    optional={
        "device": st.sampled_from(["", "mobile", "fridge", "toaster"]),
        "place": st.sampled_from(["", "here"]),
        "language": st.sampled_from(["da", "DA", "no"]),
        "time_us": st.sampled_from([NOON_US, NOON_US + 1, NOON_US + 3_600_000_000, NOON_US + 86_400_000_000]),
        "time_zone": st.sampled_from(["UTC", "Etc/UTC", "Europe/London", "Asia/Tokyo"]),
        "features": st.dictionaries(
            st.sampled_from(["x", "y"]), st.sampled_from([1.0, True, 0.0, False, "1.0", "True"]), max_size=2
        ),
    },
)


def visible(read: Context) -> object:
    """Return all that a model can see of a context, with what kind of value each is."""
    return sorted((name, type(value).__name__, value) for name, value in read.known().items())


def free(said: dict[str, Any]) -> Context:
    """Read a context whose free features may be of any kind."""
    kinds = {"str": "category", "bool": "flag", "float": "number"}
    declared = {name: kinds[type(value).__name__] for name, value in said.get("features", {}).items()}
    home = campaign(context={"features": declared})
    return context(home, **said)


@given(VARIED, VARIED)
@example({"features": {"x": 1.0}}, {"features": {"x": True}})
@example({"features": {"x": 0.0}}, {"features": {"x": False}})
@example({"features": {"x": 1.0, "y": True}}, {"features": {"y": True, "x": 1.0}})
def test_keys_are_equal_where_a_model_sees_no_difference(one, other):
    """Two contexts have equal keys exactly if a model sees the same in both, 1.0 and True apart."""
    left, right = free(one), free(other)
    assert (left.key() == right.key()) is (visible(left) == visible(right))
    assert left.key() != right.key() or hash(left.key()) == hash(right.key())


ANY_TEXT = st.text(max_size=140) | st.text(alphabet="a\n\0é|: ", max_size=140)
ANY_VALUE = ANY_TEXT | st.floats() | st.booleans() | st.integers()


@settings(max_examples=300)
@given(
    st.builds(
        ContextInput,
        device=ANY_TEXT,
        channel=ANY_TEXT | st.just("web"),
        journey_stage=ANY_TEXT,
        time_us=st.none() | st.integers() | st.integers(0, TIME_US_MAX),
        time_zone=ANY_TEXT | st.sampled_from(["UTC", "Europe/Oslo", "Europe/../UTC", "a/b.c/d", "tzdata.zi"]),
        language=ANY_TEXT,
        country=ANY_TEXT,
        place=ANY_TEXT,
        features=st.dictionaries(
            ANY_TEXT | st.sampled_from(sorted(VOCABULARY.features)), ANY_VALUE, max_size=4
        ),
    ),
    st.booleans(),
)
def test_anything_said_is_a_context_or_an_invalid_field(said, consented):
    """Whatever a caller says is a small and clean context, or InvalidField naming a field; nothing else."""
    try:
        read = read_context(said, VOCABULARY, NOON_US, LIMITS, consented=consented)
    except InvalidField as error:
        assert error.field.startswith("context.")
        assert error.problem
        return
    texts = [read.device, read.channel, read.journey_stage, read.place, read.language, read.country]
    texts += [value for value in read.features.values() if isinstance(value, str)]
    assert all(len(text) <= LIMITS.text_chars_max and is_clean(text) for text in texts)
    assert read.device in VOCABULARY.devices | {"other", "unknown"}
    assert set(read.features) <= set(VOCABULARY.features)
    hash(read.key())


@given(st.text(max_size=128))
def test_any_name_is_a_zone_or_a_value_error(name):
    """No text makes the search for a time zone fail otherwise than with ValueError."""
    try:
        time_zone(name)
    except ValueError as error:
        assert "IANA" in str(error)


def test_a_zone_that_is_none_is_looked_for_once(monkeypatch):
    """Who sends the same nonsense with each call has the disk searched for it once, not each time."""
    looked_for = []

    def search(name):
        looked_for.append(name)
        return ZoneInfo(name)

    monkeypatch.setattr("tilbud.domain.context.ZoneInfo", search)
    for _ in range(5):
        with pytest.raises(ValueError, match="is not an IANA time zone"):
            time_zone("GMT+2 (of this test)")
    assert looked_for == ["GMT+2 (of this test)"]
