"""An offer as a campaign file declares it: what is shown, its features, and the rules of its own.

What holds: an `Offer` that exists is valid as far as it can be judged alone; what it names must be declared
by the campaign, which `campaign.py` checks. What a rule means is `eligibility.py`'s
and `frequency_caps.py`'s business.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator, model_validator

from tilbud.domain.campaign.fields import (
    Caps,
    DurationUs,
    Finite,
    Given,
    Id,
    Misplaced,
    Name,
    Payload,
    Section,
    Word,
    Words,
    clean,
    composed,
    different,
)
from tilbud.domain.campaign.languages import ByLanguage
from tilbud.domain.durations import HOURS_PATTERN, Hours, parse_hours
from tilbud.domain.language_tags import canonical
from tilbud.domain.limits import Limits


def _day(written: object) -> object:
    """YAML has a day as one; in quotes, and in JSON, it is text."""
    if isinstance(written, date) and not isinstance(written, datetime):
        return written
    if isinstance(written, str) and _DAY.fullmatch(written):
        with suppress(ValueError):
            return date.fromisoformat(written)
    raise ValueError("is no day; write one such as 2026-11-01")


_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
Day = Annotated[date, BeforeValidator(_day, json_schema_input_type=date)]


class Validity(Section):
    """Days on which an offer may be shown, both included, in the campaign's time zone.

    A night of `hours` that wrap midnight belongs to the day on which it begins.
    """

    from_: Day | None = Field(default=None, alias="from")
    """The first day, such as `2026-11-01`. Left out: from the beginning."""
    until: Day | None = None
    """The last day, which is included. Left out: without an end."""

    @model_validator(mode="after")
    def _in_order(self) -> Validity:
        if self.from_ and self.until and self.until < self.from_:
            raise Misplaced(("until",), "lies before `from`")
        return self


def _offer_feature(written: object) -> str | bool | float:
    written = composed(written)
    if isinstance(written, str) and len(written) <= Limits.text_chars_max:
        return clean(written)
    if isinstance(written, bool):
        return written
    if isinstance(written, int | float) and abs(written) <= Limits.number_abs_max:
        return float(written)
    raise ValueError(
        f"must be text of at most {Limits.text_chars_max} characters (put dates in quotes), "
        "a finite number, true or false"
    )


OfferFeature = Annotated[
    str | bool | float,
    PlainValidator(
        _offer_feature,
        json_schema_input_type=Annotated[str, Field(max_length=Limits.text_chars_max)] | bool | Finite,
    ),
]
Payloads = Annotated[ByLanguage[Payload] | None, Given]
Durations = Annotated[dict[Name, DurationUs], Field(max_length=Limits.labels_max)]


class Shown(Section):
    """What is returned to the caller: one payload, or one for each language."""

    id: str
    payload: Payload = Field(default_factory=dict)
    """What the caller gets back, unchanged: any JSON that your page or message needs, at most 64 KiB. Whole
    numbers beyond 2^53 and dates stand in quotes."""
    payloads: Payloads = None
    """Instead of `payload`, one for each language, such as `{en: {…}, da: {…}}`: the customer's language
    chooses, or one near to it, else `fallback_language`, which must be among them."""

    @model_validator(mode="after")
    def _either(self) -> Shown:
        if self.payloads is not None and "payload" in self.model_fields_set:
            raise Misplaced(("payload",), "stands beside `payloads`; keep one of them")
        return self


def _languages(written: tuple[str, ...] | None) -> tuple[str, ...] | None:
    for language in written or ():
        if not canonical(language):
            raise ValueError(f"{language!r:.40} stands for no language; remove `languages` where any will do")
    return written


class Offer(Shown):
    """Something that may be shown, with its own rules."""

    id: Id
    """The offer's name in answers, reports and metrics; of the campaign's offers only this one has it. What
    was learned about an offer belongs to its id: under another id it is a new offer."""
    features: dict[Name, OfferFeature] = Field(default_factory=dict)
    """What the offer is like, in words (text), numbers or `true` and `false`. What offers have in common is
    learned together, so a new offer need not begin from nothing."""
    group: Annotated[Name | None, Given] = None
    """The group of `groups` whose limits this offer counts towards."""
    topics: Annotated[
        Words,
        Field(max_length=Limits.labels_max, json_schema_extra={"maxItems": Limits.labels_max}),
        AfterValidator(different),
    ] = ()
    """What the offer is about. A customer who blocks a topic is shown none of its offers."""
    sensitive_topic: Annotated[Word | None, Given] = None
    """A topic that may hurt, such as `family` or `health`: the offer is shown only to customers who asked for
    the topic."""
    channels: Words | None = None
    """The channels in which the offer may be shown, of those under `context`, or `other`. Left out: any."""
    devices: Words | None = None
    """The devices on which it may be shown, of those under `context`, or `other`. Left out: any."""
    journey_stages: Words | None = None
    """The stages of the customer journey at which it may be shown, of those under `context`, or `other`. Left
    out: any."""
    places: Words | None = None
    """The places at which it may be shown: words of your own, as calls say `place`. Left out: anywhere."""
    languages: Annotated[Words | None, AfterValidator(_languages)] = None
    """The languages of customers to whom it may be shown, as BCP 47 tags: `da` is also da-DK, `en-GB` is that
    one alone. Left out: any."""
    countries: Words | None = None
    """The countries in which it may be shown, by the two letters of ISO 3166, such as `DK`. Left out: any."""
    when: dict[str, Any] | None = None
    """A condition that must hold, such as `{basket_value: {gt: 30}}`: a feature, trait or segment, or what
    every call says (device, channel, hour and such), with `gt`, `ge`, `lt`, `le`, `eq`, or `in` and a list.
    All keys must hold; `any_of` and `none_of` take a list of conditions. What is not known meets no
    comparison."""
    valid: Validity | None = None
    """The days on which it may be shown. Left out: always."""
    hours: Annotated[
        Hours | None,
        BeforeValidator(parse_hours, json_schema_input_type=Annotated[str, Field(pattern=HOURS_PATTERN)]),
        PlainSerializer(str),
    ] = None
    """The time of day at which it may be shown, on the customer's clock, such as `"08:00-21:00"`: the first
    minute is included, the last is not. It may wrap midnight; that night belongs to the day on which it
    begins. The clock is that of the call, else the customer's, else the campaign's. Left out: all day."""
    requires: Durations = Field(default_factory=dict)
    """Customer events that must have happened, and how long ago at most: `{add_to_cart: 2h}` shows the offer
    only in the two hours after one. All of them must have happened."""
    suppress_after: Durations = Field(default_factory=dict)
    """How long the offer is withheld from a customer after an outcome of this very offer, or after a customer
    event: `{purchase: 30d, dismiss: 14d}`."""
    caps: Caps = ()
    """How often one customer may be shown this offer, such as `[{times: 3, per: 7d}]`; every one of them must
    hold. Only customers who are named and may be recognised are counted."""


class Fallback(Shown):
    """What is answered where no offer may be shown or chosen."""

    id: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$", max_length=128)] = ""
    """Its name in answers; no offer's. Left out: answers name no offer."""
