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
    until: Day | None = None

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
    payloads: Payloads = None

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
    """One action of the bandit, with its own rules."""

    id: Id
    features: dict[Name, OfferFeature] = Field(default_factory=dict)
    group: Annotated[Name | None, Given] = None
    topics: Annotated[
        Words,
        Field(max_length=Limits.labels_max, json_schema_extra={"maxItems": Limits.labels_max}),
        AfterValidator(different),
    ] = ()
    sensitive_topic: Annotated[Word | None, Given] = None
    channels: Words | None = None
    devices: Words | None = None
    journey_stages: Words | None = None
    places: Words | None = None
    languages: Annotated[Words | None, AfterValidator(_languages)] = None
    countries: Words | None = None
    when: dict[str, Any] | None = None
    valid: Validity | None = None
    hours: Annotated[
        Hours | None,
        BeforeValidator(parse_hours, json_schema_input_type=Annotated[str, Field(pattern=HOURS_PATTERN)]),
        PlainSerializer(str),
    ] = None
    requires: Durations = Field(default_factory=dict)
    suppress_after: Durations = Field(default_factory=dict)
    caps: Caps = ()


class Fallback(Shown):
    """What is answered where the bandit may not or cannot choose."""

    id: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$", max_length=128)] = ""
