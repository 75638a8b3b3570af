"""The record of one decision: what every way to answer a question has in common.

What holds: a record says all that was used, what was known and not used, and for every offer its
probability or what kept it back. Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Callable

from tilbud.campaigns.served import EncodedContext, ServedCampaign
from tilbud.domain.clock import Now
from tilbud.domain.customer.customer import CustomerKey
from tilbud.domain.decision.draw import NO_CHOICE, Choice
from tilbud.domain.decision.eligibility import Eligibility
from tilbud.domain.decision.experiment import Side
from tilbud.domain.decision.records import (
    DecideRequest,
    Decision,
    InternedText,
    OfferSet,
    Question,
    Reason,
    Removed,
)
from tilbud.domain.decision.situation import Situation


class DecisionBuilder:
    """Turns a choice into the record of it."""

    __slots__ = (
        "_eligibility",
        "_now",
        "_question",
        "_request",
        "_served",
        "_situation",
        "customer",
        "decision_id",
        "encoded",
    )

    def __init__(
        self,
        served: ServedCampaign,
        request: DecideRequest,
        *,
        situation: Situation,
        encoded: EncodedContext,
        eligibility: Eligibility,
        customer: CustomerKey,
        now: Now,
        question: Question,
        new_id: Callable[[int], str],
    ) -> None:
        """`customer` is ANONYMOUS where there is no consent to keep who it was."""
        self._served = served
        self._request = request
        self._situation = situation
        self._eligibility = eligibility
        self.customer = customer
        self._now = now
        self._question = question
        self.decision_id = request.decision_id or new_id(now.wall_us)
        self.encoded = encoded

    def drawn(self, reason: Reason, side: Side, offers: OfferSet, choice: Choice) -> Decision:
        """Return the record of an offer that was drawn from the eligible ones."""
        payload = self._served.payload(
            self._eligibility.eligible[choice.drawn], self._situation.context.language
        )
        removed = self._served.removed(self._eligibility)
        return self._decision(reason, side, offers.ids[choice.drawn], payload, offers, choice, removed)

    def fallback(self, reason: Reason, side: Side) -> Decision:
        """Return the record of the fallback; what kept the eligible offers back is the reason."""
        served = self._served
        payload = served.fallback_payload(self._situation.context.language)
        kept_back = reason.name.lower().removeprefix("fallback_")
        removed = served.removed(self._eligibility, kept_back)
        return self._decision(
            reason, side, served.campaign.fallback.id, payload, served.offers.only(()), NO_CHOICE, removed
        )

    def _decision(  # noqa: PLR0917 - in the order of the record
        self,
        reason: Reason,
        side: Side,
        offer_id: str,
        payload: InternedText,
        offers: OfferSet,
        choice: Choice,
        removed: Removed | InternedText,
    ) -> Decision:
        served, context, now = self._served, self._situation.context, self._now
        deferred = self._request.defer_activation
        reward, model = served.campaign.reward, served.model_of(side.variant)
        window_us = reward.activation_window_us if deferred else reward.window_us
        closes_service_us = now.service_us + window_us
        return Decision(  # in order: so many names would cost as much as the prediction
            served.id, self.decision_id, self._question.fingerprint(self.decision_id), now.wall_us,
            side.variant, reason, offer_id, payload,
            choice.probability, offers, choice.probabilities, choice.drawn,
            choice.discovery, model.lineage, model.sequence,
            self.encoded.features, self.encoded.json, context.device, context.channel, context.journey_stage,
            deferred, now.wall_us + window_us, closes_service_us,
            closes_service_us if deferred else closes_service_us + reward.grace_us,
            self.customer, removed, served.dropped(self._situation.dropped), served.rules_text, side.share,
            side.split, choice.scores,
        )  # fmt: skip
