"""What only a file can promise about customers: what it survives, and that what is erased is gone from it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from tests.builders import (
    CAMPAIGN,
    CUSTOMER,
    RULES,
    WINDOW_US,
    at,
    contact,
    decision,
    event,
    outcome,
    pause,
    profile,
    settle_due,
)
from tests.contract import reads
from tests.unit.ledger.sqlite.opened import CHILD, ignore_commit, make

from tilbud.domain.customer.customer import Customer, Trait, channel_scope
from tilbud.domain.decision.records import Repeat
from tilbud.domain.errors import LedgerInvalid
from tilbud.domain.limits import Limits
from tilbud.ledger import export
from tilbud.ledger.sqlite.adapter import SqliteLedger
from tilbud.ledger.sqlite.schema import connect

DUE_S = WINDOW_US / 1e6 + 10
AGES_S = 100 * 86_400


async def test_customers_survive_a_restart(path):
    """Profile, exposures, what happened, the sticky decision, repeats and pauses are as they were."""
    before = make(path)
    await before.start(ignore_commit)
    await before.update_customer(CUSTOMER, lambda _: profile(), at())
    await before.receive_events([event()], at())
    version = (await before.customer(CUSTOMER)).version
    made = decision("d1", customer=CUSTOMER)
    await before.record([made], at(), [contact(version, sticky=True)])
    await before.repeat([Repeat(CAMPAIGN, "again", bytes(16), "d1")], at(1))
    await before.pause(pause(), at(1))

    async def everything(ledger: SqliteLedger) -> object:
        return (
            await ledger.customer(CUSTOMER),
            await reads.happened(ledger, CUSTOMER),
            await reads.exposures(ledger, CUSTOMER, [(channel_scope("web"), 0)]),
            await reads.last_sticky(ledger, CUSTOMER),
            await ledger.find(CAMPAIGN, "again"),
            await ledger.every_pause(),
            await reads.export(ledger, CUSTOMER, "", 100, 10**6),
        )

    was = await everything(before)
    await before.close()
    after = make(path)
    await after.start(ignore_commit)
    assert await everything(after) == was
    await after.close()


async def test_an_export_holds_up_nobody(ledger, monkeypatch):
    """While one page is read, however long that takes, the ledger answers on its loop."""
    await ledger.update_customer(CUSTOMER, lambda _: profile(), at())
    answered = threading.Event()
    row = export.customer_row

    def late_row(customer: Customer, erased_us: int | None) -> export.ExportRow:
        assert answered.wait(10)
        return row(customer, erased_us)

    monkeypatch.setattr(export, "customer_row", late_row)
    async with ledger.reader() as reader:
        exporting = asyncio.create_task(reader.export(CUSTOMER, "", 100, 10**6))
        await asyncio.sleep(0)
        assert (await ledger.customer(CUSTOMER)).known
        answered.set()
        assert len((await exporting).rows) == 1


async def test_two_processes_share_one_customer(ledger, path):
    """Rivals of two writers on one version: one is stored; a pause and a profile count for both at once."""
    other = make(path)
    await other.start(ignore_commit)
    for number in range(20):
        version = (await ledger.customer(CUSTOMER)).version
        met = await asyncio.gather(
            *(
                each.record(
                    [decision(f"d{number}-{name}", customer=CUSTOMER)], at(number), [contact(version)]
                )
                for name, each in (("here", ledger), ("there", other))
            )
        )
        assert sorted(stored is None for [stored] in met) == [False, True]
    assert await reads.exposures(other, CUSTOMER, [(channel_scope("web"), 0)]) == [20]
    await other.pause(pause(), at())
    assert await ledger.pauses(CAMPAIGN) == (pause(),)
    await ledger.resume(CAMPAIGN, "ten-off", at())
    assert await other.pauses(CAMPAIGN) == ()
    stored = await other.update_customer(CUSTOMER, lambda _: profile(), at())
    assert (await ledger.customer(CUSTOMER)).profile == stored
    await other.close()


SECRETS = ("trait-of-ada", "place-of-ada", "features-of-ada", "event-of-ada", "id-of-ada", "outcome-of-ada")


def found_in(directory: Path, needles: list[bytes]) -> list[bytes]:
    """Return which needles are in any byte of any file."""
    files = [file.read_bytes() for file in directory.iterdir()]
    return [needle for needle in needles if any(needle in file for file in files)]


async def test_after_an_erasure_no_byte_is_left(path):
    """While the ledger goes on serving, no file holds anything of the customer's but the tombstone's key."""
    ledger = make(path)
    await ledger.start(ignore_commit)
    trait, place, features, name, decision_id, event_id = SECRETS
    await ledger.update_customer(CUSTOMER, lambda _: profile(traits={"t": Trait(trait, 0)}), at())
    await ledger.receive_events([event(name, name)], at())
    for number in range(10):
        made = decision(
            f"{decision_id}-{number}", customer=CUSTOMER, context=f'{{"place":"{place}"}}', features=features
        )
        version = (await ledger.customer(CUSTOMER)).version
        met = await ledger.record(
            [made, decision(f"other-{number}")], at(), [contact(version, sticky=True), None]
        )
        assert None not in met
        await ledger.receive([outcome(made.decision_id, event_id=event_id)], at(1))
        await ledger.repeat([Repeat(CAMPAIGN, f"{decision_id}-again", bytes(16), made.decision_id)], at(1))
    await settle_due(ledger, CAMPAIGN, RULES, 5, at(DUE_S))
    needles = [each.encode() for each in SECRETS]
    assert found_in(path.parent, needles) == needles  # the search can find them
    await ledger.erase(CUSTOMER, at(DUE_S))
    assert found_in(path.parent, needles) == []
    assert await ledger.find(CAMPAIGN, "other-3") == decision("other-3")
    await ledger.record([decision("next")], at(DUE_S))
    assert found_in(path.parent, [*needles, b"next"]) == [b"next"]
    await ledger.close()


async def test_an_erasure_goes_on_emptying_the_log_while_a_reader_holds_it(path, parts):
    """It returns when its patience ends, the rows gone for all; the log is emptied once it is free."""
    ledger = make(path, Limits(wal_emptied_within_s=0.01))
    await ledger.start(ignore_commit)
    await ledger.record([decision("d1", customer=CUSTOMER, features="features-of-ada")], at(), [contact()])
    reader = connect(path, read_only=True)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM decisions").fetchone()
    await ledger.erase(CUSTOMER, at(1))
    assert await ledger.find(CAMPAIGN, "d1") is None
    assert found_in(path.parent, [b"features-of-ada"]) != []
    assert not await parts.wal.empty(0.01)
    reader.execute("ROLLBACK")
    reader.close()
    assert await parts.wal.empty(30.0)
    assert found_in(path.parent, [b"features-of-ada"]) == []
    await ledger.close()


async def test_many_erasures_that_wait_for_a_reader_hold_nothing_else_up(path, monkeypatch):
    """However many there are, there are threads left for checkpoints, and for whatever else waits in one."""
    ledger = make(path, Limits(wal_emptied_within_s=60.0))
    await ledger.start(ignore_commit)
    customers = [bytes([number]) * len(CUSTOMER) for number in range(40)]
    for customer in customers:
        await ledger.update_customer(customer, lambda _: profile(), at())
    reader = connect(path, read_only=True)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM customers").fetchone()
    erasing = [asyncio.create_task(ledger.erase(customer, at(1))) for customer in customers]
    async with asyncio.timeout(60):
        while not all([(await ledger.customer(customer)).erased for customer in customers]):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await asyncio.to_thread(lambda: None)
        assert not any(each.done() for each in erasing)
        reader.execute("ROLLBACK")
        reader.close()
        await asyncio.gather(*erasing)
    await ledger.close()


async def test_a_log_that_a_killed_process_left_is_emptied(path, parts):
    """Whoever erased a customer and was killed before the log was empty: the next to start empties it."""
    before = make(path)
    await before.start(ignore_commit)
    await before.close()
    log = path.with_name(path.name + "-wal")
    with closing(connect(path, read_only=True)) as reader:  # whose look lets nobody empty the log
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM decisions").fetchall()
        with subprocess.Popen(  # noqa: ASYNC220 - nothing else runs in this test
            [sys.executable, "-c", CHILD, path],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            child.send_signal(signal.SIGKILL)
        assert log.stat().st_size > 0
    ledger = make(path)
    await ledger.start(ignore_commit)
    assert await parts.wal.empty(30.0)
    assert log.stat().st_size == 0
    await ledger.close()


async def test_what_is_removed_is_overwritten(ledger, parts):
    """Every connection that writes has secure_delete on."""
    assert parts.writing.execute("PRAGMA secure_delete").fetchone() == (1,)


DAMAGES = ["", "{", "[]", "null", "{}", '{"consent":1}']


FIELDS = [
    "language",
    "consent",
    "traits",
    "removed_traits",
    "traits_cleared_us",
    "quiet_hours",
    "blocked_offers",
]


@pytest.mark.parametrize("text", [*DAMAGES, *FIELDS])
async def test_a_damaged_profile_is_told_not_served(ledger, text, parts):
    """A profile that is not what was written is LedgerInvalid, whichever field it is, and quotes nothing."""
    await ledger.update_customer(CUSTOMER, lambda _: profile(), at())
    writing = parts.writing
    if text not in DAMAGES:
        [stored] = writing.execute("SELECT profile FROM customers").fetchone()
        text = json.dumps(json.loads(stored) | {text: [["private"]]})
    writing.execute("UPDATE customers SET profile = ?", (text,))
    with pytest.raises(LedgerInvalid, match="profile") as told:
        await ledger.customer(CUSTOMER)
    assert "private" not in str(told.value)
    with pytest.raises(LedgerInvalid):
        await ledger.update_customer(CUSTOMER, lambda known: known.profile, at(1))


async def test_a_profile_of_before_removals_were_dated_is_read(ledger, parts):
    """It has none of them, and is the profile it was."""
    stored = await ledger.update_customer(CUSTOMER, lambda _: profile(), at())
    writing = parts.writing
    [text] = writing.execute("SELECT profile FROM customers").fetchone()
    assert not {"removed_traits", "traits_cleared_us"} & json.loads(text).keys()
    assert (await ledger.customer(CUSTOMER)).profile == stored


async def test_a_decision_that_lost_its_customer_is_told(ledger, parts):
    """It is never taken for an anonymous one."""
    await ledger.record([decision("d1", customer=CUSTOMER)], at(), [contact()])
    parts.writing.execute("DELETE FROM customers")
    with pytest.raises(LedgerInvalid, match="customer"):
        await ledger.find(CAMPAIGN, "d1")


async def test_a_lost_decision_is_told_by_a_purge(ledger, parts):
    """Only an erased settlement may have none."""
    await ledger.record([decision("d1")], at())
    await settle_due(ledger, CAMPAIGN, RULES, 10, at(DUE_S))
    parts.writing.execute("DELETE FROM decisions")
    with pytest.raises(LedgerInvalid, match="settlement"):
        await ledger.purge(CAMPAIGN, at(AGES_S).wall_us, 9, 10, at(AGES_S))


async def test_a_number_is_never_given_twice(ledger, parts):
    """Whatever was removed since: what refers to a decision by number must not find another."""
    reading = parts.reading

    def number(decision_id: str) -> int:
        [no] = reading.execute("SELECT no FROM decisions WHERE decision_id = ?", (decision_id,)).fetchone()
        return int(no)

    await ledger.record([decision("d1"), decision("d2", customer=CUSTOMER)], at(), [None, contact()])
    given = [number("d1"), number("d2")]
    await ledger.erase(CUSTOMER, at(1))
    await ledger.record([decision("d3")], at(2))
    given.append(number("d3"))
    await settle_due(ledger, CAMPAIGN, RULES, 10, at(2 + DUE_S))
    assert await ledger.purge(CAMPAIGN, at(AGES_S).wall_us, 9, 10, at(AGES_S)) == 2
    await ledger.record([decision("d4")], at(AGES_S))
    given.append(number("d4"))
    assert given == sorted(set(given))


async def test_a_contact_costs_no_more_statements_in_a_large_call(ledger, parts):
    """A hundred contacts at once are a few statements: each one gives the GIL up."""
    counts = []
    writing = parts.writing
    for size in (1, 100):
        seen: list[str] = []
        writing.set_trace_callback(seen.append)
        keys = [bytes([size, place]) * 8 for place in range(size)]
        made = [decision(f"d{size}-{place}", customer=key) for place, key in enumerate(keys)]
        met = await ledger.record(made, at(), size * [contact(sticky=True)])
        writing.set_trace_callback(None)
        assert met == made
        counts.append(len(set(seen)))  # a trigger shows its statement again
    assert counts[1] <= counts[0] + 20
