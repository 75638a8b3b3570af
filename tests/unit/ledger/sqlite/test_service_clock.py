"""The service clock runs only while somebody commits, and a start knows what was acknowledged."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import CAMPAIGN, START_WALL_US, decision, outcome
from tests.unit.ledger.sqlite.opened import ignore_commit

from tilbud.domain.clock import Now
from tilbud.domain.decision.rewards import OutcomeStatus
from tilbud.domain.errors import LedgerInvalid
from tilbud.domain.limits import Limits
from tilbud.ledger.durability import Durability
from tilbud.ledger.sqlite.acknowledged import Acknowledged, AcknowledgedFile, beside, boot_id, read
from tilbud.ledger.sqlite.adapter import Serving, SqliteLedger
from tilbud.ledger.sqlite.opening_check import ACKNOWLEDGED_LOST

WINDOW_S = 1_800.0
LIMITS = Limits()


class Machine:
    """A machine whose time is moved by hand, and the processes of a service on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.us = 5_000_000_000
        self.outages: list[float] = []
        self.reported: list[tuple[str, dict[str, object]]] = []  # by the checks of starts

    def pass_s(self, seconds: float) -> None:
        """Let time pass."""
        self.us += int(seconds * 1e6)

    async def process(self, *, joins: bool = False) -> Process:
        """Start a process of the service."""
        process = Process(self, joins=joins)
        await process.ledger.start(ignore_commit)
        return process


class Process:
    """A process and its ledger, which it reads the time by."""

    def __init__(self, machine: Machine, *, joins: bool) -> None:
        self.machine = machine
        self.ledger = SqliteLedger(
            machine.path,
            durability=Durability.PROCESS,
            limits=LIMITS,
            serving=Serving(
                lambda: machine.us,
                place=int(joins),
                joins=(machine.path.stat().st_dev, machine.path.stat().st_ino) if joins else None,
                tell=lambda event, values: machine.reported.append((event, values)),
                observe_outage=machine.outages.append,
            ),
        )

    def now(self) -> Now:
        """Read the clocks."""
        return Now(START_WALL_US + self.machine.us, self.ledger.service_us())

    async def decide(self, decision_id: str) -> None:
        """Record a decision of now."""
        await self.ledger.record([decision(decision_id, self.now())], self.now())

    async def report(self, decision_id: str) -> object:
        """Report a click of now."""
        [met] = await self.ledger.receive([outcome(decision_id)], self.now())
        return met

    async def run(self, seconds: float) -> None:
        """Prove the clock all that time."""
        for _ in range(int(seconds)):
            self.machine.pass_s(1.0)
            await self.ledger.touch(self.now())


@pytest.fixture
def machine(path: Path) -> Machine:
    """A machine."""
    return Machine(path)


async def test_an_outage_takes_nothing_from_a_deadline(machine: Machine) -> None:
    """However long nobody commits, what is reported right after is in time; then the clock runs again."""
    one = await machine.process()
    await one.decide("d1")
    machine.pass_s(10 * WINDOW_S)
    assert await one.report("d1") is OutcomeStatus.ACCEPTED
    assert machine.outages == [pytest.approx(10 * WINDOW_S)]
    before_us = one.ledger.service_us()
    await one.run(10.0)
    gone_s = (one.ledger.service_us() - before_us) / 1e6
    assert gone_s == pytest.approx(10.0 - LIMITS.outage_allowance_s)
    await one.ledger.close()


async def test_a_decision_made_before_an_outage_was_found_has_its_own_window_and_no_more(
    machine: Machine,
) -> None:
    """Its times were read on a clock that was about to be set back."""
    one = await machine.process()
    await one.decide("d1")
    due_us = await one.ledger.oldest_due_service_us(CAMPAIGN)
    machine.pass_s(10 * WINDOW_S)
    await one.decide("d2")
    stored = await one.ledger.find(CAMPAIGN, "d2")
    assert stored is not None
    assert due_us is not None
    assert stored.due_service_us - due_us < 1_000_000
    await one.ledger.close()


async def test_what_is_recorded_when_an_outage_is_found_is_known_as_new(machine: Machine) -> None:
    """By the decision itself, as ever, so that it is counted; one of the same id later is not it."""
    one = await machine.process()
    await one.decide("d1")
    machine.pass_s(10 * WINDOW_S)
    new, again = decision("d2", one.now()), decision("d2", one.now())
    [stored, earlier] = await one.ledger.record([new, again], one.now())
    assert stored is new
    assert earlier is not again
    assert earlier == await one.ledger.find(CAMPAIGN, "d2")
    await one.ledger.close()


async def test_one_process_that_commits_is_enough(machine: Machine) -> None:
    """A frozen one is no outage while another serves, and reads the same clock when it goes on."""
    one = await machine.process()
    await one.decide("d1")
    other = await machine.process(joins=True)
    await other.run(WINDOW_S + 60)
    assert await one.report("d1") is OutcomeStatus.LATE
    assert machine.outages == []
    assert one.ledger.service_us() == other.ledger.service_us()
    await other.ledger.close()
    await one.ledger.close()


async def test_all_processes_agree_after_an_outage(machine: Machine) -> None:
    """Whoever commits first finds it, once; the others go by what it found."""
    one = await machine.process()
    other = await machine.process(joins=True)
    await one.decide("d1")
    machine.pass_s(600.0)
    await other.run(1.0)
    await one.run(1.0)
    assert len(machine.outages) == 1
    assert one.ledger.service_us() == other.ledger.service_us()
    await other.ledger.close()
    await one.ledger.close()


async def test_short_pauses_are_no_outage(machine: Machine) -> None:
    """Below the bound the clock is the machine's."""
    one = await machine.process()
    before_us = one.ledger.service_us()
    await one.run(100.0)
    assert one.ledger.service_us() - before_us == 100_000_000
    assert machine.outages == []
    await one.ledger.close()


async def test_who_joins_takes_no_other_file(machine: Machine) -> None:
    """A worker that is started again refuses a file that is not the one the service began with."""
    one = await machine.process()
    joining = Process(machine, joins=True)
    await one.ledger.close()
    machine.path.rename(machine.path.with_name("away"))
    machine.path.write_bytes(machine.path.with_name("away").read_bytes())
    with pytest.raises(LedgerInvalid, match="another file than the one the service began with"):
        await joining.ledger.start(ignore_commit)


# What was acknowledged


async def test_an_older_ledger_is_refused_and_a_backup_without_the_count_is_not(machine: Machine) -> None:
    """A file put over the newer one lacks commits; a directory of its own has nothing to compare with."""
    one = await machine.process()
    await one.decide("d1")
    await one.ledger.close()
    older = machine.path.read_bytes()
    one = await machine.process()
    await one.decide("d2")
    await one.ledger.close()
    machine.path.write_bytes(older)
    with pytest.raises(LedgerInvalid, match=r"the last 1 are missing.*--accept-loss"):
        await machine.process()
    beside(machine.path).unlink()
    one = await machine.process()
    assert await one.ledger.find(CAMPAIGN, "d1") is not None
    await one.ledger.close()


async def test_a_loss_of_power_is_reported_and_not_refused(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the machine was started since, durability `process` may have lost the last commits."""
    one = await machine.process()
    await one.decide("d1")
    await one.ledger.close()
    older = machine.path.read_bytes()
    one = await machine.process()
    await one.decide("d2")
    await one.ledger.close()
    machine.path.write_bytes(older)
    monkeypatch.setattr("tilbud.ledger.sqlite.opening_check.boot_id", lambda: "another start")
    one = await machine.process()
    await one.ledger.close()
    [(event, values)] = machine.reported
    assert event == ACKNOWLEDGED_LOST
    assert values["power_cut"]
    assert cast("int", values["commits"]) >= 1


@given(st.lists(st.integers(0, 10**18), min_size=1, max_size=4), st.data())
def test_the_largest_count_that_can_be_read_counts(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], data: st.DataObject
) -> None:
    """Whatever byte of a line is changed, the line is passed over and the others are read."""
    path = tmp_path_factory.mktemp("counts") / "ledger"
    for place, commits in enumerate(counts):
        file = AcknowledgedFile(path, place, Durability.PROCESS)
        file.write(commits)
        file.close()
    assert read(path) == Acknowledged(max(counts), boot_id(), "process")
    at = data.draw(st.integers(0, 60))
    content = bytearray(beside(path).read_bytes())
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    beside(path).write_bytes(content)
    rest = max(counts[1:], default=None)
    found = read(path)
    assert (found and found.commits) == rest
