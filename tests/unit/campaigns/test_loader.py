"""Loading campaigns while others are served, and learning them anew after an erasure, without a process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.wiring import DRAW_KEY, Wired

from tilbud.bandit import presets
from tilbud.bandit.checkpoints.store import Checkpoints
from tilbud.bandit.model import Model
from tilbud.campaigns.loader import CampaignLoader
from tilbud.campaigns.model_opening import OpenModel
from tilbud.campaigns.source import CampaignFile, load_campaigns
from tilbud.domain.campaign.campaign import PERSONALIZED, Campaign, Exploration
from tilbud.domain.context import Consent
from tilbud.domain.customer.customer import customer_key
from tilbud.domain.decision.records import DecideRequest, Reason, Settlement
from tilbud.domain.errors import CampaignInvalid, CheckpointInvalid, LedgerInvalid, ModelUnavailable
from tilbud.domain.limits import Limits
from tilbud.domain.relearning import Progress
from tilbud.insight.audit import Progress as OnProgress
from tilbud.insight.audit import Rebuilt, rebuild
from tilbud.learning.beside import Relearning
from tilbud.learning.replica import open_model
from tilbud.service.outcomes import OutcomeReport
from tilbud.telemetry.log import logger

CAMPAIGN = """
campaign: c
offers: [{id: a}, {id: b}]
reward: {window: 10s, grace: 0s, outcomes: {click: 1}}
consent: not_required
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the checkpoints are."""
    return tmp_path / "checkpoints"


@pytest.fixture
async def wired(directory: Path) -> Wired:
    """Campaign `c`, served from memory."""
    return await Wired(CAMPAIGN, directory).start()


async def _purging(directory: Path, **limits: Any) -> Wired:
    """Return campaign `c`, served from memory, of a service that purges at every turn."""
    return await Wired(CAMPAIGN, directory, limits=Limits(purge_every_s=0.0, **limits)).start()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Where the campaign files are."""
    directory = tmp_path / "files"
    directory.mkdir()
    return directory


def loader_of(
    wired: Wired,
    files: Path,
    beside: Relearning | None = None,
    open_stand_in: OpenModel | None = None,
    opening: Callable[[OpenModel], OpenModel] = lambda opened: opened,
    **limits: Any,
) -> CampaignLoader:
    """Return a loader of these files, over the wired service; `opening` goes around opening a model."""

    async def opened(campaign: Campaign, policy: str, erasures: int) -> Model:
        return await open_model(
            campaign,
            policy,
            erasures=erasures,
            history=wired.ledger,
            checkpoints=wired.checkpoints,
            limits=wired.limits,
            log=logger("test"),
        )

    return CampaignLoader(
        paths=[files],
        catalog=wired.catalog,
        settlement_log=wired.ledger,
        coordination=wired.ledger,
        clock=wired.clock,
        learner=wired.learner,
        open_model=opening(opened),
        open_stand_in=open_stand_in,
        beside=beside,
        metrics=wired.metrics,
        limits=replace(wired.limits, files_look_every_s=0.0, files_look_after_failure_s=0.0, **limits),
        log=logger("test"),
    )


async def _until(there: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not there():  # noqa: ASYNC110 - gives way
            await asyncio.sleep(0)


class HandRelearning:
    """Relearning of `c` beside that goes on until the test ends it, and is far from up to date until then."""

    def __init__(self, left_of_others: int = 0) -> None:
        self._left_of_others = left_of_others
        self.begun: list[Campaign] = []
        self.ended: dict[str, asyncio.Future[None]] = {}

    async def learn(self, campaign: Campaign, _policy: str, _erasures: int) -> None:
        if campaign.campaign != "c":
            return
        self.begun.append(campaign)
        self.ended[campaign.campaign] = asyncio.get_running_loop().create_future()
        await self.ended[campaign.campaign]

    async def left(self, campaign: Campaign, _policy: str, _erasures: int) -> int:
        return 10_000 if campaign.campaign == "c" else self._left_of_others

    def progress(self, campaign: str) -> Progress | None:
        begun = [each.campaign for each in self.begun]
        return Progress(10_000) if campaign in begun and not self.ended[campaign].done() else None

    async def stop(self) -> None:
        """End nothing."""

    async def has_begun(self, times: int = 1) -> None:
        """Wait until something is being relearned."""
        await _until(lambda: len(self.begun) >= times)


async def test_a_model_that_cannot_be_relearned_is_no_fault_of_its_file(wired: Wired, files: Path) -> None:
    """The caller hears that it may try again, not that the file is wrong; what is served stays."""
    (files / "c.yaml").write_text(CAMPAIGN + "exploration: {preset: epsilon_greedy}\n")
    beside, before = HandRelearning(), wired.served
    reloading = asyncio.create_task(loader_of(wired, files, beside).reload())
    await beside.has_begun()
    beside.ended["c"].set_exception(ModelUnavailable("for the test"))
    with pytest.raises(ModelUnavailable, match="for the test"):
        await reloading
    assert wired.served is before
    assert wired.metric("campaign_reloads_total", result="refused") == 1


async def test_many_campaigns_that_have_to_be_relearned_make_no_long_start(wired: Wired, files: Path) -> None:
    """What is learned before the service answers is bounded for all of them together."""
    names = ("c1", "c2", "c3", "c4")
    for name in names:
        (files / f"{name}.yaml").write_text(CAMPAIGN.replace("campaign: c", f"campaign: {name}"))
    stood_in: list[str] = []

    async def open_stand_in(campaign: Campaign, _policy: str, erasures: int) -> Model:
        stood_in.append(campaign.campaign)
        return Model(campaign, limits=wired.limits, erasures=erasures)

    wired.catalog.replace([])
    loader = loader_of(wired, files, HandRelearning(wired.limits.stand_in_rows // 2), open_stand_in)
    await loader.start(strict=True)
    assert stood_in == ["c3", "c4"]
    assert [served.id for served in wired.catalog.all()] == list(names)


async def test_a_file_that_is_put_back_is_served_at_once(wired: Wired, files: Path) -> None:
    """Whoever asks with other files ends the relearning for those of before, for all that wait."""
    (files / "c.yaml").write_text(CAMPAIGN + "exploration: {preset: epsilon_greedy}\n")
    beside = HandRelearning()
    loader = loader_of(wired, files, beside)
    first = asyncio.create_task(loader.reload())
    await beside.has_begun()
    with capture_logs() as logged:
        asked = [first, asyncio.create_task(loader.reload())]
        await _until(lambda: any(line["event"] == "reload_waits" for line in logged))
        (files / "c.yaml").write_text(CAMPAIGN)
        asked.append(asyncio.create_task(loader.reload()))
        async with asyncio.timeout(60):
            assert {(await each).changed for each in asked} == {("c",)}
    assert beside.ended["c"].cancelled()
    assert wired.served.campaign.exploration == wired.campaign.exploration
    [waits] = [line for line in logged if line["event"] == "reload_waits"]
    assert waits["relearning"] == {"c": 10_000}


async def test_who_asks_again_with_the_same_files_joins_what_goes_on(
    wired: Wired, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the files are bad by now: only those who asked meanwhile hear of it."""
    looks = 0

    def look(paths: Sequence[Path], limits: Limits) -> tuple[CampaignFile, ...]:
        nonlocal looks
        try:
            return load_campaigns(paths, limits)
        finally:
            looks += 1

    monkeypatch.setattr("tilbud.campaigns.loader.load_campaigns", look)
    changed = CAMPAIGN + "exploration: {preset: epsilon_greedy}\n"
    (files / "c.yaml").write_text(changed)
    beside = HandRelearning()
    loader = loader_of(wired, files, beside)
    asked = [asyncio.create_task(loader.reload())]
    await beside.has_begun()
    asked.append(asyncio.create_task(loader.reload()))
    await _until(lambda: looks == 2)
    (files / "c.yaml").write_text("nothing: good\n")
    asked.append(asyncio.create_task(loader.reload()))
    await _until(lambda: looks == 3)
    beside.ended["c"].set_result(None)
    async with asyncio.timeout(60):
        assert (await asked[0]).changed == ("c",)
        for later in asked[1:]:
            with pytest.raises(CampaignInvalid):
                await later
    assert len(beside.begun) == 1


async def test_a_reload_with_other_changes_begins_anew_with_them(wired: Wired, files: Path) -> None:
    """What still has to be relearned is gone on with; whoever asked first waits for both."""
    changed = CAMPAIGN + "exploration: {preset: epsilon_greedy}\n"
    (files / "c.yaml").write_text(changed)
    beside = HandRelearning()
    loader = loader_of(wired, files, beside)
    first = asyncio.create_task(loader.reload())
    await beside.has_begun()
    (files / "new.yaml").write_text(CAMPAIGN.replace("campaign: c", "campaign: new"))
    second = asyncio.create_task(loader.reload())
    await beside.has_begun(times=2)
    beside.ended["c"].set_result(None)
    async with asyncio.timeout(60):
        assert {(await first).added, (await second).added} == {("new",)}


async def test_a_new_lineage_answers_only_when_it_learned_what_happened(wired: Wired, files: Path) -> None:
    """A changed algorithm is up to date before it is served, and settlements are counted once."""
    for number in range(30):
        await wired.decide.decide(DecideRequest("c", decision_id=f"d{number}"))
    wired.clock.pass_s(20)
    await wired.learner.turn()
    (files / "c.yaml").write_text(CAMPAIGN + "exploration: {preset: epsilon_greedy}\n")
    changes = await loader_of(wired, files).reload()
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

    async def damaged(campaign: str, after: int, limit: int) -> list[Settlement]:
        if campaign == "c":
            raise LedgerInvalid("for the test")
        return await real(campaign, after, limit)

    monkeypatch.setattr(wired.ledger, "settlements", damaged)
    changes = await loader_of(wired, files).reload()
    assert (changes.added, changes.removed) == (("new",), ("c",))
    assert [served.id for served in wired.catalog.all()] == ["new"]


async def test_what_vw_refuses_is_a_problem_of_the_file(
    wired: Wired, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arguments that pass the allow-list but not VW are told with the file, and nothing changes."""
    (files / "c.yaml").write_text(CAMPAIGN + "exploration: {arguments: --ftrl_alpha 0.07}\n")
    monkeypatch.setattr("tilbud.bandit.presets.arguments", lambda *_: "--cb_explore_adf --nonsense")
    before = wired.served
    with pytest.raises(CampaignInvalid, match=r"c\.yaml:1: exploration\.arguments"):
        await loader_of(wired, files).reload()
    assert wired.served is before
    assert wired.metric("campaign_reloads_total", result="refused") == 1


async def test_another_contact_policy_makes_every_campaign_anew(wired: Wired, files: Path) -> None:
    """A changed contact.yaml counts for campaigns whose own file is the same; their models stay."""
    (files / "c.yaml").write_text(CAMPAIGN)
    loader = loader_of(wired, files)
    await loader.reload()
    before = wired.served
    assert (await loader.reload()).unchanged == ("c",)
    assert wired.served is before
    (files / "contact.yaml").write_text("channels: {email: {caps: [{times: 1, per: 1d}]}}\n")
    assert (await loader.reload()).changed == ("c",)
    assert wired.served is not before
    assert wired.served.model is before.model


async def test_a_reload_outlives_its_caller(wired: Wired, files: Path) -> None:
    """Who asked gives up while the new model learns; it goes on, and who asks again hears what it changed."""
    for number in range(300):
        await wired.decide.decide(DecideRequest("c", decision_id=f"d{number}"))
    wired.clock.pass_s(20)
    while await wired.learner.turn():
        pass
    (files / "c.yaml").write_text(CAMPAIGN + "exploration: {preset: epsilon_greedy}\n")
    before, loader = wired.served, loader_of(wired, files, learn_slice_s=0.0)
    impatient = asyncio.create_task(loader.reload())
    for _ in range(20):
        await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.wait([impatient])
    assert impatient.cancelled()
    assert wired.served is before
    patient = [asyncio.create_task(loader.reload()) for _ in range(5)]
    assert {(await each).changed for each in patient} == {("c",)}
    assert wired.served.model.sequence == 300
    assert wired.metric("campaign_reloads_total", result="loaded") == 2


async def test_a_reload_that_nobody_waits_for_any_more_fails_quietly(wired: Wired, files: Path) -> None:
    """Its problems are in the log and the metric, and the next reload is none the worse."""
    (files / "c.yaml").write_text("nothing: good\n")
    loader = loader_of(wired, files)
    with capture_logs() as logged:
        impatient = asyncio.create_task(loader.reload())
        await asyncio.sleep(0)
        impatient.cancel()
        async with asyncio.timeout(60):
            while not wired.metric("campaign_reloads_total", result="refused"):  # noqa: ASYNC110 - gives way
                await asyncio.sleep(0.001)
    assert [each["event"] for each in logged] == ["campaigns_refused"]
    (files / "c.yaml").write_text(CAMPAIGN)
    assert (await loader.reload()).changed == ("c",)


async def test_a_stop_ends_a_reload(wired: Wired, files: Path) -> None:
    """A service that drains waits for no model; what was served stays as it was."""
    (files / "c.yaml").write_text(CAMPAIGN + "exploration: {preset: epsilon_greedy}\n")
    before, loader = wired.served, loader_of(wired, files)
    asked = [asyncio.create_task(loader.reload()) for _ in range(2)]
    await asyncio.sleep(0)
    await loader.stop()
    await asyncio.wait(asked)
    assert all(each.cancelled() for each in asked)
    assert wired.served is before


CUSTOMERS = ("", "anna", "bo")


async def _live(wired: Wired, decisions: int, campaign: str = "c", first: int = 0) -> None:
    """Let visitors, Anna and Bo be shown offers in turn, some of them click, and let it be learned."""
    for number in range(first, first + decisions):
        customer = CUSTOMERS[number % 3]
        consent = Consent.GRANTED if customer else Consent.UNSPECIFIED
        request = DecideRequest(campaign, decision_id=f"d{number}", customer_id=customer, consent=consent)
        await wired.decide.decide(request)
        if number % 4 == 0:
            await wired.report.report(OutcomeReport(campaign, f"d{number}", "click"))
    wired.clock.pass_s(20)
    while await wired.learner.turn():
        pass


async def _erase(wired: Wired, customer: str) -> None:
    """Erase a customer, and no more: as if the process ended right after."""
    await wired.ledger.erase(customer_key(customer, DRAW_KEY), wired.clock.now())


async def _learned_from_others(wired: Wired, *erased: str) -> Model:
    """Return a model that met the retained settlements of everyone but these."""
    ids = {f"d{number}" for number in range(1_000) if CUSTOMERS[number % 3] not in erased}
    model = Model(wired.campaign, limits=wired.limits)
    for row in await wired.ledger.settlements("c", 0, 10_000):
        if row.decision_id in ids:
            model.learn(replace(row, sequence=model.sequence + 1))
    return model


async def _alike(wired: Wired, other: Model) -> bool:
    """Say whether the served model predicts as the other does, bit for bit, for a recorded visitor."""
    decision = await wired.ledger.find("c", "d0")
    assert decision is not None
    served = wired.served.model.predict(decision.features, decision.offers)
    return served == other.predict(decision.features, decision.offers)


def _saved_at(wired: Wired, campaign: str = "c") -> list[str]:
    """Return the lineages that have a file among the checkpoints, or what else is there."""
    directory = wired.directory / campaign
    return sorted({path.name.split("-")[0] for path in directory.glob("*")})


@pytest.fixture
def loader(wired: Wired, files: Path) -> CampaignLoader:
    """The loader of campaign `c`."""
    (files / "c.yaml").write_text(CAMPAIGN)
    return loader_of(wired, files)


@pytest.fixture
def slow_loader(wired: Wired, files: Path) -> CampaignLoader:
    """One that gives way after each batch it learns."""
    (files / "c.yaml").write_text(CAMPAIGN)
    return loader_of(wired, files, learn_slice_s=0.0)


async def test_after_an_erasure_the_model_is_one_that_never_met_the_customer(
    wired: Wired, loader: CampaignLoader
) -> None:
    """Bit for bit; at the same sequence, under another lineage, with a checkpoint that loads."""
    await _live(wired, 300)
    before, others = wired.served, await _learned_from_others(wired, "anna")
    assert not await _alike(wired, others)
    await _erase(wired, "anna")
    assert await loader.relearn() == ("c",)
    assert wired.served.file is before.file
    assert (wired.served.model.sequence, wired.served.model.erasures) == (300, 1)
    assert wired.served.model.lineage != before.model.lineage
    assert await _alike(wired, others)
    assert (await wired.open()).sequence == 300


async def test_checkpoints_of_before_are_gone_also_of_unserved_campaigns(
    wired: Wired, loader: CampaignLoader
) -> None:
    """Only what knows of the erasure is left; a campaign without the customer keeps its own."""
    for name in ("old", "untouched"):
        wired.serve_also(CAMPAIGN.replace("campaign: c", f"campaign: {name}"))
    await _live(wired, 30)
    await _live(wired, 30, "old")
    await wired.decide.decide(DecideRequest("untouched", decision_id="d"))
    wired.clock.pass_s(20)
    await wired.learner.turn()
    await wired.learner.checkpoint_all()
    kept = _saved_at(wired, "untouched")
    wired.catalog.replace([wired.catalog.get("c")])
    assert await loader.relearn() == ()
    assert len(_saved_at(wired)) == len(_saved_at(wired, "old")) == 1
    await _erase(wired, "anna")
    await loader.relearn()
    assert _saved_at(wired) == [wired.served.model.lineage]
    assert _saved_at(wired, "old") == []
    assert _saved_at(wired, "untouched") == kept


async def test_a_crash_between_the_erasure_and_the_relearning_is_mended_by_the_next_start(
    wired: Wired, files: Path
) -> None:
    """The start removes every checkpoint of before, served or not, and learns from what is left."""
    wired.serve_also(CAMPAIGN.replace("campaign: c", "campaign: old"))
    await _live(wired, 300)
    await _live(wired, 30, "old")
    await wired.learner.checkpoint_all()
    others = await _learned_from_others(wired, "anna")
    await _erase(wired, "anna")
    (files / "c.yaml").write_text(CAMPAIGN)
    again = Wired(CAMPAIGN, wired.directory, wired.ledger)
    await loader_of(again, files).reload()
    assert (again.served.model.sequence, again.served.model.erasures) == (300, 1)
    assert await _alike(again, others)
    assert _saved_at(again) == _saved_at(again, "old") == []


async def test_two_erasures_in_a_row(wired: Wired, loader: CampaignLoader) -> None:
    """Each is unlearned; what came between them is learned; one lineage is left, also in the metrics."""
    await _live(wired, 90)
    await _erase(wired, "anna")
    await loader.relearn()
    await _live(wired, 90, first=90)
    await wired.learner.checkpoint_all()
    others = await _learned_from_others(wired, "bo")  # and Anna, whose settlements are gone already
    await _erase(wired, "bo")
    await loader.relearn()
    assert wired.served.model.erasures == 2
    assert _saved_at(wired) == [wired.served.model.lineage]
    assert await _alike(wired, others)
    await wired.learner.turn()
    assert wired.metric("model_sequence", campaign="c") == 180


async def test_an_erasure_that_comes_while_another_is_relearned_is_not_lost(
    wired: Wired, loader: CampaignLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model that knows of the first erasure alone is not checkpointed, and is replaced in turn."""
    await _live(wired, 90)
    others = await _learned_from_others(wired, "anna", "bo")
    real, came = wired.ledger.settlements, False

    async def meanwhile(campaign: str, after: int, limit: int) -> list[Settlement]:
        nonlocal came
        if not came:
            came = True
            erasing.append(asyncio.get_running_loop().create_task(_erase(wired, "bo")))
        return await real(campaign, after, limit)

    erasing: list[asyncio.Task[None]] = []
    await _erase(wired, "anna")
    monkeypatch.setattr(wired.ledger, "settlements", meanwhile)
    await asyncio.gather(loader.relearn(), *erasing)
    assert wired.served.model.erasures == 1
    assert await wired.learner.behind() == (("c", PERSONALIZED),)
    assert _saved_at(wired) == []
    await loader.relearn()
    assert wired.served.model.erasures == 2
    assert await wired.learner.behind() == ()
    assert await _alike(wired, others)


async def test_decisions_go_on_while_a_model_is_learned_anew(
    wired: Wired, slow_loader: CampaignLoader
) -> None:
    """The old model answers, and settlements are learned and counted, until the new one takes over."""
    await _live(wired, 300)
    old = wired.served.model.lineage
    await _erase(wired, "anna")
    relearning = asyncio.create_task(slow_loader.relearn())
    for number in range(1_000, 1_010):
        await asyncio.sleep(0)
        await wired.decide.decide(DecideRequest("c", decision_id=f"d{number}"))
        decision = await wired.ledger.find("c", f"d{number}")
        assert decision is not None
        assert (decision.reason, decision.lineage) == (Reason.PERSONALIZED, old)
    wired.clock.pass_s(20)
    await wired.learner.turn()
    assert not relearning.done()
    await relearning
    assert wired.served.model.sequence == 310
    assert wired.metric("settlements_total", campaign="c") == 310
    await wired.decide.decide(DecideRequest("c", decision_id="after"))
    after = await wired.ledger.find("c", "after")
    assert after is not None
    assert after.lineage == wired.served.model.lineage != old


async def test_calls_at_the_same_time_relearn_once(wired: Wired, loader: CampaignLoader) -> None:
    """The second waits for the first, and finds nothing left to do."""
    await _live(wired, 30)
    await _erase(wired, "anna")
    first, second = await asyncio.gather(loader.relearn(), loader.relearn())
    assert (first, second) == (("c",), ())


async def test_a_model_that_cannot_be_relearned_holds_no_other_up_and_is_tried_again(
    wired: Wired, loader: CampaignLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its error is raised when the others are done; `run` goes on trying."""
    wired.serve_also(CAMPAIGN.replace("campaign: c", "campaign: a"))
    await _live(wired, 30, "a")
    await _live(wired, 30)
    await _erase(wired, "anna")
    real = wired.ledger.settlements

    async def damaged(campaign: str, after: int, limit: int) -> list[Settlement]:
        if campaign == "a":
            raise LedgerInvalid("for the test")
        return await real(campaign, after, limit)

    with monkeypatch.context() as patch:
        patch.setattr(wired.ledger, "settlements", damaged)
        with pytest.raises(LedgerInvalid):
            await loader.relearn()
    assert await wired.learner.behind() == (("a", PERSONALIZED),)
    await _running_until(loader, _up_to_date(wired))
    assert wired.catalog.get("a").model.erasures == 1


async def test_a_cancelled_relearning_is_begun_again(wired: Wired, slow_loader: CampaignLoader) -> None:
    """What a caller's deadline cut short leaves the old model whole, and `run` finishes it."""
    await _live(wired, 300)
    await wired.learner.checkpoint_all()
    others = await _learned_from_others(wired, "anna")
    await _erase(wired, "anna")
    relearning = asyncio.create_task(slow_loader.relearn())
    await asyncio.sleep(0)
    relearning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await relearning
    assert await wired.learner.behind() == (("c", PERSONALIZED),)
    await wired.decide.decide(DecideRequest("c", decision_id="meanwhile"))
    await _running_until(slow_loader, _up_to_date(wired))
    assert await _alike(wired, others)
    assert _saved_at(wired) == [wired.served.model.lineage]


async def test_files_that_cannot_be_removed_are_told_and_tried_again(
    wired: Wired, loader: CampaignLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An erasure is not done while a checkpoint of before is left."""
    await _live(wired, 30)
    await wired.learner.checkpoint_all()
    await _erase(wired, "anna")

    def stay(*_: object, **__: object) -> None:
        raise OSError("for the test")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stay)
        with pytest.raises(OSError, match="for the test"):
            await loader.relearn()
    assert len(_saved_at(wired)) > 1
    await _running_until(loader, _up_to_date(wired))
    assert _saved_at(wired) == [wired.served.model.lineage]


async def test_running_outlives_any_surprise(wired: Wired, files: Path) -> None:
    """What nobody expected postpones a relearning, and ends nothing."""
    (files / "c.yaml").write_text(CAMPAIGN)
    await _live(wired, 30)
    await _erase(wired, "anna")
    surprises = 0

    def surprising(opened: OpenModel) -> OpenModel:
        async def surprise(campaign: Campaign, policy: str, erasures: int) -> Model:
            nonlocal surprises
            surprises += 1
            if surprises < 3:
                raise AssertionError("for the test")
            return await opened(campaign, policy, erasures)

        return surprise

    await _running_until(loader_of(wired, files, opening=surprising), _up_to_date(wired))
    assert surprises == 3


def _up_to_date(wired: Wired) -> Callable[[], Awaitable[bool]]:
    """Whether no model is behind, and the checkpoints of campaign `c` are its model's alone."""

    async def up_to_date() -> bool:
        lineage = wired.catalog.get("c").model.lineage
        return not await wired.learner.behind() and _saved_at(wired) == [lineage]

    return up_to_date


async def _running_until(loader: CampaignLoader, done: Callable[[], Awaitable[bool]]) -> None:
    """Let the loader run, which does not pause, until something is so."""
    running = asyncio.create_task(loader.run())
    async with asyncio.timeout(60):
        while not await done():  # noqa: ASYNC110 - gives way
            await asyncio.sleep(0)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_model_that_fell_behind_what_was_purged_is_opened_anew(directory: Path, files: Path) -> None:
    """A replica that was held up meets a gap in the settlements, and goes on from the holder's checkpoint."""
    (files / "c.yaml").write_text(CAMPAIGN)
    wired = await _purging(directory, retention_s=1.0, checkpoint_generations=1)
    replica = await Wired(CAMPAIGN, wired.directory, wired.ledger, clock=wired.clock).start()
    loader = loader_of(replica, files)
    await _live(wired, 30)
    await wired.learner.checkpoint_all()
    wired.clock.pass_s(5)
    await wired.learner.turn()
    assert await wired.ledger.sequences("c") == (31, 30)
    await _live(wired, 30, first=30)
    with capture_logs() as logged:
        await replica.learner.turn()
    assert [each["event"] for each in logged] == ["learning_failed"]
    assert await replica.learner.behind() == (("c", PERSONALIZED),)
    await _running_until(loader, _up_to_date(replica))
    await replica.learner.turn()
    assert replica.served.model.sequence == 60
    assert replica.metric("model_sequence", campaign="c") == 60
    decision = await wired.ledger.find("c", "d59")
    assert decision is not None
    scores = [each.served.model.predict(decision.features, decision.offers) for each in (wired, replica)]
    assert scores[0] == scores[1]


async def test_others_go_on_while_a_model_waits_for_another_process(
    wired: Wired, loader: CampaignLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What opens a model and has checkpoints to drop waits for their lock beside the event loop."""
    await _live(wired, 30)
    await wired.learner.checkpoint_all()
    await _erase(wired, "anna")
    real, waits = wired.checkpoints.drop_erased, threading.Event()

    def drop_erased(campaign: str, erasures: int) -> int:
        waits.set()
        return real(campaign, erasures)

    monkeypatch.setattr(wired.checkpoints, "drop_erased", drop_erased)
    with capture_logs() as logged:
        with Checkpoints(wired.directory, generations=3).files.lock():
            relearning = asyncio.create_task(loader.relearn())
            async with asyncio.timeout(60):
                while not waits.is_set():  # noqa: ASYNC110 - gives way
                    await asyncio.sleep(0)
        await relearning
    assert _saved_at(wired) == [wired.served.model.lineage]
    assert "erased_checkpoints_stay" not in {each["event"] for each in logged}


async def test_a_reload_learns_anew_what_is_behind(wired: Wired, loader: CampaignLoader) -> None:
    """Also a campaign whose file did not change; that is no change of the file."""
    await loader.reload()
    await _live(wired, 30)
    await _erase(wired, "anna")
    changes = await loader.reload()
    assert (changes.changed, changes.unchanged) == ((), ("c",))
    assert (wired.served.model.erasures, wired.served.model.sequence) == (1, 30)


async def test_what_settled_just_before_a_relearning_is_counted(wired: Wired, loader: CampaignLoader) -> None:
    """The new model learns settlements the old one had not counted yet; they are counted all the same."""
    await _live(wired, 30)
    for number in range(1_000, 1_010):
        await wired.decide.decide(DecideRequest("c", decision_id=f"d{number}"))
    wired.clock.pass_s(20)
    await wired.learner.settle(wired.served)
    await _erase(wired, "anna")
    await loader.relearn()
    await wired.learner.turn()
    assert wired.served.model.sequence == 40
    assert wired.metric("settlements_total", campaign="c") == 40


async def test_rebuild_agrees_after_an_erasure(wired: Wired, loader: CampaignLoader) -> None:
    """What the new model drew is drawn alike; what the old one drew is no witness any more."""
    await _live(wired, 90)
    await wired.learner.checkpoint_all()
    await _erase(wired, "anna")
    await loader.relearn()
    await _live(wired, 60, first=90)
    await wired.learner.checkpoint_all()
    async with wired.ledger.reader() as reader:
        found = await rebuild(
            wired.campaign, PERSONALIZED, reader=reader, checkpoints=wired.checkpoints, limits=wired.limits
        )
    assert (found.erasures, found.lineage) == (1, wired.served.model.lineage)
    assert (found.from_sequence, found.sequence, found.decisions_checked) == (0, 150, 60)
    assert (found.checkpoint_sequence, found.checkpoint_checked) == (150, 60)
    assert found.agrees


async def test_rebuild_agrees_after_an_erasure_when_the_beginning_was_purged(
    directory: Path, files: Path
) -> None:
    """The model is learned anew from what is retained, and rebuilt from its own first checkpoint."""
    (files / "c.yaml").write_text(CAMPAIGN)
    wired = await _purging(directory, retention_s=50.0)
    for number in range(6):
        await _live(wired, 30, first=30 * number)
        await wired.learner.checkpoint_all()
    await wired.learner.turn()
    first, last = await wired.ledger.sequences("c")
    assert 1 < first < last == 180
    await _erase(wired, "anna")
    await loader_of(wired, files).relearn()
    assert wired.served.model.sequence == 180
    await _live(wired, 60, first=180)
    async with wired.ledger.reader() as reader:
        found = await rebuild(
            wired.campaign, PERSONALIZED, reader=reader, checkpoints=wired.checkpoints, limits=wired.limits
        )
    assert (found.from_sequence, found.sequence, found.decisions_checked) == (180, 240, 60)
    assert found.agrees


async def test_rebuild_does_not_judge_what_was_erased_meanwhile(wired: Wired, loader: CampaignLoader) -> None:
    """Erased while it runs, a customer leaves it half of two histories: it says so, and asks again."""
    await _live(wired, 30)
    erasing: list[asyncio.Task[None]] = []

    def meanwhile(_done: int, _all: int) -> None:
        if not erasing:
            erasing.append(asyncio.create_task(_erase(wired, "anna")))

    async def rebuilt(progress: OnProgress = lambda _done, _all: None) -> Rebuilt:
        async with wired.ledger.reader() as reader:
            return await rebuild(
                wired.campaign,
                PERSONALIZED,
                reader=reader,
                checkpoints=wired.checkpoints,
                limits=wired.limits,
                progress=progress,
            )

    with pytest.raises(CheckpointInvalid, match="erased meanwhile; run it again"):
        await rebuilt(meanwhile)
    await loader.relearn()
    assert (await rebuilt()).agrees


async def test_an_erased_settlement_is_not_counted(wired: Wired, loader: CampaignLoader) -> None:
    """Its place is taken without a count: neither of settlements nor of what was not sound."""
    await _live(wired, 30)
    for number in range(30, 36):
        customer = CUSTOMERS[number % 3]
        consent = Consent.GRANTED if customer else Consent.UNSPECIFIED
        await wired.decide.decide(
            DecideRequest("c", decision_id=f"d{number}", customer_id=customer, consent=consent)
        )
    wired.clock.pass_s(20)
    await wired.learner.settle(wired.served)
    await _erase(wired, "anna")
    await wired.learner.turn()
    assert wired.served.model.sequence == 36
    assert wired.metric("settlements_total", campaign="c") == 34
    assert wired.metric("skipped_settlements_total", campaign="c") == 0


async def test_a_model_that_is_behind_is_neither_checkpointed_nor_its_settlements_purged(
    directory: Path, files: Path
) -> None:
    """Between an erasure and the relearning nothing erased is written, and nothing to relearn is lost."""
    (files / "c.yaml").write_text(CAMPAIGN)
    wired = await _purging(directory, retention_s=30.0, checkpoint_every_settlements=1)
    await _live(wired, 30)  # for 20 seconds
    (before,) = _saved_at(wired)
    names = set((wired.directory / "c").iterdir())
    await _erase(wired, "anna")
    await _live(wired, 30, first=30)
    await wired.learner.checkpoint_all()
    assert set((wired.directory / "c").iterdir()) == names
    assert before == wired.served.model.lineage
    assert await wired.ledger.sequences("c") == (1, 60)
    await loader_of(wired, files).relearn()
    assert wired.served.model.sequence == 60


async def test_a_start_serves_the_others_also_where_a_model_cannot_be_opened(
    wired: Wired, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What VW refuses of one file is told of that file alone; a strict start and a reload refuse all."""
    (files / "c.yaml").write_text(CAMPAIGN)
    (files / "new.yaml").write_text(
        CAMPAIGN.replace("campaign: c", "campaign: new") + "exploration: {arguments: --ftrl_alpha 0.07}\n"
    )
    real = presets.arguments

    def refused(exploration: Exploration, offers: int) -> str:
        return "--cb_explore_adf --nonsense" if exploration.arguments else real(exploration, offers)

    monkeypatch.setattr("tilbud.bandit.presets.arguments", refused)
    loader = loader_of(wired, files)
    await loader.start(strict=False)
    assert [served.id for served in wired.catalog.all()] == ["c"]
    assert [Path(problem.file).name for problem in loader.refused] == ["new.yaml"]
    assert wired.metric("campaign_files_refused") == 1
    for attempt in (loader.start(strict=True), loader.reload()):
        with pytest.raises(CampaignInvalid, match=r"new\.yaml"):
            await attempt
    assert wired.metric("campaign_files_refused") == 1
