"""ExplainDecision over gRPC: the story of a decision as a message.

What holds: the answer stays as it was given, whatever became of the decision, or of its campaign, since.
Nothing is explained here; that is `insight/explain.py`'s business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from google.protobuf.message import Message

from tilbud.campaigns.served import Catalog
from tilbud.concurrency.time_slice import TimeSlice
from tilbud.deciding.pipeline import Answer
from tilbud.domain.context import check_text
from tilbud.domain.decision.records import Decision, check_id
from tilbud.domain.errors import UnknownCampaign, UnknownDecision
from tilbud.domain.limits import Limits
from tilbud.domain.text import nfc
from tilbud.insight.explain import Explained, explain
from tilbud.transport.call import Call, Handle
from tilbud.transport.grpc.converters import decide_response, feature_message, timestamp
from tilbud.v1 import decisions_pb2

Find = Callable[[str, str], Awaitable[Decision | None]]


def explain_handler(catalog: Catalog, find: Find, limits: Limits) -> Handle:
    """Return the handler of ExplainDecision; `find` returns the recorded decision of (campaign, id)."""

    async def explain_decision(message: decisions_pb2.ExplainDecisionRequest, _: Call) -> Message:
        name = check_id("campaign", message.campaign, limits, required=True)
        served = catalog.find(name)
        decision_id = check_id("decision_id", message.decision_id, limits, required=True)
        language = check_text("language", nfc(message.language), limits)
        decision = await find(name, decision_id)
        if decision is None:
            raise UnknownCampaign(name) if served is None else UnknownDecision(name, decision_id)
        time_slice = TimeSlice(limits.loop_slice_s)

        async def give_way() -> None:
            if time_slice.expired():
                await time_slice.yield_to_loop()

        campaign, model = (served.campaign, served.models.get(decision.variant)) if served else (None, None)
        explained = await explain(decision, campaign, model, language, give_way)
        return explain_response(decision, explained)

    return explain_decision


def explain_response(decision: Decision, explained: Explained) -> decisions_pb2.ExplainDecisionResponse:
    """Return what the contract says of a decision and its story."""
    given = decide_response(Answer(decision, recorded=True, include_ranking=True))
    return decisions_pb2.ExplainDecisionResponse(
        decision=decisions_pb2.DecideResponse.FromString(given),
        offers=[
            decisions_pb2.OfferFate(
                offer_id=fate.offer_id,
                probability=fate.probability,
                removed_by=fate.removed_by,
                new_settlements=fate.new_settlements,
            )
            for fate in explained.fates
        ],
        used={name: feature_message(value) for name, value in explained.used.items()},
        rules_only={name: feature_message(value) for name, value in explained.rules_only.items()},
        dropped=[
            decisions_pb2.DroppedValue(name=name, reason=reason) for name, reason in explained.dropped.items()
        ],
        factors=[
            decisions_pb2.Factor(name=factor.name, value=feature_message(factor.value), effect=factor.effect)
            for factor in explained.factors
        ],
        factors_model_version=explained.factors_model_version,
        customer_explanation=explained.customer_explanation,
        decision_time=timestamp(decision.decided_us),
        variant_share=decision.variant_share,
        split=decision.split,
    )
