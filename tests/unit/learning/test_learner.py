"""What is learned, when, and in which order: the real model, a ledger in memory, time moved by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.wiring import Wired

from tilbud.campaigns.served import ServedCampaign
from tilbud.domain.campaign.campaign import PERSONALIZED, Campaign
from tilbud.domain.clock import Now
from tilbud.domain.decision.records import DecideRequest, Settlement
from tilbud.domain.decision.rewards import OutcomeStatus
from tilbud.domain.errors import LedgerInvalid, LedgerUnavailable, Overloaded
from tilbud.domain.limits import Limits
from tilbud.domain.pauses import Pause
from tilbud.insight.audit import Rebuilt, rebuild
from tilbud.ledger.answers import Settled
from tilbud.ledger.memory.reader import MemoryReader
from tilbud.service.outcomes import OutcomeReport

AT_DEADLINE = """
campaign: c
offers: [{id: a}, {id: b}]
reward:
  window: 60s
  activation_window: 100s
  grace: 10s
  default: 0.25
  outcomes: {click: 0.5, bought: {weight: 1, final: true}}
consent: not_required
"""


@pytest.fixture
async def wired(tmp_path: Path) -> Wired:
    """A campaign that learns at the deadline."""
    return await Wired(AT_DEADLINE, tmp_path).start()


@pytest.fixture
async def prompt(tmp_path: Path) -> Wired:
    """A campaign that learns as soon as a final outcome arrives."""
    yaml = AT_DEADLINE.replace("  outcomes:", "  learn: on_settlement\n  outcomes:")
    return await Wired(yaml, tmp_path).start()


async def _limited(directory: Path, **limits: Any) -> Wired:
    """Return a campaign that learns at the deadline, of a service with other limits."""
    return await Wired(AT_DEADLINE, directory, limits=replace(Limits(), **limits)).start()


async def _decide(wired: Wired, decision_id: str, *, defer: bool = False) -> None:
    await wired.decide.decide(DecideRequest("c", decision_id=decision_id, defer_activation=defer))


async def _report(
    wired: Wired, decision_id: str, outcome: str = "click", time_us: int | None = None
) -> OutcomeStatus:
    return await wired.report.report(OutcomeReport("c", decision_id, outcome, time_us=time_us))


async def _settled(wired: Wired) -> list[Settlement]:
    return await wired.ledger.settlements("c", 0, 1_000)


async def test_a_decision_is_learned_at_its_deadline_whenever_its_outcome_came(wired: Wired) -> None:
    """Nothing before window and grace are over; then once, with its reward."""
    await _decide(wired, "d")
    await _report(wired, "d", "bought")
    wired.clock.pass_s(69)
    await wired.learner.turn()
    assert wired.served.model.sequence == 0
    wired.clock.pass_s(2)
    await wired.learner.turn()
    await wired.learner.turn()
    assert wired.served.model.sequence == 1
    assert [each.reward for each in await _settled(wired)] == [1.0]


async def test_silence_earns_the_default_once(wired: Wired) -> None:
    """No outcome: the default reward, learned once, also across a restart."""
    await _decide(wired, "d")
    wired.clock.pass_s(71)
    await wired.learner.turn()
    await wired.serve()
    await wired.learner.turn()
    assert [each.reward for each in await _settled(wired)] == [0.25]
    assert wired.served.model.sequence == 1


async def test_deadlines_decide_the_order(wired: Wired) -> None:
    """Settlements are in order of their deadlines, not of their outcomes."""
    for number in range(5):
        await _decide(wired, f"d{number}")
        wired.clock.pass_s(1)
    for number in (3, 0, 4):
        await _report(wired, f"d{number}")
    wired.clock.pass_s(80)
    await wired.learner.turn()
    assert [each.decision_id for each in await _settled(wired)] == ["d0", "d1", "d2", "d3", "d4"]


async def test_a_final_outcome_settles_at_once_where_the_campaign_says_so(prompt: Wired) -> None:
    """`learn: on_settlement`: a final outcome is learned in the next turn, any other waits."""
    await _decide(prompt, "quick")
    await _decide(prompt, "slow")
    await _report(prompt, "quick", "bought")
    await _report(prompt, "slow", "click")
    await prompt.learner.turn()
    assert [each.decision_id for each in await _settled(prompt)] == ["quick"]
    assert await _report(prompt, "quick", "click") is OutcomeStatus.LATE


async def test_a_decision_that_was_never_activated_is_not_learned(wired: Wired) -> None:
    """Deferred and not activated in time: expired, no settlement, its outcomes LATE."""
    await _decide(wired, "d", defer=True)
    assert await _report(wired, "d") is OutcomeStatus.HELD
    wired.clock.pass_s(101)
    await wired.learner.turn()
    assert await _settled(wired) == []
    assert wired.metric("expired_decisions_total", campaign="c") == 1
    assert await wired.report.report(OutcomeReport("c", "d", "bought")) is OutcomeStatus.LATE


async def test_the_window_of_a_deferred_decision_opens_at_its_activation(wired: Wired) -> None:
    """Held outcomes count once it is activated, and the deadline counts from there."""
    await _decide(wired, "d", defer=True)
    await _report(wired, "d")
    wired.clock.pass_s(90)
    await wired.report.activate("c", "d", "")
    wired.clock.pass_s(69)
    await wired.learner.turn()
    assert await _settled(wired) == []
    wired.clock.pass_s(2)
    await wired.learner.turn()
    assert [each.reward for each in await _settled(wired)] == [0.5]


async def test_outcomes_on_their_way_at_the_deadline_count_within_the_grace(wired: Wired) -> None:
    """Happened before the deadline and arrived in the grace: ACCEPTED; happened after it: LATE."""
    await _decide(wired, "d")
    before_us = wired.clock.wall_us + 59_000_000
    wired.clock.pass_s(65)
    assert await _report(wired, "d", "click", before_us) is OutcomeStatus.ACCEPTED
    assert await _report(wired, "d", "bought", wired.clock.wall_us) is OutcomeStatus.LATE


async def test_a_jumping_wall_clock_settles_nothing_early(wired: Wired) -> None:
    """The wall jumps a year ahead: nothing is due; deadlines stand on the service clock."""
    await _decide(wired, "d")
    wired.clock.wall_us += 365 * 86_400_000_000
    await wired.learner.turn()
    assert await _settled(wired) == []
    assert await _report(wired, "d") is OutcomeStatus.ACCEPTED


async def test_downtime_moves_the_deadlines(wired: Wired) -> None:
    """An hour away moves every deadline by an hour: an outcome right after it still counts."""
    await _decide(wired, "d")
    wired.clock.wall_us += 3_600_000_000  # the service clock stood still
    assert await _report(wired, "d", "click", wired.clock.wall_us - 1_000_000) is OutcomeStatus.ACCEPTED
    wired.clock.pass_s(71)
    await wired.learner.turn()
    assert [each.reward for each in await _settled(wired)] == [0.5]


async def test_a_restart_learns_from_the_checkpoint_on(wired: Wired) -> None:
    """Checkpoint + settlements since gives the same predictions as never having stopped."""
    for number in range(50):
        await _decide(wired, f"d{number}")
        if number % 3 == 0:
            await _report(wired, f"d{number}", "bought")
        if number == 25:
            wired.clock.pass_s(80)
            await wired.learner.turn()
            await wired.learner.checkpoint_all()
    wired.clock.pass_s(80)
    await wired.learner.turn()
    decision = await wired.ledger.find("c", "d49")
    assert decision is not None
    kept = wired.served.model.predict(decision.features, decision.offers)
    assert (await wired.open()).sequence == 26
    await wired.serve()
    await wired.learner.turn()
    assert wired.served.model.sequence == 50
    assert wired.served.model.predict(decision.features, decision.offers) == kept


async def test_rebuild_agrees_with_the_running_model_and_notices_another(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every recorded decision is drawn alike by a model learned anew; a tampered history is not."""
    for number in range(60):
        await _decide(wired, f"d{number}")
        await _report(wired, f"d{number}", "bought" if number % 2 else "click")
        wired.clock.pass_s(5)
        await wired.learner.turn()
    await wired.learner.checkpoint_all()
    found = await _rebuild(wired, wired.campaign)
    assert found.agrees
    assert found.decisions_checked == 60
    assert found.checkpoint_sequence == wired.served.model.sequence
    file_changed = wired.campaign.exploration.model_copy(update={"discovery": 0.5})
    other = wired.campaign.model_copy(update={"exploration": file_changed})
    assert (await _rebuild(wired, other)).agrees, "what a decision was drawn with is in its record"
    real = MemoryReader.settlements

    async def tampered(reader: MemoryReader, campaign: str, after: int) -> AsyncIterator[list[Settlement]]:
        async for page in real(reader, campaign, after):
            yield [replace(row, reward=1.0 - row.reward) for row in page]

    monkeypatch.setattr(MemoryReader, "settlements", tampered)
    assert not (await _rebuild(wired, wired.campaign)).agrees


async def test_a_decision_that_was_recorded_late_is_checked_too(wired: Wired) -> None:
    """Decisions overtaken by others on their way to the ledger are compared at their own sequence."""
    for number in range(5):
        await _decide(wired, f"d{number}")
    (early,) = [await wired.ledger.find("c", "d0")]
    assert early is not None
    wired.clock.pass_s(80)
    await wired.learner.turn()
    await _decide(wired, "later")
    await wired.ledger.record([early._replace(decision_id="overtaken")], wired.clock.now())
    found = await _rebuild(wired, wired.campaign)
    assert (found.decisions_checked, found.decisions_passed_over) == (7, 0)
    assert found.agrees


async def _rebuild(wired: Wired, campaign: Campaign) -> Rebuilt:
    async with wired.ledger.reader() as reader:
        return await rebuild(
            campaign, PERSONALIZED, reader=reader, checkpoints=wired.checkpoints, limits=wired.limits
        )


async def test_one_failing_turn_is_not_the_last(wired: Wired, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that fails is counted and tried again, and nothing is lost."""
    await _decide(wired, "d")
    wired.clock.pass_s(80)

    async def failing(*_: object) -> None:
        raise OSError("for the test")

    with monkeypatch.context() as patch:
        patch.setattr(wired.ledger, "settle", failing)
        await wired.learner.turn()
    await wired.learner.turn()
    assert wired.metric("learning_errors_total", campaign="c") == 1
    assert not wired.learner.trouble()
    assert wired.served.model.sequence == 1


async def test_a_failing_campaign_does_not_hold_the_others_up(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one campaign's rows cannot be read, the others settle and learn, and old rows still go."""
    other = wired.serve_also(AT_DEADLINE.replace("campaign: c", "campaign: a"))
    await _decide(wired, "d")
    real = wired.ledger.settlements

    async def failing(campaign: str, after: int, limit: int) -> list[Settlement]:
        if campaign == "a":
            raise LedgerInvalid("for the test")
        return await real(campaign, after, limit)

    monkeypatch.setattr(wired.ledger, "settlements", failing)
    wired.clock.pass_s(80)
    await wired.learner.turn()
    assert wired.catalog.get("c").model.sequence == 1
    assert wired.metric("learning_errors_total", campaign="a") == 1
    assert not wired.learner.trouble(), "decisions go on, of both"
    assert other.model.sequence == 0
    assert wired.metric("pending_decisions", campaign="c") == 0


async def _taken_away(wired: Wired, *campaigns: str) -> None:
    """Have an open decision of each of these campaigns, which are served no more."""
    for name in campaigns:
        wired.serve_also(AT_DEADLINE.replace("campaign: c", f"campaign: {name}"))
        await wired.decide.decide(DecideRequest(name, decision_id="d"))
    wired.catalog.replace([wired.catalog.get("c")])
    await wired.ledger.serve({"c"}, wired.clock.now())


async def test_a_campaign_that_is_gone_and_cannot_be_settled_holds_nothing_up(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told once, with its name; the others are settled, and the service stays ready."""
    await _taken_away(wired, "a", "b")
    wired.clock.pass_s(wired.limits.campaign_away_max_s + 3_600)
    real = wired.ledger.settle

    async def failing(campaign: str, *rest: Any) -> Settled:
        if campaign == "a":
            raise LedgerInvalid("for the test")
        return await real(campaign, *rest)

    monkeypatch.setattr(wired.ledger, "settle", failing)
    with capture_logs() as logged:
        for seconds in (0.0, 2.0, 4.0):
            await wired.turn_after(monkeypatch, seconds)
    assert [line["campaign"] for line in logged if line["event"] == "learning_failed"] == ["a"]
    assert not wired.learner.trouble()
    assert [name for name, of in (await wired.ledger.standings()).items() if of.open] == ["a"]


async def test_a_campaign_that_is_gone_costs_no_commits_while_nothing_is_due(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, and however long their decisions stay open."""
    await _taken_away(wired, "a", "b")
    asked = 0

    async def settle(*_: object) -> Settled:
        nonlocal asked
        asked += 1
        return Settled(0, 0, more=False)

    monkeypatch.setattr(wired.ledger, "settle", settle)
    await wired.turn_after(monkeypatch, 2.0)
    assert asked == 0


async def test_a_hanging_turn_is_told(wired: Wired, monkeypatch: pytest.MonkeyPatch) -> None:
    """A learner that does not go on makes the service unready."""
    assert not wired.learner.trouble()
    monkeypatch.setattr("tilbud.learning.learner.monotonic", lambda: time.monotonic() + 60.0)
    assert "has not gone on" in wired.learner.trouble()


async def test_a_ledger_that_cannot_commit_makes_the_service_unready_until_it_can(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unready from the first failed heartbeat to the first that commits, whatever other turns do."""

    async def full_disk(*_: object) -> None:
        raise LedgerUnavailable("for the test")

    with monkeypatch.context() as patch:
        patch.setattr(wired.ledger, "touch", full_disk)
        await wired.learner.turn()
        await wired.learner.turn()
        assert "cannot commit" in wired.learner.trouble()
    await wired.turn_after(monkeypatch, 2.0)
    assert not wired.learner.trouble()


async def test_a_failing_checkpoint_is_not_tried_at_every_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk costs an attempt now and then, not one a turn; the last good checkpoint stays."""
    wired = await _limited(tmp_path, checkpoint_every_settlements=1)
    attempts = 0

    def full_disk(*_: object) -> None:
        nonlocal attempts
        attempts += 1
        raise OSError("for the test")

    monkeypatch.setattr(wired.checkpoints, "prepare", full_disk)
    await _decide(wired, "d")
    wired.clock.pass_s(80)
    for _ in range(5):
        await wired.learner.turn()
    assert attempts == 1
    assert wired.metric("checkpoint_errors_total", campaign="c") == 1


async def test_shed_load_is_no_ill_health(wired: Wired, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full ledger postpones settling; the service stays ready."""
    await _decide(wired, "d")
    wired.clock.pass_s(80)

    async def full(*_: object) -> None:
        raise Overloaded("the queue of the ledger", 0.25)

    with monkeypatch.context() as patch:
        patch.setattr(wired.ledger, "settle", full)
        await wired.learner.turn()
    assert not wired.learner.trouble()
    await wired.learner.turn()
    assert wired.served.model.sequence == 1


async def test_a_checkpoint_of_a_lost_ledger_is_never_loaded(wired: Wired, tmp_path: Path) -> None:
    """After the ledger is begun anew, checkpoints of its former life are removed, not met again later."""
    for number in range(10):
        await _decide(wired, f"d{number}")
    wired.clock.pass_s(80)
    await wired.learner.turn()
    await wired.learner.checkpoint_all()
    anew = await Wired(AT_DEADLINE, tmp_path).start()
    for number in range(10):
        await _decide(anew, f"d{number}")
    anew.clock.pass_s(80)
    await anew.learner.turn()
    assert anew.served.model.sequence == 10
    assert (await anew.open()).sequence == 0


async def test_a_new_lineage_learns_from_all_that_happened(wired: Wired) -> None:
    """Another algorithm is another lineage: it learns every settlement the ledger has."""
    for number in range(20):
        await _decide(wired, f"d{number}")
    wired.clock.pass_s(80)
    await wired.learner.turn()
    await wired.learner.checkpoint_all()
    before = wired.served.model.lineage
    exploration = wired.campaign.exploration.model_copy(update={"preset": "epsilon_greedy"})
    wired.campaign = wired.campaign.model_copy(update={"exploration": exploration})
    await wired.serve()
    assert wired.served.model.lineage != before
    await wired.learner.turn()
    assert wired.served.model.sequence == 20


async def test_old_decisions_go_and_the_model_can_still_be_rebuilt(tmp_path: Path) -> None:
    """Beyond the retention decisions go, but those a checkpoint needs; `rebuild` still agrees."""
    wired = await _limited(tmp_path, retention_s=1_000.0, purge_every_s=0.0)
    for number in range(60):
        await _decide(wired, f"d{number}")
        await _report(wired, f"d{number}", "bought" if number % 3 else "click")
        wired.clock.pass_s(100)
        await wired.learner.turn()
        if number % 10 == 9:
            await wired.learner.checkpoint_all()
    assert await wired.ledger.find("c", "d0") is None
    assert await wired.ledger.find("c", "d59") is not None
    first, last = await wired.ledger.sequences("c")
    assert 1 < first <= (wired.checkpoints.oldest_sequence("c", wired.served.model.lineage) or 0) + 1
    assert last == wired.served.model.sequence
    found = await _rebuild(wired, wired.campaign)
    assert found.agrees
    assert found.decisions_checked > 10


async def test_old_rows_of_customers_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events beyond the retention and exposures beyond the longest cap, until none is left."""
    wired = await _limited(tmp_path, retention_s=100.0, exposures_kept_s=200.0, purge_every_s=0.0)
    asked: list[tuple[int, int, int]] = []

    async def purge(events_before_us: int, exposures_before_us: int, limit: int, _now: Now) -> int:
        asked.append((events_before_us, exposures_before_us, limit))
        return 3 - len(asked)

    monkeypatch.setattr(wired.ledger, "purge_customers", purge)
    await wired.learner.turn()
    now_us = wired.clock.wall_us
    assert asked == [(now_us - 100_000_000, now_us - 200_000_000, wired.limits.purge_batch_rows_max)] * 3


async def test_customers_whose_rows_cannot_be_purged_hold_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted by itself, and decisions are purged all the same."""
    wired = await _limited(tmp_path, purge_every_s=0.0)

    async def failing(*_: object) -> int:
        raise LedgerUnavailable("for the test")

    monkeypatch.setattr(wired.ledger, "purge_customers", failing)
    await wired.learner.turn()
    assert wired.metric("learning_errors_total", campaign="(purge of customers)") == 1
    assert wired.metric("learning_errors_total", campaign="(purge)") == 0
    assert not wired.learner.trouble()


async def test_what_is_paused_is_shown(wired: Wired, monkeypatch: pytest.MonkeyPatch) -> None:
    """The heartbeat shows each pause, whoever set it."""
    now = wired.clock.now()
    await wired.ledger.pause(Pause("c", "a", "sold out", now.wall_us, None), now)
    await wired.learner.turn()
    assert wired.metric("paused", campaign="c", offer="a") == 1
    await wired.ledger.resume("c", "a", now)
    await wired.turn_after(monkeypatch, 2.0)
    assert wired.metric("paused", campaign="c") == 0


@pytest.mark.parametrize(("late_s", "paused"), [(0.1, True), (10.0, False)])
async def test_learning_leaves_pauses_unless_there_is_a_backlog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late_s: float, paused: bool
) -> None:
    """Between slices calls get their turn for a while; what is long overdue is learned without a pause."""
    wired = await _limited(tmp_path, learn_slice_s=0.0)
    for number in range(5):
        await _decide(wired, f"d{number}")
    wired.clock.pass_s(70 + late_s)
    pauses_s: list[float] = []
    sleep = asyncio.sleep

    async def slept(seconds: float) -> None:
        pauses_s.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", slept)
    await wired.learner.turn()
    assert wired.served.model.sequence == 5
    assert (wired.limits.learn_pause_s in pauses_s) is paused


async def test_an_idle_turn_asks_the_ledger_once_for_all_campaigns(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Campaigns with nothing due and nothing to learn are not visited, and their metrics stay right."""
    wired.serve_also(AT_DEADLINE.replace("campaign: c", "campaign: z"))
    await _decide(wired, "d")
    await wired.learner.turn()
    asked: list[str] = []

    async def read(*_: object) -> int | None:
        asked.append("read")
        return None

    with monkeypatch.context() as patch:
        patch.setattr(wired.ledger, "clocks", read)
        patch.setattr(wired.ledger, "settlements", read)
        patch.setattr(wired.ledger, "sequences", read)
        patch.setattr(wired.ledger, "erasures", read)
        await wired.learner.turn()
    assert asked == []
    wired.clock.pass_s(80)
    await wired.learner.turn()
    assert wired.served.model.sequence == 1
    assert wired.metric("settlement_lag_seconds", campaign="c") == pytest.approx(10.0)
    await wired.learner.turn()
    assert wired.metric("settlement_lag_seconds", campaign="c") == 0.0
    assert wired.metric("model_sequence", campaign="c") == 1


async def test_a_model_is_not_behind_where_only_what_it_learned_was_purged(wired: Wired) -> None:
    """It is behind where the settlement that comes next is gone, and not one before."""
    for number in range(3):
        await _decide(wired, f"d{number}")
        wired.clock.pass_s(1)
    wired.clock.pass_s(80)
    late = await wired.open()
    await wired.learner.turn()
    now = wired.clock.now()
    assert await wired.ledger.purge("c", now.steady_us, 1, 1, now) == 1
    assert await wired.ledger.sequences("c") == (2, 3)
    assert await wired.learner.behind() == ()
    served = wired.served
    wired.catalog.replace([ServedCampaign(served.file, {PERSONALIZED: late}, wired.limits)])
    for sequence, behind in ((0, (("c", PERSONALIZED),)), (1, ())):
        late.sequence = sequence
        assert await wired.learner.behind() == behind
    wired.catalog.replace([served])
