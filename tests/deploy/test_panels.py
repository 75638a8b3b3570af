"""What panels compute of rewards is what the formulas say, by promtool's Prometheus on made-up series."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from asking import filled, load, panels

ROOT = Path(__file__).parents[2]
CHOSEN = {"job": ".+", "instance": ".+", "campaign": "shop", "window": "5m", "__rate_interval": "1m"}
MINUTES = 5
Settled = tuple[int, int, float, float]
"""Settlements a minute, how many of them are rewarded, with how much, and 1 / propensity of all of them."""


def _reward_series(variant: str, settled: Settled, offer: str = "a") -> list[dict[str, str]]:
    count, rewarded, reward, weight = settled
    sums = {
        "settlements": count,
        "reward_gain": rewarded * reward,
        "reward_loss": 0,
        "reward_squares": rewarded * reward**2,
        "importance_weights": count * weight,
        "importance_weight_squares": count * weight**2,
        "weighted_reward_gain": rewarded * reward * weight,
        "weighted_reward_loss": 0,
        "square_weighted_reward_gain": rewarded * reward * weight**2,
        "square_weighted_reward_loss": 0,
        "weighted_reward_squares": rewarded * (reward * weight) ** 2,
    }
    labels = f'job="tilbud",campaign="shop",variant="{variant}",offer="{offer}"'
    return [
        {"series": f"tilbud_{name}_total{{{labels}}}", "values": f"0+{sum_!r}x{2 * MINUTES}"}
        for name, sum_ in sums.items()
    ]


def _promtool(promtool: Path, directory: Path, series: list[dict[str, str]], asked: list[Any]) -> None:
    rules = ROOT / "deploy/prometheus/rules/recording.yml"
    groups = [
        group for group in yaml.safe_load(rules.read_text())["groups"] if group["name"].endswith("rewards")
    ]
    (directory / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
    test = {"interval": "1m", "input_series": series, "promql_expr_test": asked}
    file = directory / "test.yml"
    content = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]}
    file.write_text(yaml.safe_dump(content))
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _asked(title: str, column: int, samples: Mapping[str, float]) -> dict[str, Any]:
    """Return that this query of a panel gives this, to four places."""
    [panel] = [each for each in panels(load("learning")) if each["title"] == title]
    expr = filled(panel["targets"][column]["expr"], CHOSEN)
    return {
        "expr": f"round({expr}, 0.0001)",
        "eval_time": f"{2 * MINUTES}m",
        "exp_samples": [{"labels": labels, "value": round(value, 4)} for labels, value in samples.items()],
    }


def _spread(settled: list[Settled]) -> float:
    """The variance of all rewards."""
    count = sum(each[0] for each in settled)
    mean = sum(each[1] * each[2] for each in settled) / count
    return sum(each[1] * each[2] ** 2 for each in settled) / count - mean**2


def _mean_and_error(settled: Settled, spread: float) -> tuple[float, float]:
    """The mean and its standard error, steadied by fifty settlements of the whole campaign's variance."""
    count, mean = settled[0] * MINUTES, settled[1] * settled[2] / settled[0]
    own = settled[1] * settled[2] ** 2 / settled[0] - mean**2
    return mean, math.sqrt((count * own + 50 * spread) / (count + 50) / count)


def test_offers_are_worth_what_both_variants_say_by_how_sure_they_are(promtool: Path, tmp_path: Path) -> None:
    """The mean of the variants' estimates by the inverse of their variances; an offer of few is left out."""
    settled: dict[str, Settled] = {"personalized": (100, 30, 20.0, 2.0), "control": (10, 5, 20.0, 8.0)}
    few: Settled = (3, 1, 20.0, 2.0)
    series = [each for variant, some in settled.items() for each in _reward_series(variant, some)]
    series += _reward_series("control", few, offer="rare")
    spread = _spread([*settled.values(), few])
    estimates = [_mean_and_error(some, spread) for some in settled.values()]
    certainty = sum(error**-2 for _, error in estimates)
    value = sum(mean * error**-2 for mean, error in estimates) / certainty
    asked = [
        _asked("Value by offer", 0, {'{offer="a"}': value}),
        _asked("Value by offer", 1, {'{offer="a"}': 1.96 / math.sqrt(certainty)}),
        _asked("Value by offer", 2, {'{offer="a"}': 110 * MINUTES}),
    ]
    _promtool(promtool, tmp_path, series, asked)


@pytest.mark.parametrize(
    ("control", "verdict"), [((40, 4, 10.0, 1.0), 1), ((40, 8, 10.0, 1.0), 0), ((40, 16, 10.0, 1.0), -1)]
)
def test_lift_has_its_interval_and_the_verdict_waits_for_it(
    promtool: Path, tmp_path: Path, control: Settled, verdict: int
) -> None:
    """Fieller's interval of the ratio; better or worse only where that of the difference leaves out 0."""
    shown: Settled = (400, 80, 10.0, 1.0)
    spread = _spread([shown, control])
    (mean, error), (base, base_error) = (_mean_and_error(some, spread) for some in (shown, control))
    ratio, left = mean / base, 1 - (1.96 * base_error / base) ** 2
    half = 1.96 / base * math.sqrt(error**2 * left + (ratio * base_error) ** 2)
    asked = [
        _asked("Does it earn more than control?", 0, {"{}": verdict}),
        _asked("Lead over control", 0, {"{}": mean - base}),
        _asked("Lead over control", 1, {"{}": mean - base - 1.96 * math.hypot(error, base_error)}),
        _asked("Lift over control", 0, {"{}": ratio - 1}),
        _asked("Lift over control", 1, {"{}": (ratio - half) / left - 1}),
        _asked("Lift over control", 2, {"{}": (ratio + half) / left - 1}),
    ]
    series = [*_reward_series("personalized", shown), *_reward_series("control", control)]
    _promtool(promtool, tmp_path, series, asked)


@pytest.mark.parametrize("control", [(9, 3, 1.0, 1.0), (20, 0, 1.0, 1.0)])
def test_there_is_no_lift_over_a_control_of_few_or_of_nothing(
    promtool: Path, tmp_path: Path, control: Settled
) -> None:
    """Below fifty settlements, or while control's mean may be 0: no number at all."""
    series = [*_reward_series("personalized", (400, 80, 1.0, 1.0)), *_reward_series("control", control)]
    _promtool(promtool, tmp_path, series, [_asked("Lift over control", column, {}) for column in range(3)])
