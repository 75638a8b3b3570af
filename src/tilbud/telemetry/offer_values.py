"""Sums from which what an offer is worth to everybody is told, by inverse propensity weighting.

What holds: a settlement weighs 1 / the probability its offer was drawn with, so that who is seldom shown an
offer stands for others like them. With weights w and rewards r the value is Σwr / Σw, and its standard error
the root of Σw²(r - value)² over Σw (self-normalised: Owen, Monte Carlo theory, 2013, 9.2); each variant tells
it on its own. A fallback is drawn from nothing and counts nowhere. What it does not do: divide. Who asks says
over what time.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.decision.records import Settlement
from tilbud.telemetry import declared
from tilbud.telemetry.families import Families
from tilbud.telemetry.fast import FastCounter


@dataclass(frozen=True, slots=True)
class OfferSums:
    """The sums of one offer; gain and loss are those of rewards above and below 0."""

    weights: FastCounter
    weight_squares: FastCounter
    gain: FastCounter
    loss: FastCounter
    square_gain: FastCounter
    square_loss: FastCounter
    squares: FastCounter

    def add(self, probability: float, reward: float) -> None:
        """Count a settlement whose offer was drawn with a probability in (0, 1]."""
        weight = 1.0 / probability
        weighted = weight * reward
        self.weights.inc(weight)
        self.weight_squares.inc(weight * weight)
        self.squares.inc(weighted * weighted)
        if weighted >= 0.0:
            self.gain.inc(weighted)
            self.square_gain.inc(weight * weighted)
        else:
            self.loss.inc(-weighted)
            self.square_loss.inc(-weight * weighted)


class OfferValues:
    """The sums of every offer."""

    def __init__(self, make: Families) -> None:
        self._families = tuple(
            make.fast_counters(name, text, "campaign", "variant", "offer")
            for name, text in (
                ("importance_weights", "Sum of 1 / propensity over settled decisions that drew the offer"),
                ("importance_weight_squares", "Sum of (1 / propensity)²"),
                ("weighted_reward_gain", "Sum of reward / propensity, of rewards above zero"),
                ("weighted_reward_loss", "Sum of reward / propensity, of rewards below zero, sign turned"),
                ("square_weighted_reward_gain", "Sum of reward / propensity², of rewards above zero"),
                ("square_weighted_reward_loss", "Sum of reward / propensity², below zero, sign turned"),
                ("weighted_reward_squares", "Sum of (reward / propensity)²"),
            )
        )

        self._sums: dict[tuple[str, str, str], OfferSums] = {}

    def settled(self, settlement: Settlement) -> None:
        """Count one settlement whose offer was drawn."""
        key = (settlement.campaign, settlement.variant, settlement.offer_id)
        self._of(key).add(settlement.probability, settlement.reward)

    def _of(self, key: tuple[str, str, str]) -> OfferSums:
        sums = self._sums.get(key)
        if sums is None:
            sums = self._sums[key] = OfferSums(*(family.labels(*key) for family in self._families))
        return sums

    def served(self, campaign: Campaign) -> None:
        """Begin at 0 for each offer that a variant may draw."""
        for variant, _, offer in declared.answers(campaign):
            if offer != campaign.fallback.id:
                self._of((campaign.campaign, variant, offer))

    def keep_offers(self, campaign: str, offers: Collection[str]) -> None:
        """Drop the series of a campaign's other offers."""
        for family in self._families:
            family.keep_offers(campaign, offers)
        for key in [key for key in self._sums if key[0] == campaign and key[2] not in offers]:
            del self._sums[key]

    def forget(self, campaign: str) -> None:
        """Drop the series of a campaign that is served no more."""
        for family in self._families:
            family.remove("campaign", campaign)
        for key in [key for key in self._sums if key[0] == campaign]:
            del self._sums[key]
