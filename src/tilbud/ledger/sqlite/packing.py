"""A decision's offers and probabilities in few bytes: which were eligible, why others were not, how likely.

What holds: what is unpacked is, bit for bit, what was packed; what does not fit raises LedgerInvalid.
Nothing is rounded here. The numbers of rules and forms are the file's: they are only ever added to.

    fates           a byte for each offer of the catalogue: 0 eligible, 1 not (`removed` says why), 255 by a
                    rule that has no number, else the rule's. No byte at all: every offer was eligible.
    probabilities   all the same, or all on one, or the scores they are mixed from (float32), or themselves
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from tilbud.domain.decision.draw import mixed
from tilbud.domain.decision.records import Decision, OfferSet, Removed
from tilbud.domain.errors import LedgerInvalid, ModelUnavailable
from tilbud.domain.limits import Limits

# In the order of their numbers, from 2.
NUMBERED = (
    "include_offers",
    "exclude_offers",
    "paused",
    "blocked_channels",
    "quiet_hours",
    "blocked_offers",
    "blocked_topics",
    "sensitive_topic",
    "channels",
    "devices",
    "journey_stages",
    "places",
    "languages",
    "countries",
    "valid",
    "hours",
    "when",
    "requires",
    "suppress_after",
    "contact_policy",
    "group_caps",
    "caps",
    "no_eligible_offer",
    "no_consent",
    "no_time",
    "model_unavailable",
    "campaign_paused",
    "control",
)
_ELIGIBLE, _REMOVED, _OTHER = 0, 1, 255
_NUMBERS = {rule: number for number, rule in enumerate(NUMBERED, 2)}
_RULES = {number: rule for rule, number in _NUMBERS.items()} | {_OTHER: "other"}
_PLAIN, _DEFLATED, _ONE_RULE = b"\0", b"\1", b"\2"
_THEMSELVES, _EVEN, _CERTAIN, _SCORES, _SCORES_DEFLATED = (bytes((form,)) for form in range(5))
_SHARED = struct.Struct("<BBI")
_PLAIN_MAX = 40  # offers that are not worth deflating
_RAW_DEFLATE = -15
_FITS_NOT = "a recorded decision does not fit its offers: restore a backup"


@lru_cache(maxsize=Limits.packings_cached_max)
def _floats(kind: str, count: int) -> struct.Struct:
    return struct.Struct(f"<{count}{kind}")


# Fates


def pack_fates(decision: Decision) -> bytes:
    """Return the fates; they say why offers were removed unless the record has that as a text."""
    offers, removed = decision.offers, decision.removed
    whole = offers.whole or offers
    if isinstance(removed, Removed):
        assert len(removed.rules) + len(offers.ids) == len(whole.ids), "an offer without a fate"
        fates = bytearray(len(whole.ids))
        for index, rule in removed.rules:
            fates[index] = _NUMBERS.get(rule, _OTHER)
    elif offers.indexes is None:
        return b""
    else:
        fates = bytearray(bytes((_REMOVED,)) * len(whole.ids))
        for index in offers.indexes:
            fates[index] = _ELIGIBLE
    return _packed(fates)


def unpack_fates(packed: bytes, whole: OfferSet) -> tuple[OfferSet, Removed | None]:
    """Return which offers were eligible, and why the others were not, where that is said here."""
    if not packed:
        return whole, None
    try:
        fates = _unpacked(packed, len(whole.ids))
    except zlib.error:
        raise LedgerInvalid(_FITS_NOT) from None
    if len(fates) != len(whole.ids) or not {*fates} <= {_ELIGIBLE, _REMOVED, *_RULES}:
        raise LedgerInvalid(_FITS_NOT)
    offers = whole.only(tuple([index for index, fate in enumerate(fates) if not fate]))
    if _REMOVED in fates:
        return offers, None
    rules = tuple([(index, _RULES[fate]) for index, fate in enumerate(fates) if fate])
    return offers, Removed(whole.ids, rules)


def _packed(fates: bytearray) -> bytes:
    """Return fates in the form that takes least: as they are, deflated by their runs, or a bit for each."""
    if len(fates) <= _PLAIN_MAX:
        return _PLAIN + fates
    deflating = zlib.compressobj(6, zlib.DEFLATED, _RAW_DEFLATE, 8, zlib.Z_RLE)
    deflated = _DEFLATED + deflating.compress(fates) + deflating.flush()
    mask = np.frombuffer(fates, np.uint8)
    rule = int(mask.max())
    if len(deflated) <= len(fates) // 8 + 2 or np.count_nonzero(mask) != np.count_nonzero(mask == rule):
        return deflated
    return _ONE_RULE + bytes((rule,)) + np.packbits(mask != 0).tobytes()


def _unpacked(packed: bytes, count: int) -> bytes:
    """Return the fates of so many offers; raises zlib.error."""
    form, fates = packed[:1], packed[1:]
    if form == _DEFLATED:
        return zlib.decompress(fates, _RAW_DEFLATE, count)
    if form == _ONE_RULE and len(fates) == 1 + (count + 7) // 8:
        mask = np.unpackbits(np.frombuffer(fates[1:], np.uint8), count=count)
        return (mask * np.uint8(fates[0])).tobytes()
    return fates if form == _PLAIN else b""


# Probabilities


def pack_probabilities(decision: Decision) -> bytes:
    """Return what the probabilities of the eligible offers can be made of again."""
    probabilities, scores = decision.probabilities, decision.scores
    count = len(probabilities)
    if not count:
        return b""
    if probabilities[0] == 1.0 / count and probabilities.count(probabilities[0]) == count:
        return _EVEN
    if scores and (packed := _as_float32(scores)) is not None:
        if count <= _PLAIN_MAX:
            return _SCORES + packed
        return _SCORES_DEFLATED + _deflate_scores(packed, count)
    if probabilities[decision.drawn] == 1.0 and probabilities.count(0.0) == count - 1:
        return _CERTAIN
    return _THEMSELVES + _floats("d", count).pack(*probabilities)


def unpack_probabilities(
    packed: bytes, count: int, drawn: int, discovery: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the probabilities of so many offers, and the scores they are mixed from, if there were any."""
    form, rest = packed[:1], packed[1:]
    if not count and not packed:
        return (), ()
    if count and form == _EVEN:
        return (1.0 / count,) * count, ()
    if 0 <= drawn < count and form == _CERTAIN:
        return tuple([float(index == drawn) for index in range(count)]), ()
    try:
        if form == _THEMSELVES:
            return _floats("d", count).unpack(rest), ()
        if form == _SCORES_DEFLATED:
            rest = _inflate_scores(rest, count)
        elif form != _SCORES:
            raise LedgerInvalid(_FITS_NOT)
        scores = _floats("f", count).unpack(rest)
        return mixed(scores, discovery), scores
    except (struct.error, zlib.error, ValueError, ModelUnavailable):
        raise LedgerInvalid(_FITS_NOT) from None


def _deflate_scores(packed: bytes, count: int) -> bytes:
    """Return float32 deflated, as whole numbers that grow with them: what all have in common is taken off.

    Those are the binary digits that are 0 in each, and the smallest. Of the rest comes the lowest byte of
    each, then the next of each: how often a byte comes differs from one place to another.
    """
    bits = np.frombuffer(packed, "<u4")
    used = int(np.bitwise_or.reduce(bits))
    zeros = (used & -used).bit_length() - 1
    numbers = bits >> np.uint32(zeros)
    least = int(numbers.min())
    numbers = (numbers - np.uint32(least)).astype("<u4")
    places = (int(numbers.max()).bit_length() + 7) // 8
    planes = numbers.view(np.uint8).reshape(count, 4).T[:places].tobytes()
    return _SHARED.pack(zeros, places, least) + zlib.compress(planes, 6, _RAW_DEFLATE)


def _inflate_scores(packed: bytes, count: int) -> bytes:
    """Return the float32 that `_deflate_scores` deflated; raises ValueError, struct.error or zlib.error."""
    zeros, places, least = _SHARED.unpack_from(packed)
    planes = zlib.decompress(packed[_SHARED.size :], _RAW_DEFLATE, 4 * count)
    numbers = np.zeros((4, count), np.uint8)
    numbers[:places] = np.frombuffer(planes, np.uint8).reshape(places, count)
    shared = numbers.T.copy().view("<u4").reshape(count) + np.uint32(least)
    return (shared << np.uint32(zeros)).astype("<u4").tobytes()


def _as_float32(scores: Sequence[float]) -> bytes | None:
    """Return scores as float32, as VW gives them; None where that would change one."""
    floats = _floats("f", len(scores))
    try:
        packed = floats.pack(*scores)
    except (OverflowError, struct.error):
        return None
    return packed if floats.unpack(packed) == scores else None
