"""Between the contract's messages and the domain's types. Nothing is decided here.

Requests become domain values, their text in NFC, or raise InvalidField where a message can say what a domain
value cannot.
Answers become bytes, with payloads serialized once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache

from google.protobuf import json_format, struct_pb2, timestamp_pb2

from tilbud.campaigns.served import ServedCampaign
from tilbud.deciding.pipeline import Answer
from tilbud.domain.context import NOTHING_SENT, Consent, ContextInput, FeatureValue
from tilbud.domain.decision.records import DecideRequest, InternedText
from tilbud.domain.errors import InvalidField
from tilbud.domain.limits import Limits
from tilbud.domain.pauses import Pause
from tilbud.domain.relearning import Progress
from tilbud.domain.text import nfc
from tilbud.service.outcomes import OutcomeReport
from tilbud.transport.grpc.codec import field
from tilbud.v1 import campaigns_pb2, decisions_pb2

_NANOS = 1_000_000_000
_CONSENTS = {int(consent): consent for consent in Consent}
_NUMBERS_BYTES = 100  # a DecideResponse without its texts: tags, lengths, probability, deadline, sequence
_RANKED_BYTES = 16  # a RankedOffer without its id
_PAYLOAD = decisions_pb2.DecideResponse.PAYLOAD_FIELD_NUMBER


def decide_request(message: decisions_pb2.DecideRequest) -> DecideRequest:
    """Return the question a message asks; raises InvalidField."""
    return DecideRequest(
        message.campaign,
        message.decision_id,
        nfc(message.customer_id),
        _context(message.context) if message.HasField("context") else NOTHING_SENT,
        consent_of(message.consent),
        tuple(message.include_offers),
        tuple(message.exclude_offers),
        message.defer_activation,
        message.include_ranking,
        message.dry_run,
    )


def consent_of(number: int, name: str = "consent") -> Consent:
    """Return the consent of the contract's number; raises InvalidField."""
    consent = _CONSENTS.get(number)
    if consent is None:
        raise InvalidField(name, f"{number} is not one of the contract's values")
    return consent


def _context(message: decisions_pb2.Context) -> ContextInput:
    return ContextInput(
        nfc(message.device),
        nfc(message.channel),
        nfc(message.journey_stage),
        microseconds("context.time", message.time) if message.HasField("time") else None,
        nfc(message.time_zone),
        nfc(message.language),
        nfc(message.country),
        nfc(message.place),
        _features(message.features) if message.features else NOTHING_SENT.features,
    )


def _features(features: Mapping[str, decisions_pb2.FeatureValue]) -> dict[str, FeatureValue]:
    if len(features) > Limits.features_max:  # before each of them is read
        raise InvalidField("context.features", f"at most {Limits.features_max} features, got {len(features)}")
    return {nfc(name): _value(value) for name, value in features.items()}


def _value(value: decisions_pb2.FeatureValue) -> FeatureValue:
    """Return the value of a message; "" where it has none, which the campaign then does without."""
    return feature_value("", value) if value.WhichOneof("kind") else ""


def feature_value(where: str, value: decisions_pb2.FeatureValue) -> FeatureValue:
    """Return the value of a message; raises InvalidField where it has none."""
    kind = value.WhichOneof("kind")
    if kind is None:
        raise InvalidField(where, "has no value; set category, number or flag")
    content: FeatureValue = getattr(value, kind)
    return nfc(content) if isinstance(content, str) else content


def feature_message(value: FeatureValue) -> decisions_pb2.FeatureValue:
    """Return a value as the contract says it."""
    if isinstance(value, bool):
        return decisions_pb2.FeatureValue(flag=value)
    if isinstance(value, str):
        return decisions_pb2.FeatureValue(category=value)
    return decisions_pb2.FeatureValue(number=value)


def outcome_report(message: decisions_pb2.ReportOutcomeRequest) -> OutcomeReport:
    """Return the outcome a message reports; raises InvalidField."""
    return OutcomeReport(
        campaign=message.campaign,
        decision_id=message.decision_id,
        outcome=message.outcome,
        value=message.value if message.HasField("value") else 1.0,
        event_id=message.event_id,
        time_us=microseconds("time", message.time) if message.HasField("time") else None,
    )


def microseconds(name: str, time: timestamp_pb2.Timestamp) -> int:
    """Return a timestamp in microseconds since 1970; raises InvalidField where its nanos are off."""
    if not 0 <= time.nanos < _NANOS:
        raise InvalidField(name, "nanos must lie between 0 and 999,999,999")
    return time.seconds * 1_000_000 + time.nanos // 1_000


def timestamp(time_us: int) -> timestamp_pb2.Timestamp:
    """Return a timestamp of microseconds since 1970."""
    seconds, micros = divmod(time_us, 1_000_000)
    return timestamp_pb2.Timestamp(seconds=seconds, nanos=micros * 1_000)


def decide_response(answer: Answer) -> bytes:
    """Return a serialized DecideResponse: what is its own, then what it shares with others."""
    decision = answer.decision
    message = decisions_pb2.DecideResponse(
        decision_id=decision.decision_id, probability=decision.probability, recorded=answer.recorded
    )
    if answer.recorded:
        seconds, micros = divmod(decision.deadline_us, 1_000_000)
        message.reward_deadline.seconds, message.reward_deadline.nanos = seconds, micros * 1_000
    if answer.include_ranking:
        for offer_id, probability in decision.ranking():
            message.ranking.add(offer_id=offer_id, probability=probability)
    version = f"{decision.lineage}.{decision.sequence}"
    shared = _shared(decision.offer_id, int(decision.reason), decision.variant, version)
    return message.SerializeToString() + shared + _payload(decision.payload)


def answer_bytes(answer: Answer) -> int:
    """Return how many bytes the DecideResponse of an answer takes, or a few more."""
    decision = answer.decision
    texts = len(decision.decision_id) + len(decision.offer_id) + len(decision.variant) + len(decision.lineage)
    ranking = _ranking_bytes(decision.offers.ids) if answer.include_ranking else 0
    return len(_payload(decision.payload)) + texts + ranking + _NUMBERS_BYTES


@lru_cache(maxsize=Limits.answer_parts_cached_max)
def _ranking_bytes(offer_ids: tuple[str, ...]) -> int:
    return sum(len(offer_id) + _RANKED_BYTES for offer_id in offer_ids)


@lru_cache(maxsize=Limits.answer_parts_cached_max)
def _shared(offer_id: str, reason: int, variant: str, model_version: str) -> bytes:
    """Return fields that many answers have in common, as they stand in a serialized DecideResponse."""
    message = decisions_pb2.DecideResponse(
        offer_id=offer_id,
        reason=reason,  # type: ignore[arg-type]  # the domain's numbers are the contract's
        variant=variant,
        model_version=model_version,
    )
    return message.SerializeToString()


@lru_cache(maxsize=Limits.answer_parts_cached_max)
def _payload(payload: InternedText) -> bytes:
    """Return the payload field as it stands in a serialized DecideResponse."""
    struct = json_format.ParseDict(json.loads(payload.body), struct_pb2.Struct())
    return field(_PAYLOAD, struct.SerializeToString())


def campaign_message(
    served: ServedCampaign, pauses: Sequence[Pause], relearning: Progress | None
) -> campaigns_pb2.Campaign:
    """Return what the contract says of a served campaign, of what is off in it, and of its next model."""
    campaign = served.campaign
    return campaigns_pb2.Campaign(
        id=served.id,
        offers=served.offer_ids,
        outcomes=[
            campaigns_pb2.CampaignOutcome(name=name, weight=rule.weight, final=rule.final, shows=rule.shows)
            for name, rule in campaign.reward.outcomes.items()
        ],
        devices=campaign.context.devices,
        channels=campaign.context.channels,
        journey_stages=campaign.context.journey_stages,
        features=[
            campaigns_pb2.CampaignFeature(name=name, kind=kind)
            for name, kind in campaign.context.features.items()
        ],
        traits=[
            campaigns_pb2.CampaignFeature(name=name, kind=rule.kind)
            for name, rule in campaign.context.traits.items()
        ],
        events=campaign.context.events,
        topics=sorted({topic for offer in campaign.offers for topic in offer.topics}),
        sensitive_topics=sorted(
            {offer.sensitive_topic for offer in campaign.offers if offer.sensitive_topic}
        ),
        model_version=f"{served.model.lineage}.{served.model.sequence}",
        file_sha256=served.file.sha256,
        pauses=[
            campaigns_pb2.Pause(
                offer_id=pause.offer_id,
                reason=pause.reason,
                end_time=None if pause.until_us is None else timestamp(pause.until_us),
                start_time=timestamp(pause.since_us),
            )
            for pause in pauses
        ],
        relearning=_relearning_message(relearning),
        stand_in=served.stand_in,
    )


def _relearning_message(progress: Progress | None) -> campaigns_pb2.Relearning | None:
    if progress is None:
        return None
    return campaigns_pb2.Relearning(
        settlements_left=progress.settlements_left,
        due_time=None if progress.due_s is None else timestamp(int(progress.due_s * 1e6)),
    )
