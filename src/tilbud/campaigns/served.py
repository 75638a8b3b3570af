"""The campaigns being served: each with its compiled rules, encoded offers and its models.

What holds: a `ServedCampaign` is complete before anyone sees it, and is replaced whole; a decision
that began with one ends with it. Caches are bounded. Loading files is `source.py`, bringing
models up to date is `learning/`, swapping is `loader.py`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tilbud.bandit.features import encode_context, encode_offer
from tilbud.bandit.model import Model
from tilbud.campaigns.source import CampaignFile
from tilbud.domain.campaign.campaign import PERSONALIZED, Campaign
from tilbud.domain.campaign.languages import in_language
from tilbud.domain.context import Context
from tilbud.domain.decision.decision_rules import DecisionRules
from tilbud.domain.decision.eligibility import Eligibility, Rules
from tilbud.domain.decision.frequency_caps import Caps
from tilbud.domain.decision.records import (
    NOTHING_DROPPED,
    NOTHING_REMOVED,
    InternedText,
    OfferSet,
    Removed,
    payload_text,
)
from tilbud.domain.decision.rewards import RewardRules
from tilbud.domain.decision.situation import Situations
from tilbud.domain.durations import MINUTE_US
from tilbud.domain.errors import ModelUnavailable, UnknownCampaign
from tilbud.domain.limits import Limits


@dataclass(frozen=True, slots=True)
class EncodedContext:
    """A context as the model reads it, and as people do (JSON)."""

    features: str
    json: str


class MinuteCache:
    """What was worked out for questions of one minute, since rules and situations know no shorter time."""

    __slots__ = ("_answers", "_minute")

    def __init__(self) -> None:
        self._minute = 0
        self._answers: dict[Hashable, Any] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def at(self, now_us: int) -> dict[Hashable, Any]:
        """Return the answers of the minute, by question (wall clock, µs); who adds one bounds them."""
        minute = now_us // MINUTE_US
        if self._minute != minute:
            self._minute, self._answers = minute, {}
        return self._answers


class ServedCampaign:
    """One campaign, ready to decide.

    `models` has one for each policy that learns; they belong to the thread that decides and learns.
    """

    def __init__(self, loaded: CampaignFile, models: Mapping[str, Model], limits: Limits) -> None:
        campaign = loaded.campaign
        self.campaign: Campaign = campaign
        self.id: str = campaign.campaign
        self.file = loaded
        self.models = models
        self._policies = campaign.policies
        self.situations = Situations(campaign, loaded.contact)
        self.rules = Rules(campaign)
        self.caps = Caps(campaign, loaded.contact)
        self.decision_rules = DecisionRules.of(campaign.reward)
        self.rules_text = self.decision_rules.text()
        self.offer_ids = tuple(offer.id for offer in campaign.offers)
        self._payloads = tuple(_texts(offer.payload, offer.payloads) for offer in campaign.offers)
        self._fallback_payload = _texts(campaign.fallback.payload, campaign.fallback.payloads)
        self.ends_now = self.decision_rules.ends_now
        self.questions = MinuteCache()
        self._limits = limits
        self.offers = OfferSet.of(self.offer_ids, tuple(encode_offer(offer) for offer in campaign.offers))
        self._offer_sets: dict[tuple[int, ...], OfferSet] = {}
        self._contexts: dict[tuple[object, ...], EncodedContext] = {}
        self._notes: dict[tuple[tuple[str, str], ...], InternedText] = {}

    @property
    def model(self) -> Model:
        """The model of the policy that answers those who are in no other variant."""
        return self.models[PERSONALIZED]

    @property
    def stand_in(self) -> bool:
        """Whether a model answers that only stands in for a policy's own."""
        return any(model.stand_in for model in self.models.values())

    def model_of(self, variant: str) -> Model:
        """Return the model that a decision of a variant names: control, which asks none, names the first."""
        return self.models.get(variant) or self.model

    def discovery_of(self, variant: str) -> float:
        """Return the share of probability that a variant spreads evenly over the eligible offers."""
        return self._policies.get(variant, self.campaign.exploration).discovery

    @property
    def reward_rules(self) -> RewardRules:
        """What outcomes are worth, of a decision that was recorded without rules of its own."""
        return self.decision_rules.rewards

    def counts(self, channel: str) -> bool:
        """Say whether any rule reads what customers were shown, so that their decisions follow each other."""
        return bool(self.campaign.sticky_us or self.caps.counted(channel).names)

    def offer_set(self, eligible: tuple[int, ...]) -> OfferSet:
        """Return the offers at these indexes, encoded; the same object for the same indexes."""
        offers = self._offer_sets.get(eligible)
        if offers is None:
            if len(self._offer_sets) * len(self.offer_ids) >= self._limits.fates_cache_offers_max:
                self._offer_sets.clear()
            offers = self._offer_sets[eligible] = self.offers.only(eligible)
        return offers

    def payload(self, index: int, language: str) -> InternedText:
        """Return an offer's payload in a language, or in the one the campaign falls back to."""
        return self._in_language(self._payloads[index], language)

    def fallback_payload(self, language: str) -> InternedText:
        """Return the fallback's payload in a language, or in the one the campaign falls back to."""
        return self._in_language(self._fallback_payload, language)

    def _in_language(self, texts: InternedText | Mapping[str, InternedText], language: str) -> InternedText:
        if isinstance(texts, InternedText):
            return texts
        return in_language(texts, language, self.campaign.fallback_language)

    def removed(self, eligibility: Eligibility, kept_back: str = "") -> Removed | InternedText:
        """Return by which rule each offer was removed, as the record keeps it.

        `kept_back`: why the eligible ones could not be chosen either, in a fallback.
        """
        if not eligibility.removed and not kept_back:
            return NOTHING_REMOVED
        fates = eligibility.removed
        if kept_back:
            fates = tuple(sorted([*fates, *((index, kept_back) for index in eligibility.eligible)]))
        return Removed(self.offer_ids, fates)

    def dropped(self, dropped: Mapping[str, str]) -> InternedText:
        """Return what was known and not used, and why, as the record keeps it."""
        if not dropped:
            return NOTHING_DROPPED
        key = tuple(dropped.items())
        text = self._notes.get(key)
        if text is None:
            if len(self._notes) >= self._limits.offer_set_cache_entries_max:
                self._notes.clear()
            text = self._notes[key] = InternedText.of(_compact(dropped))
        return text

    def warm(self) -> None:
        """Let the models read every offer, so that the first decision need not."""
        for model in self.models.values():
            with contextlib.suppress(ModelUnavailable):
                model.warm(self.offers)

    def encode(self, context: Context) -> EncodedContext:
        """Return the context encoded for the model and for the record."""
        key = context.key()
        encoded = self._contexts.get(key)
        if encoded is None:
            if len(self._contexts) >= self._limits.context_cache_entries_max:
                self._contexts.clear()
            text = json.dumps(context.known(), separators=(",", ":"), ensure_ascii=False)
            encoded = EncodedContext(encode_context(context, self.campaign.context.time), text)
            if len(text) <= self._limits.context_cached_chars_max:
                self._contexts[key] = encoded
        return encoded


def _texts(
    payload: Mapping[str, Any], payloads: Mapping[str, Any] | None
) -> InternedText | Mapping[str, InternedText]:
    """Return the one payload, or one for each language."""
    if payloads is None:
        return payload_text(payload)
    return {language: payload_text(localized) for language, localized in payloads.items()}


def _compact(named: Mapping[str, str]) -> str:
    return json.dumps(dict(named), separators=(",", ":"), ensure_ascii=False)


class Catalog:
    """The served campaigns by id; replaced campaign by campaign."""

    def __init__(self) -> None:
        self._served: dict[str, ServedCampaign] = {}
        self._all: tuple[ServedCampaign, ...] = ()

    def get(self, campaign: str) -> ServedCampaign:
        """Return a served campaign; raises UnknownCampaign."""
        try:
            return self._served[campaign]
        except KeyError:
            raise UnknownCampaign(campaign) from None

    def find(self, campaign: str) -> ServedCampaign | None:
        """Return a campaign if it is served."""
        return self._served.get(campaign)

    def all(self) -> tuple[ServedCampaign, ...]:
        """Return every served campaign, by id; the same object until others are served."""
        return self._all

    def replace(self, served: Iterable[ServedCampaign]) -> None:
        """Serve exactly these from now on."""
        self._served = {campaign.id: campaign for campaign in served}
        self._all = tuple(self._served[name] for name in sorted(self._served))
