"""What recording a decision for a customer promises: exposures, versions, what is sticky."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.builders import (
    ACTIVATION_WINDOW_US,
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
    fallback,
    outcome,
    profile,
    settle_due,
)
from tests.contract import reads
from tests.contract.adapters import make
from tests.contract.reads import LIMITS

from tilbud.domain.context import Consent
from tilbud.domain.customer.customer import UNKNOWN_CUSTOMER, Happened, channel_scope, offer_scope
from tilbud.domain.decision.records import ExposureEffect, Repeat, payload_text
from tilbud.domain.decision.rewards import OutcomeStatus
from tilbud.domain.limits import Limits
from tilbud.ledger.answers import Settled

AGES_S = 400 * DAY_US / 1e6
DUE_S = (WINDOW_US + GRACE_US) / 1e6
DENIED = Consent.DENIED
EXPIRED_S = (ACTIVATION_WINDOW_US + GRACE_US) / 1e6
OFFER, WEB = offer_scope(CAMPAIGN, "ten-off"), channel_scope("web")


def theirs(decision_id="d1", now=None, **said):
    """Return a decision of CUSTOMER."""
    return decision(decision_id, now, customer=CUSTOMER, **said)


async def record(ledger, decision_id="d1", seconds=0.0, said=None, **fields):
    """Record a decision of CUSTOMER, made on what is known of them now; return what is stored."""
    version = (await ledger.customer(CUSTOMER)).version
    [stored] = await ledger.record(
        [theirs(decision_id, at(seconds), **fields)], at(seconds), [contact(version, **(said or {}))]
    )
    return stored


async def exposed(ledger, since_s=-1.0, scopes=(OFFER, WEB), key=CUSTOMER, limits=LIMITS):
    """Return how often a customer was exposed under each scope."""
    return await reads.exposures(ledger, key, [(scope, at(since_s).wall_us) for scope in scopes], limits)


# Versions


async def test_a_first_contact_makes_the_customer_known(ledger):
    """Before it nothing is known; after it there is a version, and no profile, and no one else."""
    assert await ledger.customer(CUSTOMER) == UNKNOWN_CUSTOMER
    recorded = theirs()
    assert await ledger.record([recorded], at(), [contact()]) == [recorded]
    assert await ledger.find(CAMPAIGN, "d1") == recorded
    known = await ledger.customer(CUSTOMER)
    assert (known.version > 0, known.erased, known.profile.changes) == (True, False, 0)
    assert await ledger.customer(SOMEONE_ELSE) == UNKNOWN_CUSTOMER


async def test_a_stale_contact_stores_nothing(ledger):
    """None, for that decision alone: its neighbours are stored, its id stays free, nothing is counted."""
    await record(ledger)
    before = await ledger.customer(CUSTOMER)
    stale = theirs("d2", campaign="new")
    met = await ledger.record(
        [decision("d3"), stale, theirs("d4")._replace(customer=SOMEONE_ELSE)],
        at(1),
        [None, contact(before.version - 1, "new"), contact()],
    )
    assert [each and each.decision_id for each in met] == ["d3", None, "d4"]
    assert await ledger.find("new", "d2") is None
    assert await ledger.customer(CUSTOMER) == before
    assert await exposed(ledger) == [1, 1]
    assert await ledger.campaigns() == [CAMPAIGN]
    assert await ledger.pending(CAMPAIGN) == 3


async def test_a_contact_with_someone_unknown_is_stale_once_they_are_known(ledger):
    """Version 0 is right for the first contact alone."""
    assert await ledger.record([theirs("d1")], at(), [contact(0)]) != [None]
    assert await ledger.record([theirs("d2")], at(), [contact(0)]) == [None]
    assert await ledger.record([theirs("d3")], at(), [contact(99)]) == [None]


async def test_of_two_contacts_in_one_call_the_first_is_stored(ledger):
    """Both were decided on the same version: the second must be decided again."""
    met = await ledger.record([theirs("d1"), theirs("d2")], at(), [contact(0), contact(0)])
    assert met == [theirs("d1"), None]
    assert await exposed(ledger) == [1, 1]


async def test_what_no_rule_counts_has_no_rivals(ledger):
    """Of decisions made on one version all are stored; the version stays, and later rules can count them."""
    first = (await ledger.customer(CUSTOMER)).version
    for ids in (("d1", "d2"), ("d3", "d4")):
        met = await ledger.record(list(map(theirs, ids)), at(), 2 * [contact(first, counted=False)])
        assert met == list(map(theirs, ids))
    assert (await ledger.customer(CUSTOMER)).version == first
    assert (await ledger.customer(CUSTOMER)).number
    assert await exposed(ledger) == [4, 4]


async def test_what_no_rule_counts_still_follows_the_profile(ledger):
    """Made before a change of the profile, or an erasure, it is stale; after it, it is stored."""
    uncounted = contact((await ledger.customer(CUSTOMER)).version, counted=False)
    await ledger.update_customer(CUSTOMER, lambda _: profile(consent=DENIED), at())
    assert await ledger.record([theirs()], at(), [uncounted]) == [None]
    version = (await ledger.customer(CUSTOMER)).version
    assert await ledger.record([theirs()], at(), [contact(version, counted=False)]) == [theirs()]
    await ledger.erase(CUSTOMER, at())
    assert await ledger.record([theirs("d2")], at(), [contact(version, counted=False)]) == [None]


async def test_what_is_counted_is_stale_for_what_is_not_only_later(ledger):
    """In one call the uncounted is stored beside the counted, in whichever order; in the next it is stale."""
    counted, uncounted = contact(0), contact(0, counted=False)
    met = await ledger.record(
        [theirs("d1"), theirs("d2"), theirs("d3")], at(), [uncounted, counted, uncounted]
    )
    assert [each and each.decision_id for each in met] == ["d1", "d2", "d3"]
    assert await ledger.record([theirs("d4")], at(), [uncounted]) == [None]
    assert await exposed(ledger) == [3, 3]


@pytest.mark.parametrize("known", [False, True])
async def test_of_64_rivals_one_is_stored(ledger, known):
    """Recorded at once on one version, one is stored, 63 are told to decide again, one exposure counts."""
    if known:
        await ledger.update_customer(CUSTOMER, lambda _: profile(), at())
    version = (await ledger.customer(CUSTOMER)).version
    met = await asyncio.gather(
        *(ledger.record([theirs(f"d{number}")], at(), [contact(version)]) for number in range(64))
    )
    stored = [each for [each] in met if each is not None]
    assert len(stored) == 1
    assert [number for number in range(64) if await ledger.find(CAMPAIGN, f"d{number}")] == [
        int(stored[0].decision_id[1:])
    ]
    assert await exposed(ledger) == [1, 1]
    assert await ledger.pending(CAMPAIGN) == 1


async def test_a_cap_holds_exactly_under_64_callers_that_decide_again(ledger):
    """Each reads, counts, and records until it is stored or the cap is reached: exactly five are shown."""

    async def caller(number):
        while True:
            known = await ledger.customer(CUSTOMER)
            if await exposed(ledger, scopes=(OFFER,)) >= [5]:
                return 0
            [stored] = await ledger.record([theirs(f"d{number}")], at(), [contact(known.version)])
            if stored is not None:
                return 1

    assert sum(await asyncio.gather(*map(caller, range(64)))) == 5
    assert await exposed(ledger) == [5, 5]


async def test_an_id_that_is_taken_returns_its_decision(ledger):
    """Also where the contact is stale: the stored decision, no second exposure, and nothing changes."""
    first = await record(ledger)
    before = await ledger.customer(CUSTOMER)
    again = theirs("d1", at(5), drawn=2)
    for version in (0, before.version):
        assert await ledger.record([again], at(5), [contact(version)]) == [first]
    assert await ledger.customer(CUSTOMER) == before
    assert await exposed(ledger) == [1, 1]
    assert await exposed(ledger, since_s=1.0) == [0, 0]


async def test_one_call_with_one_id_twice_counts_once(ledger):
    """The first of an id is stored, and both places return it, whoever is second."""
    anonymous = decision("d2", drawn=2)
    met = await ledger.record(
        [theirs("d1"), theirs("d1", drawn=2), decision("d1"), anonymous, theirs("d2")],
        at(),
        [contact(0), contact(0), None, None, contact(0)],
    )
    assert met == [theirs("d1"), theirs("d1"), theirs("d1"), anonymous, anonymous]
    assert await exposed(ledger) == [1, 1]
    assert await ledger.pending(CAMPAIGN) == 2


async def test_a_customer_and_a_contact_come_together(ledger):
    """A contact with nobody, and a customer without a contact, are our own mistakes: nothing is stored."""
    for wrong, contacts in ((theirs(), ()), (theirs(), [None]), (decision(), [contact()])):
        with pytest.raises(AssertionError):
            await ledger.record([wrong], at(), contacts)
    assert await ledger.find(CAMPAIGN, "d1") is None
    assert await ledger.customer(CUSTOMER) == UNKNOWN_CUSTOMER


# Exposures


async def test_exposures_are_counted_by_scope_and_time(ledger):
    """Under each scope, those after `since`, which itself does not count; of this customer alone."""
    for number in range(3):
        await record(
            ledger, f"d{number}", seconds=number, said={"scopes": (OFFER,) if number else (OFFER, WEB)}
        )
    await ledger.record([theirs("else")._replace(customer=SOMEONE_ELSE)], at(), [contact()])
    assert await exposed(ledger) == [3, 1]
    assert await exposed(ledger, since_s=0.0) == [2, 0]
    assert await exposed(ledger, since_s=2.0) == [0, 0]
    assert await exposed(ledger, scopes=("o:other:ten-off", OFFER, OFFER)) == [0, 3, 3]
    assert await exposed(ledger, key=SOMEONE_ELSE) == [1, 1]
    assert await exposed(ledger, scopes=()) == []
    assert await exposed(ledger, key=bytes(16)) == [0, 0]


async def test_a_scope_named_twice_counts_once(ledger):
    """One decision is one exposure under a scope."""
    await record(ledger, said={"scopes": (OFFER, OFFER)})
    assert await exposed(ledger) == [1, 0]


@pytest.mark.parametrize("more", [0, 300])
async def test_many_scopes_are_counted_as_each_alone(ledger, more):
    """However many are asked for at once, and whether the customer was exposed seldom or often."""
    scopes = [offer_scope(CAMPAIGN, f"offer-{number}") for number in range(12)]
    for number in range(3 + more):
        said = {"scopes": tuple(scopes[number % 5 : 10 : 3])}
        await record(ledger, f"m{number}", seconds=number % 7, said=said)
    asked = [(scope, at(since_s).wall_us) for scope in scopes for since_s in (-1, 2, 5)]
    alone = [await reads.exposures(ledger, CUSTOMER, [each]) for each in asked]
    assert [await reads.exposures(ledger, CUSTOMER, asked)] == [[count for [count] in alone]]


async def test_exposures_are_counted_to_the_limit(tmp_path):
    """Beyond the most that any cap allows, nobody needs to know."""
    for adapter in ("memory", "sqlite"):
        limits = replace(Limits(), cap_times_max=3)
        ledger = make(adapter, tmp_path, limits)
        await ledger.start(lambda _seconds, _rows: None)
        for number in range(5):
            await record(ledger, f"d{number}", said={"scopes": (OFFER,) if number else (OFFER, WEB)})
        assert await exposed(ledger, limits=limits) == [3, 1]
        await ledger.close()


async def test_a_reserved_exposure_counts_until_its_activation_and_from_then_on(ledger):
    """Waiting it counts whatever the time; activated, as of then, and the customer is not as before."""
    await record(ledger, deferred=True)
    assert await exposed(ledger) == [1, 1]
    assert await exposed(ledger, since_s=AGES_S) == [1, 1]
    before = await ledger.customer(CUSTOMER)
    await ledger.activate([activation("d1")], at(100))
    assert await exposed(ledger, since_s=99.0) == [1, 1]
    assert await exposed(ledger, since_s=100.0) == [0, 0]
    assert (await ledger.customer(CUSTOMER)).version > before.version
    assert await ledger.record([theirs("d2")], at(100), [contact(before.version)]) == [None]


async def test_a_cap_shorter_than_the_wait_holds(ledger):
    """Once an hour, with a day to activate in: two decided hours apart are never shown in one hour."""
    hour_s = 3_600.0
    shown = 0
    for number, seconds in enumerate((0.0, 1.5 * hour_s, 3 * hour_s)):
        if await exposed(ledger, since_s=seconds - hour_s, scopes=(OFFER,)) == [0]:
            await record(ledger, f"d{number}", seconds=seconds, deferred=True, closes_service_us=2**60)
            shown += 1
    await ledger.activate([activation(f"d{number}") for number in range(shown)], at(3 * hour_s))
    assert await exposed(ledger, since_s=2 * hour_s, scopes=(OFFER,)) == [1]


async def test_what_is_answered_again_counts_from_then_also_of_a_reservation(ledger):
    """Only what waits for its activation has no time."""
    await record(ledger, said={"sticky": True}, deferred=True)
    await again(ledger, seconds=10)
    assert await exposed(ledger, since_s=9) == [1, 2]
    assert await exposed(ledger, since_s=10) == [1, 1]


async def test_an_old_reservation_does_not_keep_what_came_after_it(ledger):
    """Exposures go the oldest first: one that waits is as old as its decision, however long it waits."""
    await record(ledger, "d1", deferred=True)
    await record(ledger, "d2", seconds=10)
    later = at(AGES_S)
    assert await ledger.purge_customers(0, at(-1).wall_us, 10, later) == 0
    assert await ledger.purge_customers(0, at(10).wall_us, 10, later) == 2
    assert await exposed(ledger) == [1, 1]
    assert await ledger.purge_customers(0, at(11).wall_us, 10, later) == 2


async def test_what_is_dated_later_than_now_holds_nothing_up(ledger):
    """Exposures and events of a clock that was wrong stay, and those after them go when they are old."""
    wrong = replace(at(1), steady_us=at(2 * AGES_S).wall_us)
    await record(ledger, "d1")
    version = (await ledger.customer(CUSTOMER)).version
    await ledger.record([decision("d2", at(1), customer=CUSTOMER)], wrong, [contact(version)])
    await record(ledger, "d3", seconds=10)
    await ledger.receive_events(
        [event(occurred_us=wrong.steady_us), event(event_id="e2", occurred_us=at(2).wall_us)], at(3)
    )
    later = at(AGES_S)
    gone = await ledger.purge_customers(at(20).wall_us, at(20).wall_us, 100, later)
    assert gone == 1 + 2 * len(contact(0).scopes)
    assert await exposed(ledger) == [1, 1]


async def test_exposures_are_timed_by_the_clock_that_does_not_jump(ledger):
    """A wall clock that is wrong for a moment makes no cap hold longer, nor forgets one."""
    for number, off_s in enumerate((1_000 * 86_400, -1_000 * 86_400)):
        now = at(number)
        wrong = replace(now, wall_us=now.wall_us + off_s * 1_000_000, steady_us=now.wall_us)
        version = (await ledger.customer(CUSTOMER)).version
        await ledger.record([decision(f"d{number}", wrong, customer=CUSTOMER)], wrong, [contact(version)])
    assert await exposed(ledger, since_s=-1.0, scopes=(OFFER,)) == [2]
    assert await exposed(ledger, since_s=0.0, scopes=(OFFER,)) == [1]
    assert await exposed(ledger, since_s=1.0, scopes=(OFFER,)) == [0]


async def test_who_is_met_while_the_clock_is_wrong_is_kept_no_longer_for_it(ledger):
    """Whoever comes while the wall clock is far ahead goes when others who came that day do."""
    ahead = replace(at(1), wall_us=at(2 * AGES_S).wall_us, steady_us=at(1).wall_us)
    await ledger.receive_events([event(occurred_us=ahead.steady_us)], ahead)
    later = at(AGES_S)
    assert await ledger.purge_customers(later.wall_us, later.wall_us, 100, later) == 2
    assert await ledger.customer(CUSTOMER) == UNKNOWN_CUSTOMER


async def test_a_repeated_activation_moves_nothing(ledger):
    """Only the first one says when the offer was shown; one that shows at once is not moved by any."""
    await record(ledger, "d1", deferred=True)
    await record(ledger, "d2")
    await ledger.activate([activation("d1")], at(100))
    known = await ledger.customer(CUSTOMER)
    await ledger.activate([activation("d1"), activation("d2")], at(200))
    assert await exposed(ledger, since_s=100.0) == [0, 0]
    assert await exposed(ledger, since_s=99.0) == [1, 1]
    assert await ledger.customer(CUSTOMER) == known


@pytest.mark.parametrize("deferred", [True, False])
async def test_a_void_decision_releases_its_exposures(ledger, deferred):
    """What was not shown is not counted; other decisions' exposures stay."""
    await record(ledger, "d1", deferred=deferred)
    await record(ledger, "d2")
    await ledger.activate([activation("d1", shown_offer_id="bundle")], at(1))
    assert await exposed(ledger) == [1, 1]


async def test_an_expired_decision_releases_its_exposures(ledger):
    """A reserved exposure goes with its decision; settled ones stay."""
    await record(ledger, "d1", deferred=True)
    await record(ledger, "d2")
    await ledger.record([decision("d3", deferred=True)], at())
    assert await settle_due(ledger, CAMPAIGN, RULES, 10, at(EXPIRED_S)) == Settled(1, 2, more=False)
    assert await exposed(ledger) == [1, 1]


async def test_exposures_outlive_their_decision(ledger):
    """A cap of a year counts what was shown after the decision is purged, and no new one is taken for it."""
    await record(ledger)
    await settle_due(ledger, CAMPAIGN, RULES, 10, at(DUE_S))
    later = at(100 * 86_400)
    assert await ledger.purge(CAMPAIGN, later.wall_us, 9, 10, later) == 1
    assert await exposed(ledger) == [1, 1]
    await record(ledger, "d1", seconds=100 * 86_400, deferred=True)
    await ledger.activate([activation("d1", shown_offer_id="bundle")], later)
    assert await exposed(ledger) == [1, 1]


async def test_a_fallback_of_a_customer_has_no_exposures(ledger):
    """Nothing was chosen: nothing is counted, though the customer was met."""
    await ledger.record([fallback("f1", customer=CUSTOMER)], at(), [contact(scopes=())])
    assert await exposed(ledger) == [0, 0]
    assert (await ledger.customer(CUSTOMER)).version > 0


# What happened


async def test_outcomes_are_remembered_by_offer(ledger):
    """When each last happened, whatever it met, of this campaign alone; duplicates change nothing."""
    await record(ledger, "d1", deferred=True)
    await record(ledger, "d2")
    await record(ledger, "d3", campaign="other", said={"campaign": "other"})
    await ledger.record([decision("d4", drawn=0)], at())
    met = await ledger.receive(
        [outcome("d1", "click"), outcome("d2", "click"), outcome("d3", "dismiss", campaign="other")], at(10)
    )
    assert met == [OutcomeStatus.HELD, OutcomeStatus.ACCEPTED, OutcomeStatus.ACCEPTED]
    await ledger.receive([outcome("d4", "click"), outcome("d2", "click"), outcome("d9", "click")], at(20))
    [late] = await ledger.receive([outcome("d2", "purchase")], at(DUE_S + 1))
    assert late is OutcomeStatus.LATE
    assert await reads.happened(ledger, CUSTOMER) == Happened(
        outcomes={("ten-off", "click"): at(10).wall_us, ("ten-off", "purchase"): at(DUE_S + 1).wall_us}
    )
    assert (await reads.happened(ledger, CUSTOMER, "other")).outcomes == {
        ("ten-off", "dismiss"): at(10).wall_us
    }
    assert await reads.happened(ledger, CUSTOMER, "homepage") == Happened()
    assert await reads.happened(ledger, SOMEONE_ELSE) == Happened()


async def test_the_newest_time_of_an_outcome_counts(ledger):
    """One that comes late does not make it older, and none lies in the future."""
    await record(ledger)
    for event_id, occurred_s in (("a", 50), ("b", 20), ("c", 5_000)):
        said = outcome("d1", event_id=event_id, occurred_us=at(occurred_s).wall_us)
        await ledger.receive([said], at(100))
        newest = {"a": 50, "b": 50, "c": 100}[event_id]
        assert (await reads.happened(ledger, CUSTOMER)).outcomes == {("ten-off", "click"): at(newest).wall_us}


async def meet(ledger, way, seconds):
    """Let CUSTOMER be seen in one of the ways that tell so."""
    if way == "decision":
        await record(ledger, "d9", seconds=seconds)
    elif way == "profile":
        await ledger.update_customer(
            CUSTOMER, lambda known: replace(known.profile, language="de"), at(seconds)
        )
    elif way == "event":
        await ledger.receive_events([event("seen", "e9", at(seconds))], at(seconds))
    elif way == "outcome":
        await ledger.receive([outcome("d1", "dismiss")], at(seconds))
    else:
        await ledger.activate([activation("waiting")], at(seconds))


@pytest.mark.parametrize("way", ["decision", "profile", "event", "outcome", "activation"])
async def test_what_happened_too_long_ago_is_forgotten_once_the_customer_is_seen(ledger, way):
    """After as long as exposures are kept; newer times stay, and so do those of others."""
    await ledger.update_customer(CUSTOMER, lambda _: profile(), at())
    await record(ledger, "d1", said={"sticky": True})
    await record(ledger, "waiting", deferred=True, closes_service_us=2**60)
    await ledger.receive([outcome("d1")], at(1))
    met = [event(), event("purchase", "e2", at(100)), event(customer=SOMEONE_ELSE)]
    await ledger.receive_events(met, at(100))
    assert await last_sticky(ledger) == "d1"
    await meet(ledger, way, Limits().exposures_kept_s + 50)
    left = await reads.happened(ledger, CUSTOMER)
    assert left.events.keys() - {"seen"} == {"purchase"}
    assert left.outcomes.keys() <= {("ten-off", "dismiss")}
    assert await last_sticky(ledger) is None
    assert (await reads.happened(ledger, SOMEONE_ELSE)).events == {"add_to_cart": at().wall_us}


async def test_what_happened_within_the_time_is_kept(ledger):
    """Until it is older than exposures get, however often the customer is seen."""
    await ledger.update_customer(CUSTOMER, lambda _: profile(), at())
    await record(ledger, "d1", said={"sticky": True})
    await ledger.receive([outcome("d1")], at())
    await ledger.receive_events([event()], at())
    was = await reads.happened(ledger, CUSTOMER)
    await meet(ledger, "decision", Limits().exposures_kept_s)
    assert await reads.happened(ledger, CUSTOMER) == was
    assert await last_sticky(ledger) == "d1"


# What is sticky


async def last_sticky(ledger, campaign=CAMPAIGN, *, pending=True):
    """Return the id of CUSTOMER's last sticky decision."""
    found = await reads.last_sticky(ledger, CUSTOMER, campaign, pending=pending)
    return found and found.decision_id


async def test_the_last_sticky_decision_is_the_one_recorded_last(ledger):
    """In each campaign, whole, and by the order of recording, whatever the clocks say."""
    assert await last_sticky(ledger) is None
    await record(ledger, "d1", seconds=50, said={"sticky": True})
    await record(ledger, "d2", seconds=10, said={"sticky": True}, deferred=True)
    await record(ledger, "d3", seconds=60)
    await record(ledger, "d4", seconds=60, said={"sticky": True}, campaign="other")
    assert await reads.last_sticky(ledger, CUSTOMER) == theirs("d2", at(10), deferred=True)
    assert await last_sticky(ledger, "other") == "d4"
    assert await last_sticky(ledger, "unknown") is None


async def test_a_sticky_decision_that_waits_is_told_to_who_asks_for_it(ledger):
    """Nobody may ever activate it; once somebody did, it is like any other, also when it has settled."""
    await record(ledger, "d1", said={"sticky": True}, deferred=True)
    assert await last_sticky(ledger, pending=True) == "d1"
    assert await last_sticky(ledger, pending=False) is None
    await ledger.activate([activation("d1")], at(1))
    assert await last_sticky(ledger, pending=False) == "d1"
    await settle_due(ledger, CAMPAIGN, RULES, 10, at(1 + DUE_S))
    assert await last_sticky(ledger, pending=False) == "d1"


async def test_a_fallback_is_never_sticky(ledger):
    """What nothing was drawn for is not served again."""
    await record(ledger, "d1", said={"sticky": True})
    version = (await ledger.customer(CUSTOMER)).version
    await ledger.record([fallback("f1", customer=CUSTOMER)], at(), [contact(version, scopes=(), sticky=True)])
    assert await last_sticky(ledger) == "d1"


async def test_a_sticky_decision_that_ended_unseen_is_gone(ledger):
    """Void and expired ones are not served again, settled ones are; a purged one is not there."""
    await record(ledger, "void", said={"sticky": True}, campaign="a", deferred=True)
    await record(ledger, "expired", said={"sticky": True}, campaign="b", deferred=True)
    await record(ledger, "settled", said={"sticky": True}, campaign="c")
    await ledger.activate([activation("void", campaign="a", shown_offer_id="bundle")], at(1))
    for campaign in "bc":
        await settle_due(ledger, campaign, RULES, 10, at(EXPIRED_S))
    assert [await last_sticky(ledger, campaign) for campaign in "abc"] == [None, None, "settled"]
    later = at(100 * 86_400)
    assert await ledger.purge("c", later.wall_us, 9, 10, later) == 1
    await ledger.record([decision("settled", later, campaign="c")], later)
    assert await last_sticky(ledger, "c") is None


@pytest.mark.parametrize("sticky", [True, False])
async def test_a_decision_under_a_repeats_id_returns_what_that_stands_for(ledger, sticky):
    """Two calls with one id, one of which was answered with the earlier decision: both get that one."""
    first = await record(ledger, "d1", said={"sticky": True})
    before = await ledger.customer(CUSTOMER)
    repeat = Repeat(CAMPAIGN, "again", bytes(16), "d1")
    await ledger.repeat([repeat], at(1))
    stored = await record(ledger, "again", seconds=1, said={"sticky": sticky})
    assert stored == first._replace(fingerprint=repeat.fingerprint)
    assert await ledger.customer(CUSTOMER) == before
    assert await exposed(ledger) == [1, 1]


async def test_an_anonymous_decision_under_a_repeats_id_returns_what_that_stands_for(ledger):
    """Its neighbours in the call are stored, and the contacts among them counted, exactly once."""
    first = await record(ledger, "d1")
    repeat = Repeat(CAMPAIGN, "again", bytes(16), "d1")
    await ledger.repeat([repeat], at(1))
    stands_for = first._replace(fingerprint=repeat.fingerprint)
    neighbours = [decision(f"n{number}", at(2)) for number in range(5)]
    taken = decision("again", at(2), drawn=2)
    assert await ledger.record([*neighbours[:2], taken, *neighbours[2:4]], at(2)) == [
        *neighbours[:2], stands_for, *neighbours[2:4],
    ]  # fmt: skip
    version = (await ledger.customer(CUSTOMER)).version
    met = await ledger.record(
        [taken, theirs("d2", at(2)), neighbours[4], theirs("again", at(2))],
        at(2),
        [None, contact(version), None, contact(version + 1)],
    )
    assert met == [stands_for, theirs("d2", at(2)), neighbours[4], stands_for]
    assert await ledger.find(CAMPAIGN, "again") == stands_for
    assert await exposed(ledger) == [2, 2]
    assert await ledger.pending(CAMPAIGN) == 7
    later = decision("again", at(2), campaign="other")
    assert await ledger.record([later], at(2)) == [later]


async def test_a_repeat_of_a_repeat_stands_for_the_decision_itself(ledger):
    """What it is answered with at once is what its id is answered with ever after."""
    first = await record(ledger, "d1")
    shown = payload_text({"title": "by then"})
    await ledger.repeat([Repeat(CAMPAIGN, "again", bytes(16), "d1", payload=shown)], at(1))
    answered = await ledger.repeat([Repeat(CAMPAIGN, "third", bytes(16), "again")], at(2))
    assert answered == [first._replace(fingerprint=bytes(16))]
    assert await ledger.find(CAMPAIGN, "third") == answered[0]


async def again(ledger, decision_id="", seconds=0.0, version=None, scopes=(WEB,)):
    """Answer with d1 again, in the web channel if not said otherwise, on what is known of CUSTOMER now."""
    known = (await ledger.customer(CUSTOMER)).version if version is None else version
    met = ExposureEffect(known, scopes, sticky=True)
    return await ledger.repeat([Repeat(CAMPAIGN, decision_id, bytes(16), "d1", met)], at(seconds))


async def test_who_repeats_knows_whether_the_id_was_known(ledger):
    """By the fingerprint, its own where it was not: so of two calls with one id one is counted."""
    await record(ledger, "d1")
    one, other = (Repeat(CAMPAIGN, "again", bytes(16), "d1") for _ in range(2))
    [first, second] = await ledger.repeat([one, other], at(1))
    assert first == second
    assert first.fingerprint is one.fingerprint
    assert second.fingerprint is not other.fingerprint


async def test_a_repeat_in_a_channel_that_counts_is_counted_there_alone(ledger):
    """Each answer counts once more in the channel, never for the offer; a retry of its id does not."""
    first = await record(ledger, said={"sticky": True})
    told = [first._replace(fingerprint=bytes(16))]
    assert await again(ledger, seconds=1) == told
    assert await again(ledger, "asked", seconds=2) == told
    assert await exposed(ledger) == [1, 3]
    assert await again(ledger, "asked", seconds=3) == told
    assert await exposed(ledger) == [1, 3]
    assert await exposed(ledger, since_s=1) == [0, 1]


@pytest.mark.parametrize("scopes", [(WEB,), ()])
async def test_a_repeat_for_a_customer_who_changed_counts_nothing(ledger, scopes):
    """None, as for a decision: the version is stale, or the customer was erased meanwhile."""
    await record(ledger, said={"sticky": True})
    version = (await ledger.customer(CUSTOMER)).version
    await ledger.update_customer(CUSTOMER, lambda _: profile(), at())
    known = await ledger.customer(CUSTOMER)
    for decision_id in ("asked", ""):
        assert await again(ledger, decision_id, version=version, scopes=scopes) == [None]
    assert await ledger.find(CAMPAIGN, "asked") is None
    assert await exposed(ledger) == [1, 1]
    assert await ledger.customer(CUSTOMER) == known
    await ledger.erase(CUSTOMER, at(1))
    assert await again(ledger, "asked", seconds=2, scopes=scopes) == [None]


async def test_a_repeat_that_counts_nowhere_changes_no_customer(ledger):
    """It is answered, its id stands for the decision, and who decides meanwhile need not do so again."""
    first = await record(ledger, said={"sticky": True})
    known = await ledger.customer(CUSTOMER)
    told = [first._replace(fingerprint=bytes(16))]
    assert await again(ledger, "asked", scopes=()) == told
    assert await again(ledger, scopes=()) == told
    assert [await ledger.find(CAMPAIGN, "asked")] == told
    assert await ledger.customer(CUSTOMER) == known
    assert await exposed(ledger) == [1, 1]


async def test_a_repeat_of_an_anonymous_decision_with_a_contact_is_none(ledger):
    """It is no customer's to be served again."""
    await ledger.record([decision("d1")], at())
    await ledger.update_customer(CUSTOMER, lambda _: profile(), at())
    for scopes in ((WEB,), ()):
        assert await again(ledger, "asked", scopes=scopes) == [None]
    assert await ledger.find(CAMPAIGN, "asked") is None


@pytest.mark.parametrize("end", ["void", "expired", "withdrawn"])
@pytest.mark.parametrize("met", [True, False])
async def test_a_repeat_of_what_ended_unseen_is_none(ledger, end, met):
    """Void or expired meanwhile, with a contact or without: nothing is stored or counted, decide again."""
    await record(ledger, said={"sticky": True}, deferred=True)
    if end == "void":
        await ledger.activate([activation("d1", shown_offer_id="bundle")], at(1))
    elif end == "expired":
        await settle_due(ledger, CAMPAIGN, RULES, 10, at(EXPIRED_S))
    else:
        await ledger.update_customer(CUSTOMER, lambda known: replace(known.profile, consent=DENIED), at(1))
    known = await ledger.customer(CUSTOMER)
    if met:
        assert await again(ledger, "asked", seconds=EXPIRED_S) == [None]
    else:
        asked = Repeat(CAMPAIGN, "asked", bytes(16), "d1")
        assert await ledger.repeat([asked], at(EXPIRED_S)) == [None]
    assert await ledger.find(CAMPAIGN, "asked") is None
    assert await ledger.customer(CUSTOMER) == known
    assert await exposed(ledger) == [0, 0]


async def test_activation_moves_what_was_reserved_and_no_repeat(ledger):
    """What a deferred decision reserved counts from its activation; answers since stay where they were."""
    await record(ledger, said={"sticky": True}, deferred=True)
    await again(ledger, seconds=1)
    await ledger.activate([activation("d1")], at(100))
    assert await exposed(ledger, since_s=50) == [1, 1]
    assert await exposed(ledger) == [1, 2]
    await ledger.activate([activation("d1", shown_offer_id="bundle")], at(101))
    assert await exposed(ledger) == [0, 0]


async def test_a_long_history_is_counted_right(ledger):
    """Many exposures, outcomes and activations of several customers in large calls: each counts once."""
    keys = [bytes([number]) * 16 for number in range(100)]
    for turn in range(3):
        met = await ledger.record(
            [
                decision(f"d{turn}-{place}", at(turn), customer=key, deferred=place % 2 == 0)
                for place, key in enumerate(keys)
            ],
            at(turn),
            [contact((await ledger.customer(key)).version) for key in keys],
        )
        assert None not in met
    await ledger.activate([activation(f"d1-{place}") for place in range(0, 100, 4)], at(DAY_US / 1e6 / 100))
    numbers = [(await ledger.customer(key)).number for key in keys]
    assert len(set(numbers)) == 100
    asked = [(OFFER, at(0).wall_us), (WEB, at(DAY_US / 1e6 / 100).wall_us)]
    shown_at_once, activated, waiting = [2, 0], [3, 2], [3, 3]
    assert [await reads.exposures(ledger, key, asked) for key in keys] == (
        25 * [activated, shown_at_once, waiting, shown_at_once]
    )
