"""Rewards in standard deviations."""

from __future__ import annotations

import json
import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilbud.bandit.scale import COST_MAX, Scale


@given(rewards=st.lists(st.floats(0.0, 1.0), max_size=50))
def test_costs_are_finite_and_bounded(rewards):
    """Whatever rewards come, in whatever order, each costs a finite number within the bound."""
    scale = Scale()
    assert all(abs(scale.cost(reward)) <= COST_MAX for reward in rewards)


@pytest.mark.parametrize("reward", [0.0, 0.1, 1.0, 1e-300])
def test_equal_rewards_cost_nothing(reward):
    """As long as all rewards are the same there is nothing to tell apart."""
    scale = Scale()
    assert {scale.cost(reward) for _ in range(100)} == {0.0}


@pytest.mark.parametrize("unit", [1.0, 0.01, 1e-4, 1e-9])
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_neither_unit_nor_offset_matters(unit, offset):
    """The same rewards in a range that is 10,000 times too wide, or shifted, cost the same."""
    generator = random.Random(5)
    rewards = [float(generator.random() < 0.1) for _ in range(500)]
    plain, other = Scale(), Scale()
    if offset and unit < 1e-4:
        return  # beyond what a float of about 1 can hold
    for reward in rewards:
        assert other.cost(offset + unit * reward / 2) == pytest.approx(plain.cost(reward), rel=1e-6, abs=1e-6)


def test_costs_are_deviations_below_the_mean():
    """After many rewards the scale is their mean and deviation, to the digit of the textbook's."""
    generator = random.Random(6)
    rewards = [generator.random() ** 3 for _ in range(1_000)]
    scale = Scale()
    for reward in rewards[:-1]:
        scale.cost(reward)
    mean, deviation = statistics.fmean(rewards), statistics.pstdev(rewards)
    assert scale.cost(rewards[-1]) == pytest.approx((mean - rewards[-1]) / deviation)


def test_one_large_order_does_not_outweigh_a_hundred():
    """What lies far beyond ten deviations counts as ten."""
    scale = Scale()
    for number in range(10_000):
        scale.cost(0.001 * (number % 2))
    assert scale.cost(1.0) == -COST_MAX


def test_state_is_all_there_is():
    """Taken down as JSON and taken up again, a scale goes on to the last bit."""
    generator = random.Random(7)
    straight = Scale()
    for _ in range(100):
        straight.cost(generator.random())
    again = Scale.of(json.loads(json.dumps(straight.state())))
    for _ in range(100):
        reward = generator.random()
        assert again.cost(reward) == straight.cost(reward)
    assert math.isfinite(again.cost(0.5))
