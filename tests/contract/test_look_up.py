"""What every adapter promises of one look before decisions: all that was asked for, and nothing else.

What single answers mean is proved, through `reads.py`, where each of them is written.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from itertools import product
from random import Random

import pytest
from tests.builders import (
    CAMPAIGN,
    CUSTOMER,
    DAY_US,
    SOMEONE_ELSE,
    at,
    contact,
    decision,
    event,
    outcome,
    pause,
    profile,
)
from tests.contract.adapters import ADAPTERS, ignore_commit, make
from tests.contract.reads import counts, scopes_of

from tilbud.domain.customer.customer import (
    UNKNOWN_CUSTOMER,
    Happened,
    channel_scope,
    group_scope,
    offer_scope,
)
from tilbud.domain.decision.facts import NO_SCOPES, Facts, LookUp, Scopes
from tilbud.domain.decision.records import Repeat, payload_text
from tilbud.domain.limits import Limits

OFFER, WEB = offer_scope(CAMPAIGN, "ten-off"), channel_scope("web")
TODAY, OLDER, ERASED, STRANGER = (bytes([number]) * 16 for number in range(1, 5))
SHOWN = payload_text({"title": "by then"})
OF_CAMPAIGN = Scopes((WEB, OFFER), ((WEB, f"{WEB}\0"), (f"o:{CAMPAIGN}:", f"o:{CAMPAIGN};")))
WHOLE = LookUp(CAMPAIGN, "again", (CUSTOMER,), history=True, scopes=OF_CAMPAIGN, sticky=True, pending=True)


async def live(ledger):
    """Let something be known of everybody but STRANGER and TODAY."""
    for key, language in ((CUSTOMER, "da"), (OLDER, "de"), (ERASED, "da")):
        await ledger.update_customer(key, lambda _, said=language: profile(language=said), at())
    await record(ledger, "d1")
    await record(ledger, "d2", seconds=10, campaign="other", deferred=True)
    await record(ledger, "theirs", SOMEONE_ELSE, seconds=20)
    await record(ledger, "older", OLDER, seconds=30, campaign="other")
    await record(ledger, "erased", ERASED, seconds=30)
    await ledger.record([decision("nobody's", at(40))], at(40))
    await ledger.receive_events([event(now=at(5)), event("seen", now=at(6), customer=SOMEONE_ELSE)], at(50))
    await ledger.receive([outcome("d1"), outcome("theirs", "dismiss")], at(60))
    await ledger.repeat([Repeat(CAMPAIGN, "again", bytes(16), "d1", payload=SHOWN)], at(70))
    await ledger.erase(ERASED, at(80))
    await ledger.pause(pause(), at(90))
    await ledger.pause(pause(campaign="other", offer_id=""), at(90))


async def record(ledger, decision_id, key=CUSTOMER, seconds=0.0, **said):
    """Record a sticky decision of a customer, made on what is known of them now."""
    now, version = at(seconds), (await ledger.customer(key)).version
    met = contact(version, said.get("campaign", CAMPAIGN), sticky=True)
    assert await ledger.record([decision(decision_id, now, customer=key, **said)], now, [met]) != [None]


def in_order(facts):
    """Return what was told, with the times of exposures in order, in which they need not be."""
    return facts._replace(exposures={scope: sorted(times) for scope, times in facts.exposures.items()})


def every_question():
    """Return a look-up for each mix of what can be asked for."""
    keys = [(), (CUSTOMER,), (SOMEONE_ELSE,), (TODAY, OLDER), (ERASED,), (STRANGER,)]
    scopes = [NO_SCOPES, scopes_of([WEB]), OF_CAMPAIGN]
    stickies = [(False, False), (True, False), (True, True)]
    ids = ["", "d1", "again", "nobody's", "unknown"]
    return [
        LookUp(campaign, decision_id, of, history, under, sticky, pending)
        for campaign, decision_id, of, history, under, (sticky, pending) in product(
            (CAMPAIGN, "other", "unknown"), ids, keys, (False, True), scopes, stickies
        )
    ]


async def test_all_that_was_asked_for_is_told(ledger):
    """Pauses, the earlier decision as its repeat is answered, the customer, and what was met so far."""
    await live(ledger)
    d1 = decision("d1", customer=CUSTOMER)
    [facts] = await ledger.look_up([WHOLE])
    asked = [(WEB, at(-1).wall_us), (WEB, at(0).wall_us), (OFFER, at(-1).wall_us), (OFFER, at(0).wall_us)]
    assert counts(facts.exposures, asked) == [2, 1, 1, 0]
    assert facts._replace(exposures={}) == Facts(
        pauses=(pause(),),
        earlier=d1._replace(fingerprint=bytes(16), payload=SHOWN),
        key=CUSTOMER,
        customer=await ledger.customer(CUSTOMER),
        happened=Happened({"add_to_cart": at(5).wall_us}, {("ten-off", "click"): at(60).wall_us}),
        sticky=d1,
    )


@pytest.mark.parametrize(
    ("left_out", "untold"),
    [
        ("decision_id", {"earlier"}),
        ("keys", {"key", "customer", "happened", "exposures", "sticky"}),
        ("history", {"happened"}),
        ("scopes", {"exposures"}),
        ("sticky", {"sticky"}),
    ],
)
async def test_what_is_not_asked_for_is_not_told(ledger, left_out, untold):
    """It is as where nothing is known; all else is told as ever, and the pauses always are."""
    await live(ledger)
    asked = WHOLE._replace(**{left_out: LookUp._field_defaults[left_out]})
    nothing = Facts()._asdict()
    [whole, part] = await ledger.look_up([WHOLE, asked])
    assert in_order(part) == in_order(whole)._replace(**{name: nothing[name] for name in untold})
    assert not any(getattr(whole, name) == nothing[name] for name in untold)


async def test_no_exposures_are_told_but_in_the_ranges_asked_for(ledger):
    """A channel's are not a campaign's, nor another channel's, however alike their names begin."""
    await live(ledger)
    await record(ledger, "of-the-website", campaign="otherwise")
    named = ["c:we", "c:website", WEB, "o:other:", "o:otherwise:ten-off"]
    told = [
        set(facts.exposures)
        for facts in await ledger.look_up(
            [LookUp(CAMPAIGN, keys=(CUSTOMER,), scopes=scopes_of([name])) for name in named]
        )
    ]
    assert told == [set(), set(), {WEB}, set(), {"o:otherwise:ten-off"}]


async def test_many_questions_are_answered_as_each_alone(ledger):
    """Any number in one call, in any order, also the same ones twice; none at all is answered with none."""
    await live(ledger)
    questions = every_question()
    alone = {asked: in_order((await ledger.look_up([asked]))[0]) for asked in questions}
    shuffled = Random(12).sample(2 * questions, 2 * len(questions))
    start = 0
    for size in (0, 1, 2, 3, 63, 64, 65, 129, 200, len(shuffled)):
        some = shuffled[start : start + size]
        assert [in_order(facts) for facts in await ledger.look_up(some)] == [alone[asked] for asked in some]
        start += size
    assert start >= len(shuffled)


async def test_adapters_tell_the_same(tmp_path):
    """But for the customers' numbers, which are each adapter's own, and scopes that nobody named."""
    answers = []
    for adapter in ADAPTERS:
        ledger = make(adapter, tmp_path)
        await ledger.start(ignore_commit)
        await live(ledger)
        asked = every_question()
        answers.append(
            [
                facts._replace(
                    customer=replace(facts.customer, number=0),
                    exposures={
                        scope: sorted(times)
                        for scope, times in facts.exposures.items()
                        if scope in look.scopes.names
                    },
                )
                for look, facts in zip(asked, await ledger.look_up(asked), strict=True)
            ]
        )
        await ledger.close()
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("known", "key"),
    [((), TODAY), ((TODAY,), TODAY), ((OLDER,), OLDER), ((TODAY, OLDER), TODAY)],
    ids=["neither", "today's", "the older", "both"],
)
@pytest.mark.parametrize("erased", [False, True])
async def test_an_older_key_is_used_only_where_it_alone_is_known(ledger, known, key, erased):
    """A tombstone is known too; all that is told is of the key that is used."""
    for each in known:
        await record(ledger, f"d{each[0]}", each)
        if erased:
            await ledger.erase(each, at(1))
    asked = WHOLE._replace(decision_id="", keys=(TODAY, OLDER))
    both, alone = await ledger.look_up([asked, asked._replace(keys=(key,))])
    assert both == alone
    assert (both.key, both.customer) == (key, await ledger.customer(key))
    assert (both.customer != UNKNOWN_CUSTOMER, both.customer.erased) == (bool(known), bool(known) and erased)
    assert both.sticky == (decision(f"d{key[0]}", customer=key) if known and not erased else None)


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("often", [1, 255, 256, 257, 700])
async def test_who_is_met_often_is_counted_right_under_every_scope(adapter, often, tmp_path):
    """As far as a cap can go, however many there are, and none that are too old for any, nor unasked for."""
    limits = replace(Limits(), cap_times_max=7)
    ledger = make(adapter, tmp_path, limits)
    await ledger.start(ignore_commit)
    offers = [offer_scope(CAMPAIGN, f"offer-{number}") for number in range(10)]
    group, elsewhere = group_scope(CAMPAIGN, "best"), offer_scope(f"{CAMPAIGN}-2", "offer-1")
    shown: dict[str, list[int]] = {scope: [] for scope in (*offers, group, elsewhere)}
    for start in range(0, often, 50):
        now, numbers = at(start), range(start, min(start + 50, often))
        scopes = [
            (offers[0] if number % 3 else offers[number % 4 + 1], group if number == 9 else elsewhere)
            for number in numbers
        ]
        made = [decision(f"d{number}", now, customer=CUSTOMER) for number in numbers]
        version = (await ledger.customer(CUSTOMER)).version
        met = [contact(version, scopes=each, counted=False) for each in scopes]
        assert None not in await ledger.record(made, now, met)
        for each in scopes:
            for scope in each:
                shown[scope].append(now.wall_us)
    seldom = contact(scopes=(offers[1],))
    await ledger.record([decision("theirs", customer=SOMEONE_ELSE)], at(), [seldom])

    below = f"o:{CAMPAIGN}:"
    named = (*offers[1:8], group)
    asked = Scopes(named, ((group, f"{group}\0"), (below, f"{below[:-1]};")))
    looks = [LookUp(CAMPAIGN, keys=(key,), scopes=asked) for key in (CUSTOMER, SOMEONE_ELSE, CUSTOMER)]
    mine, theirs, again = [facts.exposures for facts in await ledger.look_up(looks)]
    lookups = [(scope, at(since_s).wall_us) for scope in named for since_s in (-1, *range(0, often, 50))]
    expected = [sum(time_us > since_us for time_us in shown[scope]) for scope, since_us in lookups]
    for told in (mine, again):
        assert [min(7, count) for count in counts(told, lookups)] == [min(7, count) for count in expected]
        assert elsewhere not in told
    assert {scope: len(times) for scope, times in theirs.items() if times} == {offers[1]: 1}

    half_us = at(often // 2).wall_us
    [later] = await ledger.look_up([looks[0]._replace(exposed_after_us=half_us)])
    assert all(time_us > half_us for times in later.exposures.values() for time_us in times)
    since_half = [(scope, half_us) for scope in named]
    assert [min(7, count) for count in counts(later.exposures, since_half)] == [
        min(7, count) for count in counts(mine, since_half)
    ]
    await ledger.close()


async def test_a_look_up_is_of_one_moment(ledger):
    """While decisions are recorded, what is told of a customer fits together, in every place of a call."""
    await record(ledger, "d0")
    first = (await ledger.customer(CUSTOMER)).version

    async def meet():
        for number in range(1, 30):
            await record(ledger, f"d{number}")
            await asyncio.sleep(0)  # the ledger in memory gives way to nobody

    meeting = asyncio.create_task(meet())
    look = WHOLE._replace(decision_id="")
    seen = set()
    while not meeting.done():
        for facts in await ledger.look_up(5 * [look]):
            recorded = facts.customer.version - first
            assert {scope: len(times) for scope, times in facts.exposures.items()} == {
                OFFER: recorded + 1, WEB: recorded + 1,
            }  # fmt: skip
            assert facts.sticky.decision_id == f"d{recorded}"
            seen.add(recorded)
        await asyncio.sleep(0)
    await meeting
    assert len(seen) > 1


async def test_a_look_up_sees_what_was_acknowledged_before_it(ledger):
    """A decision, a profile, a pause, an event, an erasure: each with the very next question."""
    look = WHOLE._replace(decision_id="d1")

    async def told():
        [facts] = await ledger.look_up([look])
        return facts

    assert await told() == Facts(key=CUSTOMER)
    await record(ledger, "d1")
    assert (await told()).earlier == (await told()).sticky == decision("d1", customer=CUSTOMER)
    stored = await ledger.update_customer(CUSTOMER, lambda _: profile(), at(1))
    assert (await told()).customer.profile == stored
    await ledger.pause(pause(), at(2))
    assert (await told()).pauses == (pause(),)
    await ledger.resume(CAMPAIGN, "ten-off", at(3))
    assert (await told()).pauses == ()
    await ledger.receive_events([event()], at(DAY_US / 1e6))
    assert (await told()).happened.events == {"add_to_cart": at().wall_us}
    await ledger.erase(CUSTOMER, at(DAY_US / 1e6))
    assert await told() == Facts(key=CUSTOMER, customer=await ledger.customer(CUSTOMER))


def test_a_ledger_in_memory_needs_no_sqlite():
    """What it shares with the one in a file is plain Python."""
    told = "import sys, tilbud.ledger.memory.adapter; print('sqlite3' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
