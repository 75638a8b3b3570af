"""The situation as the customer completes it: what the caller sent, what is known of them, and their quiet.

What holds: what the caller says is fresher than what is stored, and wins. Without consent nothing but device,
channel, journey stage and time is used, all of them as the caller sent them; what is not used is named, with
the reason. Segments are flags over what is used. Whatever a profile holds, it makes no decision fail. Which
rule removes which offer is `eligibility.py`'s business; no clock is read here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.campaign.contact_policy import ContactPolicy
from tilbud.domain.clock import Now
from tilbud.domain.context import (
    NOTHING_KNOWN,
    OLDER,
    OTHER,
    RECENCIES,
    Context,
    ContextInput,
    ContextValue,
    Known,
    as_known,
    is_said_as,
    moment_at,
    read_context,
    time_zone,
)
from tilbud.domain.customer.customer import (
    NO_PROFILE,
    NOTHING_HAPPENED,
    UNKNOWN_CUSTOMER,
    Customer,
    Happened,
    Profile,
)
from tilbud.domain.decision.admission import NOT_A_VERSION, WRONG_KIND, admit
from tilbud.domain.durations import MINUTE_US
from tilbud.domain.language_tags import canonical
from tilbud.domain.limits import Limits

NO_CONSENT = "no_consent"
TOO_OLD = "too_old"
_NOTHING_DROPPED: Mapping[str, str] = {}


class Situation(NamedTuple):
    """The context of one decision, what of it was not used and why, and whether the customer wants quiet."""

    context: Context
    dropped: Mapping[str, str]  # by name, in order of the names
    quiet: bool


class Situations:
    """Reads the situations of one campaign under a contact policy; compiled once, of one thread."""

    def __init__(self, campaign: Campaign, policy: ContactPolicy) -> None:
        declared = campaign.context
        self._strict = campaign.strict
        self._vocabulary = campaign.vocabulary()
        self._traits = tuple(
            (name, rule.kind, rule.max_age_us or declared.max_age_us)
            for name, rule in sorted(declared.traits.items())
        )
        self._events = declared.events
        self._journey = tuple(campaign.journey.items())
        self._segments = tuple(campaign.segment_conditions().items())
        quiet = policy.quiet_channels
        self._quiet_channels = None if quiet is None else frozenset(quiet)
        self.needs_history = bool(declared.events) or any(
            offer.requires or offer.suppress_after for offer in campaign.offers
        )
        self._plain_ones: dict[tuple[str, str, str, int], Situation] = {}

    def read(
        self,
        raw: ContextInput,
        customer: Customer,
        happened: Happened,
        now: Now,
        limits: Limits,
        *,
        consented: bool,
        customer_named: bool = False,
    ) -> Situation:
        """Check what the caller sent, complete it with what is known, and name what is not used.

        The time of day is the wall clock's, ages are the steady clock's. `customer_named`: the call named a
        customer. `happened` is read with consent only. Raises InvalidField where the time is none, or there
        are too many features; of a strict campaign as `read_context` does.
        """
        bad = _NOTHING_DROPPED
        if not self._strict:
            raw, bad = admit(raw, self._vocabulary, limits)
        if not bad and customer is UNKNOWN_CUSTOMER and happened is NOTHING_HAPPENED and not (
            customer_named or raw.features or raw.place or raw.language or raw.country or raw.time_zone
        ):  # fmt: skip
            return self._plain(raw, now.wall_us, limits)
        profile, dropped = customer.profile, _NOTHING_DROPPED
        if consented:
            stored = NOTHING_KNOWN
            if profile is not NO_PROFILE or happened is not NOTHING_HAPPENED:
                stored, dropped = self._known(raw, profile, happened, now.steady_us, limits)
            context = read_context(raw, self._vocabulary, now.wall_us, limits, known=stored)
        else:
            context = read_context(raw, self._vocabulary, now.wall_us, limits, consented=False)
            dropped = self._unused(raw, customer_named=customer_named or customer.version > 0)
        if bad:
            dropped = dict(sorted({**dropped, **bad}.items()))
        return Situation(self._segmented(context), dropped, self._quiet(raw, profile, context, now.wall_us))

    def _plain(self, raw: ContextInput, now_us: int, limits: Limits) -> Situation:
        """Read what nobody could object to: equal ones of a minute are the same object."""
        time_us = now_us if raw.time_us is None else raw.time_us
        key = (raw.device, raw.channel, raw.journey_stage, time_us // MINUTE_US)
        situation = self._plain_ones.get(key)
        if situation is None:
            context = read_context(raw, self._vocabulary, now_us, limits)
            situation = Situation(self._segmented(context), _NOTHING_DROPPED, quiet=False)
            if len(self._plain_ones) >= Limits.plain_situations_cached_max:
                self._plain_ones.clear()
            self._plain_ones[key] = situation
        return situation

    def _known(
        self, raw: ContextInput, profile: Profile, happened: Happened, now_us: int, limits: Limits
    ) -> tuple[Known, Mapping[str, str]]:
        features: dict[str, ContextValue] = {}
        dropped: dict[str, str] = {}
        for name, kind, max_age_us in self._traits:
            trait = profile.traits.get(name)
            if trait is None or name in raw.features:
                continue
            if not is_said_as(kind, trait.value):
                dropped[name] = WRONG_KIND
            elif now_us - trait.updated_us > max_age_us:
                dropped[name] = TOO_OLD
            elif (value := as_known(kind, trait.value)) is None:
                dropped[name] = NOT_A_VERSION
            else:
                features[name] = value
        if happened.events:
            features |= self._last_event(happened, now_us)
        language = canonical(profile.language)
        stored = Known(
            journey_stage=self._stage(profile, happened, now_us),
            time_zone=_zone_there_is(profile.time_zone),
            language=language if len(language) <= limits.text_chars_max else "",
            features=features,
        )
        return stored, dropped

    def _last_event(self, happened: Happened, now_us: int) -> dict[str, ContextValue]:
        """Return the last declared event and how long ago it was; of two at once, the one declared first."""
        last, last_us = "", -1
        for event in self._events:
            at_us = min(happened.events.get(event, -1), now_us)
            if at_us > last_us:
                last, last_us = event, at_us
        if not last:
            return {}
        age_us = now_us - last_us
        recency = next((word for word, within_us in RECENCIES.items() if age_us < within_us), OLDER)
        return {"last_event": last, "last_event_recency": recency}

    def _stage(self, profile: Profile, happened: Happened, now_us: int) -> str:
        stage, since_us = profile.journey_stage, profile.journey_stage_us
        for event, becomes in self._journey:
            at_us = min(happened.events.get(event, -1), now_us)
            if at_us > since_us:
                stage, since_us = becomes, at_us
        return stage if not stage or stage in self._vocabulary.journey_stages else OTHER

    def _unused(self, raw: ContextInput, *, customer_named: bool) -> Mapping[str, str]:
        """Name what the call has; what a profile has is not named, since that would be stored."""
        names = {
            *(("customer_id",) if customer_named else ()),
            *(("place",) if raw.place else ()),
            *(("language",) if raw.language else ()),
            *(("country",) if raw.country else ()),
            *(self._vocabulary.features.keys() & raw.features.keys()),  # no word of the caller's own
        }
        return dict.fromkeys(sorted(names), NO_CONSENT) if names else _NOTHING_DROPPED

    def _segmented(self, context: Context) -> Context:
        """Return the context with a flag for each segment, in order of all names."""
        if not self._segments:
            return context
        flags = {name: condition.holds(context) for name, condition in self._segments}
        return Context(
            context.device,
            context.channel,
            context.journey_stage,
            context.moment,
            context.campaign_day,
            context.campaign_minute,
            context.place,
            context.language,
            context.country,
            dict(sorted({**context.features, **flags}.items())),
        )

    def _quiet(self, raw: ContextInput, profile: Profile, context: Context, now_us: int) -> bool:
        """Say whether the customer asked for quiet at this time, in this channel; consent is not asked."""
        hours = profile.preferences.quiet_hours
        if hours is None:
            return False
        channels = self._quiet_channels
        if channels is not None and context.channel not in channels and raw.channel not in channels:
            return False
        zone = raw.time_zone or _zone_there_is(profile.time_zone) or self._vocabulary.time_zone
        time_us = now_us if raw.time_us is None else raw.time_us
        return hours.contains(moment_at(time_us, time_zone(zone)).minute_of_day)


@lru_cache(maxsize=Limits.time_zones_cached_max)
def _zone_there_is(name: str) -> str:
    """Return the name of a time zone, or "" where there is none of that name any more."""
    try:
        time_zone(name)
    except ValueError:
        return ""
    return name
