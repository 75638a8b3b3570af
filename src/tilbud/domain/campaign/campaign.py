"""A campaign as its file declares it: offers, context, rules, reward, exploration, variants.

What holds: a `Campaign` that exists is valid and frozen, and everything it names is declared. Unknown keys
are refused. Reading files and finding lines is `campaigns/source.py`'s business; what a section may
hold is `sections.py`'s and `offer.py`'s; what a rule means is `eligibility.py`'s and `frequency_caps.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from tilbud.domain.campaign.conditions import Condition, ConditionInvalid, Kind, parse_condition
from tilbud.domain.campaign.fields import (
    DurationUs,
    Given,
    Id,
    Misplaced,
    Name,
    Section,
    Word,
    listed,
)
from tilbud.domain.campaign.languages import ByLanguage, Language, in_language
from tilbud.domain.campaign.offer import Fallback, Offer, Shown, Validity
from tilbud.domain.campaign.sections import (
    BY_CUSTOMER,
    BY_DECISION,
    CONTROL,
    PERSONALIZED,
    ContextSection,
    Control,
    Explanation,
    Exploration,
    FeatureKind,
    Group,
    OutcomeRule,
    Preset,
    RewardSection,
    TraitRule,
    Variants,
    new_names,
)
from tilbud.domain.context import (
    BUILT_IN_FEATURES,
    EVENT_FEATURES,
    OLDER,
    OTHER,
    PARTS_OF_DAY,
    RECENCIES,
    WEEKDAYS,
    Vocabulary,
    time_zone,
)
from tilbud.domain.language_tags import cased
from tilbud.domain.limits import Limits

__all__ = [
    "BY_CUSTOMER",
    "BY_DECISION",
    "CONTROL",
    "PERSONALIZED",
    "Campaign",
    "ContextSection",
    "Control",
    "Explanation",
    "Exploration",
    "Fallback",
    "FeatureKind",
    "Group",
    "Offer",
    "OutcomeRule",
    "Preset",
    "RewardSection",
    "TraitRule",
    "Validity",
    "Variants",
]


class Campaign(Section):
    """One campaign: everything its file declares."""

    campaign: Id
    """The campaign's id, which calls name; of all files only this one has it. What was learned and recorded
    belongs to it: under another id everything begins anew."""
    time_zone: str = "UTC"
    """The campaign's time zone, by its IANA name such as `Europe/Copenhagen`: for the days of `valid`, and
    for the time of day where neither call nor customer says a zone."""
    fallback_language: Language = ""  # "": nothing is written in several languages
    """The language that is read by customers who read none of those that are written. Required where
    `payloads` or `explanations` stand."""
    sticky_us: Annotated[DurationUs | None, Given] = Field(default=None, alias="sticky")
    """For how long a customer who comes back sees the same offer, in every channel, as long as its rules
    still allow it, such as `24h`; at most `400d`. It is the first decision again: not recorded or learned
    twice. Left out: every call decides anew."""
    context: ContextSection = Field(default_factory=ContextSection)
    """What calls may say about a visit, and what is known of customers."""
    journey: dict[Name, Word] = Field(default_factory=dict)
    """What a customer event says about where a customer is on their way: an event of `context.events` and the
    stage of `context.journey_stages` it leads to. The latest event counts, where the call says no stage."""
    segments: Annotated[dict[Name, dict[str, Any]], Field(max_length=Limits.labels_max)] = Field(
        default_factory=dict
    )
    """Kinds of customers or visits by a name, each a condition as an offer's `when` is. A segment may be
    asked for in `when`, and is learned from."""
    groups: Annotated[dict[Name, Group], Field(max_length=Limits.labels_max)] = Field(default_factory=dict)
    """Offers that are counted together, by a name that offers say as `group`."""
    offers: Annotated[
        tuple[Offer, ...],
        BeforeValidator(
            listed,
            json_schema_input_type=Annotated[list[Offer], Field(min_length=1, max_length=Limits.offers_max)],
        ),
        Field(min_length=1, max_length=Limits.offers_max),
    ]
    """What may be shown, each with the rules of its own."""
    fallback: Fallback = Field(default_factory=Fallback)
    """What is answered where no offer may be shown or chosen: no rule lets one through, consent is missing,
    the campaign is paused, or there is no time."""
    explanations: ByLanguage[Explanation] = Field(default_factory=dict)
    """What a customer may read who asks why they see an offer, by language; ExplainDecision fills it in."""
    reward: RewardSection
    """What counts as success, and how long to wait for it."""
    exploration: Exploration = Field(default_factory=Exploration)
    """How the campaign balances trying offers and using what it has learned."""
    variants: Variants = Field(default_factory=Variants)
    """The experiment: who is in the control group."""
    consent: Literal["required", "not_required"]
    """Whose data may be used: with `required` only that of customers who said yes, and others are answered
    the fallback; with `not_required` silence is a yes. Where it is denied, nothing personal is used or kept,
    in either."""
    strict: bool = False
    """Whether a call with a value that cannot be used (a feature of another kind, an unknown time zone, an
    offer that is none) is refused. Otherwise the value is dropped and counted, and the call answered."""

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        time_zone(name)
        return name

    @field_validator("journey")
    @classmethod
    def _declared_journey(cls, journey: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        context: ContextSection | None = info.data.get("context")
        if context is not None:
            for event, stage in journey.items():
                _declared((event,), "events", (event,), context.events)
                _declared((event,), "journey_stages", (stage,), context.journey_stages)
        return journey

    @field_validator("segments")
    @classmethod
    def _readable_segments(
        cls, segments: dict[str, dict[str, Any]], info: ValidationInfo
    ) -> dict[str, dict[str, Any]]:
        context: ContextSection | None = info.data.get("context")
        if context is not None:
            new_names(segments, context.features, context.traits)
            for name, written in segments.items():
                _parsed(written, context, (), (name,))
        return segments

    @field_validator("offers")
    @classmethod
    def _consistent_offers(cls, offers: tuple[Offer, ...], info: ValidationInfo) -> tuple[Offer, ...]:
        seen: set[str] = set()
        for number, offer in enumerate(offers):
            if offer.id in seen:
                raise Misplaced((number, "id"), f"offer {offer.id!r} is there twice; ids must differ")
            seen.add(offer.id)
            groups = info.data.get("groups")
            if offer.group is not None and groups is not None and offer.group not in groups:
                raise Misplaced((number, "group"), f"not declared under groups: {offer.group}")
            context: ContextSection | None = info.data.get("context")
            segments = info.data.get("segments")
            if context is not None and segments is not None:
                _check_offer(offer, number, context, segments)
        return offers

    @field_validator("explanations")
    @classmethod
    def _known_factors(
        cls, explanations: dict[str, Explanation], info: ValidationInfo
    ) -> dict[str, Explanation]:
        context: ContextSection | None = info.data.get("context")
        segments = info.data.get("segments")
        if context is not None and segments is not None:
            kinds = _kinds(context, segments)
            for language, explanation in explanations.items():
                for name in explanation.factors:
                    if name not in kinds:
                        raise Misplaced((language, "factors", name), _unknown_factor(name, kinds))
        return explanations

    @model_validator(mode="after")
    def _consistent(self) -> Campaign:
        ids = {offer.id for offer in self.offers}
        if self.fallback.id in ids:
            raise Misplaced(("fallback", "id"), "must differ from every offer's id")
        control = self.variants.control
        if control and control.serves not in {"uniform", "fallback"} | ids:
            raise Misplaced(("variants", "control", "serves"), "must be uniform, fallback or an offer's id")
        if control and control.serves in {"uniform", "fallback"} & ids:
            raise Misplaced(
                ("variants", "control", "serves"),
                f"is both a word of its own and an offer's id: give the "
                f"offer another id than {control.serves}",
            )
        self._check_suppression()
        self._check_languages()
        return self

    def _check_suppression(self) -> None:
        names = {*self.reward.outcomes, *self.context.events}
        for number, offer in enumerate(self.offers):
            for name in offer.suppress_after:
                if name not in names:
                    raise Misplaced(
                        ("offers", number, "suppress_after", name),
                        f"neither an outcome nor a customer event; declare it under reward.outcomes or "
                        f"context.events, or use one of: {', '.join(sorted(names))}",
                    )

    def _check_languages(self) -> None:
        for path, texts in self._by_language():
            if not self.fallback_language:
                raise Misplaced(
                    ("fallback_language",),
                    f"is required where `{path[-1]}` stands; add `fallback_language: en`",
                )
            if self.fallback_language not in texts:
                lacking = f"lacks the fallback_language; add `{cased(self.fallback_language)}: …`"
                raise Misplaced(path, lacking)

    def _by_language(self) -> Iterator[tuple[tuple[str | int, ...], Mapping[str, object]]]:
        for number, offer in enumerate(self.offers):
            if offer.payloads is not None:
                yield ("offers", number, "payloads"), offer.payloads
        if self.fallback.payloads is not None:
            yield ("fallback", "payloads"), self.fallback.payloads
        if self.explanations:
            yield ("explanations",), self.explanations

    def vocabulary(self) -> Vocabulary:
        """Return what callers may send of a context: a declared trait may be sent like a feature."""
        declared = self.context
        return Vocabulary(
            devices=frozenset(declared.devices),
            channels=frozenset(declared.channels),
            journey_stages=frozenset(declared.journey_stages),
            features=declared.kinds(),
            time_zone=self.time_zone,
        )

    @property
    def policies(self) -> Mapping[str, Exploration]:
        """The exploration of each policy that learns, by its name: that of the variant it answers."""
        return {PERSONALIZED: self.exploration}

    def feature_schema(self) -> list[tuple[str, str]]:
        """Return (name, kind) of all that a model may see beside the built-in features, by name."""
        kinds = _kinds(self.context, self.segments)
        return sorted((name, kind) for name, kind in kinds.items() if name not in BUILT_IN_FEATURES)

    def condition(self, offer: Offer) -> Condition | None:
        """Return the offer's `when`, parsed; None where it has none."""
        return _parsed(offer.when, self.context, self.segments, ()) if offer.when is not None else None

    def segment_conditions(self) -> dict[str, Condition]:
        """Return each segment's condition, parsed, in order of the names."""
        return {name: _parsed(self.segments[name], self.context, (), ()) for name in sorted(self.segments)}

    def payload(self, shown: Shown, language: str = "") -> Mapping[str, Any]:
        """Return what a reader of `language` ("": unknown) is shown of an offer, or of the fallback."""
        if shown.payloads is None:
            return shown.payload
        return in_language(shown.payloads, language, self.fallback_language)

    def explanation(self, language: str = "") -> Explanation | None:
        """Return the words of an explanation for a reader of `language`; None where there are none."""
        if not self.explanations:
            return None
        return in_language(self.explanations, language, self.fallback_language)


def _kinds(context: ContextSection, segments: Iterable[str]) -> dict[str, str]:
    """Return the kind of all that a condition can ask for, by name."""
    of_events = EVENT_FEATURES if context.events else {}
    return {**BUILT_IN_FEATURES, **context.kinds(), **dict.fromkeys(segments, "flag"), **of_events}


def _parsed(
    written: object, context: ContextSection, segments: Iterable[str], path: tuple[str | int, ...]
) -> Condition:
    kinds: dict[str, Kind] = {
        **_kinds(context, segments),
        "device": (*context.devices, OTHER),
        "channel": (*context.channels, OTHER),
        "journey_stage": (*context.journey_stages, OTHER),
        "weekday": WEEKDAYS,
        "part_of_day": PARTS_OF_DAY,
    }
    if context.events:
        kinds |= {"last_event": context.events, "last_event_recency": (*RECENCIES, OLDER)}
    try:
        return parse_condition(written, kinds)
    except ConditionInvalid as error:
        raise Misplaced((*path, *error.path), str(error)) from None


def _check_offer(offer: Offer, number: int, context: ContextSection, segments: Iterable[str]) -> None:
    if offer.when is not None:
        _parsed(offer.when, context, segments, (number, "when"))
    for key in ("channels", "devices", "journey_stages"):
        _declared((number, key), key, getattr(offer, key) or (), (*getattr(context, key), OTHER))
    for event in offer.requires:
        _declared((number, "requires", event), "events", (event,), context.events)


def _declared(path: tuple[str | int, ...], key: str, words: Iterable[str], declared: Iterable[str]) -> None:
    undeclared = sorted(set(words) - set(declared))
    if undeclared:
        raise Misplaced(path, f"not declared under context.{key}: {', '.join(undeclared)}")


def _unknown_factor(name: str, names: Iterable[str]) -> str:
    if name in EVENT_FEATURES:
        return "there is none without customer events; declare them under context.events"
    return f"no feature, trait or segment; use one of: {', '.join(names)}"
