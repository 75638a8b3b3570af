"""A campaign file that changes, or goes, changes nothing of what was decided under it."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.unit.campaigns.test_loader import CAMPAIGN, loader_of
from tests.wiring import Wired

from tilbud.campaigns.loader import CampaignLoader
from tilbud.domain.campaign.campaign import PERSONALIZED
from tilbud.domain.decision.records import DecideRequest
from tilbud.domain.decision.rewards import OutcomeStatus
from tilbud.domain.errors import InvalidField, UnknownCampaign, UnknownDecision
from tilbud.domain.limits import Limits
from tilbud.insight.audit import rebuild
from tilbud.ledger.durability import Durability
from tilbud.ledger.sqlite.adapter import SqliteLedger
from tilbud.ledger.sqlite.schema import MIGRATIONS, open_for_writing
from tilbud.service.outcomes import OutcomeReport

RENAMED = CAMPAIGN.replace("click: 1", "clicked: 0.5, buy: 1")


@pytest.fixture
async def wired(tmp_path: Path) -> Wired:
    """Campaign `c`, served from memory."""
    return await Wired(CAMPAIGN, tmp_path / "checkpoints").start()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Where the campaign files are: that of `c`, and another's."""
    directory = tmp_path / "files"
    directory.mkdir()
    (directory / "c.yaml").write_text(CAMPAIGN)
    (directory / "other.yaml").write_text(CAMPAIGN.replace("campaign: c", "campaign: other"))
    return directory


@pytest.fixture
async def loader(wired: Wired, files: Path) -> CampaignLoader:
    """The loader of these files, which it loaded once."""
    loader = loader_of(wired, files)
    await loader.reload()
    return loader


async def _rewards(wired: Wired) -> dict[str, float]:
    wired.clock.pass_s(20)
    await wired.learner.turn()
    return {each.decision_id: each.reward for each in await wired.ledger.settlements("c", 0, 100)}


async def test_a_renamed_outcome_turns_nothing_into_a_failure(
    wired: Wired, files: Path, loader: CampaignLoader
) -> None:
    """What was accepted counts; the old name counts still, the new one as today's file says."""
    for each in ("told", "old", "new", "silent"):
        await wired.decide.decide(DecideRequest("c", decision_id=each))
    await wired.report.report(OutcomeReport("c", "told", "click"))
    (files / "c.yaml").write_text(RENAMED)
    assert (await loader.reload()).under_older_rules == {"c": 4}
    await wired.decide.decide(DecideRequest("c", decision_id="after"))
    assert await wired.report.report(OutcomeReport("c", "old", "click")) is OutcomeStatus.ACCEPTED
    assert await wired.report.report(OutcomeReport("c", "new", "clicked")) is OutcomeStatus.ACCEPTED
    with pytest.raises(InvalidField, match=r"declares: clicked, buy$"):
        await wired.report.report(OutcomeReport("c", "after", "click"))
    assert await _rewards(wired) == {"told": 1.0, "old": 1.0, "new": 0.5, "silent": 0.0, "after": 0.0}
    assert wired.metric("outcomes_total", outcome="unknown", status="refused") == 1
    (files / "c.yaml").write_text(CAMPAIGN)
    assert (await loader.reload()).under_older_rules == {}


async def test_an_undeclared_outcome_is_told_what_both_files_declare(
    wired: Wired, files: Path, loader: CampaignLoader
) -> None:
    """Of an older decision today's names count and its own: the error says both, and none twice."""
    await wired.decide.decide(DecideRequest("c", decision_id="old"))
    (files / "c.yaml").write_text(RENAMED)
    await loader.reload()
    with pytest.raises(InvalidField) as refused:
        await wired.report.report(OutcomeReport("c", "old", "bought"))
    assert refused.value.problem == (
        "must be one the campaign declares: clicked, buy; of this decision also: click"
    )


async def test_what_nobody_knows_is_refused_as_ever(wired: Wired, loader: CampaignLoader) -> None:
    """An undeclared outcome of an unknown decision is the caller's error, named by its field."""
    with pytest.raises(InvalidField, match="must be one the campaign declares: click"):
        await wired.report.report(OutcomeReport("c", "nobody", "clicked"))
    with pytest.raises(UnknownDecision):
        await wired.report.report(OutcomeReport("c", "nobody", "click"))
    with pytest.raises(UnknownCampaign):
        await wired.report.report(OutcomeReport("unknown", "nobody", "click"))
    with pytest.raises(UnknownCampaign):
        await wired.report.activate("unknown", "nobody", "")


async def test_while_the_file_is_away_outcomes_and_activations_are_taken(
    wired: Wired, files: Path, loader: CampaignLoader
) -> None:
    """They are checked against what was stored; what the ledger does not know is NOT_FOUND."""
    await wired.decide.decide(DecideRequest("c", decision_id="shown"))
    await wired.decide.decide(DecideRequest("c", decision_id="waiting", defer_activation=True))
    (files / "c.yaml").unlink()
    await loader.reload()
    assert await wired.report.report(OutcomeReport("c", "shown", "click")) is OutcomeStatus.ACCEPTED
    assert await wired.report.report(OutcomeReport("c", "waiting", "click")) is OutcomeStatus.HELD
    with pytest.raises(InvalidField, match="shown_offer_id"):
        await wired.report.activate("c", "waiting", "nonsense")
    assert await wired.report.activate("c", "waiting", "") is not None
    with pytest.raises(InvalidField, match="must be one the campaign declares: click"):
        await wired.report.report(OutcomeReport("c", "shown", "clicked"))
    with pytest.raises(UnknownCampaign):
        await wired.report.report(OutcomeReport("c", "nobody", "click"))
    with pytest.raises(UnknownCampaign):
        await wired.report.activate("c", "nobody", "")
    (files / "c.yaml").write_text(RENAMED)
    assert (await loader.reload()).under_older_rules == {"c": 2}
    assert await _rewards(wired) == {"shown": 1.0, "waiting": 1.0}


async def test_an_absence_takes_nothing_from_a_window(
    wired: Wired, files: Path, loader: CampaignLoader
) -> None:
    """What could not be reported to a campaign that was away is told when it is back, and counts."""
    await wired.decide.decide(DecideRequest("c", decision_id="d"))
    (files / "c.yaml").unlink()
    await loader.reload()
    wired.clock.pass_s(3_600)
    await wired.learner.turn()
    (files / "c.yaml").write_text(CAMPAIGN)
    await loader.reload()
    await wired.learner.turn()
    assert await wired.report.report(OutcomeReport("c", "d", "click")) is OutcomeStatus.ACCEPTED
    assert await _rewards(wired) == {"d": 1.0}
    assert wired.served.model.sequence == 1


async def test_nothing_of_a_campaign_that_is_gone_stays_open(
    wired: Wired, files: Path, loader: CampaignLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits expires in time, what was shown settles after a day, and is learned if it comes back."""
    await wired.decide.decide(DecideRequest("c", decision_id="shown"))
    await wired.decide.decide(DecideRequest("c", decision_id="waiting", defer_activation=True))
    await wired.report.report(OutcomeReport("c", "shown", "click"))
    (files / "c.yaml").unlink()
    await loader.reload()
    await wired.turn_after(monkeypatch, 0.0)
    assert wired.metric("unserved_decisions", campaign="c") == 2
    for turn, (passed_s, left) in enumerate(((3_600, 1), (82_000, 1), (1_000, 0)), start=1):
        wired.clock.pass_s(passed_s)
        await wired.turn_after(monkeypatch, 2.0 * turn)
        assert await wired.ledger.pending("c") == left
    assert wired.metric("expired_decisions_total", campaign="c") == 1
    await wired.turn_after(monkeypatch, 8.0)
    assert wired.metric("unserved_decisions", campaign="c") == 0
    (files / "c.yaml").write_text(RENAMED)
    await loader.reload()
    assert wired.served.model.sequence == 1
    assert [each.reward for each in await wired.ledger.settlements("c", 0, 9)] == [1.0]


async def test_a_ledger_of_before_settles_and_is_rebuilt(tmp_path: Path) -> None:
    """Its open decisions take today's rules, and the model made anew from it agrees."""
    step = next(no for no, step in enumerate(MIGRATIONS) if "decisions ADD COLUMN rules" in step[0])
    now, before = tmp_path / "now.sqlite3", tmp_path / "before.sqlite3"
    ledger = SqliteLedger(now, durability=Durability.PROCESS, limits=Limits())
    wired = await Wired(CAMPAIGN, tmp_path / "checkpoints", ledger).start()
    for number in range(20):
        await wired.decide.decide(DecideRequest("c", decision_id=f"old-{number}"))
    await ledger.close()
    _copy(now, before, step)

    ledger = SqliteLedger(before, durability=Durability.PROCESS, limits=Limits())
    after = await Wired(CAMPAIGN, tmp_path / "checkpoints", ledger, clock=wired.clock).start()
    for number in range(0, 20, 2):
        report = OutcomeReport("c", f"old-{number}", "click")
        assert await after.report.report(report) is OutcomeStatus.ACCEPTED
    rewards = await _rewards(after)
    assert sum(rewards.values()) == 10
    for number in range(20):
        await after.decide.decide(DecideRequest("c", decision_id=f"new-{number}"))
    await _rewards(after)
    await after.learner.checkpoint_all()
    async with ledger.reader() as reader:
        found = await rebuild(
            after.campaign, PERSONALIZED, reader=reader, checkpoints=after.checkpoints, limits=Limits()
        )
    assert (found.sequence, found.decisions_checked) == (40, 40)
    assert found.agrees
    await ledger.close()


def _copy(now: Path, before: Path, step: int) -> None:
    """Copy what a ledger of today holds into a file of the schema before `step`."""
    connection = open_for_writing(before, Durability.PROCESS, MIGRATIONS[:step])
    connection.execute("ATTACH ? AS now", (str(now),))
    tables = connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall()
    for (table,) in tables:
        columns = ", ".join(row[1] for row in connection.execute(f"PRAGMA main.table_info({table})"))
        connection.execute(
            f"INSERT OR REPLACE INTO main.{table} ({columns}) SELECT {columns} FROM now.{table}"  # noqa: S608 - our own
        )
    connection.close()


@pytest.mark.parametrize(
    "changed",
    [
        CAMPAIGN.replace("click: 1", "click: 100"),
        CAMPAIGN.replace("reward: {", "reward: {range: [0, 100], "),
        CAMPAIGN.replace("reward: {", "reward: {default: 0.5, "),
    ],
)
async def test_rewards_of_another_unit_are_warned_of(
    wired: Wired, files: Path, loader: CampaignLoader, changed: str
) -> None:
    """Who changes weights or the range of a campaign with settled rewards is told they are not converted."""
    assert changed != CAMPAIGN
    (files / "c.yaml").write_text(changed)
    assert (await loader.reload()).rewards_not_converted == (), "nothing is settled yet"
    await wired.decide.decide(DecideRequest("c", decision_id="one"))
    await _rewards(wired)
    (files / "c.yaml").write_text(CAMPAIGN)
    with capture_logs() as lines:
        assert (await loader.reload()).rewards_not_converted == ("c",)
    [told] = [line for line in lines if line["event"] == "rewards_not_converted"]
    assert (told["campaign"], told["settled"]) == ("c", 1)
    assert (await loader.reload()).rewards_not_converted == ()


async def test_what_changes_no_unit_is_not_warned_of(
    wired: Wired, files: Path, loader: CampaignLoader
) -> None:
    """Another window, preset or outcome beside leaves what is settled as it is."""
    await wired.decide.decide(DecideRequest("c", decision_id="one"))
    await _rewards(wired)
    (files / "c.yaml").write_text(CAMPAIGN.replace("window: 10s", "window: 20s") + "sticky: 1h\n")
    assert (await loader.reload()).rewards_not_converted == ()


async def test_a_click_whose_activation_was_lost_counts(
    wired: Wired, files: Path, loader: CampaignLoader
) -> None:
    """Where the file says that it shows, it activates the decision, and both are counted."""
    (files / "c.yaml").write_text(CAMPAIGN.replace("click: 1", "click: {weight: 1, shows: true}"))
    await loader.reload()
    await wired.decide.decide(DecideRequest("c", decision_id="lost", defer_activation=True))
    assert await wired.report.report(OutcomeReport("c", "lost", "click")) is OutcomeStatus.ACCEPTED
    assert wired.metric("activations_total", campaign="c", status="activated") == 1
    assert wired.metric("outcomes_total", outcome="click", status="accepted") == 1
    assert await _rewards(wired) == {"lost": 1.0}
