"""What every adapter promises about profiles, consent and customer events."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.builders import (
    CAMPAIGN,
    CUSTOMER,
    DAY_US,
    GRACE_US,
    RULES,
    SOMEONE_ELSE,
    WINDOW_US,
    activation,
    at,
    contact,
    decision,
    event,
    outcome,
    profile,
    settle_due,
)
from tests.contract import reads
from tests.contract.adapters import ADAPTERS, ignore_commit, make

from tilbud.domain.context import Consent
from tilbud.domain.customer.customer import (
    NO_PROFILE,
    NOTHING_HAPPENED,
    UNKNOWN_CUSTOMER,
    CustomerEventStatus,
    Profile,
    Trait,
    channel_scope,
    without_personal,
)
from tilbud.domain.decision.activation import Activated
from tilbud.domain.decision.rewards import OutcomeStatus
from tilbud.domain.errors import ConsentMissing, CustomerErased, IdReused, InvalidField
from tilbud.domain.limits import Limits
from tilbud.ledger.answers import Settled

ACCEPTED, DUPLICATE, NO_CONSENT = CustomerEventStatus
DUE_S = (WINDOW_US + GRACE_US) / 1e6
WEB = channel_scope("web")


async def say(ledger, consent, seconds=0.0):
    """Change CUSTOMER's consent; return the profile that is stored."""
    return await ledger.update_customer(
        CUSTOMER, lambda known: replace(known.profile, consent=consent), at(seconds)
    )


async def record(ledger, decision_id, seconds=0.0, sticky=False, **said):
    """Record a decision of CUSTOMER, made on what is known of them now."""
    version = (await ledger.customer(CUSTOMER)).version
    made = decision(decision_id, at(seconds), customer=CUSTOMER, **said)
    [stored] = await ledger.record([made], at(seconds), [contact(version, sticky=sticky)])
    assert stored == made


async def happened(ledger, key=CUSTOMER):
    """Return what last happened to a customer."""
    return await reads.happened(ledger, key)


async def exposed(ledger):
    """Return how often CUSTOMER was exposed on the web."""
    return await reads.exposures(ledger, CUSTOMER, [(WEB, 0)])


# Profiles


async def test_a_profile_is_found_word_for_word(ledger):
    """Every field, floats and flags as they were; when it changed and how often is the ledger's word."""
    said = profile(
        updated_us=7,
        changes=7,
        traits={"søen": Trait(1e-300, 3), "\u2028": Trait("æ 🚲", 4)},
        removed_traits={"é": 5},
        traits_cleared_us=6,
    )
    stored = await ledger.update_customer(CUSTOMER, lambda _: said, at(5))
    assert stored == replace(said, updated_us=at(5).wall_us, changes=1)
    found = await ledger.customer(CUSTOMER)
    assert repr(found.profile.traits) == repr(stored.traits)
    assert (found.profile, found.erased) == (stored, False)
    assert await ledger.customer(SOMEONE_ELSE) == UNKNOWN_CUSTOMER


async def test_a_change_sees_what_is_stored(ledger):
    """The first sees nobody, the next what the one before left; each makes the version another."""
    seen = []

    def change(known):
        seen.append(known)
        return profile(language="de" if known.profile.language == "da" else "da")

    for number in (1, 2, 3):
        await ledger.update_customer(CUSTOMER, change, at(number))
        seen.append(await ledger.customer(CUSTOMER))
    assert seen[0] == UNKNOWN_CUSTOMER
    assert (seen[2], seen[4]) == (seen[1], seen[3])
    assert [each.profile.language for each in seen[1::2]] == ["da", "de", "da"]
    assert [each.profile.changes for each in seen[1::2]] == [1, 2, 3]
    assert len({each.version for each in seen[1::2]}) == 3


async def test_parallel_changes_do_not_lose_each_other(ledger):
    """Of 64 changes at once, each adding a trait of its own, every one is there."""

    def adding(number):
        return lambda known: replace(
            known.profile,
            consent=Consent.GRANTED,
            traits={**known.profile.traits, f"t{number}": Trait(float(number), 0)},
        )

    await asyncio.gather(*(ledger.update_customer(CUSTOMER, adding(number), at()) for number in range(64)))
    found = (await ledger.customer(CUSTOMER)).profile
    assert {name: trait.value for name, trait in found.traits.items()} == {
        f"t{number}": float(number) for number in range(64)
    }
    assert found.changes == 64


async def test_a_change_that_is_refused_stores_nothing(ledger):
    """What it raises is raised, also where others are stored at the same time; nobody becomes known."""

    def refuse(known):
        raise ConsentMissing("traits")

    def mistaken(known):
        raise ZeroDivisionError

    results = await asyncio.gather(
        ledger.update_customer(CUSTOMER, refuse, at()),
        ledger.update_customer(CUSTOMER, mistaken, at()),
        ledger.update_customer(SOMEONE_ELSE, lambda _: profile(), at()),
        ledger.record([decision("d1")], at()),
        return_exceptions=True,
    )
    assert [type(each) for each in results] == [ConsentMissing, ZeroDivisionError, Profile, list]
    assert await ledger.customer(CUSTOMER) == UNKNOWN_CUSTOMER
    assert (await ledger.customer(SOMEONE_ELSE)).profile == results[2]
    assert await ledger.find(CAMPAIGN, "d1") is not None


async def test_a_change_makes_decisions_in_flight_stale(ledger):
    """What was decided on the profile before is decided again."""
    await ledger.update_customer(CUSTOMER, lambda _: profile(), at())
    version = (await ledger.customer(CUSTOMER)).version
    await ledger.update_customer(CUSTOMER, lambda known: replace(known.profile, language="de"), at(1))
    assert await ledger.record([decision("d1", customer=CUSTOMER)], at(1), [contact(version)]) == [None]
    await record(ledger, "d1")


# Taking consent back


@pytest.mark.parametrize("consent", [Consent.DENIED, Consent.UNSPECIFIED])
async def test_taking_consent_back_voids_what_is_open(ledger, consent):
    """In every campaign, waiting or shown; settled ones, other customers', and what was seen stay."""
    await ledger.update_customer(CUSTOMER, lambda _: profile(), at())
    await record(ledger, "settled")
    await settle_due(ledger, CAMPAIGN, RULES, 10, at(DUE_S))
    await record(ledger, "shown", seconds=DUE_S, sticky=True)
    await record(ledger, "waiting", seconds=DUE_S, deferred=True, campaign="other", sticky=True)
    theirs = decision("theirs", at(DUE_S), customer=SOMEONE_ELSE)
    await ledger.record([theirs, decision("anonymous", at(DUE_S))], at(DUE_S), [contact(), None])
    version = (await ledger.customer(CUSTOMER)).version

    await say(ledger, consent, DUE_S + 1)
    assert [await ledger.pending(campaign) for campaign in (CAMPAIGN, "other")] == [2, 0]
    assert await exposed(ledger) == [2]
    void = [activation("shown"), activation("waiting", campaign="other")]
    assert await ledger.activate(void, at(DUE_S + 2)) == 2 * [Activated(None, repeated=True, held=0)]
    for campaign in (CAMPAIGN, "other"):
        assert await reads.last_sticky(ledger, CUSTOMER, campaign) is None
    assert await settle_due(ledger, CAMPAIGN, RULES, 10, at(DUE_S * 3)) == Settled(2, 0, more=False)
    assert await settle_due(ledger, "other", RULES, 10, at(DUE_S * 9)) == Settled(0, 0, more=False)
    assert await ledger.oldest_due_service_us("other") is None
    late = decision("late", customer=CUSTOMER)
    assert await ledger.record([late], at(DUE_S + 2), [contact(version)]) == [None]


async def test_taking_consent_back_forgets_what_happened(ledger):
    """Traits, language, stage and events go; preferences and time zone stay, and so do other customers'."""
    before = await ledger.update_customer(CUSTOMER, lambda _: profile(), at())
    await record(ledger, "d1")
    await ledger.receive([outcome("d1")], at(1))
    await ledger.receive_events([event(), event(customer=SOMEONE_ELSE)], at(1))
    assert await happened(ledger) != NOTHING_HAPPENED
    after = await say(ledger, Consent.DENIED, 2)
    expected = replace(
        without_personal(before), consent=Consent.DENIED, updated_us=at(2).wall_us, changes=before.changes + 1
    )
    assert after == (await ledger.customer(CUSTOMER)).profile == expected
    assert await happened(ledger) == NOTHING_HAPPENED
    assert (await happened(ledger, SOMEONE_ELSE)).events == {"add_to_cart": at().wall_us}


async def test_what_is_told_later_of_earlier_decisions_is_not_remembered(ledger):
    """An outcome of a decision from before consent was taken back says nothing about the customer now."""
    await ledger.update_customer(CUSTOMER, lambda _: profile(), at())
    await record(ledger, "before")
    await say(ledger, Consent.UNSPECIFIED, 1)
    assert await ledger.receive([outcome("before")], at(2)) == [OutcomeStatus.LATE]
    assert await happened(ledger) == NOTHING_HAPPENED
    await say(ledger, Consent.GRANTED, 3)
    await ledger.receive([outcome("before", "purchase")], at(4))
    assert await happened(ledger) == NOTHING_HAPPENED
    await record(ledger, "after", seconds=5)
    await ledger.receive([outcome("after")], at(6))
    assert (await happened(ledger)).outcomes == {("ten-off", "click"): at(6).wall_us}


async def test_a_denial_by_someone_without_a_profile_voids_too(ledger):
    """They had consented with each call; their no is the last word."""
    await record(ledger, "d1")
    await ledger.update_customer(
        CUSTOMER, lambda known: replace(known.profile, consent=Consent.DENIED), at(1)
    )
    assert await ledger.pending(CAMPAIGN) == 0
    assert await exposed(ledger) == [1]


async def test_taking_consent_back_and_giving_it_again_resets_no_cap(ledger):
    """What was shown counts however often they change their mind; what still waited is released."""
    await record(ledger, "shown")
    await record(ledger, "activated", deferred=True)
    await ledger.activate([activation("activated")], at(1))
    for number in range(3):
        await record(ledger, f"waiting-{number}", seconds=2, deferred=True)
        await say(ledger, Consent.DENIED, 3)
        assert await exposed(ledger) == [2]
        await say(ledger, Consent.GRANTED, 4)
    assert await exposed(ledger) == [2]
    another = [activation(each, shown_offer_id="bundle") for each in ("shown", "activated", "waiting-0")]
    assert await ledger.activate(another, at(5)) == 3 * [Activated(None, repeated=True, held=0)]
    assert await exposed(ledger) == [2]


@pytest.mark.parametrize("consent", Consent)
async def test_a_change_that_takes_nothing_back_voids_nothing(ledger, consent):
    """Saying the same again, or granting, leaves decisions and events as they are."""
    await record(ledger, "d1")
    if consent is not Consent.DENIED:
        await ledger.receive_events([event()], at())
    if consent is not Consent.UNSPECIFIED:
        await ledger.update_customer(CUSTOMER, lambda _: Profile(consent=Consent.GRANTED), at())
    pending = await ledger.pending(CAMPAIGN)
    was = await happened(ledger)
    said = Consent.GRANTED if consent is Consent.DENIED else consent
    for seconds in (1, 2):
        await say(ledger, said, seconds)
    assert (await ledger.pending(CAMPAIGN), await happened(ledger)) == (pending, was)
    assert await exposed(ledger) == [1]


# Events


async def test_an_event_is_known_at_once(ledger):
    """It makes the customer known, and the newest time of each event is what counts."""
    met = await ledger.receive_events([event(), event("purchase", "e2", at(5))], at(10))
    assert met == [ACCEPTED, ACCEPTED]
    assert (await happened(ledger)).events == {"add_to_cart": at().wall_us, "purchase": at(5).wall_us}
    assert ((await ledger.customer(CUSTOMER)).profile, (await ledger.customer(CUSTOMER)).erased) == (
        NO_PROFILE,
        False,
    )
    later, earlier = event(event_id="e3", now=at(7)), event(event_id="e4", now=at(3))
    assert await ledger.receive_events([later, earlier], at(10)) == [ACCEPTED, ACCEPTED]
    assert (await happened(ledger)).events["add_to_cart"] == at(7).wall_us
    assert await ledger.receive_events([], at()) == []


async def test_an_event_counts_once(ledger):
    """Of 100 copies at once one is accepted; another event under its id is refused; ids are of a customer."""
    met = await asyncio.gather(*(ledger.receive_events([event()], at()) for _ in range(100)))
    assert sorted(each for [each] in met) == [ACCEPTED] + 99 * [DUPLICATE]
    moved, other, theirs = event(now=at(9)), event("purchase"), event("purchase", customer=SOMEONE_ELSE)
    again, reused, elsewhere = await ledger.receive_events([moved, other, theirs], at(9))
    assert (again, elsewhere) == (DUPLICATE, ACCEPTED)
    assert isinstance(reused, IdReused)
    assert (await happened(ledger)).events == {"add_to_cart": at().wall_us}


@pytest.mark.parametrize(
    ("known", "said", "met"),
    [
        (None, Consent.UNSPECIFIED, NO_CONSENT),
        (None, Consent.DENIED, NO_CONSENT),
        (None, Consent.GRANTED, ACCEPTED),
        (Consent.GRANTED, Consent.UNSPECIFIED, ACCEPTED),
        (Consent.GRANTED, Consent.DENIED, NO_CONSENT),
        (Consent.DENIED, Consent.GRANTED, NO_CONSENT),
        (Consent.UNSPECIFIED, Consent.GRANTED, ACCEPTED),
        (Consent.UNSPECIFIED, Consent.UNSPECIFIED, NO_CONSENT),
    ],
)
async def test_an_event_is_stored_with_consent_alone(ledger, known, said, met):
    """A no in the call or in the profile wins; without consent nothing at all is stored."""
    if known is not None:
        await say(ledger, known)
    before = await ledger.customer(CUSTOMER)
    assert await ledger.receive_events([event(consent=said)], at()) == [met]
    assert bool((await happened(ledger)).events) == (met is ACCEPTED)
    if met is NO_CONSENT:
        assert await ledger.customer(CUSTOMER) == before


@pytest.mark.parametrize("adapter", ADAPTERS)
async def test_different_events_are_bounded(adapter, tmp_path):
    """The one too many is told and not stored; more of the known ones are; another customer has room."""
    ledger = make(adapter, tmp_path, replace(Limits(), customer_events_max=2))
    await ledger.start(ignore_commit)
    met = await ledger.receive_events(
        [
            event("a", "1"),
            event("b", "2"),
            event("c", "3"),
            event("a", "4"),
            event("c", "1", customer=SOMEONE_ELSE),
        ],
        at(),
    )
    assert [met[each] for each in (0, 1, 3, 4)] == 4 * [ACCEPTED]
    assert isinstance(met[2], InvalidField)
    assert met[2].field == "event"
    assert set((await happened(ledger)).events) == {"a", "b"}
    assert await ledger.purge_customers(at(9).wall_us, 0, 10, at(9)) == 4
    [still] = await ledger.receive_events([event("c", "5")], at(9))
    assert isinstance(still, InvalidField)
    await ledger.close()


# Retention


async def test_old_events_and_exposures_go_in_bounded_turns(ledger):
    """The oldest first, those before a time alone; when each last happened stays with its customer."""
    await ledger.update_customer(CUSTOMER, lambda _: profile(), at())
    await ledger.receive_events([event(event_id=f"e{number}", now=at(number)) for number in range(5)], at(9))
    for number in range(3):
        await record(ledger, f"d{number}", seconds=number)
    removed = []
    while gone := await ledger.purge_customers(at(4).wall_us, at(2).wall_us, 3, at(20)):
        removed.append(gone)
    assert removed == [3, 3, 2]
    assert (await happened(ledger)).events == {"add_to_cart": at(4).wall_us}
    assert await exposed(ledger) == [1]
    again = [event(event_id="e3", now=at(20)), event(event_id="e4", now=at(20))]
    assert await ledger.receive_events(again, at(20)) == [ACCEPTED, DUPLICATE]


async def test_customers_of_whom_nothing_is_left_go(ledger):
    """Not those with a profile, a tombstone, a decision, or to whom something happened since."""
    keys = [bytes([number]) * 16 for number in range(6)]
    bare, kept, erased, decided, active, reported = keys
    await ledger.update_customer(kept, lambda _: Profile(consent=Consent.DENIED), at())
    await ledger.erase(erased, at())
    await ledger.receive_events([event(customer=bare), event(customer=active)], at())
    made = [decision("d1", customer=decided), decision("d2", customer=reported, campaign="other")]
    await ledger.record(made, at(), [contact(), contact()])
    days_s = DAY_US / 1e6
    await settle_due(ledger, "other", RULES, 10, at(DUE_S))
    await ledger.receive([outcome("d2", campaign="other")], at(10 * days_s))
    later = at(20 * days_s)
    assert await ledger.purge("other", later.wall_us, 9, 10, later) == 1
    await ledger.receive_events([event(customer=active, event_id="e2", now=at(10 * days_s))], at(10 * days_s))
    old = at(9 * days_s).wall_us
    assert await ledger.purge_customers(later.wall_us, old, 100, later) == 3 + 4 + 1
    assert [await ledger.customer(key) == UNKNOWN_CUSTOMER for key in keys] == [True, *5 * [False]]
    assert await ledger.purge_customers(later.wall_us, later.wall_us, 100, later) == 2
    assert [await ledger.customer(key) == UNKNOWN_CUSTOMER for key in keys] == [
        True, False, False, False, True, True,
    ]  # fmt: skip


async def test_customers_stay_as_long_as_what_is_kept_longest(ledger):
    """Where events and decisions are kept longer than exposures, nobody goes by the latter's age alone."""
    await record(ledger, "d1")
    await settle_due(ledger, CAMPAIGN, RULES, 10, at(DUE_S))
    later = at(100 * DAY_US / 1e6)
    assert await ledger.purge(CAMPAIGN, later.wall_us, 9, 10, later) == 1
    assert await ledger.purge_customers(at(-1).wall_us, later.wall_us, 100, later) == 2
    assert await ledger.customer(CUSTOMER) != UNKNOWN_CUSTOMER
    assert await ledger.purge_customers(later.wall_us, later.wall_us, 100, later) == 1
    assert await ledger.customer(CUSTOMER) == UNKNOWN_CUSTOMER


async def test_someone_who_went_can_come_again(ledger):
    """As a first contact, without anything of before."""
    await ledger.receive_events([event()], at())
    later = at(500 * 86_400)
    assert await ledger.purge_customers(later.wall_us, later.wall_us, 10, later) == 2
    await record(ledger, "d1", seconds=500 * 86_400)
    assert await happened(ledger) == NOTHING_HAPPENED
    assert await exposed(ledger) == [1]


# Erased customers come back by consent alone


async def test_a_tombstone_is_lifted_by_consent_alone(ledger):
    """A change sees an erased customer with an empty profile; without consent it is CustomerErased."""
    await ledger.update_customer(CUSTOMER, lambda _: profile(), at())
    await ledger.erase(CUSTOMER, at(1))
    seen = []

    def change(consent):
        def changed(known):
            seen.append(known)
            return Profile(consent=consent)

        return changed

    erased = await ledger.customer(CUSTOMER)
    for consent in (Consent.DENIED, Consent.UNSPECIFIED):
        with pytest.raises(CustomerErased):
            await ledger.update_customer(CUSTOMER, change(consent), at(2))
    assert await ledger.customer(CUSTOMER) == erased
    stored = await ledger.update_customer(CUSTOMER, change(Consent.GRANTED), at(3))
    assert [(each.erased, each.profile) for each in seen] == 3 * [(True, NO_PROFILE)]
    back = await ledger.customer(CUSTOMER)
    assert (back.erased, back.profile) == (False, stored)
    assert back.version > erased.version
    assert await ledger.receive_events([event()], at(4)) == [ACCEPTED]


async def test_an_erased_customer_has_no_events(ledger):
    """Whatever the call says."""
    await ledger.erase(CUSTOMER, at())
    met = await ledger.receive_events([event(consent=consent) for consent in Consent], at(1))
    assert [type(each) for each in met] == 3 * [CustomerErased]
    assert await happened(ledger) == NOTHING_HAPPENED
