"""What an offer is worth to everybody, from sums over those it was shown to."""

from __future__ import annotations

import random
from dataclasses import replace
from math import fsum

import pytest
from prometheus_client import CollectorRegistry
from tests.unit.bandit.samples import settlement

from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.decision.records import Settlement
from tilbud.telemetry.metrics import Metrics

SUMS = (
    "importance_weights", "importance_weight_squares", "weighted_reward_gain", "weighted_reward_loss",
    "square_weighted_reward_gain", "square_weighted_reward_loss", "weighted_reward_squares",
)  # fmt: skip


@pytest.fixture
def metrics() -> Metrics:
    """The metrics of a process."""
    return Metrics(CollectorRegistry(), version="test", vw_version="test")


def _campaign(*offers: str) -> Campaign:
    return Campaign.model_validate({
        "campaign": "shop",
        "consent": "not_required",
        "offers": [{"id": offer} for offer in offers],
        "fallback": {"id": "none"},
        "reward": {"outcomes": {"click": 1.0}},
    })  # fmt: skip


def _settle(metrics: Metrics, offer: str, reward: float, probability: float = 0.5) -> None:
    settled = settlement(1, 0, reward, probability=probability)
    metrics.learning.settled(replace(settled, offer_id=offer), learned=True)


def _sum(metrics: Metrics, name: str, offer: str = "a") -> float:
    labels = {"campaign": "shop", "variant": "personalized", "offer": offer}
    value = metrics.registry.get_sample_value(f"tilbud_{name}_total", labels)
    assert value is not None, (name, offer)
    return value


def test_rewards_weigh_the_inverse_of_their_propensity(metrics: Metrics) -> None:
    """Sums of weights, of weighted rewards and of their squares; below zero in counters of their own."""
    _settle(metrics, "a", 3.0, probability=0.5)
    _settle(metrics, "a", -2.0, probability=0.25)
    assert {name: _sum(metrics, name) for name in SUMS} == {
        "importance_weights": 2 + 4,
        "importance_weight_squares": 4 + 16,
        "weighted_reward_gain": 6,
        "weighted_reward_loss": 8,
        "square_weighted_reward_gain": 12,
        "square_weighted_reward_loss": 32,
        "weighted_reward_squares": 36 + 64,
    }


def test_the_value_is_that_of_everybody_and_not_of_those_it_suits(metrics: Metrics) -> None:
    """An offer shown to those who like it: the plain mean flatters it, the weighted one does not."""
    chance = random.Random(1)
    rewards = []
    for _ in range(20_000):
        likes = chance.random() < 0.3
        probability = 0.9 if likes else 0.1
        if chance.random() < probability:
            rewards.append(float(chance.random() < (0.5 if likes else 0.1)))
            _settle(metrics, "a", rewards[-1], probability)
    weights, loss = _sum(metrics, "importance_weights"), _sum(metrics, "weighted_reward_loss")
    value = (_sum(metrics, "weighted_reward_gain") - loss) / weights
    everybody = 0.3 * 0.5 + 0.7 * 0.1
    error = (
        _sum(metrics, "weighted_reward_squares")
        - 2 * value * _sum(metrics, "square_weighted_reward_gain")
        + value**2 * _sum(metrics, "importance_weight_squares")
    ) ** 0.5 / weights
    assert abs(value - everybody) < 3 * error < 0.05
    assert fsum(rewards) / len(rewards) > everybody + 0.1


@pytest.mark.parametrize("probability", [0.0, 5e-324, float("nan")])
def test_a_propensity_that_is_none_weighs_nothing(metrics: Metrics, probability: float) -> None:
    """A damaged row, of which nothing was learned, is settled all the same, and spoils no sum."""
    metrics.served(_campaign("a"), 0)
    damaged = replace(settlement(1, 0, 1.0, probability=probability), offer_id="a")
    metrics.learning.settled(damaged, learned=False)
    assert _sum(metrics, "settlements") == 1
    assert {_sum(metrics, name) for name in SUMS} == {0.0}


def test_a_fallback_is_no_offer(metrics: Metrics) -> None:
    """It begins at nothing and counts nowhere: it was drawn from nothing."""
    metrics.served(_campaign("a"), 0)
    fallback: Settlement = replace(settlement(1, -1, 1.0, probability=1.0), offer_id="none")
    metrics.learning.settled(fallback, learned=False)
    of_offers = [
        sample.labels["offer"]
        for family in metrics.registry.collect()
        if family.name.removeprefix("tilbud_") in SUMS
        for sample in family.samples
    ]
    assert of_offers == ["a"] * len(SUMS)
    assert not any(_sum(metrics, name) for name in SUMS)


def test_squares_are_those_of_the_reward(metrics: Metrics) -> None:
    """By offer and by context, whatever the reward's unit and sign."""
    _settle(metrics, "a", 30.0)
    _settle(metrics, "a", -40.0)
    of = {"campaign": "shop", "variant": "personalized"}
    context = {"channel": "web", "device": "mobile", "journey_stage": "unknown"}
    value = metrics.registry.get_sample_value
    assert value("tilbud_reward_squares_total", of | {"offer": "a"}) == 900 + 1600
    assert value("tilbud_context_reward_squares_total", of | context) == 900 + 1600


def test_sums_go_with_their_offer_and_their_campaign(metrics: Metrics) -> None:
    """And begin at 0 when they come back."""
    for offers in (("a", "b"), ("a",), ("a", "c"), ("a", "b")):
        metrics.served(_campaign(*offers), 0)
        _settle(metrics, offers[-1], 1.0)
    assert _sum(metrics, "importance_weights", "b") == 2
    metrics.forget("shop")
    metrics.served(_campaign("a"), 0)
    assert _sum(metrics, "importance_weights") == 0
