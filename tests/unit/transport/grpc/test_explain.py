"""The story of a decision as a message."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

import pytest
from tests.builders import START_WALL_US, decision, fallback
from tests.unit.bandit.samples import LIMITS, campaign, context, model, offer_set

from tilbud.bandit.features import encode_context
from tilbud.bandit.model import Model
from tilbud.campaigns.served import Catalog, ServedCampaign
from tilbud.deciding.pipeline import Answer
from tilbud.domain.campaign.campaign import PERSONALIZED, Campaign
from tilbud.domain.decision.records import Decision, InternedText
from tilbud.domain.errors import InvalidField, UnknownCampaign, UnknownDecision
from tilbud.domain.text import UNCLEAN
from tilbud.insight.explain import Explained, Factor, OfferFate
from tilbud.transport.grpc.converters import decide_response
from tilbud.transport.grpc.explain import explain_handler, explain_response
from tilbud.transport.grpc.unary import Context
from tilbud.v1 import decisions_pb2

NOBODY = cast(Context, None)  # the handler does not ask who calls
EXPLAINED = Explained(
    fates=(
        OfferFate("free-shipping", 0.25),
        OfferFate("bundle", 0.75, new_settlements=2),
        OfferFate("ten-off", 0.0, "hours"),
    ),
    used={"device": "mobile", "visits": 14, "basket": 30.5, "weekend": False, "returning": True},
    rules_only={"hour": 14, "weekday": "friday"},
    dropped={"place": "no_consent", "tier": "too_old"},
    factors=(
        Factor("device", "mobile", 0.125),
        Factor("basket", 30.5, -0.0625),
        Factor("weekend", False, 0.01),
    ),
    factors_model_version="c0ffee.17",
    customer_explanation="Chosen for your device.",
)


@dataclass(frozen=True)
class Served:
    """What an explanation needs of a served campaign."""

    campaign: Campaign
    model: Model
    id: str = "shop"

    @property
    def models(self) -> dict[str, Model]:
        """The model of each policy."""
        return {PERSONALIZED: self.model}


@pytest.fixture(name="served")
def _served() -> Served:
    return Served(campaign(), model())


async def ask(
    served: Served | None, known: list[Decision], **said: Any
) -> decisions_pb2.ExplainDecisionResponse:
    """Ask about a decision where these are recorded."""
    catalog = Catalog()
    catalog.replace([cast(ServedCampaign, served)] if served else [])
    recorded = {(each.campaign, each.decision_id): each for each in known}

    async def find(*key: str) -> Decision | None:
        return recorded.get((key[0], key[1]))

    handle = explain_handler(catalog, find, LIMITS)
    message = decisions_pb2.ExplainDecisionRequest(**{"campaign": "shop", "decision_id": "d1", **said})
    return cast(decisions_pb2.ExplainDecisionResponse, await handle(message, NOBODY))


def test_the_answer_is_told_as_it_was_given():
    """`decision` is, field for field, the answer with its ranking."""
    told = decision(payload=InternedText.of('{"title":"Én gang","n":1}'))
    message = explain_response(told, EXPLAINED)
    given = decide_response(Answer(told, recorded=True, include_ranking=True))
    assert message.decision == decisions_pb2.DecideResponse.FromString(given)
    assert message.decision.payload["title"] == "Én gang"
    assert [each.probability for each in message.decision.ranking] == sorted(told.probabilities, reverse=True)
    assert message.decision.recorded


def test_every_part_of_the_story_is_in_the_message():
    """Fates, what was used and dropped, factors and the sentence arrive in order and under their kinds."""
    message = explain_response(decision(), EXPLAINED)
    fates = [(each.offer_id, each.probability, each.removed_by) for each in message.offers]
    assert fates == [("free-shipping", 0.25, ""), ("bundle", 0.75, ""), ("ten-off", 0.0, "hours")]
    assert [fate.HasField("new_settlements") and fate.new_settlements for fate in message.offers] == [
        False,
        2,
        False,
    ]
    used = {name: (value.WhichOneof("kind"), *said(value)) for name, value in message.used.items()}
    assert used == {
        "device": ("category", "mobile"),
        "visits": ("number", 14.0),
        "basket": ("number", 30.5),
        "weekend": ("flag", False),
        "returning": ("flag", True),
    }
    assert (message.rules_only["hour"].number, message.rules_only["weekday"].category) == (14.0, "friday")
    assert [(each.name, each.reason) for each in message.dropped] == [
        ("place", "no_consent"),
        ("tier", "too_old"),
    ]
    assert [(each.name, *said(each.value), each.effect) for each in message.factors] == [
        ("device", "mobile", 0.125),
        ("basket", 30.5, -0.0625),
        ("weekend", False, 0.01),
    ]
    assert message.factors_model_version == "c0ffee.17"
    assert message.customer_explanation == "Chosen for your device."
    assert message.decision_time.ToMicroseconds() == START_WALL_US
    assert (message.HasField("variant_share"), message.split) == (False, "decision")


def test_the_side_is_told_with_its_share():
    """How large the side was and what was split is the record's word."""
    message = explain_response(decision(variant_share=0.95, split="customer"), EXPLAINED)
    assert (message.variant_share, message.split) == (0.95, "customer")


def said(value: decisions_pb2.FeatureValue) -> list[object]:
    """The value a message holds."""
    return [each for _, each in value.ListFields()] or [getattr(value, str(value.WhichOneof("kind")))]


async def test_a_recorded_decision_is_explained(served):
    """The handler finds the decision and tells its story with the model that serves now."""
    known = context(tier="gold")
    told = decision(
        campaign="shop",
        offers=offer_set(3),
        features=encode_context(known),
        context=json.dumps(known.known()),
        lineage=served.model.lineage,
        removed=InternedText.of('{"offer-9":"valid"}'),
        dropped=InternedText.of('{"place":"no_consent"}'),
    )
    message = await ask(served, [told], language="da")
    assert message.decision.decision_id == "d1"
    assert [each.offer_id for each in message.offers] == [*told.offers.ids, "offer-9"]
    assert message.used["tier"].category == "gold"
    assert message.dropped[0].name == "place"
    assert message.factors_model_version == f"{served.model.lineage}.0"


async def test_a_decision_is_explained_while_its_campaign_is_away(served):
    """From its record, word for word; there is no model to ask, and nobody's sentence to say."""
    told = decision(
        campaign="shop", lineage=served.model.lineage, removed=InternedText.of('{"offer-9":"valid"}')
    )
    message, before = await ask(None, [told]), await ask(served, [told])
    assert message.decision == before.decision
    for offer in before.offers:
        offer.ClearField("new_settlements")  # which the model that answers now knows
    assert message.offers == before.offers
    assert (message.factors_model_version, message.customer_explanation) == ("", "")


async def test_a_fallback_is_explained(served):
    """A decision that could not choose is told with what kept its offers back."""
    message = await ask(
        served, [fallback("d1", campaign="shop", removed=InternedText.of('{"a":"campaign_paused"}'))]
    )
    assert message.decision.reason == decisions_pb2.DECISION_REASON_FALLBACK_NO_CONSENT
    assert [(each.offer_id, each.removed_by) for each in message.offers] == [("a", "campaign_paused")]
    assert not message.factors
    assert message.factors_model_version == ""


@pytest.mark.parametrize(
    ("request_said", "error"),
    [
        ({"campaign": ""}, InvalidField("campaign", "is required")),
        ({"campaign": "a b"}, InvalidField("campaign", "only letters A-Z a-z, digits and . _ : -")),
        ({"campaign": "other"}, UnknownCampaign("other")),
        ({"decision_id": ""}, InvalidField("decision_id", "is required")),
        ({"decision_id": "x" * 129}, InvalidField("decision_id", "at most 128 characters, got 129")),
        ({"decision_id": "d2"}, UnknownDecision("shop", "d2")),
        ({"language": "x" * 129}, InvalidField("language", "at most 128 characters, got 129")),
        (
            {"language": "d\na"},
            InvalidField("language", UNCLEAN),
        ),
    ],
)
async def test_what_cannot_be_answered_is_said(served, request_said, error):
    """A bad field is named, and an unknown campaign or decision is not found."""
    with pytest.raises(type(error)) as raised:
        await ask(served, [decision(campaign="shop")], **request_said)
    assert str(raised.value) == str(error)
