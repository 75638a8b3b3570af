"""Several policies of a campaign: each with its own model, lineage and checkpoints, none in another's way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.wiring import Wired

from tilbud.campaigns.loader import CampaignLoader
from tilbud.campaigns.served import ServedCampaign
from tilbud.domain.campaign.campaign import CONTROL, PERSONALIZED, Campaign, Exploration
from tilbud.domain.decision.records import DecideRequest
from tilbud.domain.limits import Limits
from tilbud.learning.relearning import Task, relearn
from tilbud.learning.replica import open_stand_in
from tilbud.service.outcomes import OutcomeReport
from tilbud.telemetry.log import logger

CAMPAIGN = """
campaign: c
offers: [{id: a}, {id: b}]
reward: {window: 10s, grace: 0s, outcomes: {click: 1}}
consent: not_required
"""
BOLD, ALIKE = "bold", "alike"
POLICIES = {PERSONALIZED, BOLD, ALIKE}


class SeveralPolicies(Campaign):
    """A campaign with three policies, of which two explore alike."""

    @property
    def policies(self) -> Mapping[str, Exploration]:
        """That of the file, and two challengers."""
        bold = Exploration(preset="epsilon_greedy", discovery=0.2)
        return {**super().policies, BOLD: bold, ALIKE: self.exploration}


async def _start(directory: Path, **limits: Any) -> Wired:
    wired = Wired(CAMPAIGN, directory, limits=replace(Limits(), **limits))
    wired.campaign = SeveralPolicies.model_construct(**dict(wired.campaign))
    return await wired.start()


@pytest.fixture
async def wired(tmp_path: Path) -> Wired:
    """A campaign whose policies have a few settlements to learn from."""
    wired = await _start(tmp_path)
    await _settle(wired, 20)
    return wired


async def _settle(wired: Wired, count: int) -> None:
    """Let so many decisions settle, some with a reward, and be learned and saved."""
    first = wired.served.model.sequence
    for number in range(first, first + count):
        await wired.decide.decide(DecideRequest("c", decision_id=f"d{number}"))
        if number % 3 == 0:
            await wired.report.report(OutcomeReport("c", f"d{number}", "click"))
    wired.clock.pass_s(20)
    while await wired.learner.turn():
        pass
    await wired.learner.checkpoint_all()


async def _scores(wired: Wired) -> dict[str, Sequence[float]]:
    """Return what each policy thinks of the offers of one decision."""
    async with wired.ledger.reader() as reader:
        decision = await reader.find("c", "d0")
    assert decision is not None
    return {
        policy: model.predict(decision.features, decision.offers)
        for policy, model in wired.served.models.items()
    }


def _saved(wired: Wired) -> dict[str, list[int]]:
    """Return which sequences each policy has checkpoints of."""
    saved: dict[str, list[int]] = {}
    for _, manifest in wired.checkpoints.manifests("c"):
        saved.setdefault(manifest.policy, []).append(manifest.sequence)
    return {policy: sorted(sequences) for policy, sequences in saved.items()}


async def test_each_policy_learns_what_settles_with_a_model_of_its_own(wired: Wired) -> None:
    """All learn the one order of settlements, each under its lineage, and each settlement counts once."""
    models = wired.served.models
    assert {policy: model.sequence for policy, model in models.items()} == dict.fromkeys(POLICIES, 20)
    assert len({model.lineage for model in models.values()}) == 3
    scores = await _scores(wired)
    assert scores[PERSONALIZED] == scores[ALIKE] != scores[BOLD]
    assert wired.metric("settlements_total", campaign="c") == 20
    for model in models.values():
        assert wired.metric("model_sequence", campaign="c", lineage=model.lineage) == 20


async def test_each_policy_is_loaded_again_from_its_own_checkpoint(wired: Wired) -> None:
    """After a restart each predicts what it predicted, with nothing learned anew."""
    before = await _scores(wired)
    models = wired.served.models
    await wired.serve()
    assert {policy: model.sequence for policy, model in wired.served.models.items()} == dict.fromkeys(
        POLICIES, 20
    )
    assert all(wired.served.models[policy] is not models[policy] for policy in POLICIES)
    assert await _scores(wired) == before


async def test_each_policy_keeps_its_generations(wired: Wired) -> None:
    """Saving one removes its own oldest alone, however many others there are."""
    for _ in range(3):
        await _settle(wired, 10)
    assert _saved(wired) == {policy: [30, 40, 50] for policy in POLICIES}


async def test_a_policy_whose_checkpoints_are_lost_learns_anew_by_itself(wired: Wired) -> None:
    """It learns all the ledger has; the others go on from their checkpoints."""
    before = await _scores(wired)
    for path, manifest in wired.checkpoints.manifests("c"):
        if manifest.policy == BOLD:
            path.unlink()
    await wired.serve()
    sequences = {policy: model.sequence for policy, model in wired.served.models.items()}
    assert sequences == {PERSONALIZED: 20, BOLD: 0, ALIKE: 20}
    await wired.learner.turn()
    assert await _scores(wired) == before
    assert wired.metric("settlements_total", campaign="c") == 20


async def test_a_policy_that_cannot_learn_keeps_no_other_from_learning(wired: Wired) -> None:
    """What it has to learn next was purged: it is behind, and the others go on."""
    late = await wired.open(PERSONALIZED)
    late.sequence = 0
    served = wired.served
    wired.catalog.replace([ServedCampaign(served.file, {**served.models, PERSONALIZED: late}, wired.limits)])
    assert await wired.ledger.purge("c", wired.clock.now().steady_us, 5, 100, wired.clock.now())
    assert await wired.learner.behind() == (("c", PERSONALIZED),)
    await wired.decide.decide(DecideRequest("c", decision_id="next"))
    wired.clock.pass_s(20)
    await wired.learner.turn()
    sequences = {policy: model.sequence for policy, model in wired.served.models.items()}
    assert sequences == {PERSONALIZED: 0, BOLD: 21, ALIKE: 21}


async def test_what_any_policy_still_needs_is_not_forgotten(tmp_path: Path) -> None:
    """Settlements after the oldest checkpoint of every policy stay, so that each can learn on from it."""
    wired = await _start(tmp_path, retention_s=100.0, purge_every_s=0.0)
    await _settle(wired, 10)
    await _settle(wired, 10)
    for path, manifest in wired.checkpoints.manifests("c"):
        if (manifest.policy, manifest.sequence) in {(PERSONALIZED, 10), (ALIKE, 10)}:
            path.unlink()
    wired.clock.pass_s(1_000)
    await wired.learner.turn()
    assert await wired.ledger.sequences("c") == (11, 20)


async def test_a_policy_relearned_beside_leaves_the_others_their_checkpoints(wired: Wired) -> None:
    """The process that learns it alone knows which lineages its campaign has."""
    before = _saved(wired)
    for path, manifest in wired.checkpoints.manifests("c"):
        if manifest.policy == BOLD:
            path.unlink()
    task = Task(wired.campaign, BOLD, 0, Path(), Path(), wired.limits)
    async with wired.ledger.reader() as reader:
        await relearn(task, reader=reader, checkpoints=wired.checkpoints, tell=lambda _learned, _left: None)
    saved = _saved(wired)
    assert saved.keys() == POLICIES
    assert {policy: saved[policy] for policy in (PERSONALIZED, ALIKE)} == {
        policy: before[policy] for policy in (PERSONALIZED, ALIKE)
    }


async def test_one_policy_is_opened_anew_and_the_others_keep_their_models(wired: Wired) -> None:
    """Its own checkpoint stands in for it until then, and no other policy's."""
    before, scores = wired.served, await _scores(wired)
    stand_in = await open_stand_in(
        wired.campaign,
        BOLD,
        0,
        history=wired.ledger,
        checkpoints=wired.checkpoints,
        limits=wired.limits,
        log=logger("test"),
    )
    wired.catalog.replace([ServedCampaign(before.file, {**before.models, BOLD: stand_in}, wired.limits)])
    assert wired.served.stand_in
    assert await _scores(wired) == scores
    assert await _loader(wired).relearn() == ("c",)
    assert not wired.served.stand_in
    assert await _scores(wired) == scores
    kept = {policy for policy in POLICIES if wired.served.models[policy] is before.models[policy]}
    assert kept == {PERSONALIZED, ALIKE}


def _loader(wired: Wired) -> CampaignLoader:
    return CampaignLoader(
        paths=[],
        catalog=wired.catalog,
        settlement_log=wired.ledger,
        coordination=wired.ledger,
        clock=wired.clock,
        learner=wired.learner,
        open_model=lambda _campaign, policy, _erasures: wired.open(policy),
        metrics=wired.metrics,
        limits=wired.limits,
        log=logger("test"),
    )


def test_a_decision_names_the_model_of_its_variant(wired: Wired) -> None:
    """Control asks no model, and names the one that all would be answered by without it."""
    served = wired.served
    assert served.model_of(BOLD) is served.models[BOLD]
    assert served.model_of(CONTROL) is served.model_of(PERSONALIZED) is served.models[PERSONALIZED]
    assert served.discovery_of(BOLD) == 0.2
    assert served.discovery_of(CONTROL) == served.discovery_of(PERSONALIZED) == 0.02
