"""What may be used of what a caller sent: a bad value costs itself, never the decision.

What holds: what is left is within its limits and of the kind that the campaign declares, so that reading it
raises nothing but for the time and for too many features. What is not used has a reason. Of features that the
campaign does not declare not even the names go further: nobody bounds them, and they may tell of a person.
Campaigns that say `strict: true` admit everything, and reading it raises InvalidField instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tilbud.domain.context import (
    OTHER,
    ContextInput,
    FeatureValue,
    Vocabulary,
    as_known,
    is_said_as,
    time_zone,
)
from tilbud.domain.language_tags import canonical
from tilbud.domain.limits import Limits
from tilbud.domain.text import is_clean

UNDECLARED = "undeclared"
WRONG_KIND = "wrong_kind"
EMPTY = "empty"
TOO_LONG = "too_long"
CONTROL_CHARACTERS = "control_characters"
OUT_OF_RANGE = "out_of_range"
NOT_A_VERSION = "not_a_version"
UNKNOWN_ZONE = "unknown_zone"
UNKNOWN_OFFER = "unknown_offer"
REASONS = frozenset(
    {
        UNDECLARED,
        WRONG_KIND,
        EMPTY,
        TOO_LONG,
        CONTROL_CHARACTERS,
        OUT_OF_RANGE,
        NOT_A_VERSION,
        UNKNOWN_ZONE,
        UNKNOWN_OFFER,
    }
)
"""Why a value is not used that a caller could have sent right."""
FEATURES = "features"
"""The name that stands for undeclared features."""
OFFER_LISTS = ("include_offers", "exclude_offers")
_NOTHING: Mapping[str, str] = {}


def admit(
    raw: ContextInput, vocabulary: Vocabulary, limits: Limits
) -> tuple[ContextInput, Mapping[str, str]]:
    """Return what may be used of what a caller sent, and the names of the rest with the reason.

    A device, channel or journey stage that is no text counts as `other`, as any undeclared one does.
    """
    bad: dict[str, str] = {}
    for name, text, declared in (
        ("device", raw.device, vocabulary.devices),
        ("channel", raw.channel, vocabulary.channels),
        ("journey_stage", raw.journey_stage, vocabulary.journey_stages),
    ):
        if text and text not in declared:
            _note(bad, name, _text(text, limits))
    replaced: dict[str, Any] = dict.fromkeys(bad, OTHER)
    if raw.place or raw.language or raw.country or raw.time_zone:
        _note(bad, "place", _text(raw.place, limits))
        _note(bad, "language", _text(raw.language, limits) or _text(canonical(raw.language), limits))
        _note(bad, "country", _text(raw.country, limits) or _text(raw.country.upper(), limits))
        _note(bad, "time_zone", _text(raw.time_zone, limits) or _zone(raw.time_zone))
        replaced = {**dict.fromkeys(bad, ""), **replaced}
    if raw.features and len(raw.features) <= limits.features_max:
        features = _features(raw.features, vocabulary.features, limits, bad)
        if len(features) < len(raw.features):
            replaced["features"] = features
    return (raw._replace(**replaced), bad) if bad else (raw, _NOTHING)


def _note(bad: dict[str, str], name: str, reason: str) -> None:
    if reason:
        bad[name] = reason


def _features(
    values: Mapping[str, FeatureValue], declared: Mapping[str, str], limits: Limits, bad: dict[str, str]
) -> Mapping[str, FeatureValue]:
    """Return the good features; note the others in `bad`."""
    good: dict[str, FeatureValue] = {}
    for name, value in values.items():
        kind = declared.get(name)
        if kind is None:
            bad[FEATURES] = UNDECLARED
        elif reason := _value(value, kind, limits):
            bad[name] = reason
        else:
            good[name] = value
    return good


def _value(value: FeatureValue, kind: str, limits: Limits) -> str:
    if value == "":
        return EMPTY
    if not is_said_as(kind, value):
        return WRONG_KIND
    if isinstance(value, str):
        return _text(value, limits) or ("" if as_known(kind, value) is not None else NOT_A_VERSION)
    return "" if abs(value) <= limits.number_abs_max else OUT_OF_RANGE  # also of NaN


def _text(text: str, limits: Limits) -> str:
    if len(text) > limits.text_chars_max:
        return TOO_LONG
    return "" if is_clean(text) else CONTROL_CHARACTERS


def _zone(name: str) -> str:
    try:
        if name:
            time_zone(name)
    except ValueError:
        return UNKNOWN_ZONE
    return ""
