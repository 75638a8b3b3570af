"""What the service answered, as values that nobody changes.

What holds: a decision tells whether the service made it (`served`); one that it did not record has no
`decision_id`, so that nothing can be reported against what nobody knows. What a newer service says beside is
left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from google.protobuf.json_format import Error, MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from tilbud.client.questions import Question
from tilbud.client.refusals import Refusal, refusal_of_status
from tilbud.client.words import OutcomeStatus, Reason
from tilbud.v1 import decisions_pb2 as pb

Word = TypeVar("Word", Reason, OutcomeStatus)


@dataclass(frozen=True, slots=True)
class RankedOffer:
    """One eligible offer, and its exact probability within the variant."""

    offer_id: str
    probability: float


@dataclass(frozen=True, slots=True)
class Decision:
    """The offer to show."""

    campaign: str
    offer_id: str
    """The offer, or the campaign's fallback; of a default, what you named."""
    payload: Mapping[str, Any]
    """The offer's payload as the campaign's file has it."""
    decision_id: str
    """What to report outcomes against. Empty: there is no record, and nothing to report."""
    probability: float
    """The exact probability with which it was drawn; 1 of a fallback and of a default."""
    reason: Reason
    variant: str
    """Which side of the experiment answered: personalized or control; empty of a default."""
    model_version: str
    reward_deadline: datetime | None
    """Until when outcomes count; of a deferred decision, until when it can be activated."""
    ranking: tuple[RankedOffer, ...] = ()
    """Every eligible offer, the most probable first, where it was asked for."""
    served: bool = True
    """The service answered. False: this is your own default, and `problem` says why."""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class OfferFate:
    """What became of one offer in a decision."""

    offer_id: str
    probability: float
    removed_by: str
    """The rule that removed it; empty where it was eligible."""
    new_settlements: int | None
    """Of a new offer, how many settlements of it were learned."""


@dataclass(frozen=True, slots=True)
class Factor:
    """What one value did for the drawn offer's probability."""

    name: str
    value: str | float | bool | None
    effect: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a decision fell as it did."""

    decision: Decision
    offers: tuple[OfferFate, ...]
    used: Mapping[str, str | float | bool | None]
    """What was known and could be used, by name."""
    rules_only: Mapping[str, str | float | bool | None]
    """Of that, what the model does not see."""
    dropped: Mapping[str, str]
    """What was said and not used, and why, by name."""
    factors: tuple[Factor, ...] = field(default=())
    """What spoke most for and against the drawn offer, the strongest first."""
    factors_model_version: str = ""
    customer_explanation: str = ""
    """A sentence for the customer, where the campaign has one."""
    decision_time: datetime | None = None
    variant_share: float | None = None
    split: str = ""


@contextmanager
def _reading() -> Iterator[None]:
    """Turn what no service of ours answers (a payload with NaN, a time beyond years) into a Refusal."""
    try:
        yield
    except (ValueError, OverflowError, Error) as error:
        raise Refusal("INTERNAL", [f"the answer cannot be read: {error}"]) from error


@_reading()
def decision_of(campaign: str, answer: pb.DecideResponse) -> Decision:
    """Return what Decide answered; raises Refusal where it cannot be read, as all here do."""
    return Decision(
        campaign=campaign,
        offer_id=answer.offer_id,
        payload=MessageToDict(answer.payload),
        decision_id=answer.decision_id if answer.recorded else "",
        probability=answer.probability,
        reason=reason_of(answer),
        variant=answer.variant,
        model_version=answer.model_version,
        reward_deadline=deadline_of(answer),
        ranking=tuple(RankedOffer(each.offer_id, each.probability) for each in answer.ranking),
    )


@_reading()
def decisions_of(questions: Sequence[Question], answer: pb.BatchDecideResponse) -> list[Decision | Refusal]:
    """Return what BatchDecide answered: for each question a decision, or what it was refused with."""
    return [
        _of_one(question.campaign, each) for question, each in zip(questions, answer.results, strict=True)
    ]


def _of_one(campaign: str, result: pb.BatchDecideResult) -> Decision | Refusal:
    if not result.HasField("decision"):
        return refusal_of_status(result.error)
    try:
        return decision_of(campaign, result.decision)
    except Refusal as refused:
        return refused


def check_default(offer_id: str | None, payload: Mapping[str, Any] | None) -> None:
    """Raise TypeError for a default that could not stand in, before it has to."""
    if not isinstance(offer_id, str | None):
        raise TypeError(f"default: write the id of an offer; it is of type {type(offer_id).__name__}")
    if not isinstance(payload, Mapping | None):
        raise TypeError(f"default_payload: write a dict; it is of type {type(payload).__name__}")


def default_of(
    campaign: str, offer_id: str | None, payload: Mapping[str, Any] | None, refused: Refusal
) -> Decision:
    """Return the caller's default for a question that was not answered.

    Raises the refusal where there is no default, and where the question should change.
    """
    if offer_id is None or not refused.later:
        raise refused
    return Decision(
        campaign=campaign,
        offer_id=offer_id,
        payload=dict(payload or {}),
        decision_id="",
        probability=1.0,
        reason=Reason.DEFAULT,
        variant="",
        model_version="",
        reward_deadline=None,
        served=False,
        problem=f"{refused.code}: {refused}",
    )


@_reading()
def deadline_of(answer: pb.DecideResponse | pb.ActivateResponse) -> datetime | None:
    """Return until when outcomes count; None where none do."""
    return _time(answer.reward_deadline) if answer.HasField("reward_deadline") else None


def reason_of(answer: pb.DecideResponse) -> Reason:
    """Return why a decision fell as it did."""
    return _word(Reason, pb.DecisionReason, "DECISION_REASON_", answer.reason)


def status_of(answer: pb.ReportOutcomeResponse) -> OutcomeStatus:
    """Return what ReportOutcome answered."""
    return _word(OutcomeStatus, pb.OutcomeStatus, "OUTCOME_STATUS_", answer.status)


@_reading()
def explanation_of(campaign: str, answer: pb.ExplainDecisionResponse) -> Explanation:
    """Return what ExplainDecision answered."""
    return Explanation(
        decision=decision_of(campaign, answer.decision),
        offers=tuple(
            OfferFate(
                each.offer_id,
                each.probability,
                each.removed_by,
                each.new_settlements if each.HasField("new_settlements") else None,
            )
            for each in answer.offers
        ),
        used={name: _value(each) for name, each in answer.used.items()},
        rules_only={name: _value(each) for name, each in answer.rules_only.items()},
        dropped={each.name: each.reason for each in answer.dropped},
        factors=tuple(Factor(each.name, _value(each.value), each.effect) for each in answer.factors),
        factors_model_version=answer.factors_model_version,
        customer_explanation=answer.customer_explanation,
        decision_time=_time(answer.decision_time) if answer.HasField("decision_time") else None,
        variant_share=answer.variant_share if answer.HasField("variant_share") else None,
        split=answer.split,
    )


def _word(words: type[Word], constants: Any, prefix: str, number: int) -> Word:
    try:
        return words(constants.Name(number).removeprefix(prefix).lower())
    except ValueError:
        return words.UNKNOWN


def _value(value: pb.FeatureValue) -> str | float | bool | None:
    kind = value.WhichOneof("kind")
    return None if kind is None else getattr(value, kind)


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(UTC)
