"""What a model takes in memory, reckoned and measured."""

from __future__ import annotations

import gc
import multiprocessing
import random
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import vowpalwabbit
from tests.unit.bandit.samples import LIMITS, campaign, encoded, offer_set, settlement

from tilbud.bandit.memory import model_bytes, weights_bytes
from tilbud.bandit.model import Model
from tilbud.bandit.presets import PRESETS, arguments, challenger
from tilbud.domain.campaign.campaign import PERSONALIZED, Campaign, Exploration

OPTIMISERS = (
    "--coin", "-l 0.1", "--adaptive", "--normalized", "--invariant", "--adaptive --invariant", "--ftrl",
    "--regcb", "--squarecb", "--softmax", "-b 12", "--adaptive --invariant --normalized",
)  # fmt: skip


@pytest.mark.parametrize(
    "exploration",
    [*({"preset": preset} for preset in PRESETS), *({"arguments": own} for own in OPTIMISERS)],
    ids=str,
)
def test_weights_are_as_large_as_vws(exploration):
    """Of every preset and optimiser: as many numbers for each weight as VW itself says."""
    given = arguments(Exploration(**exploration), 10)
    for each in filter(None, (given, challenger(given, 3))):
        workspace = vowpalwabbit.Workspace(arg_list=[*each.split(), "--quiet", "--no_stdin"])
        assert weights_bytes(each) == 4 * workspace.get_stride() * workspace.num_weights()
        workspace.finish()


@pytest.mark.parametrize(
    ("offers", "models", "changes"),
    [
        (10, 12, {}),
        (10, 12, {"exploration": {"preset": "epsilon_greedy"}}),
        (60, 6, {}),
        (200, 4, {}),
    ],
)
def test_a_model_takes_what_is_reckoned(offers, models, changes):
    """Models that have learned take as much of a process as is reckoned, to a half more or less."""
    # A process of its own has not freed what models would then be made of.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        taken = process.submit(_taken_bytes, offers, models, changes).result()
    assert 0.5 < taken / model_bytes(_declared(offers, changes), PERSONALIZED) < 1.5


def _declared(offers: int, changes: dict[str, Any]) -> Campaign:
    return campaign(offers=[{"id": f"offer-{number}"} for number in range(offers)], **changes)


def _taken_bytes(offers: int, models: int, changes: dict[str, Any]) -> float:
    """By how much this process grows with each model that has learned."""
    declared = _declared(offers, changes)
    shown, chance = offer_set(offers, family="f"), random.Random(1)
    lessons = [
        settlement(
            sequence,
            chance.randrange(offers),
            float(chance.random() < 0.3),
            features=_visitor(chance),
            offers=shown,
        )
        for sequence in range(1, 1_501)
    ]
    kept = [_taught(declared, lessons)]  # with what is there once, whatever the models
    gc.collect()
    before = _resident_bytes()
    kept += [_taught(declared, lessons) for _ in range(models)]
    return (_resident_bytes() - before) / models


def _taught(declared: Any, lessons: list[Any]) -> Model:
    """A model that has learned, and been asked."""
    model = Model(declared, limits=LIMITS)
    for lesson in lessons:
        model.learn(lesson)
    model.predict(encoded(), lessons[0].offers)
    return model


def _visitor(chance: random.Random) -> str:
    device = chance.choice(["mobile", "desktop", "tablet"])
    return encoded(device, tier=f"tier {chance.randrange(50)}", basket=chance.random() * 1_000)


def _resident_bytes() -> int:
    """The memory this process has, as Linux counts it."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4_096
