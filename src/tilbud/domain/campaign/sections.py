"""The sections of a campaign file beside its offers: context, groups, reward, exploration, variants, words.

What holds: a section that exists is valid and frozen, as far as it can be judged alone. What several
sections must agree on is `campaign.py`'s business, what a reward is `rewards.py`'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from tilbud.domain.campaign.fields import (
    Caps,
    DurationUs,
    Finite,
    Given,
    GraceUs,
    Misplaced,
    Name,
    Section,
    Sentence,
    Word,
    Words,
    different,
    listed,
)
from tilbud.domain.context import (
    BUILT_IN_FEATURES,
    EVENT_FEATURES,
    OTHER,
    TIME_FEATURES,
    TIME_READ,
    UNKNOWN,
    TimeFeature,
)
from tilbud.domain.limits import Limits

FeatureKind = Literal["category", "number", "flag", "version"]
CONTROL = "control"
PERSONALIZED = "personalized"
BY_CUSTOMER = "customer"
BY_DECISION = "decision"
FACTORS = "{factors}"
_TAKEN = frozenset({*BUILT_IN_FEATURES, *EVENT_FEATURES, "any_of", "none_of"})


def new_names(names: Iterable[str], *others: Iterable[str]) -> None:
    """Raise ValueError where a name is built in, or declared among `others` already."""
    taken = sorted(set(names) & _TAKEN)
    if taken:
        raise ValueError(f"{_are(taken)} built in; choose another name")
    twice = sorted(set(names) & {name for group in others for name in group})
    if twice:
        raise ValueError(f"{_are(twice)} declared already; choose another name")


def _are(names: list[str]) -> str:
    return f"{', '.join(f'`{name}`' for name in names)} {'is' if len(names) == 1 else 'are'}"


class TraitRule(Section):
    """A stored fact about customers, and how old it may be where it is used."""

    kind: FeatureKind
    max_age_us: Annotated[DurationUs | None, Given] = Field(default=None, alias="max_age")


def _trait_rule(written: object) -> object:
    """A bare kind is short for `{kind: …}`."""
    return {"kind": written} if isinstance(written, str) else written


def _in_one_order(names: tuple[TimeFeature, ...]) -> tuple[TimeFeature, ...]:
    return tuple(name for name in TIME_FEATURES if name in names)


_Labels = Annotated[Words, Field(json_schema_extra={"maxItems": Limits.labels_max})]


class ContextSection(Section):
    """The vocabularies that bound metric labels, and what else may be known of a customer."""

    devices: _Labels = ("mobile", "desktop", "tablet")
    channels: _Labels = ("web", "app", "email", "push", "call_center")
    journey_stages: _Labels = ("awareness", "consideration", "purchase", "retention", "advocacy")
    time: Annotated[
        tuple[TimeFeature, ...],
        BeforeValidator(listed, json_schema_input_type=list[TimeFeature]),
        AfterValidator(different),
        AfterValidator(_in_one_order),
        Field(description="What the bandit reads of the time. Rules may ask for all of it."),
    ] = TIME_READ
    features: dict[Name, FeatureKind] = Field(
        default_factory=dict, json_schema_extra={"maxProperties": Limits.features_max}
    )
    traits: dict[
        Name,
        Annotated[TraitRule, BeforeValidator(_trait_rule, json_schema_input_type=TraitRule | FeatureKind)],
    ] = Field(default_factory=dict, json_schema_extra={"maxProperties": Limits.traits_max})
    max_age_us: DurationUs = Field(
        default=400 * 86_400_000_000, alias="max_age", json_schema_extra={"default": "400d"}
    )
    events: Annotated[
        tuple[Name, ...],
        BeforeValidator(
            listed, json_schema_input_type=Annotated[list[Name], Field(max_length=Limits.labels_max)]
        ),
        Field(max_length=Limits.labels_max),
        AfterValidator(different),
    ] = ()

    @field_validator("devices", "channels", "journey_stages")
    @classmethod
    def _plain_words(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        different(words)
        if {OTHER, UNKNOWN} & set(words):
            raise ValueError(f"{OTHER!r} and {UNKNOWN!r} are there already; leave them out")
        if len(words) > Limits.labels_max:
            raise ValueError(f"at most {Limits.labels_max} words, since each becomes a metric label")
        return words

    @field_validator("features")
    @classmethod
    def _new_features(cls, features: dict[str, str]) -> dict[str, str]:
        new_names(features)
        if len(features) > Limits.features_max:
            raise ValueError(f"at most {Limits.features_max} features")
        return features

    @field_validator("traits")
    @classmethod
    def _new_traits(cls, traits: dict[str, TraitRule], info: ValidationInfo) -> dict[str, TraitRule]:
        new_names(traits, info.data.get("features", {}))
        if len(traits) > Limits.traits_max:
            raise ValueError(f"at most {Limits.traits_max} traits")
        return traits

    def kinds(self) -> dict[str, str]:
        """Return the kind of every feature and trait, by name."""
        return {**self.features, **{name: rule.kind for name, rule in self.traits.items()}}


class Group(Section):
    """Offers that are counted together."""

    caps: Caps = ()


class Explanation(Section):
    """How one language tells a customer why they see an offer."""

    sentence: Sentence
    otherwise: Sentence
    and_: Annotated[Word, Field(max_length=50, alias="and")]
    factors: dict[Name, Word]

    @model_validator(mode="after")
    def _one_place(self) -> Explanation:
        if self.sentence.count(FACTORS) != 1:
            raise Misplaced(("sentence",), f"must contain {FACTORS} once, where the factors are to stand")
        for key, text in (("sentence", self.sentence.replace(FACTORS, "")), ("otherwise", self.otherwise)):
            if "{" in text or "}" in text:
                filled = f"only {FACTORS} of `sentence` is filled in; remove other braces"
                raise Misplaced((key,), filled)
        return self


_NOT_CONVERTED = (
    "Rewards that are settled are not converted when weights or the range change: a campaign whose unit "
    "changes, say from euros to cents, should begin anew under another id."
)


class OutcomeRule(Section):
    """What one outcome is worth, whether it ends the story, and whether it tells that the offer was shown."""

    weight: Annotated[Finite, Field(description=f"The reward of one, of value 1. {_NOT_CONVERTED}")]
    final: bool = False
    shows: Annotated[
        bool,
        Field(description="A deferred decision that waits for its activation is activated by this outcome."),
    ] = False


def _outcome_rule(written: object) -> object:
    """A bare number is short for `{weight: number}`."""
    is_number = isinstance(written, int | float) and not isinstance(written, bool)
    return {"weight": written} if is_number else written


class RewardSection(Section):
    """How outcomes become a reward, and when it is learned."""

    window_us: DurationUs = Field(default=1_800_000_000, alias="window", json_schema_extra={"default": "30m"})
    activation_window_us: DurationUs = Field(
        default=3_600_000_000, alias="activation_window", json_schema_extra={"default": "1h"}
    )
    grace_us: GraceUs = Field(default=10_000_000, alias="grace", json_schema_extra={"default": "10s"})
    default: Finite = 0.0
    aggregate: Literal["sum", "max"] = "sum"
    range: Annotated[
        tuple[Finite, Finite],
        BeforeValidator(
            listed, json_schema_input_type=Annotated[list[Finite], Field(min_length=2, max_length=2)]
        ),
        Field(description=f"The least and the greatest reward; those beyond are clipped. {_NOT_CONVERTED}"),
    ] = (0.0, 1.0)
    outcomes: dict[
        Name,
        Annotated[OutcomeRule, BeforeValidator(_outcome_rule, json_schema_input_type=OutcomeRule | Finite)],
    ] = Field(min_length=1, max_length=Limits.labels_max)  # each becomes a metric label
    learn: Literal["at_deadline", "on_settlement"] = "at_deadline"

    def in_other_units(self, before: RewardSection) -> tuple[str, ...]:
        """Return the keys by which rewards settled under `before` may be of another unit than these."""
        both = [name for name in self.outcomes if name in before.outcomes]
        weights = [
            f"outcomes.{name}" for name in both if self.outcomes[name].weight != before.outcomes[name].weight
        ]
        keys = [
            key for key in ("range", "default", "aggregate") if getattr(self, key) != getattr(before, key)
        ]
        return (*keys, *weights)

    @model_validator(mode="after")
    def _consistent(self) -> RewardSection:
        low, high = self.range
        if not low < high or not math.isfinite(high - low):
            raise Misplaced(("range",), "must be [low, high] with low < high")
        if not low <= self.default <= high:
            raise Misplaced(("default",), "must lie within `range`")
        if self.learn == "on_settlement" and not any(rule.final for rule in self.outcomes.values()):
            raise Misplaced(
                ("learn",),
                "`on_settlement` waits for a final outcome: mark one with `final: true`, "
                "or use `learn: at_deadline`",
            )
        return self


Preset = Literal["balanced", "fast_changing", "cautious", "epsilon_greedy", "uniform"]


class Exploration(Section):
    """How the bandit balances trying and using."""

    preset: Preset = "balanced"
    discovery: Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)] = 0.02
    arguments: Annotated[str, Field(max_length=500)] = ""


class Control(Section):
    """The group that shows what the bandit is worth."""

    share: Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
    serves: Annotated[str, Field(max_length=128)] = "uniform"


class Variants(Section):
    """The sides of the experiment, and what is split: customers, where there is one to use, or decisions."""

    control: Control | None = None
    split: Literal["customer", "decision"] = "customer"
