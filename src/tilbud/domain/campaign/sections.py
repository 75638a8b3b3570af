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
    """What its values are: `category` (text), `number`, `flag` (true or false), or `version` (such as
    "10.2.1", compared by its parts)."""
    max_age_us: Annotated[DurationUs | None, Given] = Field(default=None, alias="max_age")
    """How old the fact may be where it is used. Left out: `context.max_age`."""


def _trait_rule(written: object) -> object:
    """A bare kind is short for `{kind: …}`."""
    return {"kind": written} if isinstance(written, str) else written


def _in_one_order(names: tuple[TimeFeature, ...]) -> tuple[TimeFeature, ...]:
    return tuple(name for name in TIME_FEATURES if name in names)


_Labels = Annotated[Words, Field(json_schema_extra={"maxItems": Limits.labels_max})]


class ContextSection(Section):
    """What calls may say about a visit, and what else may be known of a customer."""

    devices: _Labels = ("mobile", "desktop", "tablet")
    """The devices that calls name. Any other word counts as `other`, and none at all as `unknown`."""
    channels: _Labels = ("web", "app", "email", "push", "call_center")
    """The channels that calls name, in which customers meet the offer. Any other word counts as `other`."""
    journey_stages: _Labels = ("awareness", "consideration", "purchase", "retention", "advocacy")
    """The stages of the customer journey that calls or profiles name. Any other word counts as `other`."""
    time: Annotated[
        tuple[TimeFeature, ...],
        BeforeValidator(listed, json_schema_input_type=list[TimeFeature]),
        AfterValidator(different),
        AfterValidator(_in_one_order),
    ] = TIME_READ
    """What is learned from of the time of a decision: `part_of_day` (night, morning, afternoon, evening: six
    hours each, from midnight), `weekend`, `hour`, `weekday`. Each one takes decisions to learn; an offer's
    `when` may ask for all of them, whatever stands here."""
    features: dict[Name, FeatureKind] = Field(
        default_factory=dict, json_schema_extra={"maxProperties": Limits.features_max}
    )
    """Your own facts about the visit, which calls send: a name and what its values are. `category` is text,
    `number` a number whose size matters (not an id), `flag` true or false, `version` text such as "10.2.1",
    compared by its parts."""
    traits: dict[
        Name,
        Annotated[TraitRule, BeforeValidator(_trait_rule, json_schema_input_type=TraitRule | FeatureKind)],
    ] = Field(default_factory=dict, json_schema_extra={"maxProperties": Limits.traits_max})
    """Facts stored about a customer by UpdateCustomer, used where they consented: a name and what its values
    are (as under `features`), or `{kind: number, max_age: 30d}`. A call may send one too, and then that
    counts."""
    max_age_us: DurationUs = Field(
        default=400 * 86_400_000_000, alias="max_age", json_schema_extra={"default": "400d"}
    )
    """How old a trait may be where it is used, if it says nothing itself; at most `400d`."""
    events: Annotated[
        tuple[Name, ...],
        BeforeValidator(
            listed, json_schema_input_type=Annotated[list[Name], Field(max_length=Limits.labels_max)]
        ),
        Field(max_length=Limits.labels_max),
        AfterValidator(different),
    ] = ()
    """What happens to customers whatever they were shown, such as `purchase`: reported by
    ReportCustomerEvent, for `journey`, `requires`, `suppress_after` and the features `last_event` and
    `last_event_recency`. An outcome of the same name is not one: report both."""

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
    """How often one customer may be shown any of the group's offers, such as `[{times: 4, per: 7d}]`; every
    one of them must hold."""


class Explanation(Section):
    """How one language tells a customer why they see an offer."""

    sentence: Sentence
    """What a customer reads who asks why they see an offer; `{factors}` stands once, where the phrases of
    what counted are put."""
    otherwise: Sentence
    """What they read where nothing that has a phrase counted, or where chance decided."""
    and_: Annotated[Word, Field(max_length=50, alias="and")]
    """The word between the last two phrases, such as `and`. Between others stands a comma."""
    factors: dict[Name, Word]
    """The phrase for a feature, trait, segment, or device, part_of_day, journey_stage and such: a name and
    your words. What has no phrase is never named."""

    @model_validator(mode="after")
    def _one_place(self) -> Explanation:
        if self.sentence.count(FACTORS) != 1:
            raise Misplaced(("sentence",), f"must contain {FACTORS} once, where the factors are to stand")
        for key, text in (("sentence", self.sentence.replace(FACTORS, "")), ("otherwise", self.otherwise)):
            if "{" in text or "}" in text:
                filled = f"only {FACTORS} of `sentence` is filled in; remove other braces"
                raise Misplaced((key,), filled)
        return self


class OutcomeRule(Section):
    """What one outcome is worth, whether it ends the story, and whether it tells that the offer was shown."""

    weight: Finite
    """What one is worth; a call may send a `value` (1 if it does not), and weight × value counts. What was
    learned is not converted when it changes: a campaign whose unit changes, say from euros to cents, should
    begin anew under another id."""
    final: bool = False
    """Nothing more is expected after this outcome. With `learn: on_settlement` the decision is learned when
    it comes."""
    shows: bool = False
    """This outcome cannot happen unseen: it activates a deferred decision that still waits to be
    activated."""


def _outcome_rule(written: object) -> object:
    """A bare number is short for `{weight: number}`."""
    is_number = isinstance(written, int | float) and not isinstance(written, bool)
    return {"weight": written} if is_number else written


class RewardSection(Section):
    """How outcomes become a reward, and when it is learned."""

    window_us: DurationUs = Field(default=1_800_000_000, alias="window", json_schema_extra={"default": "30m"})
    """How long outcomes count after the offer was shown; at most `400d`."""
    activation_window_us: DurationUs = Field(
        default=3_600_000_000, alias="activation_window", json_schema_extra={"default": "1h"}
    )
    """How long a deferred decision, one made ahead of being shown, waits for Activate; at most `400d`. One
    that is not activated by then is forgotten: it is not learned and counts for no cap."""
    grace_us: GraceUs = Field(default=10_000_000, alias="grace", json_schema_extra={"default": "10s"})
    """How much later than the window an outcome may arrive that happened within it; at most `400d`. `0s`: not
    at all."""
    default: Finite = 0.0
    """The reward where no outcome came; must lie within `range`."""
    aggregate: Literal["sum", "max"] = "sum"
    """What several outcomes of one decision are worth together: `sum` adds them up, `max` takes the
    largest."""
    range: Annotated[
        tuple[Finite, Finite],
        BeforeValidator(
            listed, json_schema_input_type=Annotated[list[Finite], Field(min_length=2, max_length=2)]
        ),
    ] = (0.0, 1.0)
    """The least and the greatest reward of a decision, `[low, high]`; those beyond are clipped, and counted
    in a metric. What was learned is not converted when it changes: a campaign whose unit changes, say from
    euros to cents, should begin anew under another id."""
    outcomes: dict[
        Name,
        Annotated[OutcomeRule, BeforeValidator(_outcome_rule, json_schema_input_type=OutcomeRule | Finite)],
    ] = Field(min_length=1, max_length=Limits.labels_max)  # each becomes a metric label
    """What may happen after an offer was shown, as calls report it: a name and what one is worth. A bare
    number is short for `{weight: number}`; a negative one is a loss."""
    learn: Literal["at_deadline", "on_settlement"] = "at_deadline"
    """When a decision is learned: `at_deadline` when its window has closed, so that quick outcomes get no
    head start; `on_settlement` at once when an outcome marked `final` comes, which is right only where every
    shown offer soon gets one, and favours offers with quick outcomes elsewhere."""

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
    """How a campaign balances trying and using."""

    preset: Preset = "balanced"
    """How much is tried: `balanced` shows an offer as often as it may be the best, as far as is known;
    `fast_changing` learns in larger steps and keeps trying, for tastes that change often; `cautious` shows
    what looks best almost always; `epsilon_greedy` shows the best, and any offer a tenth of the time;
    `uniform` shows every offer as often as any other, to collect data first."""
    discovery: Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)] = 0.02
    """The share of probability, 0 to 1, that is always spread evenly over the offers that may be shown, so
    that a change of taste is noticed: of ten offers each has at least a tenth of it."""
    arguments: Annotated[str, Field(max_length=500)] = ""
    """For experts: options of Vowpal Wabbit that replace or add to the preset's, such as `--ftrl_alpha 0.02`.
    Only options of learning and exploring are taken; `tilbud check` prints what is used, and names the
    options there are where one is none of them."""


class Control(Section):
    """The group that is not personalized, and shows what personalizing is worth."""

    share: Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
    """The share that is in the control group, 0 to 1: `0.05` is one in twenty."""
    serves: Annotated[str, Field(max_length=128)] = "uniform"
    """What the control group sees: `uniform` any offer that may be shown, with equal chance; `fallback` the
    fallback; or an offer's id, that offer."""


class Variants(Section):
    """The sides of the experiment, and what is split: customers, where there is one to use, or decisions."""

    control: Control | None = None
    """The group that is not personalized, the yardstick for what personalizing is worth. Left out: there is
    none, and no report can say what the campaign gains."""
    split: Literal["customer", "decision"] = "customer"
    """What is divided: `customer` keeps each customer on one side, in every session and channel, and divides
    by decision where nobody is named or may be recognised; `decision` divides every decision anew."""
