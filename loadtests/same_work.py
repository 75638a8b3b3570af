"""The work that is the same for Tilbud and its peers: ten offers, a hundred contexts, one bandit.

What holds: a peer gets the contexts and offers as Tilbud itself encodes them, and Vowpal Wabbit the same
arguments; every model is a new one. Peers get them as text, which Tilbud parses once and keeps.
"""

from __future__ import annotations

import itertools
import time

import yaml

from serving import BATCH_SIZE, CAMPAIGN, offers_campaign
from tilbud.bandit import presets
from tilbud.bandit.features import encode_context, encode_offer
from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.context import ContextInput, read_context
from tilbud.domain.limits import Limits
from tilbud.v1 import decisions_pb2 as pb

OFFERS = 10
TOLERANCE = 1e-3
"""What ten probabilities may be off 1 together: the daemon writes six digits of each."""

_DEVICES = ("mobile", "desktop", "tablet")
_CHANNELS = ("web", "app", "email", "push", "call_center", "elsewhere")
_STAGES = ("awareness", "consideration", "purchase", "retention", "advocacy", "unheard-of")
SITUATIONS = tuple(itertools.islice(itertools.product(_DEVICES, _CHANNELS, _STAGES), BATCH_SIZE))
"""Device, channel and journey stage of each decision; those unknown to the campaign count as `other`."""


class Work:
    """A campaign's examples as VW reads them."""

    def __init__(self) -> None:
        self._campaign = Campaign.model_validate(yaml.safe_load(offers_campaign(OFFERS)))
        self._vocabulary = self._campaign.vocabulary()
        self._limits = Limits()
        self._offers = "\n".join(map(encode_offer, self._campaign.offers))
        self.offer_ids = [offer.id for offer in self._campaign.offers]
        self.vw_arguments = presets.arguments(self._campaign.exploration, OFFERS).split()

    def example(self, device: str, channel: str, journey_stage: str) -> str:
        """Return a context now and all offers, a line each."""
        said = ContextInput(device=device, channel=channel, journey_stage=journey_stage, time_zone="UTC")
        now_us = time.time_ns() // 1_000
        context = encode_context(read_context(said, self._vocabulary, now_us, self._limits))
        return f"shared {context}\n{self._offers}"


def question(device: str, channel: str, journey_stage: str) -> pb.DecideRequest:
    """Return the same, as Tilbud is asked."""
    return pb.DecideRequest(
        campaign=CAMPAIGN,
        context=pb.Context(device=device, channel=channel, journey_stage=journey_stage, time_zone="UTC"),
    )
