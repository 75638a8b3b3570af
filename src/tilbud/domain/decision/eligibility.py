"""Which offers may be shown, and by which rule each of the others was removed.

What holds: rules only remove; each removed offer has exactly one reason, the first rule in `RULES`
that removes it. What the customer forbids always counts; what needs to know the customer shows nothing to
those who are not known (`requires`, `sensitive_topic`) and withholds nothing from them (`suppress_after`).
Hours that wrap midnight are one night, which belongs to the day on which it began: `valid`, and a weekday or
weekend that `when` asks for, by a segment too, are judged on that day. The result depends on the context and
the customer's facts alone, so equal ones share it. Nothing removes an offer after the draw. Counting
exposures is `frequency_caps.py`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import NamedTuple

from tilbud.domain.campaign.campaign import Campaign, Offer
from tilbud.domain.campaign.conditions import Condition
from tilbud.domain.context import Context, eve
from tilbud.domain.customer.customer import NO_PREFERENCES, NOTHING_HAPPENED, Happened, Preferences
from tilbud.domain.durations import Hours
from tilbud.domain.errors import InvalidField
from tilbud.domain.language_tags import canonical, covers
from tilbud.domain.limits import Limits

CONTACT_POLICY = "contact_policy"
GROUP_CAPS = "group_caps"
CAPS = "caps"
RULES = (
    "include_offers",
    "exclude_offers",
    "paused",
    "blocked_channels",
    "quiet_hours",
    "blocked_offers",
    "blocked_topics",
    "sensitive_topic",
    "channels",
    "devices",
    "journey_stages",
    "places",
    "languages",
    "countries",
    "valid",
    "hours",
    "when",
    "requires",
    "suppress_after",
    CONTACT_POLICY,
    GROUP_CAPS,
    CAPS,
)


@dataclass(frozen=True, slots=True)
class Eligibility:
    """The offers left, as indexes in the campaign file's order, and why the others are not."""

    eligible: tuple[int, ...]
    removed: tuple[tuple[int, str], ...]

    def without(self, removed: Sequence[tuple[int, str]]) -> Eligibility:
        """Return what is left when these of the eligible offers are removed too, for these reasons."""
        if not removed:
            return self
        indexes = {index for index, _ in removed}
        left = tuple(index for index in self.eligible if index not in indexes)
        return Eligibility(left, tuple(sorted((*self.removed, *removed))))


_NONE: frozenset[str] = frozenset()
_OF_DAYS = frozenset({"weekday", "weekend"})


class CustomerFacts(NamedTuple):
    """What rules look at of the customer."""

    preferences: Preferences
    quiet: bool  # the customer wants no offers now, see situation.py
    known: bool  # there is a customer, who consented
    happened: Happened
    now_us: int  # the steady clock, µs
    channel: str = ""  # as the call had it: a customer may block channels that the campaign does not declare


NOBODY = CustomerFacts(NO_PREFERENCES, quiet=False, known=False, happened=NOTHING_HAPPENED, now_us=0)


class Rules:
    """The rules of one campaign, compiled once."""

    def __init__(self, campaign: Campaign) -> None:
        outcomes, events = frozenset(campaign.reward.outcomes), frozenset(campaign.context.events)
        of_days = {
            name: condition
            for name, condition in campaign.segment_conditions().items()
            if condition.asks_for(_OF_DAYS)
        }
        self._offers = tuple(
            _OfferRules(
                offer,
                campaign.condition(offer),
                of_days,
                _CustomerRules(offer, outcomes=outcomes, events=events),
            )
            for offer in campaign.offers
        )
        self._strict = campaign.strict
        self._index = {offer.id: number for number, offer in enumerate(campaign.offers)}
        self._ids = frozenset(self._index)
        self._topics = frozenset(topic for rules in self._offers for topic in rules.customer.topics)
        self._languages = frozenset(
            language for offer in campaign.offers for language in _canonical(offer.languages)
        )
        self._spoken: dict[str, frozenset[str]] = {}
        self._left_out = tuple((number, "include_offers") for number in range(len(self._offers)))
        self._everything = Eligibility(tuple(range(len(self._offers))), ())
        self._binds = any(rules.binds for rules in self._offers)  # whatever happened to a customer
        self._suppresses = any(rules.customer.suppresses for rules in self._offers)

    def check(
        self,
        context: Context,
        include: tuple[str, ...] = (),
        exclude: tuple[str, ...] = (),
        paused: frozenset[str] = frozenset(),
        facts: CustomerFacts = NOBODY,
    ) -> Eligibility:
        """Return which offers may be shown in `context` to a customer of whom `facts` are known.

        `include` (empty: all) and `exclude` narrow the catalogue for this call; `paused` are offers that are
        not shown for now. An offer that the campaign does not have is neither included nor there to exclude;
        where the campaign is strict it raises InvalidField.
        """
        not_now, wishes = "", False
        if facts is not NOBODY:
            not_now = _not_now(context, facts)
            wishes = bool(not_now) or self._concerned(facts.preferences)
        free = not (self._binds or (self._suppresses and facts.happened is not NOTHING_HAPPENED))
        if free and not (include or exclude or paused or wishes):
            return self._everything
        included = self._indexes("include_offers", include)
        excluded = self._indexes("exclude_offers", exclude)
        spoken = self._covering(context.language)
        asked: Iterable[int] = range(len(self._offers))
        removed: list[tuple[int, str]] = []
        if include:
            asked = sorted(included)
            removed = [exclusion for exclusion in self._left_out if exclusion[0] not in included]
        if free and not (excluded or paused or wishes):
            return Eligibility(tuple(asked), tuple(removed))
        eligible: list[int] = []
        for number in asked:
            rules = self._offers[number]
            if number in excluded:
                removed.append((number, "exclude_offers"))
            elif paused and rules.offer_id in paused:
                removed.append((number, "paused"))
            elif rule := not_now or rules.removed_by(context, facts, spoken, wishes=wishes):
                removed.append((number, rule))
            else:
                eligible.append(number)
        if include:
            removed.sort()
        return Eligibility(tuple(eligible), tuple(removed))

    def _covering(self, language: str) -> frozenset[str]:
        """Return which languages that rules name cover this one."""
        if not self._languages or not language:
            return _NONE
        spoken = self._spoken.get(language)
        if spoken is None:
            if len(self._spoken) >= Limits.spoken_languages_cached_max:
                self._spoken.clear()
            spoken = frozenset(offered for offered in self._languages if covers(offered, language))
            self._spoken[language] = spoken
        return spoken

    def _concerned(self, preferences: Preferences) -> bool:
        """Say whether a customer's blocks touch any offer of the campaign."""
        return preferences is not NO_PREFERENCES and not (
            self._ids.isdisjoint(preferences.blocked_offers)
            and self._topics.isdisjoint(preferences.blocked_topics)
        )

    def has(self, ids: Iterable[str]) -> bool:
        """Say whether the campaign has all of these offers."""
        return self._ids.issuperset(ids)

    def _indexes(self, field: str, ids: Iterable[str]) -> frozenset[int]:
        if not self._strict:
            return frozenset([self._index[offer_id] for offer_id in ids if offer_id in self._index])
        try:
            return frozenset([self._index[offer_id] for offer_id in ids])
        except KeyError as error:
            raise InvalidField(field, f"the campaign has no offer {error.args[0][:128]!r}") from None


def _not_now(context: Context, facts: CustomerFacts) -> str:
    """Return the rule by which the customer wants nothing at all here and now, or ""."""
    blocked = facts.preferences.blocked_channels
    if blocked and (context.channel in blocked or facts.channel in blocked):
        return "blocked_channels"
    return "quiet_hours" if facts.quiet else ""


class _CustomerRules:
    """An offer's rules that look at the customer."""

    def __init__(self, offer: Offer, *, outcomes: frozenset[str], events: frozenset[str]) -> None:
        self._offer_id = offer.id
        self.topics = frozenset(offer.topics) | ({offer.sensitive_topic} if offer.sensitive_topic else set())
        self.sensitive = offer.sensitive_topic or ""
        self.requires = tuple(offer.requires.items())
        suppressing = offer.suppress_after.items()
        self._after_events = tuple((name, for_us) for name, for_us in suppressing if name in events)
        self._after_outcomes = tuple(
            ((offer.id, name), for_us) for name, for_us in suppressing if name in outcomes
        )
        self.suppresses = bool(suppressing)

    def unwanted(self, facts: CustomerFacts) -> str:
        """Return the customer's wish by which the offer is not to be shown, or ""."""
        preferences = facts.preferences
        if self._offer_id in preferences.blocked_offers:
            return "blocked_offers"
        if not self.topics.isdisjoint(preferences.blocked_topics):
            return "blocked_topics"
        if self.sensitive and not (facts.known and self.sensitive in preferences.opted_in_topics):
            return "sensitive_topic"
        return ""

    def untimely(self, facts: CustomerFacts) -> str:
        """Return the rule by which what happened to the customer forbids the offer, or ""."""
        events, now_us = facts.happened.events, facts.now_us
        for event, within_us in self.requires:
            if not facts.known or not _within(events.get(event), within_us, now_us):
                return "requires"
        if facts.known:
            for event, for_us in self._after_events:
                if _within(events.get(event), for_us, now_us):
                    return "suppress_after"
            outcomes = facts.happened.outcomes
            for key, for_us in self._after_outcomes:
                if _within(outcomes.get(key), for_us, now_us):
                    return "suppress_after"
        return ""


def _within(at_us: int | None, duration_us: int, now_us: int) -> bool:
    """Say whether something happened, and strictly later than `duration_us` ago."""
    return at_us is not None and now_us - at_us < duration_us


class _OfferRules:
    """One offer's own rules."""

    def __init__(
        self,
        offer: Offer,
        condition: Condition | None,
        segments_of_days: Mapping[str, Condition],
        customer: _CustomerRules,
    ) -> None:
        lists = (
            ("channels", "channel", offer.channels),
            ("devices", "device", offer.devices),
            ("journey_stages", "journey_stage", offer.journey_stages),
            ("places", "place", offer.places),
            ("languages", "language", None if offer.languages is None else _canonical(offer.languages)),
            ("countries", "country", _upper(offer.countries)),
        )
        self.offer_id = offer.id
        self._lists = tuple((rule, key, frozenset(words)) for rule, key, words in lists if words is not None)
        self._from: date | None = offer.valid.from_ if offer.valid else None
        self._until: date | None = offer.valid.until if offer.valid else None
        self._hours = offer.hours
        self._condition = condition
        self._segments_of_days = segments_of_days
        self.customer = customer
        self.narrow = bool(self._lists or offer.valid or self._hours or condition)
        self.binds = bool(self.narrow or customer.sensitive or customer.requires)

    def removed_by(
        self, context: Context, facts: CustomerFacts, spoken: frozenset[str], *, wishes: bool
    ) -> str:
        """Return the first rule that removes the offer, or "" where it may be shown.

        `spoken` are the languages of rules that cover the context's. Without `wishes` the customer blocks
        nothing of this campaign.
        """
        customer = self.customer
        rule = customer.unwanted(facts) if wishes or customer.sensitive else ""
        if not rule and self.narrow:
            rule = self._unfitting(context, spoken)
        if not rule and (
            customer.requires or (customer.suppresses and facts.happened is not NOTHING_HAPPENED)
        ):
            rule = customer.untimely(facts)
        return rule

    def _unfitting(self, context: Context, spoken: frozenset[str]) -> str:
        """Return the rule by which the context forbids the offer, or ""."""
        for rule, key, words in self._lists:
            if spoken.isdisjoint(words) if key == "language" else getattr(context, key) not in words:
                return rule
        day, minute, hours = context.campaign_day, context.moment.minute_of_day, self._hours
        in_hours = hours is None or hours.contains(minute)
        if hours is not None and in_hours and hours.wrap:
            day = _day_of_night(context, hours)
        if (self._from and day < self._from) or (self._until and day > self._until):
            return "valid"
        if not in_hours:
            return "hours"
        if self._condition:
            if hours is not None and hours.begun_yesterday(minute):
                context = _of_eve(context, self._segments_of_days)
            if not self._condition.holds(context):
                return "when"
        return ""


def _of_eve(context: Context, segments: Mapping[str, Condition]) -> Context:
    """Return the context on the day before, with its flags of segments that ask for the day."""
    then = replace(context, moment=eve(context.moment))
    if not segments:
        return then
    flags = {name: condition.holds(then) for name, condition in segments.items()}
    return replace(then, features={**context.features, **flags})


def _day_of_night(context: Context, hours: Hours) -> date:
    """Return the day, in the campaign's time zone, on which the night began that the customer is in."""
    ago = hours.begun_minutes_ago(context.moment.minute_of_day)
    return (
        context.campaign_day if ago <= context.campaign_minute else context.campaign_day - timedelta(days=1)
    )


def _canonical(languages: Iterable[str] | None) -> Iterable[str]:
    return map(canonical, languages or ())


def _upper(words: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return words and tuple(word.upper() for word in words)
