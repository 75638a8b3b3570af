"""A campaign as a flag: what of an evaluation's context a decision uses, and how it is answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from grpc import StatusCode

from tilbud.domain.errors import InvalidField, Overloaded, UnknownCampaign
from tilbud.domain.limits import Limits
from tilbud.transport.call import Method
from tilbud.transport.connect.ofrep import Evaluation
from tilbud.transport.grpc.status import internal_status, status_of
from tilbud.v1 import decisions_pb2 as pb


async def _handle(_message: Any, _call: Any) -> bytes:
    raise NotImplementedError


DECIDE = Method("Decide", "tilbud.v1.DecisionService", pb.DecideRequest, pb.DecideResponse, _handle)
SHOP = Evaluation(b"/ofrep/v1/evaluate/flags/my%2Dshop?x=y", Limits())


async def _read(context: object) -> Any:
    return await SHOP.read(DECIDE, json.dumps({"context": context}).encode())


async def test_what_a_context_says_becomes_a_question() -> None:
    """The targeting key is the customer; fields of a context are those, all else is features."""
    asked = await _read({
        "targetingKey": "anna", "decisionId": "view-1", "consent": True, "device": "mobile",
        "journeyStage": "loyal", "time_zone": "Europe/Oslo", "time": "2026-11-29T12:00:00Z",
        "tier": "gold", "basket": 30, "returning": False, "plan": {"seats": 3}, "tags": ["a"], "none": None,
    })  # fmt: skip
    assert (asked.campaign, asked.customer_id, asked.decision_id) == ("my-shop", "anna", "view-1")
    assert asked.consent == pb.CONSENT_GRANTED
    context = asked.context
    assert (context.device, context.journey_stage, context.time_zone) == ("mobile", "loyal", "Europe/Oslo")
    assert context.time.ToJsonString() == "2026-11-29T12:00:00Z"
    said = {name: getattr(value, value.WhichOneof("kind")) for name, value in context.features.items()}
    assert said == {"tier": "gold", "basket": 30.0, "returning": False}
    assert (await _read({"consent": False})).consent == pb.CONSENT_DENIED


@pytest.mark.parametrize("body", [b"", b"{}", b'{"context": null}', b'{"context": {}}'])
async def test_a_context_may_be_missing(body: bytes) -> None:
    """Then somebody unknown asks, and it is the campaign's to say whether that is enough."""
    assert await SHOP.read(DECIDE, body) == pb.DecideRequest(campaign="my-shop")


@pytest.mark.parametrize(
    ("context", "said"),
    [
        ([], "context: must be an object, such as {}"),
        (dict.fromkeys(map(str, range(1_001)), 1), "context: at most 1000, got 1001"),
        ({"targetingKey": 3}, "context.targetingKey: must be text"),
        ({"consent": "yes"}, "context.consent: must be true or false"),
        ({"device": 3}, "context.device: must be text"),
        ({"time": "now"}, 'context.time: must be a time such as "2026-11-29T12:00:00Z"'),
        ({"tier": "\ud800"}, "context.tier: cannot be read"),
        ({"basket": 10**400}, "context.basket: cannot be read"),
    ],
)
async def test_what_cannot_be_read_is_named(context: object, said: str) -> None:
    """As everywhere."""
    with pytest.raises(InvalidField) as refused:
        await _read(context)
    assert str(refused.value) == said


@pytest.mark.parametrize("body", [b"[", b"[]", b"3", b"\xff"])
async def test_what_is_no_request_is_refused(body: bytes) -> None:
    """By a field's name."""
    with pytest.raises(InvalidField):
        await SHOP.read(DECIDE, body)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (pb.DECISION_REASON_PERSONALIZED, "TARGETING_MATCH"),
        (pb.DECISION_REASON_CONTROL, "SPLIT"),
        (pb.DECISION_REASON_FALLBACK_NO_CONSENT, "DEFAULT"),
        (pb.DECISION_REASON_FALLBACK_CAMPAIGN_PAUSED, "DISABLED"),
    ],
)
async def test_a_decision_is_a_value(reason: Any, expected: str) -> None:
    """The payload, the offer as its variant, a reason that OpenFeature has, and what to report by."""
    decision = pb.DecideResponse(
        decision_id="d", offer_id="gift", probability=0.5, reason=reason, variant="control", recorded=True
    )
    decision.payload.update({"title": "A gift"})
    answer = json.loads(await SHOP.write(DECIDE, decision.SerializeToString()))
    assert (answer["key"], answer["value"], answer["variant"]) == ("my-shop", {"title": "A gift"}, "gift")
    assert answer["reason"] == expected
    assert answer["metadata"]["decisionId"] == "d"
    assert answer["metadata"]["probability"] == 0.5
    assert answer["metadata"]["experiment"] == "control"


def test_errors_are_those_that_providers_know() -> None:
    """A flag nobody serves, a context that cannot be, too much at once, and what nobody expected."""
    for refusal, status, code in (
        (status_of(UnknownCampaign("my-shop")), 404, "FLAG_NOT_FOUND"),
        (status_of(InvalidField("context.time", "no")), 400, "INVALID_CONTEXT"),
        (status_of(Overloaded("the ledger", 0.25)), 429, "GENERAL"),
        (internal_status("7"), 500, "GENERAL"),
    ):
        response = SHOP.refused(refusal)
        error = json.loads(response.body)
        assert (response.status, error["errorCode"], error["key"]) == (status, code, "my-shop")
        assert error["errorDetails"] == refusal[1].message
        assert dict(response.headers) == ({"retry-after": "1"} if status == 429 else {})
    assert StatusCode.NOT_FOUND is status_of(UnknownCampaign("c"))[0]
