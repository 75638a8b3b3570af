"""What the processes on every ledger agree in: above all who settles, the one that holds the lease."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.builders import CAMPAIGN, GRACE_US, RULES, WINDOW_US, activation, at, decision, outcome
from tests.contract.adapters import ADAPTERS, Adapter, ignore_commit, make

from tilbud.domain.clock import Now
from tilbud.domain.decision.activation import Activated
from tilbud.domain.decision.rewards import OutcomeStatus
from tilbud.domain.errors import LeaseLost
from tilbud.domain.limits import Limits
from tilbud.ledger.answers import Settled
from tilbud.ledger.durability import Durability
from tilbud.ledger.memory.adapter import MemoryLedger
from tilbud.ledger.ports import Ledger
from tilbud.ledger.sqlite.adapter import Serving, SqliteLedger
from tilbud.ledger.sqlite.same_file import identity

DUE_S = (WINDOW_US + GRACE_US) / 1e6


@pytest.fixture(params=ADAPTERS)
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Adapter, Adapter]]:
    """The ledger as two processes see it; in memory there is but one to see."""
    one = make(request.param, tmp_path)
    other = one if request.param == "memory" else make(request.param, tmp_path)
    for each in dict.fromkeys((one, other)):
        await each.start(ignore_commit)
    yield one, other
    for each in dict.fromkeys((one, other)):
        await each.close()


async def lease(ledger: Ledger, holder: str, seconds: float = 0.0, until_s: float = 10.0) -> int:
    """Ask for the lease some seconds after the start."""
    return await ledger.lease(holder, at(until_s).service_us, at(seconds))


async def settle(ledger: Ledger, token: int, seconds: float = DUE_S) -> Settled:
    """Settle what is due with a token."""
    return await ledger.settle(CAMPAIGN, RULES, 10, at(seconds), token)


async def test_a_new_ledger_has_no_holder(pair):
    """Nobody has the lease, and no token settles."""
    one, _ = pair
    assert await one.leased_until_us() == 0
    for token in (0, 1):
        with pytest.raises(LeaseLost):
            await settle(one, token)


async def test_one_holds_the_lease_until_it_runs_out(pair):
    """Another gets nothing before, and the lease with the next token from that very moment on."""
    one, other = pair
    token = await lease(one, "one", until_s=10)
    assert token > 0
    assert await one.leased_until_us() == await other.leased_until_us() == at(10).service_us
    assert await lease(other, "other", 9.999999, 20) == 0
    assert await other.leased_until_us() == at(10).service_us, "who is refused moves nothing"
    assert await lease(other, "other", 10, 20) == token + 1
    assert await one.leased_until_us() == await other.leased_until_us() == at(20).service_us
    assert await lease(one, "one", 11, 30) == 0


async def test_the_holder_renews_under_its_token_also_when_it_ran_out(pair):
    """As long as nobody took it meanwhile: then nothing was settled by anyone else."""
    one, other = pair
    token = await lease(one, "one", until_s=10)
    assert await lease(one, "one", 5, 15) == token
    assert await lease(other, "other", 12, 30) == 0
    assert await lease(one, "one", 100, 110) == token
    assert await other.leased_until_us() == at(110).service_us


async def test_of_many_that_ask_at_once_one_gets_it(pair):
    """A lease that ran out goes to one of its rivals."""
    one, other = pair
    before = await lease(one, "before", until_s=10)
    met = await asyncio.gather(*(lease(pair[number % 2], f"rival {number}", 11, 20) for number in range(32)))
    assert sorted(met) == [0] * 31 + [before + 1]
    assert await other.leased_until_us() == at(20).service_us


async def test_what_was_released_is_free_at_once(pair):
    """Another takes it without waiting, with the next token; who released it settles no more."""
    one, other = pair
    await one.record([decision("d1")], at())
    token = await lease(one, "one", until_s=10_000)
    await one.release(token, at(1))
    assert await other.leased_until_us() == 0
    with pytest.raises(LeaseLost):
        await settle(one, token)
    assert await lease(other, "other", 1, 10_000) == token + 1
    assert await settle(other, token + 1) == Settled(1, 0, more=False)


async def test_who_released_it_may_take_it_again(pair):
    """It is then another holder like any: the token is the next one, and the old one is refused."""
    one, _ = pair
    token = await lease(one, "one", until_s=10_000)
    await one.release(token, at(1))
    again = await lease(one, "one", 2, 10_000)
    assert again == token + 1
    with pytest.raises(LeaseLost):
        await settle(one, token)


async def test_an_old_token_releases_nothing(pair):
    """Who lost the lease and gives it up then does not take it from the one who has it."""
    one, other = pair
    token = await lease(one, "one", until_s=1)
    newer = await lease(other, "other", 2, 20)
    await one.release(token, at(3))
    assert await one.leased_until_us() == at(20).service_us
    await one.record([decision("d1")], at())
    assert await settle(other, newer) == Settled(1, 0, more=False)


async def test_who_lost_the_lease_settles_nothing(pair):
    """Fencing: a holder that slept while another took over is refused, and leaves no trace."""
    one, other = pair
    await one.record([decision("d1"), decision("d2", deferred=True)], at())
    await one.receive([outcome("d1")], at(1))
    token = await lease(one, "one", until_s=1)
    newer = await lease(other, "other", 2, 10_000)
    with pytest.raises(LeaseLost):
        await settle(one, token, 10_000)
    assert await one.settlements(CAMPAIGN, 0, 10) == await other.settlements(CAMPAIGN, 0, 10) == []
    assert await one.pending(CAMPAIGN) == 2
    assert await settle(other, newer, 10_000) == Settled(1, 1, more=False)
    with pytest.raises(LeaseLost):
        await settle(one, token, 10_000)
    assert [each.sequence for each in await one.settlements(CAMPAIGN, 0, 10)] == [1]


async def test_a_lease_that_ran_out_and_nobody_took_still_settles(pair):
    """The token says whether another may have settled, not the time: so no clock can be wrong about it."""
    one, _ = pair
    await one.record([decision("d1")], at())
    token = await lease(one, "one", until_s=1)
    assert await settle(one, token) == Settled(1, 0, more=False)


async def test_a_refused_settling_takes_no_other_call_with_it(pair):
    """Calls that share its commit are done, and answered as ever."""
    one, other = pair
    await one.record([decision("d1"), decision("d2", deferred=True)], at())
    token = await lease(one, "one", until_s=1)
    await lease(other, "other", 2, 10_000)
    made = decision("d3")
    settling = asyncio.ensure_future(settle(one, token))
    recording = asyncio.ensure_future(one.record([made], at(3)))
    activating = asyncio.ensure_future(one.activate([activation("d2")], at(3)))
    with pytest.raises(LeaseLost):
        await settling
    assert await recording == [made]
    assert [type(each) for each in await activating] == [Activated]
    assert await one.pending(CAMPAIGN) == 3


@pytest.mark.parametrize("adapter", ["sqlite"])
async def test_the_lease_outlives_its_holder(adapter, tmp_path):
    """A process that begins after a crash waits until it has run out; tokens go on from where they were."""
    killed = make(adapter, tmp_path)
    await killed.start(ignore_commit)
    token = await lease(killed, "killed", until_s=10)
    await killed.close()
    after = make(adapter, tmp_path)
    await after.start(ignore_commit)
    assert await lease(after, "after", 9) == 0
    assert await lease(after, "after", 10, 20) == token + 1
    await after.close()


async def test_touch_stores_no_rows(ledger):
    """Remembering the clock leaves everything else as it was."""
    await ledger.touch(at(5))
    assert await ledger.pending(CAMPAIGN) == 0


# The service clock


class Machine:
    """A machine whose time is moved by hand, with a store that its processes share."""

    def __init__(self, adapter: str, directory: Path) -> None:
        self.us = 5_000_000_000
        self._path = directory / "ledger.sqlite3"
        self._memory = (
            MemoryLedger(limits=Limits(), monotonic_us=lambda: self.us) if adapter == "memory" else None
        )

    async def process(self, place: int = 0) -> Adapter:
        """Return the ledger as another process of the service has it, the first one at place 0."""
        ledger = self._memory or self._sqlite(place)
        await ledger.start(ignore_commit)
        return ledger

    def _sqlite(self, place: int) -> SqliteLedger:
        joins = identity(self._path) if place else None
        serving = Serving(lambda: self.us, place=place, joins=joins)
        return SqliteLedger(self._path, durability=Durability.PROCESS, limits=Limits(), serving=serving)


@pytest.fixture(params=ADAPTERS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    """A machine with a store that is not open yet."""
    return Machine(request.param, tmp_path)


def now_of(ledger: Adapter) -> Now:
    """Read the service clock."""
    return Now(at().wall_us, ledger.service_us())


async def test_all_processes_read_one_service_clock(machine):
    """Whenever they started; an outcome is within its window or late whichever of them hears of it."""
    one = await machine.process()
    await one.record([decision("d1", now_of(one))], now_of(one))
    machine.us += WINDOW_US // 2
    await one.touch(now_of(one))
    other = await machine.process(place=1)
    assert one.service_us() == other.service_us()
    machine.us += GRACE_US // 2
    assert one.service_us() == other.service_us()
    assert await other.receive([outcome("d1")], now_of(other)) == [OutcomeStatus.ACCEPTED]
    for ledger in dict.fromkeys((other, one)):
        await ledger.close()


async def test_the_service_clock_stands_while_nobody_serves(machine):
    """Who starts goes on from the last commit, however long that was ago; a read of it costs no commit."""
    ledger = await machine.process()
    machine.us += 1_000_000
    await ledger.touch(now_of(ledger))
    stood_us = ledger.service_us()
    await ledger.close()
    machine.us += 3_600_000_000
    ledger = await machine.process()
    assert ledger.service_us() == stood_us
    machine.us += 1_000
    assert ledger.service_us() == stood_us + 1_000
    await ledger.close()
