"""Changing a profile: what is named changes, the rest stays, consent comes first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilbud.domain.context import Consent, FeatureValue
from tilbud.domain.customer.customer import UNKNOWN_CUSTOMER, Customer, Preferences, Profile, Trait
from tilbud.domain.customer.profile_update import ProfileUpdate, TraitUpdate, etag
from tilbud.domain.durations import Hours, parse_hours
from tilbud.domain.errors import ConsentMissing, CustomerChanged, InvalidField
from tilbud.domain.limits import Limits

LIMITS = Limits()
NOW_US = 1_790_000_000_000_000
SECOND_US = 1_000_000
GRANTED = Customer(
    1,
    7,
    profile=Profile(
        consent=Consent.GRANTED,
        time_zone="Europe/Copenhagen",
        language="da",
        journey_stage="retention",
        journey_stage_us=5,
        traits={"age": Trait(40.0, 3), "tier": Trait("gold", 4)},
        preferences=Preferences(frozenset({"bundle"}), quiet_hours=Hours(1260, 480)),
        changes=3,
    ),
)


def after(update: ProfileUpdate, customer: Customer = GRANTED) -> Profile:
    """Check and apply an update."""
    update.check(LIMITS)
    return update.apply(customer, NOW_US, LIMITS)


def test_nothing_named_changes_nothing():
    """An update that names no field leaves the profile as it is."""
    assert after(ProfileUpdate()) == GRANTED.profile


def test_one_field_changes_alone():
    """A field that is named changes; an empty one is emptied; the others stay."""
    assert after(ProfileUpdate(language="EN-gb")) == replace(GRANTED.profile, language="en-gb")
    assert after(ProfileUpdate(time_zone="")) == replace(GRANTED.profile, time_zone="")
    assert after(ProfileUpdate(journey_stage="purchase")) == replace(
        GRANTED.profile, journey_stage="purchase", journey_stage_us=NOW_US
    )


def test_traits_merge_go_and_are_replaced():
    """A named trait is set or removed, the others stay, unless all others go."""
    merged = after(ProfileUpdate(traits={"tier": None, "pets": TraitUpdate(2.0, 9)}))
    assert merged.traits == {"age": Trait(40.0, 3), "pets": Trait(2.0, 9)}
    replaced = after(ProfileUpdate(traits={"pets": TraitUpdate(2.0)}, other_traits_go=True))
    assert replaced.traits == {"pets": Trait(2.0, NOW_US)}


def test_a_trait_is_never_from_the_future():
    """A trait's time after now counts as now: it could never grow too old otherwise."""
    assert (
        after(ProfileUpdate(traits={"tier": TraitUpdate("x", NOW_US * 2)})).traits["tier"].updated_us
        == NOW_US
    )


def told(*updates: ProfileUpdate, customer: Customer = GRANTED) -> Profile:
    """Apply updates one after the other, a second apart."""
    for number, update in enumerate(updates):
        update.check(LIMITS)
        profile = update.apply(customer, NOW_US + number * SECOND_US, LIMITS)
        customer = replace(customer, profile=profile)
    return customer.profile


def says(value: FeatureValue, updated_us: int | None = None) -> ProfileUpdate:
    """Say that the tier is so since then."""
    return ProfileUpdate(traits={"tier": TraitUpdate(value, updated_us)})


def test_an_older_message_changes_no_newer_trait():
    """The newest time wins, whichever message came last; of two of one time, and without one, the later."""
    assert told(says("new", 900), says("old", 800)).traits["tier"] == Trait("new", 900)
    assert told(says("old", 800), says("new", 900)).traits["tier"] == Trait("new", 900)
    assert told(says("first", 900), says("second", 900)).traits["tier"] == Trait("second", 900)
    assert told(says("old", 900), says("now")).traits["tier"] == Trait("now", NOW_US + SECOND_US)


def test_one_old_trait_keeps_none_of_the_others_out():
    """Each trait is judged alone, and what is said beside it counts."""
    update = ProfileUpdate(traits={"tier": TraitUpdate("old", 3), "age": TraitUpdate(41.0, 9)}, language="de")
    changed = told(update)
    assert changed.traits == {"age": Trait(41.0, 9), "tier": Trait("gold", 4)}
    assert changed.language == "de"


@pytest.mark.parametrize(
    "removal", [ProfileUpdate(traits={"tier": None}), ProfileUpdate(other_traits_go=True)], ids=["one", "all"]
)
def test_an_older_message_brings_no_removed_trait_back(removal):
    """What is older than the removal stays away; what is newer than it, or undated, is taken up."""
    for known in (GRANTED, replace(GRANTED, profile=replace(GRANTED.profile, traits={}))):
        assert "tier" not in told(removal, says("old", NOW_US - 1), customer=known).traits
        assert told(removal, says("new", NOW_US + 1), customer=known).traits["tier"].value == "new"
        assert told(removal, says("now"), customer=known).traits["tier"].value == "now"


def test_a_removed_trait_that_came_again_is_dated_by_what_was_said():
    """Once a trait is told anew its own time counts, not that of the removal before."""
    again = told(ProfileUpdate(traits={"tier": None}), says("now"), says("old", NOW_US))
    assert (again.traits["tier"].value, again.removed_traits) == ("now", {})


def test_all_traits_are_replaced_by_no_older_ones():
    """A list of all traits removes the others and leaves what is newer than it says as it is."""
    profile = told(ProfileUpdate(traits={"tier": TraitUpdate("old", 3)}, other_traits_go=True))
    assert profile.traits == {"tier": Trait("gold", 4)}


def test_consent_taken_back_forgets_removals():
    """Nothing of the traits is left, and what is told after consent is granted anew is taken as it is."""
    removed = ProfileUpdate(traits={"tier": None}, other_traits_go=True)
    denied = told(removed, ProfileUpdate(consent=Consent.DENIED))
    assert (denied.removed_traits, denied.traits_cleared_us) == ({}, 0)
    again = replace(GRANTED, profile=denied)
    assert (
        told(replace(says("gold", 4), consent=Consent.GRANTED), customer=again).traits["tier"].updated_us == 4
    )


def test_a_trait_of_a_clock_put_right_since_keeps_nothing_out():
    """A trait that was told while the clock was ahead gives way to what is told of today."""
    ahead = replace(GRANTED.profile, traits={"tier": Trait("ahead", NOW_US * 2)})
    assert told(says("today"), customer=replace(GRANTED, profile=ahead)).traits == {
        "tier": Trait("today", NOW_US)
    }


def test_removals_stay_bounded():
    """Of more removals than there may be traits the oldest are remembered as one time for all."""
    removals = [ProfileUpdate(traits={f"t{number}": None}) for number in range(LIMITS.traits_max + 5)]
    profile = told(*removals)
    assert len(profile.removed_traits) == LIMITS.traits_max
    assert profile.traits_cleared_us == NOW_US + 4 * SECOND_US
    old = ProfileUpdate(traits={"t0": TraitUpdate(1.0, NOW_US - 1)})
    assert told(*removals, old) == profile


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.floats(0, 9), st.integers(0, 10**6)),
        unique_by=lambda each: (each[0], each[2]),
    ).flatmap(lambda said: st.tuples(st.just(said), st.permutations(said)))
)
def test_the_same_dated_messages_give_the_same_traits(orders):
    """Whatever their order, and however old they are."""

    def traits(messages: list[tuple[str, float, int]]) -> Mapping[str, Trait]:
        updates = [ProfileUpdate(traits={name: TraitUpdate(value, at_us)}) for name, value, at_us in messages]
        return told(*updates, customer=replace(GRANTED, profile=Profile(consent=Consent.GRANTED))).traits

    assert traits(orders[0]) == traits(orders[1])


def test_preferences_change_one_by_one():
    """A preference that is not named stays; quiet hours can be taken back."""
    lists = after(ProfileUpdate(preference_lists={"blocked_channels": ("push",)})).preferences
    assert lists == replace(GRANTED.profile.preferences, blocked_channels=frozenset({"push"}))
    assert after(ProfileUpdate(quiet_hours="")).preferences.quiet_hours is None
    assert after(ProfileUpdate(quiet_hours="22:00-06:00")).preferences.quiet_hours == Hours(1320, 360)


def test_an_older_etag_is_refused():
    """An etag that is not the newest loses nothing: the update is refused, and says so."""
    after(ProfileUpdate(etag=etag(GRANTED.profile), language="en"))
    with pytest.raises(CustomerChanged):
        after(ProfileUpdate(etag="2.0", language="en"))


@pytest.mark.parametrize(
    "update",
    [
        ProfileUpdate(language="da"),
        ProfileUpdate(journey_stage="purchase"),
        ProfileUpdate(traits={"tier": TraitUpdate("gold")}),
    ],
)
def test_nothing_personal_is_set_without_consent(update):
    """Language, journey stage and traits wait for consent; the same update that grants it may set them."""
    with pytest.raises(ConsentMissing):
        after(replace(update, consent=Consent.UNSPECIFIED))
    with pytest.raises(ConsentMissing):
        after(update, UNKNOWN_CUSTOMER)
    assert after(replace(update, consent=Consent.GRANTED), UNKNOWN_CUSTOMER).consent is Consent.GRANTED


@pytest.mark.parametrize("customer", [GRANTED, UNKNOWN_CUSTOMER])
def test_a_denial_is_never_refused(customer):
    """Whatever is set or removed beside it: consent is denied, and nothing personal is kept."""
    update = ProfileUpdate(
        consent=Consent.DENIED, language="da", traits={"age": None, "tier": TraitUpdate("gold")}
    )
    kept = after(update, customer)
    assert (kept.consent, kept.language, kept.journey_stage, kept.traits) == (Consent.DENIED, "", "", {})
    assert kept.preferences == customer.profile.preferences
    assert after(ProfileUpdate(traits={"age": None}), UNKNOWN_CUSTOMER).traits == {}, "nor is removing"


def test_preferences_need_no_consent():
    """What the customer forbids is kept whatever they allow."""
    update = ProfileUpdate(
        consent=Consent.DENIED,
        time_zone="Asia/Tokyo",
        preference_lists={"blocked_topics": ("family",)},
        quiet_hours="21:00-08:00",
    )
    kept = after(update, UNKNOWN_CUSTOMER)
    assert kept.time_zone == "Asia/Tokyo"
    assert kept.preferences.blocked_topics == {"family"}


@pytest.mark.parametrize(
    ("update", "field"),
    [
        (ProfileUpdate(time_zone="Mars/Base"), "customer.time_zone"),
        (ProfileUpdate(language="x" * 129), "customer.language"),
        (ProfileUpdate(journey_stage="a\nb"), "customer.journey_stage"),
        (ProfileUpdate(traits={"": TraitUpdate(1.0)}), "customer.traits"),
        (ProfileUpdate(traits={"tier": TraitUpdate("")}), "customer.traits[tier]"),
        (ProfileUpdate(traits={"tier": TraitUpdate(float("nan"))}), "customer.traits[tier]"),
        (ProfileUpdate(traits={"tier": TraitUpdate(1.0, -1)}), "customer.traits[tier].update_time"),
        (ProfileUpdate(traits=dict.fromkeys(map(str, range(101)))), "customer.traits"),
        (ProfileUpdate(preference_lists={"blocked_topics": ("",)}), "customer.preferences.blocked_topics"),
        (
            ProfileUpdate(preference_lists={"blocked_offers": ("x",) * 1001}),
            "customer.preferences.blocked_offers",
        ),
        (ProfileUpdate(quiet_hours="late"), "customer.preferences.quiet_hours"),
    ],
)
def test_a_value_beyond_its_limit_is_refused_by_name(update, field):
    """Each mistake names its field."""
    with pytest.raises(InvalidField) as raised:
        update.check(LIMITS)
    assert raised.value.field == field


def test_traits_stay_bounded_over_many_updates():
    """A customer cannot gather more traits than the limit, one update at a time."""
    customer = GRANTED
    for number in range(LIMITS.traits_max - 2):
        traits = {f"t{number}": TraitUpdate(1.0)}
        customer = replace(customer, profile=after(ProfileUpdate(traits=traits), customer))
    with pytest.raises(InvalidField):
        after(ProfileUpdate(traits={"one_more": TraitUpdate(1.0)}), customer)


@given(st.integers(0, 1439), st.integers(0, 1439))
def test_hours_read_as_they_are_written(start, end):
    """Quiet hours that are shown can be sent back as they are."""
    if start != end:
        hours = Hours(start, end)
        assert parse_hours(str(hours)) == hours
