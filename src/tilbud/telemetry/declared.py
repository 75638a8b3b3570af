"""Which labels' values a campaign can count under, so that each is there at 0 before its first event.

What holds: what may happen is listed and what cannot is not: the reasons of a fallback go with its id, the
others with offers. Pure; what series they make is for who counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from tilbud.domain.campaign.campaign import CONTROL, PERSONALIZED, Campaign
from tilbud.domain.context import OTHER, UNKNOWN
from tilbud.domain.decision.admission import (
    CONTROL_CHARACTERS,
    EMPTY,
    FEATURES,
    NOT_A_VERSION,
    OFFER_LISTS,
    OUT_OF_RANGE,
    TOO_LONG,
    UNDECLARED,
    UNKNOWN_OFFER,
    UNKNOWN_ZONE,
    WRONG_KIND,
)
from tilbud.domain.decision.records import Reason

_CHOSEN = (Reason.PERSONALIZED, Reason.CONTROL)
_TEXT = (TOO_LONG, CONTROL_CHARACTERS)
_PLACES = ("device", "channel", "journey_stage", "place", "language", "country", "time_zone")
_BY_KIND = {
    "category": (EMPTY, WRONG_KIND, *_TEXT),
    "number": (EMPTY, WRONG_KIND, OUT_OF_RANGE),
    "flag": (EMPTY, WRONG_KIND),
    "version": (EMPTY, WRONG_KIND, *_TEXT, NOT_A_VERSION),
}


def variants(campaign: Campaign) -> tuple[str, ...]:
    """Return the sides that decisions of the campaign fall on."""
    control = campaign.variants.control
    return (PERSONALIZED, CONTROL) if control and control.share else (PERSONALIZED,)


def answers(campaign: Campaign) -> Iterator[tuple[str, Reason, str]]:
    """Yield each variant, reason and offer that a decision can have."""
    offers, fallback = tuple(offer.id for offer in campaign.offers), campaign.fallback.id
    control = campaign.variants.control
    for variant in variants(campaign):
        if variant == PERSONALIZED or control is None:
            shown, reason = offers, Reason.PERSONALIZED
        else:
            shown = {"uniform": offers, "fallback": (fallback,)}.get(control.serves, (control.serves,))
            reason = Reason.CONTROL
        yield from ((variant, reason, offer) for offer in shown)
        yield from ((variant, kept_back, fallback) for kept_back in Reason if kept_back not in _CHOSEN)


def dropped(campaign: Campaign) -> Iterator[tuple[str, str]]:
    """Yield each field of a call that may be passed over, and why; with `strict` most are errors."""
    yield from ((name, UNKNOWN_OFFER) for name in OFFER_LISTS)
    yield FEATURES, UNDECLARED
    if campaign.strict:
        return
    yield from product(_PLACES, _TEXT)
    yield "time_zone", UNKNOWN_ZONE
    for name, kind in campaign.vocabulary().features.items():
        yield from ((name, why) for why in _BY_KIND[kind])


def contexts(campaign: Campaign, at_most: int) -> Iterator[tuple[str, str, str, str]]:
    """Yield each variant, channel, device and journey stage; none where they are more than `at_most`."""
    context = campaign.context
    words = [
        (*declared, OTHER, UNKNOWN)
        for declared in (context.channels, context.devices, context.journey_stages)
    ]
    sides = variants(campaign)
    if len(sides) * len(words[0]) * len(words[1]) * len(words[2]) <= at_most:
        yield from product(sides, words[0], words[1], words[2])
