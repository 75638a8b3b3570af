"""Which offer, of those that may be shown: the variant, the model, the draw; or why the fallback.

What holds: the draw and the split are hashes of the ids under the draw key, so a retry draws the same. The
side of the experiment is assigned whatever comes of the decision, and a fallback keeps it: both sides count
all who were split. Nothing removes or replaces an offer after the draw.
"""

from __future__ import annotations

from tilbud.campaigns.served import ServedCampaign
from tilbud.deciding.builder import DecisionBuilder
from tilbud.domain.campaign.campaign import CONTROL
from tilbud.domain.decision.draw import choose, choose_always, choose_evenly, keyed_uniform
from tilbud.domain.decision.eligibility import Eligibility
from tilbud.domain.decision.experiment import DRAW, Side, side_of
from tilbud.domain.decision.records import Decision, Reason
from tilbud.domain.errors import ModelUnavailable
from tilbud.domain.limits import Limits


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
        if left_s is not None and left_s < self._limits.decide_time_left_min_s:
            return builder.fallback(Reason.FALLBACK_NO_TIME, side)
        if paused:
            return builder.fallback(Reason.FALLBACK_CAMPAIGN_PAUSED, side)
        if refused:
            return builder.fallback(Reason.FALLBACK_NO_CONSENT, side)
        if not eligibility.eligible:
            return builder.fallback(Reason.FALLBACK_NO_ELIGIBLE_OFFER, side)
        u = keyed_uniform(self._key, DRAW, served.id, builder.decision_id)
        return (_control if side.variant == CONTROL else _personalized)(served, builder, eligibility, u, side)


def _personalized(
    served: ServedCampaign, builder: DecisionBuilder, eligibility: Eligibility, u: float, side: Side
) -> Decision:
    offers = served.offer_set(eligibility.eligible)
    try:
        scores = served.model.predict(builder.encoded.features, offers)
        choice = choose(scores, len(offers.ids), served.campaign.exploration.discovery, u)
    except ModelUnavailable:
        return builder.fallback(Reason.FALLBACK_MODEL_UNAVAILABLE, side)
    return builder.drawn(Reason.PERSONALIZED, side, offers, choice)


def _control(
    served: ServedCampaign, builder: DecisionBuilder, eligibility: Eligibility, u: float, side: Side
) -> Decision:
    control = served.campaign.variants.control
    serves = control.serves if control else "uniform"
    if serves == "fallback":
        return builder.fallback(Reason.CONTROL, side)
    offers = served.offer_set(eligibility.eligible)
    if serves == "uniform":
        choice = choose_evenly(len(offers.ids), u)
    elif serves in offers.ids:
        choice = choose_always(offers.ids.index(serves), len(offers.ids))
    else:
        return builder.fallback(Reason.FALLBACK_NO_ELIGIBLE_OFFER, side)
    return builder.drawn(Reason.CONTROL, side, offers, choice)
