"""Which offer, of those that may be shown: the variant, its policy's scores, the draw; or why the fallback.

What holds: the draw and the split are hashes of the ids under the draw key, so a retry draws the same. The
side of the experiment is assigned whatever comes of the decision, and a fallback keeps it: both sides count
all who were split. A policy only scores; nothing removes or replaces an offer after the draw. How the bandit
itself explores is no policy but arguments of Vowpal Wabbit: `bandit/presets.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from tilbud.bandit.model import Model
from tilbud.campaigns.served import ServedCampaign
from tilbud.deciding.builder import DecisionBuilder
from tilbud.domain.campaign.campaign import CONTROL, Campaign
from tilbud.domain.decision.draw import draw, keyed_uniform
from tilbud.domain.decision.eligibility import Eligibility
from tilbud.domain.decision.experiment import DRAW, Side, side_of
from tilbud.domain.decision.records import Decision, OfferSet, Reason
from tilbud.domain.errors import ModelUnavailable
from tilbud.domain.limits import Limits


class Policy(Protocol):
    """Scores for offers in a context, before discovery."""

    @property
    def discovery(self) -> float:
        """The share of probability that is spread evenly over the eligible offers, whatever the scores."""
        ...

    def scores(self, features: str, offers: OfferSet) -> Sequence[float]:
        """Return a score ≥ 0 for each offer, () where it has none of them to give.

        `features` is the context as the bandit room encoded it. Raises ModelUnavailable.
        """
        ...


class Bandit(NamedTuple):
    """What a model of the campaign has learned."""

    model: Model
    discovery: float

    def scores(self, features: str, offers: OfferSet) -> Sequence[float]:
        """Return the model's prediction."""
        return self.model.predict(features, offers)


class Uniform(NamedTuple):
    """Each offer as likely as any other."""

    discovery: float = 0.0

    def scores(self, features: str, offers: OfferSet) -> Sequence[float]:  # noqa: ARG002 - whatever the context
        """Return one for each."""
        return (1.0,) * len(offers.ids)


class Fixed(NamedTuple):
    """One offer for certain, where it may be shown."""

    offer_id: str
    discovery: float = 0.0

    def scores(self, features: str, offers: OfferSet) -> Sequence[float]:  # noqa: ARG002 - whatever the context
        """Return one for the offer and nothing for the others."""
        if self.offer_id not in offers.ids:
            return ()
        return tuple([float(offer_id == self.offer_id) for offer_id in offers.ids])


def control_policy(campaign: Campaign) -> Policy | None:
    """Return what answers those in control; None: the fallback does."""
    control = campaign.variants.control
    serves = control.serves if control else "uniform"
    if serves == "fallback":
        return None
    return Uniform() if serves == "uniform" else Fixed(serves)


class Chooser:
    """Chooses among eligible offers."""

    def __init__(self, *, draw_key: bytes, limits: Limits) -> None:
        self._key = draw_key
        self._limits = limits

    def choose(
        self,
        served: ServedCampaign,
        builder: DecisionBuilder,
        eligibility: Eligibility,
        *,
        left_s: float | None,
        paused: bool,
        refused: bool,
    ) -> Decision:
        """Return the record of what is answered.

        `left_s` is how long the caller still waits (None: for ever), `paused` says that the campaign is,
        `refused` that it requires consent and has none.
        """
        side = side_of(served.campaign.variants, self._key, served.id, builder.decision_id, builder.customer)
        reason = None
        if left_s is not None and left_s < self._limits.decide_time_left_min_s:
            reason = Reason.FALLBACK_NO_TIME
        elif paused:
            reason = Reason.FALLBACK_CAMPAIGN_PAUSED
        elif refused:
            reason = Reason.FALLBACK_NO_CONSENT
        elif not eligibility.eligible:
            reason = Reason.FALLBACK_NO_ELIGIBLE_OFFER
        if reason is not None:
            return builder.fallback(reason, side)
        u = keyed_uniform(self._key, DRAW, served.id, builder.decision_id)
        offers = served.offer_set(eligibility.eligible)
        policy: Policy | None
        if side.variant == CONTROL:
            policy = control_policy(served.campaign)
        else:
            policy = Bandit(served.models[side.variant], served.discovery_of(side.variant))
        if policy is None:
            return builder.fallback(Reason.CONTROL, side)
        return _by_policy(policy, builder, side, offers, u)


def _by_policy(policy: Policy, builder: DecisionBuilder, side: Side, offers: OfferSet, u: float) -> Decision:
    try:
        scores = policy.scores(builder.encoded.features, offers)
        if not scores:
            return builder.fallback(Reason.FALLBACK_NO_ELIGIBLE_OFFER, side)
        choice = draw(scores, len(offers.ids), policy.discovery, u)
    except ModelUnavailable:
        return builder.fallback(Reason.FALLBACK_MODEL_UNAVAILABLE, side)
    if side.variant == CONTROL:
        # Nothing is learned of it, and its probabilities stand for themselves in the record.
        return builder.drawn(Reason.CONTROL, side, offers, choice._replace(scores=()))
    return builder.drawn(Reason.PERSONALIZED, side, offers, choice)
