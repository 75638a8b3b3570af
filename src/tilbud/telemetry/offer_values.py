"""Sums from which what an offer is worth to everybody is told, by inverse propensity weighting.

What holds: a settlement weighs 1 / the probability its offer was drawn with, so that who is seldom shown an
offer stands for others like them. With weights w and rewards r the value is Σwr / Σw, and its standard error
the root of Σw²(r - value)² over Σw (self-normalised: Owen, Monte Carlo theory, 2013, 9.2); each variant tells
it on its own. A fallback is drawn from nothing and counts nowhere, nor does what a model could not learn.
What it does not do: divide. Who asks says over what time.
"""

from __future__ import annotations

from collections.abc import Collection

from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.decision.records import Settlement
from tilbud.telemetry import declared
from tilbud.telemetry.families import Families

_SUMS = (
    ("importance_weights", "Sum of 1 / propensity over settled decisions that drew the offer"),
    ("importance_weight_squares", "Sum of (1 / propensity)²"),
    ("weighted_reward_squares", "Sum of (reward / propensity)²"),
    ("weighted_reward_gain", "Sum of reward / propensity, of rewards above zero"),
    ("square_weighted_reward_gain", "Sum of reward / propensity², of rewards above zero"),
    ("weighted_reward_loss", "Sum of reward / propensity, of rewards below zero, sign turned"),
    ("square_weighted_reward_loss", "Sum of reward / propensity², below zero, sign turned"),
)


class OfferValues:
    """The sums of every offer."""

    def __init__(self, make: Families) -> None:
        self._sums = make.fast_sums(_SUMS, "campaign", "variant", "offer")

    def settled(self, settlement: Settlement) -> None:
        """Count one settlement whose offer was drawn, with a probability in (0, 1]."""
        sums = self._sums.labels(settlement.campaign, settlement.variant, settlement.offer_id)
        weight = 1.0 / settlement.probability
        weighted = weight * settlement.reward
        sums[0] += weight
        sums[1] += weight * weight
        sums[2] += weighted * weighted
        if weighted >= 0.0:
            sums[3] += weighted
            sums[4] += weight * weighted
        else:
            sums[5] -= weighted
            sums[6] -= weight * weighted

    def served(self, campaign: Campaign) -> None:
        """Begin at 0 for each offer that a variant may draw."""
        for variant, _, offer in declared.answers(campaign):
            if offer != campaign.fallback.id:
                self._sums.labels(campaign.campaign, variant, offer)

    def keep_offers(self, campaign: str, offers: Collection[str]) -> None:
        """Drop the series of a campaign's other offers."""
        self._sums.keep_offers(campaign, offers)

    def forget(self, campaign: str) -> None:
        """Drop the series of a campaign that is served no more."""
        self._sums.remove("campaign", campaign)
