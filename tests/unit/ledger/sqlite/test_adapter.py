"""What only a ledger in a file can promise: what it survives, and how it fails."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.builders import CAMPAIGN, DAY_US, RULES, WINDOW_US, activation, at, decision, outcome, settle_due
from tests.contract import reads
from tests.unit.ledger.sqlite.opened import CHILD, ignore_commit, make

from tilbud.domain.decision.records import Repeat, payload_text
from tilbud.domain.decision.rewards import OutcomeStatus
from tilbud.domain.errors import LedgerInvalid, LedgerUnavailable, Overloaded
from tilbud.domain.limits import Limits
from tilbud.ledger.durability import Durability
from tilbud.ledger.sqlite import (
    customer_export,
    customers,
    customers_reader,
    decisions,
    exposures,
    look_up,
    reader,
    retention,
    settling,
    windows,
)
from tilbud.ledger.sqlite.adapter import SqliteLedger
from tilbud.ledger.sqlite.schema import connect

DUE_S = WINDOW_US / 1e6 + 10
AGES_S = 100 * 86_400


# Surviving


async def test_everything_is_there_after_a_restart(path):
    """Decisions, open windows, settlements, the draw key and the service clock stay as they were."""
    before = make(path)
    first = await before.start(ignore_commit)
    assert first.served_service_us == 0
    decisions = [decision(f"d{number}", at(number), sequence=number) for number in range(4)]
    await before.record([*decisions, decision("p", deferred=True)], at())
    await before.receive([outcome("d0"), outcome("d3")], at(4))
    await before.activate([activation("p")], at(5))
    await settle_due(before, CAMPAIGN, RULES, 2, at(1 + DUE_S))

    async def everything(ledger: SqliteLedger) -> object:
        return (
            [await ledger.find(CAMPAIGN, each) for each in ("d0", "d1", "d2", "d3", "p", "unknown")],
            await ledger.settlements(CAMPAIGN, 0, 10),
            await ledger.sequences(CAMPAIGN),
            await reads.drawn(ledger),
            await ledger.pending(CAMPAIGN),
            await ledger.oldest_due_service_us(CAMPAIGN),
        )

    was = await everything(before)
    await before.close()
    after = make(path)
    again = await after.start(ignore_commit)
    assert await everything(after) == was
    assert again.draw_key == first.draw_key
    assert again.served_service_us == at(1 + DUE_S).service_us
    assert await after.receive([outcome("d3")], at(6)) == [OutcomeStatus.DUPLICATE]
    await after.close()


async def test_the_service_clock_never_goes_back(path):
    """A commit with an older reading leaves the newest one."""
    ledger = make(path)
    await ledger.start(ignore_commit)
    await ledger.touch(at(100))
    await ledger.touch(at(50))
    await ledger.close()
    ledger = make(path)
    assert (await ledger.start(ignore_commit)).served_service_us == at(100).service_us
    await ledger.close()


async def test_acknowledged_rows_survive_kill_9(path):
    """Every decision and outcome that a killed process had acknowledged is there, each exactly once."""
    with subprocess.Popen(  # noqa: ASYNC220 - nothing else runs in this test
        [sys.executable, "-c", CHILD, path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        acknowledged = [child.stdout.readline().split() for _ in range(2_000)]
        child.send_signal(signal.SIGKILL)
        acknowledged += [line.split() for line in child.stdout.read().splitlines()]
    ledger = make(path)
    await ledger.start(ignore_commit)
    whole = [words[0] for words in acknowledged if len(words) == 2]
    assert len(whole) >= 2_000
    assert [number for number in whole if await ledger.find(CAMPAIGN, f"d{number}") is None] == []
    again = await ledger.receive([outcome(f"d{number}") for number in whole], at(2))
    assert set(again) == {OutcomeStatus.DUPLICATE}
    await ledger.close()


@pytest.mark.parametrize(("durability", "synchronous"), [(Durability.PROCESS, 1), (Durability.POWER, 2)])
async def test_power_durability_syncs_every_commit(path, durability, synchronous, parts):
    """`power` writes with synchronous=FULL, `process` with NORMAL, both to a write-ahead log."""
    ledger = make(path, durability=durability)
    await ledger.start(ignore_commit)
    writing = parts.writing
    assert writing.execute("PRAGMA synchronous").fetchone() == (synchronous,)
    assert writing.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    await ledger.record([decision("d1")], at())
    assert await ledger.find(CAMPAIGN, "d1") == decision("d1")
    await ledger.close()


async def test_the_file_is_its_owners_alone(ledger, path):
    """Nobody else may read what customers did."""
    await ledger.touch(at())
    modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == {0o600}


async def test_closing_leaves_one_file(path):
    """The log is emptied into the database, so that one file is the whole ledger."""
    ledger = make(path)
    await ledger.start(ignore_commit)
    await ledger.record([decision("d1")], at())
    await ledger.close()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


# Several at once


async def test_two_writers_racing_on_one_id_see_one_row(ledger, path):
    """Two ledgers on one file, as in two processes: one row of each id, and both return it."""
    other = make(path)
    assert (await other.start(ignore_commit)).draw_key
    rivals = [(ledger, "here"), (other, "there")]
    returned = await asyncio.gather(
        *(
            each.record([decision(f"d{number}", features=said)], at())
            for number in range(100)
            for each, said in rivals
        )
    )
    for number in range(100):
        [[here], [there]] = returned[2 * number : 2 * number + 2]
        assert here == there == await ledger.find(CAMPAIGN, f"d{number}")
    assert await ledger.pending(CAMPAIGN) == await other.pending(CAMPAIGN) == 100
    met = await asyncio.gather(*(each.receive([outcome("d1")], at(1)) for each in 20 * (ledger, other)))
    assert sorted(each for [each] in met) == [OutcomeStatus.ACCEPTED] + 39 * [OutcomeStatus.DUPLICATE]
    await other.close()


async def test_ledgers_that_start_together_share_one_key(path):
    """A new file opened by several at once is made once."""
    ledgers = [make(path) for _ in range(4)]
    infos = await asyncio.gather(*(each.start(ignore_commit) for each in ledgers))
    assert len({info.draw_key for info in infos}) == 1
    await asyncio.gather(*(each.close() for each in ledgers))


# Failing


async def test_an_overloaded_ledger_refuses_at_once_and_loses_nothing(path):
    """Rows beyond the queue are Overloaded and leave no trace; what was acknowledged is there."""
    ledger = make(path, replace(Limits(), ledger_queue_rows_max=10, ledger_batch_rows_max=4))
    await ledger.start(ignore_commit)
    calls = [
        asyncio.ensure_future(ledger.record([decision(f"d{number}a"), decision(f"d{number}b")], at()))
        for number in range(50)
    ]
    await asyncio.sleep(0)
    refused_at_once = [call for call in calls if call.done()]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert len(refused_at_once) == 45
    for number, result in enumerate(results):
        stored = await ledger.find(CAMPAIGN, f"d{number}a")
        assert (stored is None) == isinstance(result, Overloaded)
    assert await ledger.pending(CAMPAIGN) == 10
    await ledger.record([decision(f"more{number}") for number in range(20)], at())  # an empty queue takes any
    await ledger.close()


async def test_a_full_disk_fails_its_calls_and_leaves_nothing(ledger, parts):
    """Every call of the commit is LedgerUnavailable; reads go on; once there is room, writes do too."""
    await ledger.record([decision("before")], at())
    writing = parts.writing
    [pages] = writing.execute("PRAGMA page_count").fetchone()
    writing.execute(f"PRAGMA max_page_count = {pages}")
    big = [
        decision(f"d{number}", features="x" * 9_000, payload=payload_text({"n": number}))
        for number in range(8)
    ]
    results = await asyncio.gather(*(ledger.record([each], at()) for each in big), return_exceptions=True)
    assert {type(each) for each in results} == {LedgerUnavailable}
    assert "full" in str(results[0])
    assert [await ledger.find(CAMPAIGN, each.decision_id) for each in big] == 8 * [None]
    assert await ledger.pending(CAMPAIGN) == 1
    writing.execute("PRAGMA max_page_count = 1000000")
    for each in big:
        assert await ledger.record([each], at()) == [each]
        assert (
            await ledger.find(CAMPAIGN, each.decision_id) == each
        )  # with its text, which the failure rolled back
    assert await ledger.pending(CAMPAIGN) == 9


async def test_a_locked_file_fails_its_calls_and_leaves_nothing(ledger, path, parts):
    """Where another program holds the file, calls are LedgerUnavailable; then they work again."""
    parts.writing.execute("PRAGMA busy_timeout = 1")
    rival = connect(path)
    rival.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailable, match="locked"):
        await ledger.touch(at())
    rival.execute("ROLLBACK")
    rival.close()
    parts.writing.execute("PRAGMA busy_timeout = 10000")  # the log's keeper may hold it for a moment
    await ledger.touch(at())


async def test_a_call_that_fails_by_itself_fails_alone(ledger):
    """A value that no row can hold raises in its own call; those committed with it are stored, whole."""
    await ledger.record([decision("p", deferred=True)], at())
    not_shown = activation("p", shown_offer_id="bundle")
    results: tuple[Any, ...] = await asyncio.gather(
        ledger.record([decision("d1")], at()),
        ledger.record([decision("d2"), decision("wrong", sequence=2**63)], at()),
        ledger.record([decision("d3", payload=payload_text({"new": 1}))], at()),
        ledger.receive([outcome("d1"), outcome("d3", event_id="\ud800")], at(1)),
        ledger.receive([outcome("d3")], at(1)),
        ledger.activate([not_shown, replace(not_shown, decision_id="\ud800")], at(1)),
        return_exceptions=True,
    )
    kinds = [list, OverflowError, list, UnicodeEncodeError, list, UnicodeEncodeError]
    assert [type(each) for each in results] == kinds
    assert await ledger.find(CAMPAIGN, "d2") is None
    assert await ledger.find(CAMPAIGN, "d3") == results[2][0]
    assert await ledger.pending(CAMPAIGN) == 3
    assert await ledger.receive([outcome("d1"), outcome("p")], at(2)) == [
        OutcomeStatus.ACCEPTED,
        OutcomeStatus.HELD,
    ]


async def test_a_caller_that_leaves_disturbs_nobody(ledger):
    """A cancelled call is recorded all the same, and its neighbours are answered."""
    left = asyncio.ensure_future(ledger.record([decision("left")], at()))
    stays = asyncio.ensure_future(ledger.record([decision("stays")], at()))
    await asyncio.sleep(0)
    left.cancel()
    assert await stays == [decision("stays")]
    assert await ledger.find(CAMPAIGN, "left") == decision("left")


async def test_a_damaged_text_is_told_not_served(path, parts):
    """A text that is not what its digest says, or is lost, is LedgerInvalid."""
    ledger = make(path)
    await ledger.start(ignore_commit)
    await ledger.record([decision("d1")], at())
    for damage in ("UPDATE texts SET body = '{}'", "DELETE FROM texts"):
        parts.writing.execute(damage)
        with pytest.raises(LedgerInvalid, match="text"):
            await ledger.find(CAMPAIGN, "d1")
    await ledger.close()


async def test_a_settlement_without_its_decision_is_told(path, parts):
    """Half a record is LedgerInvalid, never a gap."""
    ledger = make(path)
    await ledger.start(ignore_commit)
    await ledger.record([decision("d1")], at())
    await settle_due(ledger, CAMPAIGN, RULES, 10, at(DUE_S))
    parts.writing.execute("DELETE FROM decisions")
    with pytest.raises(LedgerInvalid, match="settlement 1"):
        await ledger.settlements(CAMPAIGN, 0, 10)
    await ledger.close()


async def test_a_file_that_is_no_database_is_refused(path):
    """It says so, and leaves the file alone."""
    path.write_text("not a database, but long enough to be looked at as if it were one" * 20)
    was = path.read_bytes()
    with pytest.raises(LedgerInvalid):
        await make(path).start(ignore_commit)
    assert path.read_bytes() == was


async def test_a_missing_directory_is_told(tmp_path):
    """The ledger makes no directories."""
    with pytest.raises(LedgerUnavailable):
        await make(tmp_path / "missing" / "ledger").start(ignore_commit)


async def test_commits_are_observed(path):
    """Each commit tells its seconds and rows, from whatever thread; many calls share one."""
    seen: list[tuple[float, int]] = []
    ledger = make(path)
    await ledger.start(lambda seconds, rows: seen.append((seconds, rows)))
    await asyncio.gather(*(ledger.record([decision(f"d{number}")], at()) for number in range(64)))
    await ledger.close()
    assert [rows for _, rows in seen] == [64]
    assert seen[0][0] > 0.0


# Staying small and quick


async def test_texts_go_when_nothing_can_use_them(ledger, parts):
    """Purging the last decisions that shared a text removes it, though not sooner, nor one used since."""
    reading = parts.reading
    shared, alone = payload_text({"shared": 1}), payload_text({"alone": 1})
    await ledger.record([decision("a", payload=shared), decision("b", payload=alone)], at())
    await settle_due(ledger, CAMPAIGN, RULES, 10, at(DUE_S))
    young = decision("young", at(AGES_S - 86_400), payload=shared)
    await ledger.record([young], at(AGES_S - 86_400))
    later = at(AGES_S)
    assert await ledger.purge(CAMPAIGN, later.wall_us - 50 * DAY_US, 9, 1, later) == 1
    assert reading.execute("SELECT count(*) FROM texts").fetchone() == (3,)  # b still needs its own
    assert await ledger.purge(CAMPAIGN, later.wall_us - 50 * DAY_US, 9, 10, later) == 1
    digests = {digest for (digest,) in reading.execute("SELECT digest FROM texts")}
    assert digests == {shared.digest, young.offers.text.digest}
    again = decision("again", later, payload=alone)
    await ledger.record([again], later)
    assert await ledger.find(CAMPAIGN, "again") == again


async def test_a_purge_removes_what_one_decision_has_many_of_in_turns(ledger, parts):
    """One that was answered again and again keeps the writer no longer than others; then it goes itself."""
    await ledger.record([decision()], at())
    await ledger.repeat([Repeat(CAMPAIGN, f"again-{n}", bytes(16), "d1") for n in range(20)], at(1))
    await ledger.receive([outcome("d1", event_id=f"e{n}") for n in range(10)], at(1))
    await settle_due(ledger, CAMPAIGN, RULES, 10, at(DUE_S))
    later = at(AGES_S)
    removed = []
    while gone := await ledger.purge(CAMPAIGN, later.wall_us, 9, 1, later):
        removed.append(gone)
    assert removed == [8, 8, 8, 1]
    assert [await ledger.find(CAMPAIGN, each) for each in ("d1", "again-0", "again-19")] == 3 * [None]
    left = "SELECT (SELECT count(*) FROM outcomes), (SELECT count(*) FROM repeats)"
    assert parts.reading.execute(left).fetchone() == (0, 0)


def explained(connection: sqlite3.Connection, statement: str) -> str:
    """Return how SQLite would run a statement."""
    plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", (1,) * statement.count("?"))
    return "\n".join(row[3] for row in plan)


STATEMENTS = {
    "find": reader.FIND,
    "find window": windows.FIND_WINDOW,
    "find repeated window": windows.FIND_REPEATED,
    "due": settling.DUE,
    "due outcomes": settling.DUE_OUTCOMES,
    "end due": settling.END_DUE,
    "last number": decisions.LAST_NO,
    "oldest settled": retention.OLDEST_SETTLED,
    "oldest unsettled": retention.OLDEST_UNSETTLED,
    "left customers": retention.LEFT_CUSTOMERS,
    "many repeats": retention.MANY_OF_DECISIONS[0],
    "many outcomes": retention.MANY_OF_DECISIONS[1],
    "taken ids": exposures.TAKEN,
    "release": exposures.RELEASE,
    "forget": exposures.FORGET,
    "customers by keys": exposures.by_keys(2),
    "customer": customers_reader.CUSTOMER,
    "open decisions": customers.OPEN_DECISIONS,
    "learned": customers.LEARNED,
    "learned before": customers.LEARNED_BEFORE,
    "newest exposures": look_up.NEWEST,
    **{
        f"{name}, {rows} asked": look_up.filled(statement, rows, width, single=width == 1)
        for rows in (1, 4)
        for name, statement, width in (
            ("known customers", look_up.CUSTOMERS, 1),
            ("earlier", look_up.EARLIER, 3),
            ("happened", look_up.HAPPENED, 4),
            ("exposures", look_up.EXPOSURES, 5),
            ("sticky", look_up.STICKY, 5),
        )
    },
}


@pytest.mark.parametrize(
    "module", sorted(Path(reader.__file__).parent.rglob("*.py")), ids=lambda path: path.stem
)
def test_no_placeholder_has_a_number(module):
    """Python 3.14 takes values in order for `?` alone: a numbered one would fail every call."""
    assert re.search(r"\?[0-9]", module.read_text(encoding="utf-8")) is None


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=STATEMENTS)
async def test_no_statement_reads_a_whole_table(ledger, statement, parts):
    """The cost stays flat however much the ledger holds: everything is found through an index, in order.

    What is gone through row by row is what the call itself carries, or what an index already found.
    """
    plan = explained(parts.reading, statement)
    scans = [line for line in plan.splitlines() if line.startswith("SCAN")]
    ours = ("VIRTUAL TABLE", "CONSTANT ROW", "SCAN due", "SCAN (subquery", "SCAN asked", "SCAN counted")
    assert [line for line in scans if not any(each in line for each in ours)] == []
    assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize("statement", [retention.OLDEST_EVENTS, retention.OLDEST_EXPOSURES])
async def test_what_is_oldest_is_read_from_the_front(ledger, statement, parts):
    """A purge of customers' rows reads as many as it may remove, in their order, and sorts nothing."""
    plan = explained(parts.reading, statement).splitlines()
    assert [line.split()[0] for line in plan] in (["SCAN"], ["SCAN", "SEARCH"])
    assert "USING INDEX" not in plan[0]


EXPORTED = customer_export.EXPORTED


@pytest.mark.parametrize("statement", [each.statement for each in EXPORTED.values()], ids=EXPORTED)
async def test_an_export_reads_the_customers_rows_alone(ledger, statement, parts):
    """It may sort them, but it never goes through other customers'."""
    plan = explained(parts.reading, statement)
    assert "SCAN" not in plan
