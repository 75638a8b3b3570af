"""The adapters answer alike: whatever happens, in whatever order, SQLite and memory say the same.

What holds: places in the order of recording, and customers' numbers, are each adapter's own; all else
that they answer, or let read, is equal.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import (
    CAMPAIGN,
    CUSTOMER,
    DAY_US,
    RULES,
    SOMEONE_ELSE,
    activation,
    at,
    contact,
    decision,
    event,
    outcome,
    pause,
    profile,
    rules,
    settle_due,
)
from tests.contract import reads
from tests.contract.adapters import ADAPTERS, Adapter, make

from tilbud.domain.clock import Now
from tilbud.domain.context import Consent
from tilbud.domain.customer.customer import ANONYMOUS, channel_scope, offer_scope
from tilbud.domain.decision.records import NO_RULES, ExposureEffect, Repeat
from tilbud.domain.errors import TilbudError
from tilbud.domain.limits import Limits

LIMITS = Limits(
    cap_times_max=3, customer_events_max=2, exposures_kept_s=1.5 * 86_400, campaign_away_max_s=3_000.0
)
OWN_RULES = rules(window_us=600_000_000, ends_now=frozenset({"dismiss"})).text()
KEYS = (CUSTOMER, SOMEONE_ELSE)
WHO = st.sampled_from(KEYS)
CAMPAIGNS = (CAMPAIGN, "other")
WHERE = st.sampled_from(CAMPAIGNS)
IDS = st.sampled_from(["d1", "d2", "d3", "d4", "d5"])
NAMES = st.sampled_from(["click", "purchase", "dismiss", "undeclared"])
SECONDS = st.sampled_from([0, 1, 5, 600, 1_795, 1_800, 1_805, 1_810, 3_600, 3_605, 3_610, 100_000])
TIMES = st.none() | st.integers(-10, 8_000)
FINAL = frozenset({"purchase"})

# A decision: its id, deferred, drawn, whose, how stale the contact is, sticky.
MADE = st.tuples(
    IDS,
    st.booleans(),
    st.integers(0, 2),
    st.none() | WHO,
    st.sampled_from([0, 0, 0, 1]),
    st.booleans(),
)
OUTCOMES = st.tuples(
    IDS,
    NAMES,
    st.sampled_from(["", "e1", "e2"]),
    st.sampled_from([1.0, -2.5, 0.1]),
    TIMES,
    st.booleans(),
)
EVENTS = st.tuples(
    WHO,
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["e1", "e2", "e3", "e4"]),
    st.integers(-10, 8_000),
    st.sampled_from(Consent),
)
PAUSABLE = st.sampled_from(["", "bundle"])
SHOWN = st.tuples(IDS, st.sampled_from(["", "bundle", "ten-off"]), st.booleans())
REPEATED = IDS | st.sampled_from(["", "d5", "d6"])
SCOPES = st.sampled_from([(channel_scope("web"),), ()])
LATER_S = 100 * DAY_US / 1e6
SINCE_S = (-1, 0, 1_800, LATER_S)


async def record(ledger: Adapter, said: Any, now: Now) -> object:
    """Record decisions; those of customers on the version they have, or an older one."""
    campaign, made = said
    contacts = [
        None
        if key is None
        else contact(max((await ledger.customer(key)).version - stale, 0), campaign, sticky=sticky)
        for _, _, _, key, stale, sticky in made
    ]
    decisions = [
        decision(
            each,
            now,
            campaign=campaign,
            deferred=deferred,
            drawn=drawn,
            customer=key or ANONYMOUS,
            variant_share=0.95,
            split="customer" if key else "decision",
            rules=OWN_RULES if drawn else NO_RULES,
        )
        for each, deferred, drawn, key, _, _ in made
    ]
    return await ledger.record(decisions, now, contacts)


async def receive(ledger: Adapter, said: Any, now: Now) -> object:
    """Report outcomes."""
    campaign, outcomes = said
    reported = [
        outcome(
            each,
            name,
            campaign=campaign,
            event_id=event_id,
            value=value,
            occurred_us=None if occurred_s is None else at(occurred_s).wall_us,
            ends_now=at_once and name in FINAL,
        )
        for each, name, event_id, value, occurred_s, at_once in outcomes
    ]
    return [told(met) for met in await ledger.receive(reported, now)]


async def activate(ledger: Adapter, said: Any, now: Now) -> object:
    """Activate decisions, or void them."""
    campaign, shown = said
    activations = [
        activation(each, campaign=campaign, shown_offer_id=offer, ends_now=FINAL if at_once else frozenset())
        for each, offer, at_once in shown
    ]
    return [told(answer) for answer in await ledger.activate(activations, now)]


async def settle(ledger: Adapter, said: Any, now: Now) -> object:
    """Settle some of what is due."""
    campaign, limit = said
    return await settle_due(ledger, campaign, RULES, limit, now)


async def serve(ledger: Adapter, said: Any, now: Now) -> object:
    """Take campaigns away, and bring others back."""
    await ledger.serve(said, now)
    return None


async def purge(ledger: Adapter, said: Any, now: Now) -> object:
    """Remove old decisions, long after."""
    campaign, keep_after, before_s, limit = said
    return await ledger.purge(campaign, at(before_s).wall_us, keep_after, limit, at(LATER_S))


async def repeat(ledger: Adapter, said: Any, now: Now) -> object:
    """Let ids stand for others."""
    campaign, repeats = said
    known = (await ledger.customer(CUSTOMER)).version
    return await ledger.repeat(
        [
            Repeat(
                campaign,
                each,
                bytes(16),
                other,
                None if scopes is None else ExposureEffect(known + late, scopes, sticky=True),
            )
            for each, other, scopes, late in repeats
        ],
        now,
    )


async def receive_events(ledger: Adapter, said: Any, now: Now) -> object:
    """Report customer events."""
    events = [
        event(name, event_id, at(occurred_s), customer=key, consent=consent)
        for key, name, event_id, occurred_s, consent in said
    ]
    return [told(met) for met in await ledger.receive_events(events, now)]


async def update(ledger: Adapter, said: Any, now: Now) -> object:
    """Change a profile."""
    key, consent = said
    try:
        return await ledger.update_customer(key, lambda _: profile(consent=consent), now)
    except TilbudError as error:
        return told(error)


async def erase(ledger: Adapter, said: Any, now: Now) -> object:
    """Erase a customer."""
    return await ledger.erase(said, now)


async def purge_customers(ledger: Adapter, said: Any, now: Now) -> object:
    """Remove old rows of customers, long after."""
    events_s, exposures_s, limit = said
    return await ledger.purge_customers(at(events_s).wall_us, at(exposures_s).wall_us, limit, at(LATER_S))


async def set_pause(ledger: Adapter, said: Any, now: Now) -> object:
    """Pause an offer or a campaign."""
    campaign, offer_id, until_s = said
    until_us = None if until_s is None else at(until_s).wall_us
    await ledger.pause(
        pause(campaign=campaign, offer_id=offer_id, since_us=now.wall_us, until_us=until_us), now
    )
    return None


async def end_pause(ledger: Adapter, said: Any, now: Now) -> object:
    """Resume it."""
    campaign, offer_id = said
    return await ledger.resume(campaign, offer_id, now)


STEPS = st.one_of(
    st.tuples(st.just(record), st.tuples(WHERE, st.lists(MADE, max_size=4))),
    st.tuples(st.just(record), st.tuples(WHERE, st.lists(MADE, max_size=4))),
    st.tuples(st.just(receive), st.tuples(WHERE, st.lists(OUTCOMES, max_size=5))),
    st.tuples(st.just(activate), st.tuples(WHERE, st.lists(SHOWN, max_size=3))),
    st.tuples(st.just(settle), st.tuples(WHERE, st.integers(1, 3))),
    st.tuples(st.just(serve), st.sets(WHERE)),
    st.tuples(st.just(purge), st.tuples(WHERE, st.integers(0, 4), st.integers(0, 8_000), st.integers(1, 3))),
    st.tuples(
        st.just(repeat),
        st.tuples(
            WHERE,
            st.lists(st.tuples(REPEATED, IDS, st.none() | SCOPES, st.sampled_from([0, 0, 0, 1])), max_size=3),
        ),
    ),
    st.tuples(st.just(receive_events), st.lists(EVENTS, max_size=4)),
    st.tuples(st.just(update), st.tuples(WHO, st.sampled_from(Consent))),
    st.tuples(st.just(erase), WHO),
    st.tuples(
        st.just(purge_customers), st.tuples(st.integers(0, 8_000), st.integers(0, 8_000), st.integers(1, 4))
    ),
    st.tuples(st.just(set_pause), st.tuples(WHERE, PAUSABLE, TIMES)),
    st.tuples(st.just(end_pause), st.tuples(WHERE, PAUSABLE)),
)


def told(answer: object) -> object:
    """Return an answer, or what an error says, so that they can be compared."""
    return (type(answer), str(answer)) if isinstance(answer, TilbudError) else answer


async def seen(ledger: Adapter) -> object:
    """Return all that reads can see."""
    return (
        [await seen_of_campaign(ledger, campaign) for campaign in CAMPAIGNS],
        [await seen_of_customer(ledger, key) for key in KEYS],
        await ledger.campaigns(),
        await ledger.every_pause(),
    )


async def seen_of_campaign(ledger: Adapter, campaign: str) -> object:
    """Return what can be read of a campaign."""
    return (
        [await ledger.find(campaign, each) for each in ("d1", "d2", "d3", "d4", "d5", "d6")],
        await ledger.settlements(campaign, 0, 100),
        await ledger.sequences(campaign),
        await reads.drawn(ledger, campaign),
        await ledger.pending(campaign),
        await ledger.standings(),
        await ledger.clocks(campaign, at(LATER_S)),
        await ledger.oldest_due_service_us(campaign),
        await ledger.erasures(campaign),
        await ledger.pauses(campaign),
    )


async def seen_of_customer(ledger: Adapter, key: bytes) -> object:
    """Return what can be read of a customer."""
    known = await ledger.customer(key)
    scopes = [channel_scope("web"), *(offer_scope(campaign, "ten-off") for campaign in CAMPAIGNS)]
    asked = [(scope, at(since).wall_us) for scope in scopes for since in SINCE_S]
    exported: list[object] = []
    after = ""
    while True:
        page = await reads.export(ledger, key, after, 3, 10_000)
        exported += page.rows
        after = page.more
        if not after:
            break
    return (
        replace(known, number=0),
        [await reads.happened(ledger, key, campaign) for campaign in CAMPAIGNS],
        [
            await reads.last_sticky(ledger, key, campaign, pending=pending)
            for campaign in CAMPAIGNS
            for pending in (True, False)
        ],
        await reads.exposures(ledger, key, asked, LIMITS),
        exported,
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(STEPS, SECONDS), max_size=25))
def test_twins(story):
    """Every answer of every step is the same, and so is all there is to see after it."""

    async def live(directory: Path) -> None:
        twins = [make(adapter, directory, LIMITS) for adapter in ADAPTERS]
        for twin in twins:
            await twin.start(lambda _seconds, _rows: None)
        try:
            seconds = 0
            for (take, said), passed_s in story:
                seconds += passed_s
                in_memory, in_sqlite = [await take(twin, said, at(seconds)) for twin in twins]
                assert in_memory == in_sqlite
                assert await seen(twins[0]) == await seen(twins[1])
        finally:
            for twin in twins:
                await twin.close()

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(live(Path(directory)))
