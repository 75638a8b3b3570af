"""Contexts and offers, encoded for Vowpal Wabbit.

What always holds: an encoding is made only of namespace letters from the table below and of integers
and floats made here, `|d 123 |f 789:1.25`. No text of a caller, customer or campaign file is in it, so
none can add an offer, a namespace or a feature. A value has its features to itself: another value of the
situation neither adds to it nor takes from it. What is absent or unknown has no feature; `other` and 0 are
values like any other. Of the time there is what the campaign says.

A feature is `index`, or of a number `index:value`, the index being 48 bits of a hash of (name, value) for
words and flags, of the name for numbers. A version has three: its major version and its minor version, as
words, and a number that lies as it does among others. VW adds its hash of the namespace to an all-digit
index. Numbers stand here as they are, to ten digits, `5.56e+01`; what VW reads in their place is `hats.py`'s
business. The hour, the one number of its namespace, needs nothing learned to be read: it lies on a clock.
Encodings of versions before have sign · log1p(|x|) / 4 in six decimals, from which the number is had back.

What it does not do: decide which features cross; that is `presets.py`'s business.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b
from itertools import product
from typing import NamedTuple

from tilbud.bandit.hats import Feature, hour_of_day, written
from tilbud.domain.campaign.campaign import Offer
from tilbud.domain.context import TIME_READ, UNKNOWN, Context, ContextValue, FeatureValue
from tilbud.domain.limits import Limits
from tilbud.domain.versions import Version, version_of

ENCODER = "2"
"""Part of every lineage: raise it when an encoding changes, or what of a settlement is learned."""

NAMESPACES = {
    "device": "d",
    "channel": "c",
    "journey_stage": "j",
    "time": "t",
    "place": "p",
    "language": "l",
    "country": "g",
    "features": "f",
    "offer": "o",
    "attributes": "a",
}
"""Every namespace, by its one letter: VW crosses by first letters, so no two may share one."""
CONTEXT_NAMESPACES = "dcjtplgf"
OFFER_NAMESPACES = "oa"

NOTHING = f"|{NAMESPACES['time']} 0"
"""A context of which nothing is known, and of the time nothing read."""

_SQUASH = 4.0  # what logarithms were divided by
_DIGITS = 9  # of a number, behind its first
_NUMBER = r"-?[0-9](?:\.[0-9]{1,9})?e(?:\+[0-3][0-9]|-[0-9]{2,3})"  # within float32, or nearly
_SQUASHED = r"-?[0-9]{1,2}\.[0-9]{6}"
_FEATURE = rf"[0-9]{{1,15}}(?::(?:{_NUMBER}|{_SQUASHED}))?"
_GROUP = rf"\|[{CONTEXT_NAMESPACES}{OFFER_NAMESPACES}](?: {_FEATURE})+"
_ENCODED = re.compile(rf"{_GROUP}(?: {_GROUP})*")


def encode_context(context: Context, time: tuple[str, ...] = TIME_READ) -> str:
    """Return the part of a VW example that follows `shared `; never empty.

    `time` names what is read of the time, in the order of `TIME_FEATURES`.
    """
    moment = context.moment
    told = tuple([getattr(moment, name) for name in time])
    encoded = _situation(context.device, context.channel, context.journey_stage, time, told)
    if context.place:
        encoded += f" |{NAMESPACES['place']} {_index('place', context.place)}"
    if context.language:
        encoded += f" |{NAMESPACES['language']} {_index('language', context.language)}"
    if context.country:
        encoded += f" |{NAMESPACES['country']} {_index('country', context.country)}"
    if context.features:
        encoded += _values(NAMESPACES["features"], context.features)
    return encoded.lstrip() or NOTHING


def encode_offer(offer: Offer) -> str:
    """Return an offer's line of a VW example: its id, and its features."""
    encoded = f"|{NAMESPACES['offer']} {_index('id', offer.id)}"
    return encoded + _values(NAMESPACES["attributes"], offer.features) if offer.features else encoded


def is_in(encoded: str, name: str, value: FeatureValue) -> bool:
    """Say whether an encoded context says this value of it, so that a model can read it; else rules alone do.

    Of a number no more than that there is one: encodings of before have it in fewer digits.
    """
    indexes = {each.partition(":")[0] for each in encoded.split() if not each.startswith("|")}
    return any(
        {feature.partition(":")[0] for feature in features} <= indexes for features in _ways(name, value)
    )


def without(encoded: str, name: str, value: FeatureValue) -> str | None:
    """Return an encoded context as it would be had one value not been known.

    None where the value has no feature in it, and where nothing would be left. A feature's index tells its
    name and kind, so it is found without its namespace. This is for explanations; no decision is made on it.
    """
    groups = [group.split() for group in encoded.split("|")[1:]]
    for features, group in product(_ways(name, value), groups):
        if set(features) <= set(group[1:]):
            group[1:] = [feature for feature in group[1:] if feature not in features]
            return " ".join([f"|{' '.join(group)}" for group in groups if len(group) > 1]) or None
    return None


@lru_cache(maxsize=Limits.feature_situations_cached_max)
def is_encoding(text: str) -> bool:
    """Say whether `text` is one that could have been made here."""
    return _ENCODED.fullmatch(text) is not None


class Number(NamedTuple):
    """A number in an encoding."""

    namespace: str  # its letter
    name: int  # the index of it, as a feature
    value: float


class Parts(NamedTuple):
    """An encoding, taken apart."""

    words: tuple[int, ...]  # the indexes of what is no number, in order
    numbers: tuple[Number, ...]  # in order, but for the hour
    hour: tuple[Feature, ...]  # between its knots
    rest: str  # the encoding without its numbers, and with the hour between its knots


@lru_cache(maxsize=Limits.feature_situations_cached_max)
def parts_of(encoded: str) -> Parts | None:
    """Return what an encoding says; None where it was not made here."""
    if not is_encoding(encoded):
        return None
    words: list[int] = []
    numbers: list[Number] = []
    hour: list[Feature] = []
    groups: list[str] = []
    for group in encoded[1:].split(" |"):
        namespace, *features = group.split(" ")
        plain = [feature for feature in features if ":" not in feature]
        words += map(int, plain)
        if len(plain) < len(features):
            split = [feature.split(":") for feature in features if ":" in feature]
            found = [Number(namespace, int(index), _value(text)) for index, text in split]
            if namespace == NAMESPACES["time"]:
                hats = [hat for number in found for hat in hour_of_day(number.name, number.value)]
                hour += hats
                plain.append(written(hats))
            else:
                numbers += found
        if plain:
            groups.append(f"|{namespace} {' '.join(plain)}")
    return Parts(tuple(words), tuple(numbers), tuple(hour), " ".join(groups))


@lru_cache(maxsize=Limits.feature_situations_cached_max)
def _situation(
    device: str, channel: str, journey_stage: str, time: tuple[str, ...], told: tuple[FeatureValue, ...]
) -> str:
    """Encode what every context has, and of its time what is `told` under the names of `time`."""
    words = (("device", device), ("channel", channel), ("journey_stage", journey_stage))
    parts = [f"|{NAMESPACES[name]} {_index(name, word)}" for name, word in words if word and word != UNKNOWN]
    if time:
        parts.append(f"|{NAMESPACES['time']}" + "".join(map(_feature, time, told)))
    return " ".join(parts)


def _values(namespace: str, values: Mapping[str, ContextValue]) -> str:
    encoded = "".join([_feature(name, values[name]) for name in sorted(values)])
    return f" |{namespace}{encoded}" if encoded else ""


def _ways(name: str, value: FeatureValue) -> Iterator[list[str]]:
    """Yield the features that a value may have: of a text, those of a word and those of a version."""
    if features := _feature(name, value).split():
        yield features
    if isinstance(value, str) and (version := version_of(value)) is not None:
        yield _feature(name, version).split()


def _feature(name: str, value: ContextValue) -> str:
    if isinstance(value, str | bool):
        return f" {_index(name, value)}" if value != "" else ""
    if isinstance(value, Version):
        words = [_index(name, word, "version") for word in (value.major, value.minor)]
        return f" {words[0]} {words[1]} {_index(name, None, 'version')}:{_written(value.place())}"
    return f" {_index(name, None)}:{_written(value)}" if math.isfinite(value) else ""


def _written(value: float) -> str:
    digits, _, exponent = f"{value + 0.0:.{_DIGITS}e}".partition("e")  # + 0.0: there is one zero
    return f"{digits.rstrip('0').rstrip('.')}e{exponent}"


def _value(text: str) -> float:
    if "e" in text:
        return float(text)
    squashed = float(text)  # up to 22.3, where exp is finite; far beyond only in what is not ours
    return math.copysign(math.expm1(min(abs(squashed) * _SQUASH, Limits.squashed_max)), squashed)


@lru_cache(maxsize=Limits.feature_indexes_cached_max, typed=True)
def _index(name: str, value: str | bool | None, kind: str = "") -> int:
    """Return 48 bits that stand for a word or a flag, or for a number's name; `kind`: of a version."""
    kind = kind or ("number" if value is None else type(value).__name__)
    text = f"{kind}\0{name}\0{value}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=6).digest(), "big")
