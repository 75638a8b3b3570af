"""What numbers let one conclude."""

from __future__ import annotations

import math

import pytest

from tilbud.simulator.conclusions import of_replay, of_simulation
from tilbud.simulator.logged import LoggedRate
from tilbud.simulator.tally import Rates

CHANCE = LoggedRate(10_000, 0.10, 0.003, 1_000)


@pytest.mark.parametrize(
    ("matched", "said"),
    [
        (LoggedRate(5_000, 0.12, 0.004, 600), "visit +0.0200 ± 0.0050 a row. Chance alone seldom does that."),
        (LoggedRate(5_000, 0.08, 0.004, 400), "visit -0.0200 ± 0.0050 a row. Chance alone seldom does that."),
        (LoggedRate(5_000, 0.105, 0.004, 525), "it takes about 20,000 rows used."),
        (LoggedRate(5_000, 0.10, 0.004, 500), "No difference."),
        (LoggedRate(100, 0.29, 0.01, 29), "Not enough to conclude anything: 29 of the 100 rows"),
    ],
)
def test_a_difference_is_one_only_beyond_its_error(matched: LoggedRate, said: str):
    """Over two standard errors it is told as one; within them, how many rows it would take."""
    assert said in of_replay("visit", matched, CHANCE, CHANCE)[0]


@pytest.mark.parametrize(
    ("decisions", "achieved", "best", "said"),
    [
        (
            20_000,
            0.15,
            0.20,
            "It got 50% of what choosing could gain over chance, learning included, and 50%",
        ),
        (300, 0.15, 0.20, "300 decisions are few to learn from"),
        (20_000, 0.09, 0.20, "It got nothing of what choosing could gain over chance"),
        (300, 0.10, 0.10, "Nothing could be gained"),
        (0, math.nan, math.nan, "It made no decision"),
    ],
)
def test_a_simulation_is_told_in_a_sentence(decisions: int, achieved: float, best: float, said: str):
    """What share of the possible it got, unless there are few decisions, or nothing to gain."""
    rates = Rates(decisions, 0.10, achieved, best, math.nan, math.nan)
    recent = Rates(min(decisions, 5_000), 0.10, achieved, best, math.nan, math.nan)
    assert said in of_simulation(rates, recent)
