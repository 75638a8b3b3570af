"""Campaigns, offer sets and settlements for the tests of this room."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tilbud.bandit.features import encode_context, encode_offer
from tilbud.bandit.model import Model
from tilbud.domain.campaign.campaign import Campaign, Offer
from tilbud.domain.context import Context, ContextInput, FeatureValue, read_context
from tilbud.domain.decision.records import NO_OFFERS, OfferSet, Settlement
from tilbud.domain.limits import Limits

LIMITS = Limits()
NOW_US = 1_790_000_000_000_000


def campaign(**changes: Any) -> Campaign:
    """A small campaign; `changes` replace whole sections."""
    written = {
        "campaign": "shop",
        "context": {"features": {"tier": "category", "basket": "number", "returning": "flag"}},
        "offers": [{"id": f"offer-{number}"} for number in range(5)],
        "reward": {"outcomes": {"purchase": 1.0}},
        "consent": "not_required",
        **changes,
    }
    return Campaign.model_validate(written)


def context(device: str = "mobile", place: str = "", **features: FeatureValue) -> Context:
    """A checked context of that campaign."""
    said = ContextInput(device=device, channel="web", place=place, features=features)
    return read_context(said, campaign().vocabulary(), NOW_US, LIMITS)


def encoded(device: str = "mobile", **features: FeatureValue) -> str:
    """The encoding of such a context."""
    return encode_context(context(device, "", **features))


def offer_set(count: int = 5, **features: Any) -> OfferSet:
    """So many offers, all with these features."""
    offers = [Offer(id=f"offer-{number}", features=features) for number in range(count)]
    return OfferSet.of(tuple(each.id for each in offers), tuple(encode_offer(each) for each in offers))


def model(sample: Campaign | None = None, limits: Limits = LIMITS, erasures: int = 0) -> Model:
    """A model that learned nothing yet."""
    return Model(sample or campaign(), limits=limits, erasures=erasures)


def settlement(
    sequence: int,
    drawn: int = 0,
    reward: float = 1.0,
    *,
    probability: float = 0.2,
    features: str | None = None,
    offers: OfferSet | None = None,
) -> Settlement:
    """A sound settlement, but for what is given."""
    offers = offers or offer_set()
    return Settlement(
        campaign="shop",
        sequence=sequence,
        decision_id=f"d{sequence}",
        variant="personalized",
        offer_id=offers.ids[drawn] if 0 <= drawn < len(offers.ids) else "",
        device="mobile",
        channel="web",
        journey_stage="unknown",
        offers=offers,
        drawn=drawn,
        probability=probability,
        features=encoded() if features is None else features,
        reward=reward,
        clipped=False,
        due_service_us=0,
        settled_us=0,
    )


def erased(sequence: int) -> Settlement:
    """What is left of a settlement whose customer was erased."""
    return replace(
        settlement(sequence, -1, 0.0, probability=0.0, features="", offers=NO_OFFERS), decision_id=""
    )


def teach(taught: Model, count: int, best: int = 2) -> None:
    """Let offers be shown in turn, of which `best` alone is rewarded."""
    for _ in range(count):
        sequence = taught.sequence + 1
        drawn = sequence % 5
        taught.learn(settlement(sequence, drawn, reward=float(drawn == best)))
