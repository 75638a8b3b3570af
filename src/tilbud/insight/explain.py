"""Why a decision fell as it did: every offer's fate, what was known, and what spoke for the drawn offer.

What holds: what was used is what the decision's encoded context says, which is all that a model reads; what
rules alone could ask for is told apart. Nothing is told that the decision's own record does not say, but for
factors, which are asked of the model that answers now. A factor is a value that was used, by what it does:
the drawn offer's probability after discovery, with the value minus without it. What the customer is told
names no other factors than those, and only ones that spoke for the offer; of a fallback they are told
nothing, since no offer was chosen. Whatever became of the campaign since, an explanation can be given.

What it does not do: change the model, or share an effect out. Each value is left out alone, so of two that
tell the same (a tier, and a segment made of it) each may seem to do little.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, repeat

from tilbud.bandit.features import is_in, without
from tilbud.bandit.model import Model
from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.campaign.sections import FACTORS
from tilbud.domain.context import BUILT_IN_FEATURES, EVENT_FEATURES, FeatureValue
from tilbud.domain.decision.draw import mixed
from tilbud.domain.decision.records import Decision, Reason
from tilbud.domain.errors import ModelUnavailable
from tilbud.domain.limits import Limits

EFFECT_MIN = 1e-6  # below it, float32 speaks


@dataclass(frozen=True, slots=True)
class OfferFate:
    """What became of one offer: its probability, or what removed it."""

    offer_id: str
    probability: float
    removed_by: str = ""
    new_settlements: int | None = None  # of a new offer, how many the model has learned of it by now


@dataclass(frozen=True, slots=True)
class Factor:
    """A value that was used, and by how much it raised the drawn offer's probability."""

    name: str
    value: FeatureValue
    effect: float  # with it minus without it, in [-1, 1]


@dataclass(frozen=True, slots=True)
class Explained:
    """The story of one decision."""

    fates: tuple[OfferFate, ...]  # the eligible offers, then the removed ones, in the file's order
    used: Mapping[str, FeatureValue]  # what rules and a model could read
    rules_only: Mapping[str, FeatureValue]  # what rules alone could
    dropped: Mapping[str, str]  # name of what was known and not used, to why
    factors: tuple[Factor, ...]  # the strongest first
    factors_model_version: str  # of the model that was asked; "" where none was
    customer_explanation: str  # "" where the campaign has none, and of a fallback


async def explain(
    decision: Decision,
    campaign: Campaign | None,
    model: Model | None,
    language: str,
    give_way: Callable[[], Awaitable[None]],
) -> Explained:
    """Return the story of a decision, from its record, the campaign and its model as they are now.

    A campaign that is not served has neither, and so the story no factors and no sentence.
    The language of the customer's sentence is `language`, else the decision's own, else the campaign's
    fallback. At most `explained_values_max` values are asked about: built-in ones first, then by name. Each
    is a prediction on the thread that decides (2 ms with 1,000 offers): `give_way` is awaited between.
    """
    values: dict[str, FeatureValue] = json.loads(decision.context)
    used = {name: value for name, value in values.items() if is_in(decision.features, name, value)}
    dropped: dict[str, str] = json.loads(decision.dropped.body)
    factors = await _factors(decision, used, model, give_way)
    spoken = language or str(values.get("language", ""))
    spoke = [
        factor.name
        for factor in factors or ()
        # A flag that is not set has no phrase that would be true: "the basket you left" was none.
        if factor.effect > 0.0 and factor.value is not False and factor.name not in dropped
    ]
    return Explained(
        fates=_fates(decision, model),
        used=used,
        rules_only={name: value for name, value in values.items() if name not in used},
        dropped=dropped,
        factors=factors or (),
        factors_model_version=f"{model.lineage}.{model.sequence}" if model and factors is not None else "",
        customer_explanation=_sentence(campaign, spoken, spoke) if campaign and decision.drawn >= 0 else "",
    )


def _fates(decision: Decision, model: Model | None) -> tuple[OfferFate, ...]:
    removed: dict[str, str] = json.loads(decision.removed.body)
    asked = model is not None and decision.reason is Reason.PERSONALIZED and model.lineage == decision.lineage
    new = model.new(decision.offers) if model is not None and asked else {}
    return (
        *map(
            OfferFate,
            decision.offers.ids,
            decision.probabilities,
            repeat(""),
            map(new.get, decision.offers.ids),
        ),
        *(OfferFate(offer_id, 0.0, rule) for offer_id, rule in removed.items()),
    )


async def _factors(
    decision: Decision,
    used: Mapping[str, FeatureValue],
    model: Model | None,
    give_way: Callable[[], Awaitable[None]],
) -> tuple[Factor, ...] | None:
    """Return what spoke most for and against the drawn offer; None where no model could be asked.

    Another lineage is another model: it never saw what this one was taught. One offer alone is certain.
    """
    if model is None or decision.reason is not Reason.PERSONALIZED or model.lineage != decision.lineage:
        return None
    if len(decision.offers.ids) == 1:
        return None
    effects = []
    try:
        given, as_of = _probability(decision, decision.features, model), model.sequence
        for name, features in islice(_without_each(decision.features, used), Limits.explained_values_max):
            await give_way()
            if model.sequence != as_of:  # it learned meanwhile: compare what one model says
                given, as_of = _probability(decision, decision.features, model), model.sequence
            effects.append(Factor(name, used[name], given - _probability(decision, features, model)))
    except ModelUnavailable:
        return None
    return _strongest(effects)


def _without_each(features: str, used: Mapping[str, FeatureValue]) -> Iterator[tuple[str, str]]:
    """Yield (name, the encoded context without it) for each value a model can see."""
    built_in = [name for name in (*BUILT_IN_FEATURES, *EVENT_FEATURES) if name in used]
    for name in [*built_in, *sorted(used.keys() - set(built_in))]:
        altered = without(features, name, used[name])
        if altered is not None:
            yield name, altered


def _probability(decision: Decision, features: str, model: Model) -> float:
    """Return what the drawn offer's probability would be, had the context been this one, unrounded."""
    return mixed(model.predict(features, decision.offers), decision.discovery)[decision.drawn]


def _strongest(effects: list[Factor]) -> tuple[Factor, ...]:
    ranked = sorted((factor for factor in effects if abs(factor.effect) >= EFFECT_MIN), key=_strength)
    spoken_for = [factor for factor in ranked if factor.effect > 0.0][: Limits.explained_factors_each_way_max]
    against = [factor for factor in ranked if factor.effect < 0.0][: Limits.explained_factors_each_way_max]
    return tuple(sorted(spoken_for + against, key=_strength))


def _strength(factor: Factor) -> float:
    return -abs(factor.effect)


def _sentence(campaign: Campaign, language: str, names: list[str]) -> str:
    """Return the campaign's sentence with the phrases of the first of `names` that have one."""
    texts = campaign.explanation(language)
    if texts is None:
        return ""
    phrases = dict.fromkeys(texts.factors[name] for name in names if name in texts.factors)
    named = _joined(list(phrases)[: Limits.explained_factors_named_max], texts.and_)
    return texts.sentence.replace(FACTORS, named) if named else texts.otherwise


def _joined(phrases: list[str], and_: str) -> str:
    """Return "a", "a and b", or "a, b and c"; the word may have its spaces already."""
    return f" {and_.strip()} ".join([", ".join(phrases[:-1]), phrases[-1]] if len(phrases) > 1 else phrases)
