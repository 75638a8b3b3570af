"""What a caller changes of a customer's profile, checked, and the profile after it.

What holds: fields that are not named stay as they are; the etag, where one is given, must be the
newest; what needs consent is kept only with it. Of a trait the newest time wins, in whatever order the
messages came, and a removal has the time at which it came; of two of one time the later message wins. All
else has no time of its own: the last message wins. Pure: the ledger applies it in its own transaction, so
that concurrent updates do not lose each other.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace

from tilbud.domain.context import TIME_US_MAX, Consent, FeatureValue, check_number, check_text, time_zone
from tilbud.domain.customer.customer import (
    NO_PREFERENCES,
    Customer,
    Preferences,
    Profile,
    Trait,
    without_personal,
)
from tilbud.domain.durations import Hours, parse_hours
from tilbud.domain.errors import ConsentMissing, CustomerChanged, InvalidField
from tilbud.domain.language_tags import canonical
from tilbud.domain.limits import Limits

PREFERENCE_LISTS = ("blocked_offers", "blocked_topics", "blocked_channels", "opted_in_topics")


@dataclass(frozen=True, slots=True)
class TraitUpdate:
    """A trait as the caller says it; without a time it is known from now on."""

    value: FeatureValue
    updated_us: int | None = None


@dataclass(frozen=True, slots=True)
class ProfileUpdate:
    """New values by field; None, or a name that is missing, stays as it is."""

    etag: str = ""  # "": whatever the profile is now
    consent: Consent | None = None
    time_zone: str | None = None
    language: str | None = None
    journey_stage: str | None = None
    traits: Mapping[str, TraitUpdate | None] = field(default_factory=dict)  # None removes it
    other_traits_go: bool = False
    preference_lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by PREFERENCE_LISTS
    quiet_hours: str | None = None

    def check(self, limits: Limits) -> None:
        """Raise InvalidField, naming the field, where a value breaks its limit."""
        if self.time_zone:
            check_text("customer.time_zone", self.time_zone, limits)
            try:
                time_zone(self.time_zone)
            except ValueError as error:
                raise InvalidField("customer.time_zone", str(error)) from None
        language = check_text("customer.language", self.language or "", limits)
        check_text("customer.language", canonical(language), limits)  # which may be longer
        check_text("customer.journey_stage", self.journey_stage or "", limits)
        if len(self.traits) > limits.traits_max:
            raise InvalidField("customer.traits", f"at most {limits.traits_max}, got {len(self.traits)}")
        for name, trait in self.traits.items():
            _check_trait(name, trait, limits)
        for name, words in self.preference_lists.items():
            _check_words(name, words, limits)
        _hours(self.quiet_hours or "")

    def apply(self, customer: Customer, now_us: int, limits: Limits) -> Profile:
        """Return the profile after the update; `now_us` is the steady clock's.

        A denial is never refused: what is personal beside it is dropped. Raises CustomerChanged where the
        etag is not the newest, ConsentMissing where something personal was to be set without consent,
        InvalidField where there would be too many traits.
        """
        before = customer.profile
        if self.etag and self.etag != etag(before):
            raise CustomerChanged
        consent = before.consent if self.consent is None else self.consent
        if consent is not Consent.GRANTED and self.consent is not Consent.DENIED:
            for name, text in (("language", self.language), ("journey_stage", self.journey_stage)):
                if text:
                    raise ConsentMissing(f"customer.{name}")
            if any(trait is not None for trait in self.traits.values()):
                raise ConsentMissing("customer.traits")
        traits = self._traits(before, now_us, limits)
        stage = self.journey_stage
        after = replace(
            before,
            consent=consent,
            time_zone=before.time_zone if self.time_zone is None else self.time_zone,
            language=before.language if self.language is None else canonical(self.language),
            journey_stage=before.journey_stage if stage is None else stage,
            journey_stage_us=before.journey_stage_us if stage is None else now_us,
            traits=dict(sorted(traits.by_name.items())),
            removed_traits=dict(sorted(traits.removed_us.items())),
            traits_cleared_us=traits.cleared_us,
            preferences=self._preferences(before.preferences),
        )
        return after if consent is Consent.GRANTED else without_personal(after)

    def _traits(self, before: Profile, now_us: int, limits: Limits) -> _Traits:
        """Return the traits after the update; raises InvalidField where there would be too many."""
        traits = _Traits(dict(before.traits), dict(before.removed_traits), before.traits_cleared_us, now_us)
        for name, trait in self.traits.items():
            if trait is None:
                traits.remove(name)
            else:
                traits.update(name, trait)
        if self.other_traits_go:
            traits.clear(self.traits)
        traits.forget_removals(limits.traits_max)
        if len(traits.by_name) > limits.traits_max:
            raise InvalidField("customer.traits", f"at most {limits.traits_max} of one customer")
        return traits

    def _preferences(self, before: Preferences) -> Preferences:
        lists = {name: frozenset(words) for name, words in self.preference_lists.items()}
        hours = before.quiet_hours if self.quiet_hours is None else _hours(self.quiet_hours)
        after = replace(before, **lists, quiet_hours=hours)
        return NO_PREFERENCES if after == NO_PREFERENCES else after


@dataclass(slots=True)
class _Traits:
    """Traits while messages change them; a time that lies after now, by a clock since put right, is now."""

    by_name: dict[str, Trait]
    removed_us: dict[str, int]
    cleared_us: int
    now_us: int

    def update(self, name: str, update: TraitUpdate) -> None:
        """Take up the new value of a trait, unless the one there is newer."""
        updated_us = self.now_us if update.updated_us is None else min(update.updated_us, self.now_us)
        if updated_us >= min(self._newest_us(name), self.now_us):
            self.removed_us.pop(name, None)
            self.by_name[name] = Trait(update.value, updated_us)

    def _newest_us(self, name: str) -> int:
        if name in self.by_name:
            return self.by_name[name].updated_us
        return self.removed_us.get(name, self.cleared_us)

    def remove(self, name: str) -> None:
        """Remove a trait as of now."""
        self.by_name.pop(name, None)
        self.removed_us[name] = self.now_us

    def clear(self, names: Container[str]) -> None:
        """Remove all but `names` as of now."""
        self.by_name = {name: trait for name, trait in self.by_name.items() if name in names}
        self.removed_us = {name: at_us for name, at_us in self.removed_us.items() if name in names}
        self.cleared_us = self.now_us

    def forget_removals(self, most: int) -> None:
        """Keep the newest removals; of the others it is known that what is older than them stays away."""
        for name in sorted(self.removed_us, key=self.removed_us.__getitem__)[: -most or None]:
            self.cleared_us = max(self.cleared_us, self.removed_us.pop(name))


def etag(profile: Profile) -> str:
    """Return what changes with every update of a profile."""
    return f"{profile.changes}.{profile.updated_us}"  # the count alone begins anew after an erasure


def _check_trait(name: str, trait: TraitUpdate | None, limits: Limits) -> None:
    where = f"customer.traits[{name[:64]}]"
    if not name:
        raise InvalidField("customer.traits", "a trait needs a name")
    check_text("customer.traits", name, limits)
    if trait is None:
        return
    if isinstance(trait.value, str):
        if not trait.value:
            raise InvalidField(where, "is empty; leave out what is not known")
        check_text(where, trait.value, limits)
    else:
        check_number(where, trait.value)
    if trait.updated_us is not None and not 0 <= trait.updated_us < TIME_US_MAX:
        raise InvalidField(f"{where}.update_time", "must lie in the years 1970 to 9998")


def _check_words(name: str, words: tuple[str, ...], limits: Limits) -> None:
    where = f"customer.preferences.{name}"
    most = limits.blocked_offers_max if name == "blocked_offers" else limits.preference_list_max
    if len(words) > most:
        raise InvalidField(where, f"at most {most}, got {len(words)}")
    for word in words:
        if not word:
            raise InvalidField(where, "has an empty entry; leave it out")
        check_text(where, word, limits)


def _hours(text: str) -> Hours | None:
    try:
        return parse_hours(text) if text else None
    except ValueError as error:
        raise InvalidField("customer.preferences.quiet_hours", str(error)) from None
