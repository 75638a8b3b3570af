"""What every adapter promises about a customer's rights: everything is told, and everything goes."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from tests.builders import (
    CAMPAIGN,
    CUSTOMER,
    GRACE_US,
    OFFERS,
    RULES,
    SOMEONE_ELSE,
    WINDOW_US,
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
from tests.contract.adapters import Adapter, ignore_commit, make

from tilbud.domain.customer.customer import NO_PROFILE, NOTHING_HAPPENED, Trait, channel_scope
from tilbud.domain.decision.records import NO_OFFERS, InternedText, Repeat, payload_text
from tilbud.domain.errors import InvalidField
from tilbud.ledger.answers import Erased, ExportPage, Settled
from tilbud.ledger.export import KINDS

DUE_S = (WINDOW_US + GRACE_US) / 1e6
AGES_S = 100 * 86_400
WEB = channel_scope("web")


async def live(ledger: Adapter) -> None:
    """Let CUSTOMER have some of everything, among others: two settled decisions and an open one."""
    await ledger.update_customer(CUSTOMER, lambda _: profile(), at())
    await ledger.receive_events(
        [event(), event("purchase", "e2", at(1)), event(customer=SOMEONE_ELSE)], at(1)
    )
    of: dict[str, Any] = {
        "customer": CUSTOMER,
        "context": '{"place":"søen"}',
        "dropped": InternedText.of('{"age":"no consent"}'),
    }
    mine = [
        decision("d1", **of, removed=InternedText.of('{"bundle":"caps"}'), features="|Context secret=søen"),
        decision("d2", at(1), campaign="other", **of),
        decision("d3", at(2), deferred=True, **of),
    ]
    for made, sticky in zip(mine, (False, True, True), strict=True):
        version = (await ledger.customer(CUSTOMER)).version
        met = await ledger.record([made], at(2), [contact(version, made.campaign, sticky=sticky)])
        assert met == [made]
    theirs = decision("theirs", at(2), customer=SOMEONE_ELSE)
    version = (await ledger.customer(SOMEONE_ELSE)).version
    await ledger.record([theirs, decision("nobody's", at(2))], at(2), [contact(version), None])
    await ledger.repeat([Repeat(CAMPAIGN, "again", bytes(16), "d3")], at(3))
    await ledger.receive([outcome("d1", event_id="o1"), outcome("d3", "purchase"), outcome("theirs")], at(3))
    for campaign in (CAMPAIGN, "other"):
        await settle_due(ledger, campaign, RULES, 10, at(5 + DUE_S))


async def exported(ledger, key=CUSTOMER, limit=1_000, bytes_max=10**9):
    """Return every row, page by page, and how long the pages were."""
    rows: list[Any] = []
    lengths, after = [], ""
    while True:
        page = await reads.export(ledger, key, after, limit, bytes_max)
        rows += page.rows
        lengths.append(len(page.rows))
        if not page.more:
            return rows, lengths
        after = page.more


async def test_an_export_tells_which_traits_were_removed(ledger):
    """What keeps older messages out is kept about the customer, so it is told."""
    removed = profile(removed_traits={"age": at(1).wall_us}, traits_cleared_us=at().wall_us)
    await ledger.update_customer(CUSTOMER, lambda _: removed, at(2))
    [[row], _] = await exported(ledger)
    assert row["removed_traits"] == {"age": "2026-09-21T14:13:21Z"}
    assert row["traits_cleared_time"] == "2026-09-21T14:13:20Z"


async def test_an_export_tells_everything(ledger):
    """Each row of the customer, in the order of kinds, in words and times that a person can read."""
    await live(ledger)
    rows, lengths = await exported(ledger)
    assert lengths == [len(rows)]
    assert [row["kind"] for row in rows] == (
        ["customer"] + 2 * ["event"] + 6 * ["last"] + 6 * ["exposure"] + 3 * ["decision"] + 2 * ["outcome"]
        + 2 * ["settlement"] + ["repeat"]
    )  # fmt: skip
    assert json.loads(json.dumps(rows)) == rows
    customer, first, *_ = rows
    assert customer["traits"]["loyalty_tier"] == {"value": "gold", "update_time": "2026-09-21T14:13:10Z"}
    assert customer["preferences"]["quiet_hours"] == "21:00-08:00"
    assert customer["preferences"]["blocked_topics"] == ["alcohol", "tobacco"]
    assert (customer["consent"], customer["erased"]) == ("GRANTED", False)
    assert first == {
        "kind": "event", "event": "add_to_cart", "event_id": "e1", "time": "2026-09-21T14:13:20Z",
    }  # fmt: skip
    decisions = [row for row in rows if row["kind"] == "decision"]
    assert [(row["campaign"], row["decision_id"], row["state"]) for row in decisions] == [
        (CAMPAIGN, "d1", "SETTLED"),
        ("other", "d2", "SETTLED"),
        (CAMPAIGN, "d3", "PENDING"),
    ]
    made = decisions[0]
    assert made["context"] == {"place": "søen"}
    assert made["eligible"][1] == {"offer": "ten-off", "probability": 0.7000000000000001}
    assert (made["removed"], made["dropped"]) == ({"bundle": "caps"}, {"age": "no consent"})
    assert (made["payload"], made["variant"], made["reason"]) == (
        {"title": "Offer 1"},
        "personalized",
        "PERSONALIZED",
    )
    outcomes = [row for row in rows if row["kind"] == "outcome"]
    assert [(row["outcome"], row["event_id"], row["status"]) for row in outcomes] == [
        ("click", "o1", "ACCEPTED"),
        ("purchase", "", "HELD"),
    ]
    settled = [row for row in rows if row["kind"] == "settlement"]
    assert [(row["campaign"], row["sequence"], row["reward"]) for row in settled] == [
        (CAMPAIGN, 1, 0.1),
        ("other", 1, 0.0),
    ]
    assert rows[-1] == {"kind": "repeat", "campaign": CAMPAIGN, "decision_id": "again", "stands_for": "d3"}


@pytest.mark.parametrize(
    ("limit", "bytes_max"), [(1, 10**9), (2, 10**9), (5, 10**9), (1_000, 1), (1_000, 900)]
)
async def test_an_export_comes_in_pages(ledger, limit, bytes_max):
    """Page by page the same rows come, in the same order, none twice; a row too large comes alone."""
    await live(ledger)
    everything, _ = await exported(ledger)
    rows, lengths = await exported(ledger, limit=limit, bytes_max=bytes_max)
    assert rows == everything
    assert len(lengths) > 1
    assert min(lengths) >= 1
    assert max(lengths) <= limit
    if bytes_max == 1:
        assert set(lengths) == {1}


@pytest.mark.parametrize(
    "token",
    [
        "customer", "decision:", "decision:[]", 'decision:["1"]', "decision:[1,2]", "decision:[-1]", "x:[]",
        "decision:[1.0]", "decision:[true]", 'last:["\\ud800"]', "last:[1]", f"event:[{2**63}]",
        "[" * 100_000, "event:" + "[" * 100_000, "event:{}", "event:null", "event:5", "\ud800", "event:[NaN]",
        "decision:[1]x", "AAAA", "=", 64 * "A", 10_000 * "A",
    ],
)  # fmt: skip
async def test_a_token_of_ones_own_making_is_refused(ledger, token):
    """It is the caller's mistake, told as such."""
    with pytest.raises(InvalidField) as refused:
        await reads.export(ledger, CUSTOMER, token, 10, 1_000)
    assert refused.value.field == "page_token"


async def tokens(ledger: Adapter) -> list[str]:
    """Return what each page of one row says about where the next one begins."""
    more = [(await reads.export(ledger, CUSTOMER, "", 1, 10**6)).more]
    while more[-1]:
        more.append((await reads.export(ledger, CUSTOMER, more[-1], 1, 10**6)).more)
    return more[:-1]


async def test_a_token_tells_its_reader_nothing(ledger):
    """Neither kinds, nor ids, nor numbers of rows can be read in it, not even by its length."""
    await live(ledger)
    given = await tokens(ledger)
    assert len(set(given)) == len(given) == len((await exported(ledger))[0]) - 1
    for token in given:
        written = base64.urlsafe_b64decode(token)
        assert not any(word.encode() in written for word in (*KINDS, CAMPAIGN, "again"))
    assert len({len(token) for token in given[:3]}) == 1


async def test_a_token_is_good_for_its_own_ledger_alone(ledger, request, tmp_path):
    """Another ledger's is refused, and so is one of which a character was changed, lost or put in."""
    await live(ledger)
    [token, *_] = await tokens(ledger)
    other = make(request.node.callspec.params["ledger"], tmp_path / "other")
    (tmp_path / "other").mkdir()
    await other.start(ignore_commit)
    await live(other)
    changed = [
        f"{token[:at]}{'A' if token[at] != 'A' else 'B'}{token[at + 1 :]}" for at in range(len(token) - 4)
    ]
    of_ledger = [(other, token), *((ledger, forged) for forged in (*changed, token[:-4], f"AAAA{token}"))]
    for asked, forged in of_ledger:
        with pytest.raises(InvalidField, match="none that an earlier page gave"):
            await reads.export(asked, CUSTOMER, forged, 10, 1_000)
    await other.close()


async def test_of_a_stranger_there_is_nothing_to_export(ledger):
    """No rows, and no page after them."""
    await live(ledger)
    assert await reads.export(ledger, bytes(16), "", 10, 1_000) == ExportPage((), "")


async def test_an_erased_customer_is_nowhere_to_be_found(ledger):
    """No decision, event, exposure, repeat or outcome is left; as many rows went as an export had told."""
    await live(ledger)
    told = len((await exported(ledger))[0])
    erased = await ledger.erase(CUSTOMER, at(DUE_S + 9))
    assert erased == Erased(told, (CAMPAIGN, "other"))
    assert [await ledger.find(CAMPAIGN, each) for each in ("d1", "d3", "again")] == 3 * [None]
    assert await ledger.find("other", "d2") is None
    for campaign in (CAMPAIGN, "other"):
        assert await reads.happened(ledger, CUSTOMER, campaign) == NOTHING_HAPPENED
        assert await reads.last_sticky(ledger, CUSTOMER, campaign) is None
    assert await reads.exposures(ledger, CUSTOMER, [(WEB, 0)]) == [0]
    assert (await ledger.customer(CUSTOMER)).profile == NO_PROFILE
    assert (await ledger.customer(CUSTOMER)).erased
    [row] = (await exported(ledger))[0]
    assert row == {"kind": "customer", "erased": True, "erase_time": "2026-09-21T14:43:39Z"}


async def test_what_is_not_theirs_stays(ledger):
    """Other customers' and anonymous decisions, their events, and what they are learned from."""
    await live(ledger)
    others, theirs = await ledger.settlements(CAMPAIGN, 1, 10), await exported(ledger, SOMEONE_ELSE)
    await ledger.erase(CUSTOMER, at(DUE_S + 9))
    assert await ledger.settlements(CAMPAIGN, 1, 10) == others
    assert [each.decision_id for each in others] == ["theirs", "nobody's"]
    assert await exported(ledger, SOMEONE_ELSE) == theirs
    assert await ledger.find(CAMPAIGN, "theirs") is not None


async def test_an_erased_settlement_keeps_its_place_and_nothing_else(ledger):
    """The order has no gaps; each campaign that had learned counts one erasure; open decisions are gone."""
    await live(ledger)
    assert (await ledger.erasures(CAMPAIGN), await ledger.pending(CAMPAIGN)) == (0, 1)
    await ledger.erase(CUSTOMER, at(DUE_S + 9))
    erased, *_ = await ledger.settlements(CAMPAIGN, 0, 10)
    named = (
        erased.campaign, erased.sequence, erased.decision_id, erased.variant, erased.offer_id, erased.device,
        erased.channel, erased.journey_stage, erased.features,
    )  # fmt: skip
    assert named == (CAMPAIGN, 1, "", "", "", "", "", "", "")
    assert (erased.offers, erased.drawn, erased.probability) == (NO_OFFERS, -1, 1.0)
    assert (erased.reward, erased.clipped, erased.due_service_us, erased.settled_us) == (0.0, False, 0, 0)
    assert [await ledger.sequences(campaign) for campaign in (CAMPAIGN, "other")] == [(1, 3), (1, 1)]
    assert [await ledger.erasures(campaign) for campaign in (CAMPAIGN, "other", "unknown")] == [1, 1, 0]
    assert [await ledger.pending(campaign) for campaign in (CAMPAIGN, "other")] == [0, 0]
    assert await settle_due(ledger, CAMPAIGN, RULES, 10, at(9 * DUE_S)) == Settled(0, 0, more=False)


async def test_erasing_again_changes_no_model(ledger):
    """It is safe: nothing is removed, no campaign named, and the tombstone stays."""
    await live(ledger)
    await ledger.erase(CUSTOMER, at(DUE_S + 9))
    assert await ledger.erase(CUSTOMER, at(DUE_S + 10)) == Erased(0, ())
    assert await ledger.erasures(CAMPAIGN) == 1
    assert (await ledger.customer(CUSTOMER)).erased


async def test_someone_unknown_gets_a_tombstone_too(ledger):
    """Who was decided for in the meantime is decided for again, as an erased customer."""
    assert await ledger.erase(CUSTOMER, at()) == Erased(0, (), stranger=True)
    assert await ledger.erase(CUSTOMER, at()) == Erased(0, ())
    assert (await ledger.customer(CUSTOMER)).erased
    for version in (0, (await ledger.customer(CUSTOMER)).version):
        assert await ledger.record([decision("d1", customer=CUSTOMER)], at(), [contact(version)]) == [None]


async def test_a_decision_in_flight_is_stale_after_an_erasure(ledger):
    """What was decided before is not stored after it, nor after the customer came back."""
    await live(ledger)
    in_flight, version = decision("d9", customer=CUSTOMER), (await ledger.customer(CUSTOMER)).version
    await ledger.erase(CUSTOMER, at(1))
    assert await ledger.record([in_flight], at(2), [contact(version)]) == [None]
    await ledger.update_customer(CUSTOMER, lambda _: profile(), at(3))
    assert await ledger.record([in_flight], at(4), [contact(version)]) == [None]
    assert await ledger.find(CAMPAIGN, "d9") is None


async def test_what_was_learned_of_purged_decisions_is_named_too(ledger):
    """The rows are gone, but the model had learned them: each campaign counts one erasure, and only once."""
    await live(ledger)
    later = at(AGES_S)
    for campaign in (CAMPAIGN, "other"):
        await settle_due(ledger, campaign, RULES, 10, later)
        await ledger.purge(campaign, later.wall_us, 9, 10, later)
    version = (await ledger.customer(CUSTOMER)).version
    unlearned = decision("d9", later, campaign="new", customer=CUSTOMER)
    await ledger.record([unlearned], later, [contact(version, "new")])
    assert (await ledger.erase(CUSTOMER, later)).campaigns == (CAMPAIGN, "other")
    assert [await ledger.erasures(campaign) for campaign in (CAMPAIGN, "other", "new")] == [1, 1, 0]
    assert (await ledger.erase(CUSTOMER, later)).campaigns == ()
    assert (await ledger.erase(SOMEONE_ELSE, later)).campaigns == (CAMPAIGN,)
    assert [await ledger.erasures(campaign) for campaign in (CAMPAIGN, "other")] == [2, 1]


async def test_a_campaign_that_learned_old_and_new_counts_one_erasure(ledger):
    """However much of it is purged and however much is not."""
    await live(ledger)
    later = at(AGES_S)
    assert await ledger.purge(CAMPAIGN, later.wall_us, 1, 1, later) == 1
    version = (await ledger.customer(CUSTOMER)).version
    await ledger.record([decision("d9", later, customer=CUSTOMER)], later, [contact(version)])
    await settle_due(ledger, CAMPAIGN, RULES, 10, at(AGES_S + DUE_S))
    assert (await ledger.erase(CUSTOMER, later)).campaigns == (CAMPAIGN, "other")
    assert await ledger.erasures(CAMPAIGN) == 1


async def test_an_exposure_tells_when_or_that_it_is_reserved(ledger):
    """One that waits for its activation has no time yet."""
    for decision_id, deferred in (("d1", True), ("d2", False)):
        version = (await ledger.customer(CUSTOMER)).version
        made = decision(decision_id, deferred=deferred, customer=CUSTOMER)
        await ledger.record([made], at(), [contact(version, scopes=(WEB,))])
    rows, _ = await exported(ledger)
    assert [row for row in rows if row["kind"] == "exposure"] == [
        {"kind": "exposure", "scope": WEB, "reserved": True},
        {"kind": "exposure", "scope": WEB, "time": "2026-09-21T14:13:20Z"},
    ]


async def test_a_fallbacks_settlement_is_erased_too(ledger):
    """It taught nothing, but it tells of the customer."""
    await ledger.record([fallback("f1", customer=CUSTOMER)], at(), [contact(scopes=())])
    await settle_due(ledger, CAMPAIGN, RULES, 10, at(DUE_S))
    assert (await ledger.erase(CUSTOMER, at(DUE_S))).campaigns == (CAMPAIGN,)
    assert (await ledger.settlements(CAMPAIGN, 0, 10))[0].decision_id == ""
    assert (await ledger.standings())[CAMPAIGN].erasures == await ledger.erasures(CAMPAIGN) == 1


async def test_purge_goes_past_erased_settlements(ledger):
    """They are as old as any; those a checkpoint needs stay; sequences go on without gaps."""
    await live(ledger)
    await ledger.erase(CUSTOMER, at(DUE_S + 9))
    later = at(AGES_S)
    assert await ledger.purge(CAMPAIGN, later.wall_us, 0, 10, later) == 0
    assert await ledger.purge(CAMPAIGN, at(1).wall_us, 9, 10, later) == 1
    assert await ledger.sequences(CAMPAIGN) == (2, 3)
    assert await ledger.purge(CAMPAIGN, later.wall_us, 9, 10, later) == 2
    assert await ledger.purge("other", later.wall_us, 9, 10, later) == 1
    assert await ledger.sequences("other") == (2, 1)


async def test_an_id_is_free_after_an_erasure(ledger):
    """A new decision under it is a new one, with nothing of the old, also in the order of recording."""
    await live(ledger)
    await ledger.erase(CUSTOMER, at(DUE_S + 9))
    new = decision("d3", at(AGES_S), payload=payload_text({"title": "new"}), offers=replace(OFFERS))
    assert await ledger.record([new], at(AGES_S)) == [new]
    assert await ledger.find(CAMPAIGN, "d3") == new
    assert (await reads.drawn(ledger))[-1] == new
    await settle_due(ledger, CAMPAIGN, RULES, 10, at(AGES_S + DUE_S))
    assert (await ledger.settlements(CAMPAIGN, 3, 10))[0].reward == 0.0


async def test_many_decisions_are_erased_at_once(ledger):
    """Also of a customer with a long history among others' of the same time."""
    for number in range(100):
        version = (await ledger.customer(CUSTOMER)).version
        await ledger.record(
            [decision(f"d{number}", customer=CUSTOMER), decision(f"a{number}")],
            at(),
            [contact(version), None],
        )
    await ledger.update_customer(CUSTOMER, lambda _: profile(traits={"t": Trait("x", 0)}), at())
    await settle_due(ledger, CAMPAIGN, RULES, 150, at(DUE_S))
    assert (await ledger.erase(CUSTOMER, at(DUE_S))).rows == 1 + 100 + 200 + 75
    left = [each.decision_id for each in await ledger.settlements(CAMPAIGN, 0, 1_000)]
    assert left == [each for number in range(75) for each in ("", f"a{number}")]
    assert await ledger.pending(CAMPAIGN) == 25
