"""Presets, and the allow-list for a campaign's own arguments."""

from __future__ import annotations

from typing import get_args

import pytest

from tilbud.bandit.presets import PRESETS, arguments
from tilbud.bandit.vw import Workspace
from tilbud.domain.campaign.campaign import Exploration, Preset


def resolved(text: str, preset: str = "balanced", offers: int = 10) -> str:
    """The arguments of a campaign with its own `text`."""
    return arguments(Exploration.model_validate({"preset": preset, "arguments": text}), offers)


def test_every_preset_a_campaign_may_name_exists():
    """The names campaign files allow are the presets there are, each with a sentence about it."""
    assert set(PRESETS) == set(get_args(Preset))
    assert all(preset.purpose.endswith(".") for preset in PRESETS.values())


@pytest.mark.parametrize("preset", get_args(Preset))
def test_vw_takes_every_preset(preset):
    """Each preset starts, and predicts a number for each offer: probabilities, or costs of nothing yet."""
    workspace = Workspace(resolved("", preset))
    examples = workspace.parse("shared |d 1\n|o 2\n|o 3")
    total = 0.0 if PRESETS[preset].trying else 1.0
    assert sum(workspace.predict(examples)) == pytest.approx(total)
    workspace.finish(examples)
    workspace.close()


@pytest.mark.parametrize(
    "text",
    [
        "-d data.txt", "-f model", "-i model", "--initial_regressor model", "--final_regressor=model",
        "--invert_hash out", "--readable_model out", "-p out", "--predictions out", "--cache_file c", "-c",
        "--daemon", "--port 1", "--audit", "--cb_adf", "--cb_explore 2", "--ccb_explore_adf", "--cb_type ips",
        "--bag 5", "--cover 3", "--first 10", "--link logistic", "--dictionary x", "--feature_mask m",
        "stray", "--elim", "--", "-", "-dfile", "--bit_precision", "--squarecb yes",
    ],
)  # fmt: skip
def test_arguments_outside_the_allow_list_are_refused(text):
    """Nothing that touches files, prints or changes what is predicted gets through."""
    with pytest.raises(ValueError, match=r"allowed|needs"):
        resolved(text)


@pytest.mark.parametrize(
    "text",
    [
        "--epsilon 2", "--epsilon nan", "--gamma_scale 0", "--gamma_scale x", "--learning_rate -1", "-l inf",
        "-b 40", "-b18.5", "--power_t 2", "-q dx", "-q d", "-q d:", "--cubic do", "--interactions dcjto",
        "--ignore_linear oo", "--ftrl_alpha 0",
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused_with_a_remedy(text):
    """A wrong value is refused, and the message names the option and says what it needs."""
    with pytest.raises(ValueError, match=r"^(--\w+) needs "):
        resolved(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("--squarecb --softmax", "choose one of"),
        ("--gamma_scale 3", "--gamma_scale has no meaning"),
        ("--softmax --gamma_scale 3", "--gamma_scale has no meaning"),
        ("--lambda 3", "--lambda has no meaning"),
        ("--regcb --epsilon 0.1", "--epsilon has no meaning"),
        ("--mellowness 0.1", "without --regcb or --regcbopt"),
        ("--epsilon 0.1 --epsilon 0.2", "twice"),
        ("--ftrl --coin", "choose one optimiser"),
        ("--ftrl --adaptive", "choose one optimiser"),
        ("--coin --normalized", "choose one optimiser"),
        ("--learning_rate 0.1 --ftrl", "choose one optimiser"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(text, problem):
    """What VW would silently drop is refused."""
    with pytest.raises(ValueError, match=problem):
        resolved(text)


def test_own_arguments_replace_the_presets():
    """A campaign's value wins, its algorithm takes the place of the preset's, its crossings come on top."""
    assert "--ftrl_alpha 0.07 " in resolved("--ftrl_alpha 0.07")
    assert resolved("--ftrl_alpha 0.07").count("--ftrl_alpha") == 1
    assert "--gamma_scale 7" in resolved("--squarecb --gamma_scale 7")
    softmax = resolved("--softmax --lambda=10")
    assert "--softmax" in softmax
    assert "--epsilon" not in resolved("--softmax", "epsilon_greedy")
    assert "--quadratic do" in resolved("-q ff")
    assert "--quadratic ff" in resolved("-qff")
    assert resolved("-b 20") == resolved("--bit_precision=20") == resolved("-b20")


def test_equal_files_have_equal_arguments():
    """The order of options does not matter, since the arguments are part of the lineage."""
    assert resolved("-l 0.5 -b 20") == resolved("-b 20 -l 0.50")


@pytest.mark.parametrize(
    "text",
    ["--softmax --lambda 10", "--regcb", "--regcbopt --mellowness 0.01", "--coin", "-l 0.1",
     "--cubic dco", "--interactions dcjo", "--ignore a --ignore_linear d", "--noconstant --l2 1e-6",
     "--adaptive --invariant --power_t 0.4", "--random_seed 7 --epsilon 0.05"],
)  # fmt: skip
def test_vw_takes_what_the_allow_list_lets_through(text):
    """Whatever is allowed, VW starts with it."""
    Workspace(resolved(text)).close()


def test_a_catalogue_has_weights_by_its_size():
    """Few offers have half a megabyte and many have more, in wide steps; a campaign's own number stays."""
    bits = [
        resolved("", offers=offers).split("--bit_precision ")[1].split()[0] for offers in (16, 17, 65, 513)
    ]
    assert bits == ["15", "16", "18", "20"]
    assert "--bit_precision 12" in resolved("-b 12", offers=1_000)
