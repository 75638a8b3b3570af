"""Several processes on one ledger: one settles, all learn, and another goes on where it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.wiring import HandClock, Wired

from tilbud.domain.clock import Now
from tilbud.domain.decision.records import DecideRequest
from tilbud.domain.errors import LedgerUnavailable
from tilbud.domain.limits import Limits
from tilbud.ledger.durability import Durability
from tilbud.ledger.memory.adapter import MemoryLedger
from tilbud.ledger.sqlite.adapter import SqliteLedger
from tilbud.service.outcomes import OutcomeReport

CAMPAIGN = """
campaign: c
offers: [{id: a}, {id: b}]
reward: {window: 60s, activation_window: 100s, grace: 10s, outcomes: {bought: 1}}
consent: not_required
"""
DUE_S = 71


@pytest.fixture
def clock() -> HandClock:
    """The one service clock of all processes."""
    return HandClock()


Begin = Callable[..., Awaitable[tuple[Wired, Wired]]]
DEFAULTS = Limits()
NEVER_RENEWED_S = 1_000.0  # as of a process that was held up, and does not know the time


@pytest.fixture(params=["memory", "sqlite"])
async def begin(request: pytest.FixtureRequest, tmp_path: Path, clock: HandClock) -> AsyncIterator[Begin]:
    """Begins two processes, on one ledger in memory or each with its own connection to one file."""
    ledgers: set[MemoryLedger | SqliteLedger] = set()

    def ledger() -> MemoryLedger | SqliteLedger:
        if request.param == "memory":
            return MemoryLedger(limits=Limits())
        return SqliteLedger(tmp_path / "ledger", durability=Durability.PROCESS, limits=Limits())

    async def pair(one_has: Limits = DEFAULTS, other_has: Limits = DEFAULTS) -> tuple[Wired, Wired]:
        checkpoints, first = tmp_path / "checkpoints", ledger()
        second = first if request.param == "memory" else ledger()
        ledgers.update((first, second))
        one = Wired(CAMPAIGN, checkpoints, first, holder="one", clock=clock, limits=one_has)
        other = Wired(CAMPAIGN, checkpoints, second, holder="other", clock=clock, limits=other_has)
        await _turns(await one.start(), await other.start())
        assert (one.lease.token, other.lease.token) == (1, 0)
        return one, other

    yield pair
    for begun in ledgers:
        await begun.close()


@pytest.fixture
async def pair(begin: Begin) -> tuple[Wired, Wired]:
    """Two processes with the limits that there are."""
    return await begin()


async def _turns(*processes: Wired) -> None:
    for each in processes:
        await each.learner.turn()


async def _decide(wired: Wired, first: int, count: int, *, defer: bool = False) -> None:
    """Decide, and report an outcome of every third decision."""
    for number in range(first, first + count):
        decision_id = f"d{number}"
        await wired.decide.decide(DecideRequest("c", decision_id=decision_id, defer_activation=defer))
        if number % 3 == 0:
            await wired.report.report(OutcomeReport("c", decision_id, "bought"))


async def _live(clock: HandClock, *processes: Wired, seconds: float) -> None:
    """Let time pass as processes do that take a turn ten times a second."""
    for _ in range(round(seconds * 10)):
        clock.pass_s(0.1)
        await _turns(*processes)


def _sequences(*processes: Wired) -> list[int]:
    return [each.served.model.sequence for each in processes]


def _counted(*processes: Wired, name: str = "settlements_total") -> list[float]:
    return [each.metric(name, campaign="c") for each in processes]


def _holds(*processes: Wired) -> list[float]:
    return [each.metric("settling_lease") for each in processes]


async def test_one_settles_and_all_learn(pair: tuple[Wired, Wired], clock: HandClock) -> None:
    """Who does not hold the lease settles nothing that is due, and learns what the holder settled."""
    one, other = pair
    await _decide(other, 0, 9)
    clock.pass_s(DUE_S)
    await one.lease.ask()
    assert not await other.learner.turn()
    assert await one.ledger.sequences("c") == (0, 0)
    await _turns(one, other)
    assert await one.ledger.sequences("c") == (1, 9)
    assert _sequences(one, other) == [9, 9]
    assert _holds(one, other) == [1, 0]


async def test_all_models_predict_alike(pair: tuple[Wired, Wired], clock: HandClock) -> None:
    """Both learn one total order, whoever settled which part of it."""
    one, other = pair
    for first in range(0, 60, 10):
        await _decide((one, other)[first // 10 % 2], first, 10)
        await _live(clock, *((one, other) if first < 30 else (other,)), seconds=DUE_S)
    await _turns(one, other)
    assert _sequences(one, other) == [60, 60]
    decision = await one.ledger.find("c", "d59")
    assert decision is not None
    scores = [each.served.model.predict(decision.features, decision.offers) for each in pair]
    assert scores[0] == scores[1]
    assert scores[0][0] != scores[0][1], "they learned something"


async def test_the_holder_keeps_its_lease_and_commits_it_rarely(
    pair: tuple[Wired, Wired], clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is renewed three times a second, and nobody else asks for it meanwhile."""
    one, other = pair
    asked: list[str] = []
    for ledger in {one.ledger, other.ledger}:

        async def counted(
            holder: str, until_us: int, now: Now, real: Callable[..., Awaitable[int]] = ledger.lease
        ) -> int:
            asked.append(holder)
            return await real(holder, until_us, now)

        monkeypatch.setattr(ledger, "lease", counted)
    await _live(clock, one, other, seconds=6)
    assert set(asked) == {"one"}
    assert 12 <= len(asked) <= 20
    assert _holds(one, other) == [1, 0]


async def test_the_lease_passes_within_two_seconds_of_its_holders_end(
    pair: tuple[Wired, Wired], clock: HandClock
) -> None:
    """A holder that takes no turn any more is followed by another, which settles what is due."""
    one, other = pair
    await _decide(one, 0, 9)
    await _live(clock, one, other, seconds=DUE_S - 1.5)
    await _live(clock, other, seconds=0.9)
    assert _holds(other) == [0]
    await _live(clock, other, seconds=1.1)
    assert _holds(other) == [1]
    assert _sequences(other) == [9]


async def test_a_stopping_holder_lets_another_settle_at_once(
    pair: tuple[Wired, Wired], clock: HandClock
) -> None:
    """After `release` the next turn of another settles, with no time passing."""
    one, other = pair
    await _decide(one, 0, 9)
    clock.pass_s(DUE_S)
    await one.lease.ask()
    await one.learner.release()
    await _turns(other)
    assert _holds(one, other) == [0, 1]
    assert _sequences(other) == [9]


async def test_a_holder_that_wakes_up_late_settles_nothing_and_goes_on_as_a_replica(
    begin: Begin, clock: HandClock
) -> None:
    """Its settling is refused by the ledger, it says so once, and learns what the new holder settled."""
    one, other = await begin(Limits(lease_renew_every_s=NEVER_RENEWED_S), Limits(settle_batch_rows_max=4))
    await _decide(one, 0, 9)
    clock.pass_s(DUE_S)
    await _turns(other)
    assert await other.ledger.sequences("c") == (1, 4)
    with capture_logs() as logged:
        for _ in range(3):
            await _turns(one)
    assert await other.ledger.sequences("c") == (1, 4)
    assert [each["event"] for each in logged] == ["settling_lease_lost"]
    assert _sequences(one) == [4]
    assert _holds(one, other) == [0, 1]
    assert one.metric("learning_errors_total") == 0
    assert not one.learner.trouble()


async def test_settlements_are_counted_once_over_all_processes(
    pair: tuple[Wired, Wired], clock: HandClock
) -> None:
    """Each by the process that settled it, across changes of the holder, as are decisions that expired."""
    one, other = pair
    await _decide(one, 0, 10)
    await _decide(one, 100, 5, defer=True)
    await _live(clock, one, other, seconds=112)
    assert _counted(one, other) == [10, 0]
    assert _counted(one, other, name="expired_decisions_total") == [5, 0]
    await _decide(one, 200, 20)
    await _decide(one, 300, 2, defer=True)
    await _live(clock, other, seconds=112)
    await _turns(one)
    assert _counted(one, other) == [10, 20]
    assert _counted(one, other, name="expired_decisions_total") == [5, 2]
    assert _counted(one, other, name="reward_gain_total") == [4, 7]
    await _decide(one, 400, 30)
    await _live(clock, one, seconds=80)
    await _turns(other)
    assert _counted(one, other) == [40, 20]
    assert _sequences(one, other) == [60, 60]


async def test_what_the_next_holder_settled_before_the_last_one_learned_is_counted_once(
    begin: Begin, clock: HandClock
) -> None:
    """A holder held up between settling and learning counts its own part, not what came after it."""
    one, other = await begin(Limits(settle_batch_rows_max=4))
    await _decide(one, 0, 9)
    clock.pass_s(DUE_S)
    await one.learner.settle(one.served)
    await _live(clock, other, seconds=2)
    assert _holds(other) == [1]
    await one.learner.learn(one.served)
    assert _sequences(one, other) == [9, 9]
    assert _counted(one, other) == [4, 5]


async def test_who_gets_the_lease_back_counts_nothing_of_between(
    pair: tuple[Wired, Wired], clock: HandClock
) -> None:
    """One that did not learn for two changes of the holder counts what it settled last, and no one else's."""
    one, other = pair
    await _decide(one, 0, 4)
    clock.pass_s(DUE_S)
    await one.learner.settle(one.served)
    await _decide(one, 10, 5)
    await _live(clock, other, seconds=DUE_S)
    await _decide(one, 20, 3)
    clock.pass_s(DUE_S)
    await one.lease.ask()
    await _turns(one, one)
    assert _holds(one) == [1]
    await _turns(other)
    assert _sequences(one, other) == [12, 12]
    assert _counted(one, other) == [3, 5]


async def test_a_model_opened_anew_counts_nothing_again(pair: tuple[Wired, Wired], clock: HandClock) -> None:
    """What was counted is not counted again when another model learns it in the same process."""
    one, _ = pair
    await _decide(one, 0, 9)
    clock.pass_s(DUE_S)
    await _turns(one)
    await one.serve()
    await _turns(one)
    assert _sequences(one) == [9]
    assert _counted(one) == [9]


async def test_only_the_holder_writes_checkpoints(begin: Begin, clock: HandClock, tmp_path: Path) -> None:
    """Neither a turn nor a stop of a replica writes any."""
    limits = Limits(checkpoint_every_settlements=1)
    one, other = await begin(limits, limits)
    await _decide(one, 0, 9)
    clock.pass_s(DUE_S)
    await one.lease.ask()
    await one.learner.settle(one.served)
    await _turns(other)
    await other.learner.checkpoint_all()
    assert _sequences(other) == [9]
    assert other.checkpoints.campaigns() == []
    await _turns(one)
    assert one.checkpoints.oldest_sequence("c", one.served.model.lineage) == 9
    assert other.metric("checkpoint_errors_total") == 0


async def test_who_takes_the_lease_over_begins_with_settling(begin: Begin, clock: HandClock) -> None:
    """A replica counts on checkpoints that were due before it took over, and writes those that come due."""
    limits = Limits(checkpoint_every_settlements=5)
    one, other = await begin(limits, limits)
    await _decide(one, 0, 9)
    await _live(clock, one, other, seconds=DUE_S)
    assert _sequences(other) == [9]
    await _live(clock, other, seconds=2)
    assert _holds(other) == [1]
    assert other.metric("checkpoint_timestamp_seconds", campaign="c") == 0
    await _decide(other, 10, 5)
    await _live(clock, other, seconds=DUE_S)
    assert other.metric("checkpoint_timestamp_seconds", campaign="c") > 0


async def test_a_checkpoint_the_last_holder_did_not_come_to_is_written_by_the_next(
    begin: Begin, clock: HandClock
) -> None:
    """It was due when the holder was killed: whoever takes over writes it, though nothing settles after."""
    one, other = await begin(DEFAULTS, Limits(checkpoint_every_settlements=5))
    await _decide(one, 0, 9)
    await _live(clock, one, other, seconds=DUE_S)
    assert _sequences(other) == [9]
    assert one.checkpoints.campaigns() == []
    await _live(clock, other, seconds=2)
    assert _holds(other) == [1]
    assert one.checkpoints.newest_sequence("c", other.served.model.lineage) == 9


async def test_a_checkpoint_of_a_holder_that_wakes_up_late_does_no_harm(
    begin: Begin, clock: HandClock
) -> None:
    """It is one of an earlier sequence of the same order: the newest still serves, and `open` finds it."""
    one, other = await begin(Limits(settle_batch_rows_max=8, lease_renew_every_s=NEVER_RENEWED_S))
    await _decide(one, 0, 20)
    clock.pass_s(DUE_S)
    await one.learner.settle(one.served)
    await one.learner.learn(one.served)
    await _live(clock, other, seconds=2)
    await other.learner.checkpoint_all()
    await one.learner.checkpoint_all()
    assert one.checkpoints.oldest_sequence("c", one.served.model.lineage) == 8
    assert (await other.open()).sequence == 20
    await other.learner.checkpoint_all()
    await _turns(one)
    assert _sequences(one, other) == [20, 20]


async def test_only_the_holder_purges(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, clock: HandClock
) -> None:
    """A replica forgets nothing until it takes the lease."""
    _, other = await begin(DEFAULTS, Limits(purge_every_s=0.0))
    purged: list[str] = []

    async def purge(*_: object) -> int:
        purged.append("rows")
        return 0

    monkeypatch.setattr(other.ledger, "purge_customers", purge)
    await _turns(other)
    assert purged == []
    await _live(clock, other, seconds=2)
    assert _holds(other) == [1]
    assert purged


async def test_a_long_turn_keeps_the_lease(begin: Begin, clock: HandClock) -> None:
    """It is renewed between campaigns and between batches of old rows, however long they take together."""
    one, other = await begin(Limits(purge_every_s=0.0))
    for number in range(4):
        one.serve_also(CAMPAIGN.replace("campaign: c", f"campaign: c{number}"))
    real, batches, kept = one.ledger.oldest_due_service_us, 0, []

    async def slow(campaign: str) -> int | None:
        clock.pass_s(0.9)
        kept.append(await one.ledger.leased_until_us() > clock.service_us)
        return await real(campaign)

    async def slow_purge(*_: object) -> int:
        nonlocal batches
        batches += 1
        clock.pass_s(0.9)
        await other.lease.seek()
        return 5 - batches

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one.ledger, "oldest_due_service_us", slow)
        patch.setattr(one.ledger, "purge_customers", slow_purge)
        await _turns(one)
    assert kept == [True] * 4, "of the new campaigns: the first has nothing to do"
    assert batches == 5
    assert _holds(one, other) == [1, 0]
    assert one.lease.token == 1, "nobody had it meanwhile"


async def test_a_lease_that_cannot_be_renewed_is_told_and_asked_for_again(
    pair: tuple[Wired, Wired], clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger that cannot commit is told once and asked as rarely as ever, and holds no campaign up."""
    one, _ = pair
    for number in range(4):
        one.serve_also(CAMPAIGN.replace("campaign: c", f"campaign: c{number}"))

    async def full_disk(*_: object) -> int:
        raise LedgerUnavailable("for the test")

    with monkeypatch.context() as patch, capture_logs() as logged:
        patch.setattr(one.ledger, "lease", full_disk)
        await _live(clock, one, seconds=3)
    assert [(each["event"], each["campaign"]) for each in logged] == [("learning_failed", "(lease)")]
    assert 8 <= one.metric("learning_errors_total", campaign="(lease)") <= 10
    assert one.metric("learning_errors_total", campaign="c") == 0
    with capture_logs() as logged:
        await _live(clock, one, seconds=1)
    assert [each["event"] for each in logged] == ["learning_recovered"]
    assert one.lease.token == 1


async def test_many_learners_race_and_one_settles(tmp_path: Path, clock: HandClock) -> None:
    """Begun at once, their turns interleaved, they settle everything once, in order."""
    first = await Wired(CAMPAIGN, tmp_path, holder="0", clock=clock).start()
    rest = [
        await Wired(CAMPAIGN, tmp_path, first.ledger, holder=str(number), clock=clock).start()
        for number in range(1, 4)
    ]
    all_of_them = [first, *rest]
    for begun in range(0, 40, 10):
        await _decide(first, begun, 10)
        clock.pass_s(DUE_S)
        for _ in range(2):
            await asyncio.gather(*(each.learner.turn() for each in all_of_them))
    assert sum(_holds(*all_of_them)) == 1
    assert _sequences(*all_of_them) == [40] * 4
    assert sum(_counted(*all_of_them)) == 40
    assert [each.decision_id for each in await first.ledger.settlements("c", 0, 99)] == [
        f"d{number}" for number in range(40)
    ]
