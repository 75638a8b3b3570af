"""What is asked and reported, as requests of the contract.

What holds: a question without an id of the caller's gets one here, so that gRPC may repeat it: the same id is
the same decision. An outcome says when it happened, however late it is sent. What cannot be written down is a
TypeError or ValueError that names the field; what the service would refuse is left to it.
"""

from __future__ import annotations

import secrets
import time as clock
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from numbers import Real
from typing import TypedDict
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from tilbud.client.words import Consent
from tilbud.v1 import decisions_pb2 as pb

Feature = str | float | bool
_TEXTS = (
    "campaign", "decision_id", "customer_id", "device", "channel", "journey_stage", "place", "language",
    "country", "time_zone",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Question:
    """Which offer of this campaign should be shown?"""

    campaign: str
    _: KW_ONLY
    decision_id: str = ""
    """Your own id of the decision, at most 128 of [A-Za-z0-9._:-]. Empty: a new UUIDv7."""
    customer_id: str = ""
    """Who asks, as you know them. Empty: anonymous."""
    consent: Consent = Consent.UNSPECIFIED
    """What the customer says about their data. Unspecified: what their profile says."""
    device: str = ""
    channel: str = ""
    journey_stage: str = ""
    place: str = ""
    """A shop, a city, a page slot."""
    language: str = ""
    """Such as da or en-GB, or an Accept-Language header."""
    country: str = ""
    """Such as DK."""
    time: datetime | None = None
    """When it is shown, with a time zone. None: now, by the service's clock."""
    time_zone: str = ""
    """Such as Europe/Copenhagen. Empty: the customer's, then the campaign's."""
    features: Mapping[str, Feature] = field(default_factory=dict)
    """What the campaign declares under context.features: texts, numbers, True or False."""
    include_offers: Sequence[str] = ()
    """Only these offers may be shown. Empty: all."""
    exclude_offers: Sequence[str] = ()
    """These may not."""
    defer_activation: bool = False
    """The offer may not be shown after all: say so by `activate`, from when on outcomes count."""
    include_ranking: bool = False
    """Answer every eligible offer's probability too."""
    dry_run: bool = False
    """Answer, and leave no trace."""


class Situation(TypedDict, total=False):
    """What `Question` has beside its campaign, as keyword arguments."""

    decision_id: str
    customer_id: str
    consent: Consent
    device: str
    channel: str
    journey_stage: str
    place: str
    language: str
    country: str
    time: datetime | None
    time_zone: str
    features: Mapping[str, Feature]
    include_offers: Sequence[str]
    exclude_offers: Sequence[str]
    defer_activation: bool
    include_ranking: bool
    dry_run: bool


def new_id() -> str:
    """Return a UUIDv7 (RFC 9562, section 5.7): ids of one time lie together in the ledger."""
    bits = (clock.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    version, variant = 0x7 << 76, 0b10 << 62
    return str(UUID(int=bits & ~(0xF << 76) & ~(0b11 << 62) | version | variant))


def decide_request(question: Question) -> pb.DecideRequest:
    """Return a question as its request, with an id."""
    for name in _TEXTS:
        _check_text(name, getattr(question, name))
    if not isinstance(question.features, Mapping):
        raise TypeError(f"features: write a dict; it is of type {type(question.features).__name__}")
    for name in ("include_offers", "exclude_offers"):
        if isinstance(getattr(question, name), str):  # which would be a list of its characters
            raise TypeError(f"{name}: write a list of ids; it is of type str")
    return pb.DecideRequest(
        campaign=question.campaign,
        decision_id=question.decision_id or new_id(),
        customer_id=question.customer_id,
        context=pb.Context(
            device=question.device,
            channel=question.channel,
            journey_stage=question.journey_stage,
            place=question.place,
            language=question.language,
            country=question.country,
            time=None if question.time is None else _timestamp(question.time),
            time_zone=question.time_zone,
            features=feature_values(question.features),
        ),
        consent=consent_value(question.consent),
        include_offers=question.include_offers,
        exclude_offers=question.exclude_offers,
        defer_activation=question.defer_activation,
        include_ranking=question.include_ranking,
        dry_run=question.dry_run,
    )


def feature_values(features: Mapping[str, Feature]) -> dict[str, pb.FeatureValue]:
    """Return features as the contract has them; raises TypeError for what is none."""
    return {name: _feature(name, value) for name, value in features.items()}


def consent_value(consent: Consent) -> pb.Consent.ValueType:
    """Return the contract's constant."""
    return pb.Consent.Value(f"CONSENT_{Consent(consent).name}")


def batch_request(questions: Sequence[Question]) -> pb.BatchDecideRequest:
    """Return questions as one request."""
    return pb.BatchDecideRequest(requests=map(decide_request, questions))


def outcome_request(
    campaign: str,
    decision_id: str,
    outcome: str,
    *,
    value: float | None,
    event_id: str,
    time: datetime | None,
) -> pb.ReportOutcomeRequest:
    """Return what happened, and when: now, where nobody says."""
    texts = {"campaign": campaign, "decision_id": decision_id, "outcome": outcome, "event_id": event_id}
    for name, text in texts.items():
        _check_text(name, text)
    if time is None:
        happened = Timestamp()
        happened.GetCurrentTime()
    else:
        happened = _timestamp(time)
    return pb.ReportOutcomeRequest(
        campaign=campaign,
        decision_id=decision_id,
        outcome=outcome,
        value=value,
        event_id=event_id,
        time=happened,
    )


def _check_text(name: str, value: object) -> None:
    """Raise TypeError or ValueError that names what is no text; None is one that is not said."""
    if not isinstance(value, str | None):
        raise TypeError(f"{name}: write a text; it is of type {type(value).__name__}")
    try:
        (value or "").encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name}: {value!r} has half a character") from None


def _timestamp(time: datetime) -> Timestamp:
    if not isinstance(time, datetime):
        raise TypeError(f"time: write a datetime; it is of type {type(time).__name__}")
    if time.tzinfo is None:
        raise ValueError("time: say in which zone it is, as datetime.now(UTC) does")
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def _feature(name: str, value: Feature) -> pb.FeatureValue:
    if isinstance(value, bool):
        return pb.FeatureValue(flag=value)
    if isinstance(value, str):
        return pb.FeatureValue(category=value)
    if isinstance(value, Real):
        try:
            return pb.FeatureValue(number=float(value))
        except OverflowError:
            raise ValueError(f"features[{name!r}]: the number is too large") from None
    kind = type(value).__name__
    raise TypeError(f"features[{name!r}]: write a text, a number, True or False; it is of type {kind}")
