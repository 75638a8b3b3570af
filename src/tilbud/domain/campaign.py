"""A campaign as its file declares it: offers, context, rules, reward, exploration, variants.

What holds: a `Campaign` that exists is valid and frozen. Unknown keys are refused, also those of
features that do not work yet. Reading files and finding lines is `service/campaign_files.py`'s
business; what a rule means is `eligibility.py`'s, what a reward is `rewards.py`'s.
"""

from __future__ import annotations

import json
import math
from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from tilbud.domain.context import BUILT_IN_FEATURES, OTHER, UNKNOWN, Vocabulary, time_zone
from tilbud.domain.durations import Hours, parse_duration_us, parse_hours
from tilbud.domain.limits import Limits
from tilbud.domain.predicates import Condition, ConditionInvalid, parse_condition

FeatureKind = Literal["category", "number", "flag"]
CONTROL = "control"
PERSONALIZED = "personalized"
LIMITS = Limits()
_PAYLOAD_DEPTH_MAX = 16  # a level is up to three of the hundred that protobuf reads
_EXACT_INT_MAX = 2**53  # google.protobuf.Struct has no other number than a float64


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must not contain control or unprintable characters")
    return text


def _at_most_400_days(duration_us: int) -> int:
    if duration_us > 400 * 86_400_000_000:
        raise ValueError("must be at most 400d")
    return duration_us


def _not_zero(duration_us: int) -> int:
    if not duration_us:
        raise ValueError("must be longer than 0s")
    return duration_us


Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=64)]
Word = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]
Finite = Annotated[float, Field(allow_inf_nan=False, ge=-LIMITS.number_abs_max, le=LIMITS.number_abs_max)]
GraceUs = Annotated[
    int, BeforeValidator(parse_duration_us, json_schema_input_type=str), AfterValidator(_at_most_400_days)
]
DurationUs = Annotated[GraceUs, AfterValidator(_not_zero)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, strict=True)


def _sequence(value: object) -> object:
    """YAML has lists where frozen models want tuples."""
    return tuple(value) if isinstance(value, list) else value


Words = Annotated[tuple[Word, ...], BeforeValidator(_sequence, json_schema_input_type=list[str])]


class ContextSection(_Section):
    """The vocabularies that bound metric labels, and the free features."""

    devices: Words = ("mobile", "desktop", "tablet")
    channels: Words = ("web", "app", "email", "push", "call_center")
    journey_stages: Words = ("awareness", "consideration", "purchase", "retention", "advocacy")
    features: dict[Name, FeatureKind] = Field(default_factory=dict)

    @field_validator("devices", "channels", "journey_stages")
    @classmethod
    def _plain_words(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(words)) != len(words):
            raise ValueError("a word is listed twice")
        if {OTHER, UNKNOWN} & set(words):
            raise ValueError(f"{OTHER!r} and {UNKNOWN!r} are there already; leave them out")
        if len(words) > 50:  # noqa: PLR2004 - labels multiply; this bounds them
            raise ValueError("at most 50 words, since each becomes a metric label")
        return words

    @field_validator("features")
    @classmethod
    def _new_names(cls, features: dict[str, str]) -> dict[str, str]:
        taken = sorted(set(features) & (set(BUILT_IN_FEATURES) | {"any_of", "none_of"}))
        if taken:
            raise ValueError(f"built in already, choose another name: {', '.join(taken)}")
        if len(features) > LIMITS.features_max:
            raise ValueError(f"at most {LIMITS.features_max} features")
        return features


class Validity(_Section):
    """Days on which an offer may be shown, both included, in the campaign's time zone."""

    from_: date | None = Field(default=None, alias="from")
    until: date | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Validity:
        if self.from_ and self.until and self.until < self.from_:
            raise Misplaced(("until",), "lies before `from`")
        return self


def _offer_feature(written: object) -> str | bool | float:
    if isinstance(written, str) and len(written) <= LIMITS.text_chars_max:
        return _printable(written)
    if isinstance(written, bool):
        return written
    if isinstance(written, int | float) and abs(written) <= LIMITS.number_abs_max:
        return float(written)
    raise ValueError(
        f"must be text of at most {LIMITS.text_chars_max} characters (put dates in quotes), "
        "a finite number, true or false"
    )


OfferFeature = Annotated[
    str | bool | float, PlainValidator(_offer_feature, json_schema_input_type=str | bool | float)
]


class Offer(_Section):
    """One action of the bandit, with its own rules."""

    id: Id
    payload: dict[str, Any] = Field(default_factory=dict)
    features: dict[Name, OfferFeature] = Field(default_factory=dict)
    channels: Words | None = None
    devices: Words | None = None
    journey_stages: Words | None = None
    places: Words | None = None
    languages: Words | None = None
    countries: Words | None = None
    when: dict[str, Any] | None = None
    valid: Validity | None = None
    hours: Annotated[
        Hours | None,
        BeforeValidator(parse_hours, json_schema_input_type=str),
        PlainSerializer(str),
    ] = None

    @field_validator("payload")
    @classmethod
    def _json(cls, payload: dict[str, Any]) -> dict[str, Any]:
        return _check_payload(payload)


class Fallback(_Section):
    """What is answered where the bandit may not or cannot choose."""

    id: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$", max_length=128)] = ""
    payload: dict[str, Any] = Field(default_factory=dict)

    @field_validator("payload")
    @classmethod
    def _json(cls, payload: dict[str, Any]) -> dict[str, Any]:
        return _check_payload(payload)


class OutcomeRule(_Section):
    """What one outcome is worth, and whether it ends the story."""

    weight: Finite
    final: bool = False


def _outcome_rule(written: object) -> object:
    """A bare number is short for `{weight: number}`."""
    is_number = isinstance(written, int | float) and not isinstance(written, bool)
    return {"weight": written} if is_number else written


class RewardSection(_Section):
    """How outcomes become a reward, and when it is learned."""

    window_us: DurationUs = Field(default=1_800_000_000, alias="window", json_schema_extra={"default": "30m"})
    activation_window_us: DurationUs = Field(
        default=3_600_000_000, alias="activation_window", json_schema_extra={"default": "1h"}
    )
    grace_us: GraceUs = Field(default=10_000_000, alias="grace", json_schema_extra={"default": "10s"})
    default: Finite = 0.0
    aggregate: Literal["sum", "max"] = "sum"
    range: Annotated[
        tuple[Finite, Finite], BeforeValidator(_sequence, json_schema_input_type=list[float])
    ] = (0.0, 1.0)
    outcomes: dict[
        Name,
        Annotated[OutcomeRule, BeforeValidator(_outcome_rule, json_schema_input_type=OutcomeRule | float)],
    ] = Field(min_length=1, max_length=50)  # each becomes a metric label
    learn: Literal["at_deadline", "on_settlement"] = "at_deadline"

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


Preset = Literal["balanced", "cautious", "adventurous", "epsilon_greedy", "uniform"]


class Exploration(_Section):
    """How the bandit balances trying and using."""

    preset: Preset = "balanced"
    discovery: Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)] = 0.02
    arguments: Annotated[str, Field(max_length=500)] = ""


class Control(_Section):
    """The group that shows what the bandit is worth."""

    share: Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
    serves: Annotated[str, Field(max_length=128)] = "uniform"


class Variants(_Section):
    """The sides of the experiment."""

    control: Control | None = None


class Campaign(_Section):
    """One bandit: everything its file declares."""

    campaign: Id
    time_zone: str = "UTC"
    context: ContextSection = Field(default_factory=ContextSection)
    offers: Annotated[
        tuple[Offer, ...],
        BeforeValidator(_sequence, json_schema_input_type=list[Offer]),
        Field(min_length=1, max_length=LIMITS.offers_max),
    ]
    fallback: Fallback = Field(default_factory=Fallback)
    reward: RewardSection
    exploration: Exploration = Field(default_factory=Exploration)
    variants: Variants = Field(default_factory=Variants)
    consent: Literal["required", "not_required"]

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        time_zone(name)
        return name

    @field_validator("offers")
    @classmethod
    def _consistent_offers(cls, offers: tuple[Offer, ...], info: ValidationInfo) -> tuple[Offer, ...]:
        seen: set[str] = set()
        for number, offer in enumerate(offers):
            if offer.id in seen:
                raise Misplaced((number, "id"), f"offer {offer.id!r} is there twice; ids must differ")
            seen.add(offer.id)
            context: ContextSection | None = info.data.get("context")
            if context is not None:
                _check_offer(offer, number, context)
        return offers

    @model_validator(mode="after")
    def _consistent(self) -> Campaign:
        ids = {offer.id for offer in self.offers}
        if self.fallback.id in ids:
            raise Misplaced(("fallback", "id"), "must differ from every offer's id")
        control = self.variants.control
        if control and control.serves not in {"uniform", "fallback"} | ids:
            raise Misplaced(("variants", "control", "serves"), "must be uniform, fallback or an offer's id")
        return self

    def vocabulary(self) -> Vocabulary:
        """Return what the campaign declares about its contexts."""
        declared = self.context
        return Vocabulary(
            devices=frozenset(declared.devices),
            channels=frozenset(declared.channels),
            journey_stages=frozenset(declared.journey_stages),
            features=declared.features,
            time_zone=self.time_zone,
        )

    def condition(self, offer: Offer) -> Condition | None:
        """Return the offer's `when`, parsed; None where it has none."""
        return parse_condition(offer.when, self.context.features) if offer.when is not None else None


class Misplaced(PydanticCustomError):
    """A problem found by looking at several keys; `path` leads from the validator to the one at fault."""

    def __new__(cls, path: tuple[str | int, ...], problem: str) -> Self:
        """Build the error pydantic understands, with the path in its context."""
        return super().__new__(cls, "misplaced", "{problem}", {"path": path, "problem": problem})


def _check_payload(payload: dict[str, Any]) -> dict[str, Any]:
    if not _is_plain_json(payload, _PAYLOAD_DEPTH_MAX):
        raise ValueError(
            "must be plain JSON: text, finite numbers, true, false, null, lists and maps, at most "
            f"{_PAYLOAD_DEPTH_MAX} deep (put dates, and whole numbers beyond 2^53, in quotes)"
        )
    size = len(json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode())
    if size > LIMITS.payload_bytes_max:
        raise ValueError(f"at most {LIMITS.payload_bytes_max} bytes of JSON, got {size}")
    return payload


def _is_plain_json(value: object, depth: int) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value) and _is_plain_json([*value.values()], depth)
    if isinstance(value, list):
        return depth > 0 and all(_is_plain_json(each, depth - 1) for each in value)
    if isinstance(value, int):  # true and false as well
        return abs(value) <= _EXACT_INT_MAX
    return value is None or isinstance(value, str) or (isinstance(value, float) and math.isfinite(value))


def _check_offer(offer: Offer, number: int, context: ContextSection) -> None:
    if offer.when is not None:
        try:
            parse_condition(offer.when, context.features)
        except ConditionInvalid as error:
            raise Misplaced((number, "when", *error.path), str(error)) from None
    for key in ("channels", "devices", "journey_stages"):
        undeclared = sorted(set(getattr(offer, key) or ()) - set(getattr(context, key)) - {OTHER})
        if undeclared:
            raise Misplaced((number, key), f"not declared under context.{key}: {', '.join(undeclared)}")
