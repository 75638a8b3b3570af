"""The situation a decision is made in: what the caller sent, checked, and read in local time.

What holds: a `Context` is small and clean (text within its limit and as `text.py` allows it, numbers finite
and within float32); device, channel and journey stage come from the campaign's declared vocabularies,
`other` for any other value and `unknown` for none. The time is an argument; no clock is read here. What may
be used without consent is decided here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import IntEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo

from tilbud.domain.errors import InvalidField
from tilbud.domain.language_tags import canonical
from tilbud.domain.limits import Limits
from tilbud.domain.text import UNCLEAN, is_clean
from tilbud.domain.versions import Version, version_of

FeatureValue = str | float | bool
"""A value as callers send it and profiles keep it: a version is text."""
ContextValue = FeatureValue | Version
"""A value of a checked situation."""
VERSION = "version"
"""The kind of feature whose text is compared as versions are."""
OTHER = "other"
UNKNOWN = "unknown"
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
PARTS_OF_DAY = ("night", "morning", "afternoon", "evening")
BUILT_IN_FEATURES = {
    "device": "category",
    "channel": "category",
    "journey_stage": "category",
    "place": "category",
    "language": "category",
    "country": "category",
    "hour": "number",
    "weekday": "category",
    "part_of_day": "category",
    "weekend": "flag",
}
TimeFeature = Literal["part_of_day", "weekend", "hour", "weekday"]
TIME_FEATURES: tuple[TimeFeature, ...] = get_args(TimeFeature)
"""What a model may read of the time."""
TIME_READ: tuple[TimeFeature, ...] = ("part_of_day", "weekend")
"""What it reads where a campaign does not say: the hour and the day cost more to learn than they give."""
EVENT_FEATURES = {"last_event": "category", "last_event_recency": "category"}
"""What is known of a customer where the campaign declares events: the last of them, and how long ago."""
RECENCIES = {
    "within_an_hour": 3_600_000_000,
    "within_a_day": 86_400_000_000,
    "within_a_week": 7 * 86_400_000_000,
    "within_a_month": 30 * 86_400_000_000,
}
"""Words for how long ago something was, each up to so many microseconds; beyond them it is OLDER."""
OLDER = "older"
_SATURDAY = 5  # in the standard library's count
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIME_US_MAX = 253_370_764_800_000_000  # the start of year 9999, so that any time zone stays in range
_NO_FEATURES: Mapping[str, Any] = MappingProxyType({})


class Consent(IntEnum):
    """May this customer's data be used? The numbers are the contract's."""

    UNSPECIFIED = 0
    GRANTED = 1
    DENIED = 2


class ContextInput(NamedTuple):
    """What the caller sent, not yet checked; empty text and None mean that nothing was sent."""

    device: str = ""
    channel: str = ""
    journey_stage: str = ""
    time_us: int | None = None
    time_zone: str = ""
    language: str = ""
    country: str = ""
    place: str = ""
    features: Mapping[str, FeatureValue] = _NO_FEATURES


NOTHING_SENT = ContextInput()


@dataclass(frozen=True, slots=True)
class Moment:
    """A time as people at the place read it."""

    day: date
    hour: int
    minute_of_day: int
    weekday: str
    part_of_day: str
    weekend: bool


@dataclass(frozen=True, slots=True)
class Context:
    """A checked situation."""

    device: str
    channel: str
    journey_stage: str
    moment: Moment  # in the customer's time zone, where it is known
    campaign_day: date  # in the campaign's time zone, as is
    campaign_minute: int  # of that day
    place: str = ""
    language: str = ""
    country: str = ""
    features: Mapping[str, ContextValue] = field(default_factory=dict)

    def value(self, name: str) -> ContextValue | None:
        """Return a built-in or free feature by name; None where nothing is known of it."""
        if name in BUILT_IN_FEATURES:
            value = getattr(self if name in _OWN else self.moment, name)
            return None if value in ("", UNKNOWN) else value
        return self.features.get(name)

    def key(self) -> tuple[object, ...]:
        """Return what equal contexts have in common, as far as a model can see."""
        features = tuple(self.features.items()) if self.features else ()
        flags = tuple(type(value) is bool for _, value in features)  # 1.0 and True are equal keys
        moment = self.moment
        return (self.device, self.channel, self.journey_stage, moment.hour, moment.weekday,
                self.place, self.language, self.country, features, flags)  # fmt: skip

    def known(self) -> dict[str, FeatureValue]:
        """Return every built-in and free feature that has a value, by name; a version as text."""
        values = {name: self.value(name) for name in BUILT_IN_FEATURES} | dict(self.features)
        return {
            name: str(value) if isinstance(value, Version) else value
            for name, value in values.items()
            if value is not None
        }


_OWN = frozenset({"device", "channel", "journey_stage", "place", "language", "country"})


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a campaign declares about its contexts."""

    devices: frozenset[str]
    channels: frozenset[str]
    journey_stages: frozenset[str]
    features: Mapping[str, str]
    time_zone: str


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the customer, checked: it stands in where the caller sent nothing.

    `language` is canonical; `features` are of the kinds that the campaign declares, or its events'.
    """

    journey_stage: str = ""
    time_zone: str = ""
    language: str = ""
    features: Mapping[str, ContextValue] = field(default_factory=dict)


NOTHING_KNOWN = Known()


def read_context(
    raw: ContextInput,
    vocabulary: Vocabulary,
    now_us: int,
    limits: Limits,
    *,
    consented: bool = True,
    known: Known = NOTHING_KNOWN,
) -> Context:
    """Check what the caller sent and read it in local time.

    `now_us` (microseconds since 1970, UTC) stands in where the caller gave no time, and `known` for what
    else they did not say. Without consent only device, channel, journey stage and time are kept, as they were
    said; what is dropped is still checked, so that a mistake shows whatever the customer chose. Raises
    InvalidField, naming the field.
    """
    if not consented:
        known = NOTHING_KNOWN
    device = _declared("device", raw.device, vocabulary.devices, limits)
    channel = _declared("channel", raw.channel, vocabulary.channels, limits)
    stage = raw.journey_stage or known.journey_stage
    journey_stage = _declared("journey_stage", stage, vocabulary.journey_stages, limits)
    language = country = ""
    if raw.place or raw.language or raw.country:
        language, country = raw.language, raw.country.upper()  # which may make a text longer
        for name, text in (("place", raw.place), ("language", language), ("country", country)):
            check_text(f"context.{name}", text, limits)
        language = check_text("context.language", canonical(language), limits)
    features = _features(raw.features, vocabulary.features, limits) if raw.features else _NO_FEATURES
    home = time_zone(vocabulary.time_zone)
    asked = raw.time_zone or known.time_zone
    zone = _zone(asked, limits) if asked else home
    time_us = now_us if raw.time_us is None else raw.time_us
    if not 0 <= time_us < TIME_US_MAX:
        raise InvalidField("context.time", "must lie in the years 1970 to 9998")
    moment = moment_at(time_us, zone)
    at_home = moment if zone is home else moment_at(time_us, home)
    if not consented:
        return Context(device, channel, journey_stage, moment, at_home.day, at_home.minute_of_day)
    if known.features:
        features = dict(sorted({**known.features, **features}.items()))
    return Context(
        device,
        channel,
        journey_stage,
        moment,
        at_home.day,
        at_home.minute_of_day,
        raw.place,
        language or known.language,
        country,
        features,
    )


@lru_cache(maxsize=Limits.moments_cached_max)
def _moment_of_minute(minute: int, zone: tzinfo) -> Moment:
    local = (_EPOCH + timedelta(minutes=minute)).astimezone(zone)
    weekday = local.weekday()
    return Moment(
        day=local.date(),
        hour=local.hour,
        minute_of_day=local.hour * 60 + local.minute,
        weekday=WEEKDAYS[weekday],
        part_of_day=PARTS_OF_DAY[local.hour // 6],
        weekend=weekday >= _SATURDAY,
    )


@lru_cache(maxsize=Limits.moments_cached_max)
def eve(moment: Moment) -> Moment:
    """Return the moment as one of the day before: the night that it belongs to began then."""
    day = moment.day - timedelta(days=1)
    weekday = day.weekday()
    return replace(moment, day=day, weekday=WEEKDAYS[weekday], weekend=weekday >= _SATURDAY)


def moment_at(time_us: int, zone: tzinfo) -> Moment:
    """Read a time (microseconds since 1970, UTC) on the clocks of `zone`; parts of day last six hours."""
    return _moment_of_minute(time_us // 60_000_000, zone)


def check_text(name: str, text: str, limits: Limits) -> str:
    """Return `text` if it is short and clean; raise InvalidField otherwise."""
    if len(text) > limits.text_chars_max:
        raise InvalidField(name, f"at most {limits.text_chars_max} characters, got {len(text)}")
    if not is_clean(text):
        raise InvalidField(name, UNCLEAN)
    return text


def check_number(name: str, number: float) -> float:
    """Return `number` if it is finite and within float32; raise InvalidField otherwise."""
    if not abs(number) <= Limits.number_abs_max:  # also true of NaN
        raise InvalidField(name, "must be finite and within the range of a 32-bit float")
    return number


def _declared(name: str, text: str, declared: frozenset[str], limits: Limits) -> str:
    if text in declared:
        return text
    if not text:
        return UNKNOWN
    check_text(f"context.{name}", text, limits)
    return OTHER


def _zone(name: str, limits: Limits) -> tzinfo:
    check_text("context.time_zone", name, limits)
    try:
        return time_zone(name)
    except ValueError as error:
        raise InvalidField("context.time_zone", str(error)) from None


@lru_cache(maxsize=Limits.time_zones_cached_max)
def time_zone(name: str) -> tzinfo:
    """Return the IANA zone of that name; ValueError where there is none."""
    if not _is_zone(name):
        raise ValueError(f"{name!r} is not an IANA time zone, such as Europe/Copenhagen")
    return ZoneInfo(name)


@lru_cache(maxsize=Limits.time_zones_cached_max)
def _is_zone(name: str) -> bool:
    """Say whether there is a zone; remembered, since to look for one in vain takes longer than to decide."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        return False
    return True


def _features(
    values: Mapping[str, FeatureValue], declared: Mapping[str, str], limits: Limits
) -> Mapping[str, ContextValue]:
    if len(values) > limits.features_max:
        raise InvalidField("context.features", f"at most {limits.features_max} features, got {len(values)}")
    return {name: _feature(name, values[name], declared, limits) for name in sorted(values)}


def _feature(name: str, value: FeatureValue, declared: Mapping[str, str], limits: Limits) -> ContextValue:
    kind = declared.get(name)
    if kind is None:
        check_text("context.features", name, limits)
        names = ", ".join(declared) or "none"
        problem = f"is not declared by the campaign (declared: {names})"
        raise InvalidField(f"context.features[{name}]", problem)
    if not is_said_as(kind, value):
        raise InvalidField(f"context.features[{name}]", f"must be a {kind}, got a {kind_of(value)}")
    if isinstance(value, str):
        if not value:
            raise InvalidField(f"context.features[{name}]", "is empty; leave out what is not known")
        check_text(f"context.features[{name}]", value, limits)
        read = as_known(kind, value)
        if read is None:
            raise InvalidField(f"context.features[{name}]", "is no version such as 10.2.1")
        return read
    if isinstance(value, bool):
        return value
    return check_number(f"context.features[{name}]", value)


def kind_of(value: FeatureValue) -> str:
    """Return `category`, `flag` or `number`; a version is sent as a category is."""
    return "category" if isinstance(value, str) else "flag" if isinstance(value, bool) else "number"


def is_said_as(kind: str, value: FeatureValue) -> bool:
    """Say whether a value is sent as those of a declared kind are."""
    return kind_of(value) == ("category" if kind == VERSION else kind)


def as_known(kind: str, value: FeatureValue) -> ContextValue | None:
    """Return a value of a declared kind as situations have it; None of a text that is no version."""
    return version_of(value) if kind == VERSION and isinstance(value, str) else value
