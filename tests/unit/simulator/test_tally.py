"""What answers are worth."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from tilbud.simulator.driver import Answer
from tilbud.simulator.shop import Shop, ShopConfig, Visitor
from tilbud.simulator.sources import ShopSource
from tilbud.simulator.tally import RECENT, WorldTally

SHOP = Shop(ShopConfig(offers=("a", "b", "c")), 7)
SOURCE = ShopSource(SHOP)


def answer(number: int, offer: str, variant: str = "personalized", reason: str = "personalized") -> Answer:
    """The answer that shows this offer to this visitor."""
    outcome = SOURCE.outcome(number, offer)
    return Answer(number, f"id-{number}", offer, variant, reason, outcome)


def tally(policy: Callable[[Visitor], str], decisions: int) -> WorldTally:
    """A run of this policy."""
    result = WorldTally(SOURCE)
    for number in range(decisions):
        result.observe(answer(number, policy(SHOP.visitor(number))))
    return result


def best_offer(visitor: Visitor) -> str:
    """What somebody who knows the truth would show."""
    return max(SHOP.config.offers, key=lambda offer: SHOP.probability(visitor, offer))


def test_a_perfect_policy_has_the_whole_uplift():
    """A policy that knows the truth has a share of exactly 1."""
    assert tally(best_offer, 500).everyone.share_of_uplift == pytest.approx(1)


def test_showing_everything_equally_has_none_of_it():
    """Showing each visitor every offer once has a share of exactly 0."""
    uniform = WorldTally(SOURCE)
    for number in range(300):
        for offer in SHOP.config.offers:
            uniform.observe(answer(number, offer))
    assert uniform.everyone.share_of_uplift == pytest.approx(0, abs=1e-9)


def test_expected_and_realised_rewards_agree():
    """Over many visitors the purchases that happened are about the expected ones."""
    rates = tally(best_offer, 8000).everyone
    assert rates.realised == pytest.approx(rates.achieved, abs=4 * math.sqrt(0.2 * 0.8 / 8000))


def test_a_fallback_earns_nothing_and_is_counted():
    """A service that answers with fallbacks does not look better for it."""
    half = WorldTally(SOURCE)
    for number in range(400):
        if number % 2:
            half.observe(answer(number, "welcome", reason="fallback_no_time"))
        else:
            half.observe(answer(number, best_offer(SHOP.visitor(number))))
    assert half.everyone.decisions == 400
    assert half.everyone.achieved == pytest.approx(half.everyone.best / 2, rel=0.1)


def test_the_control_group_counts_for_everyone_only():
    """Control decisions are among everyone's and not among the learner's own."""
    both = WorldTally(SOURCE)
    for number in range(300):
        both.observe(answer(number, best_offer(SHOP.visitor(number))))
        both.observe(answer(number, "a", variant="control", reason="control"))
    assert both.variants["personalized"].share_of_uplift == pytest.approx(1)
    assert both.variants["control"].decisions == 300
    assert both.everyone.decisions == 600
    assert both.everyone.share_of_uplift < 1


def test_the_recent_window_forgets():
    """The last window holds the last decisions only, and the curve has a point for each window."""
    learned = tally(lambda visitor: best_offer(visitor) if visitor.number >= RECENT else "a", 2 * RECENT)
    assert learned.recent.decisions == RECENT
    assert learned.recent.share_of_uplift == pytest.approx(1)
    assert [point.decisions for point in learned.curve] == [RECENT, RECENT]
    assert learned.curve[0].share_of_uplift < 1


def test_nothing_to_gain_is_not_a_number():
    """Where every offer is equally good there is no share, rather than a wrong one."""
    shop = Shop(ShopConfig(offers=("only",)), 1)
    single = WorldTally(ShopSource(shop))
    single.observe(
        Answer(0, "id", "only", "personalized", "personalized", ShopSource(shop).outcome(0, "only"))
    )
    assert math.isnan(single.everyone.share_of_uplift)
