"""Loading campaigns while others are served, without a process."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.wiring import Wired

from tilbud.domain.decisions import DecideRequest, Settlement
from tilbud.domain.errors import CampaignInvalid, LedgerInvalid
from tilbud.learning.replica import open_model
from tilbud.service.reload import CampaignLoader
from tilbud.telemetry.log import logger

CAMPAIGN = """
campaign: c
offers: [{id: a}, {id: b}]
reward: {window: 10s, grace: 0s, outcomes: {click: 1}}
consent: not_required
"""


@pytest.fixture
async def wired(tmp_path: Path) -> Wired:
    """Campaign `c`, served from memory."""
    return await Wired(CAMPAIGN, tmp_path / "checkpoints").start()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Where the campaign files are."""
    directory = tmp_path / "files"
    directory.mkdir()
    return directory


def _loader(wired: Wired, files: Path) -> CampaignLoader:
    return CampaignLoader(
        paths=[files],
        catalog=wired.catalog,
        ledger=wired.ledger,
        learner=wired.learner,
        open_model=lambda campaign: open_model(
            campaign,
            ledger=wired.ledger,
            checkpoints=wired.checkpoints,
            limits=wired.limits,
            log=logger("test"),
        ),
        metrics=wired.metrics,
        limits=wired.limits,
        log=logger("test"),
    )


async def test_a_new_lineage_answers_only_when_it_learned_what_happened(wired: Wired, files: Path) -> None:
    """A changed algorithm is up to date before it is served, and settlements are counted once."""
    for number in range(30):
        await wired.decide.decide(DecideRequest("c", decision_id=f"d{number}"))
    wired.clock.pass_s(20)
    await wired.learner.turn()
    (files / "c.yaml").write_text(CAMPAIGN + "exploration: {preset: epsilon_greedy}\n")
    changes = await _loader(wired, files).reload()
    assert changes.changed == ("c",)
    assert wired.served.model.sequence == 30
    await wired.learner.turn()
    assert wired.metric("settlements_total", campaign="c") == 30


async def test_a_damaged_campaign_can_be_taken_away(
    wired: Wired, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A campaign whose rows cannot be read does not keep others from loading, or itself from leaving."""
    (files / "new.yaml").write_text(CAMPAIGN.replace("campaign: c", "campaign: new"))
    real = wired.ledger.settlements

    def damaged(campaign: str, after: int, limit: int) -> list[Settlement]:
        if campaign == "c":
            raise LedgerInvalid("for the test")
        return real(campaign, after, limit)

    monkeypatch.setattr(wired.ledger, "settlements", damaged)
    changes = await _loader(wired, files).reload()
    assert (changes.added, changes.removed) == (("new",), ("c",))
    assert [served.id for served in wired.catalog.all()] == ["new"]


async def test_what_vw_refuses_is_a_problem_of_the_file(
    wired: Wired, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arguments that pass the allow-list but not VW are told with the file, and nothing changes."""
    (files / "c.yaml").write_text(CAMPAIGN + "exploration: {arguments: --gamma_scale 7}\n")
    monkeypatch.setattr("tilbud.bandit.presets.arguments", lambda _: "--cb_explore_adf --nonsense")
    before = wired.served
    with pytest.raises(CampaignInvalid, match=r"c\.yaml:1: exploration\.arguments"):
        await _loader(wired, files).reload()
    assert wired.served is before
    assert wired.metric("campaign_reloads_total", result="refused") == 1
