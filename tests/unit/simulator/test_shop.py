"""The shop's truth."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilbud.simulator.shop import PARTS_OF_DAY, Shop, ShopConfig

configs = st.builds(
    ShopConfig,
    offers=st.integers(1, 12).map(lambda n: tuple(f"offer-{i}" for i in range(n))),
    devices=st.sampled_from([(), ("mobile",), ("mobile", "desktop", "tablet")]),
    base_rate=st.floats(0.001, 0.99),
    popularity_spread=st.floats(0, 2),
    taste_strength=st.floats(0, 5),
    taste_change_at=st.none() | st.integers(0, 50),
)


def truth(shop: Shop, visitors: range = range(200)) -> list[tuple[float, ...]]:
    """Every probability of these visitors."""
    return [shop.probabilities(shop.visitor(number)) for number in visitors]


def mean(shop: Shop, measure: str, visitors: range = range(4000)) -> float:
    """The mean of one of the shop's measures."""
    return fmean(getattr(shop, measure)(shop.visitor(number)) for number in visitors)


def test_a_seed_is_a_shop():
    """The same seed gives the same visitors and the same truth; another seed gives others."""
    one, same, other = Shop(ShopConfig(), 1), Shop(ShopConfig(), 1), Shop(ShopConfig(), 2)
    assert truth(one) == truth(same)
    assert [one.visitor(n) for n in range(50)] == [same.visitor(n) for n in range(50)]
    assert truth(one) != truth(other)


def test_names_do_not_matter():
    """Renaming the offers changes nothing but their names."""
    config = ShopConfig()
    renamed = replace(config, offers=tuple(f"x{offer}" for offer in config.offers))
    assert truth(Shop(config, 1)) == truth(Shop(renamed, 1))


@settings(max_examples=40, deadline=None)
@given(config=configs, seed=st.integers(0, 2**32))
def test_probabilities_are_probabilities(config: ShopConfig, seed: int):
    """Every probability lies strictly between 0 and 1, however strange the shop."""
    assert all(0 < p < 1 for row in truth(Shop(config, seed), range(60)) for p in row)


@settings(max_examples=40, deadline=None)
@given(config=configs, seed=st.integers(0, 2**32))
def test_nothing_beats_the_best(config: ShopConfig, seed: int):
    """For every visitor, best is at least what any offer earns, and some offer earns it."""
    shop = Shop(config, seed)
    for number in range(60):
        visitor = shop.visitor(number)
        row = [shop.probability(visitor, offer) for offer in config.offers]
        assert shop.best(visitor) == max(row)
        assert shop.best_single(visitor) in row
        assert shop.uniform(visitor) == pytest.approx(fmean(row))


@pytest.mark.parametrize("seed", range(5))
def test_default_rates_are_those_of_a_real_shop(seed: int):
    """By default uniform earns 0.10, the best 0.18 to 0.26, and the best single offer lies between."""
    shop = Shop(ShopConfig(), seed)
    uniform, single, best = (mean(shop, measure) for measure in ("uniform", "best_single", "best"))
    assert uniform == pytest.approx(0.10, abs=0.004)
    assert 0.18 < best < 0.26
    assert uniform < single < best


def test_without_taste_one_offer_is_best_for_everyone():
    """With a taste strength of 0 the best single offer is the best for each visitor."""
    shop = Shop(ShopConfig(taste_strength=0), 1)
    assert mean(shop, "best_single", range(100)) == pytest.approx(mean(shop, "best", range(100)))


def test_tastes_change_when_they_should():
    """Up to the change the truth is the same as without one; from there it is another, as rich."""
    still, changing = Shop(ShopConfig(), 1), Shop(ShopConfig(taste_change_at=100), 1)
    assert truth(still, range(100)) == truth(changing, range(100))
    assert all(
        a != b for a, b in zip(truth(still, range(100, 200)), truth(changing, range(100, 200)), strict=True)
    )
    assert mean(changing, "uniform", range(100, 4100)) == pytest.approx(0.10, abs=0.004)


def test_people_buy_as_probably_as_the_truth_says():
    """Purchases over many visitors agree with their probabilities, within four standard errors."""
    shop, offer, visitors = Shop(ShopConfig(), 3), "offer-04", range(20_000)
    probabilities = [shop.probability(shop.visitor(n), offer) for n in visitors]
    bought = sum(shop.buys(shop.visitor(n), offer) for n in visitors)
    error = math.sqrt(sum(p * (1 - p) for p in probabilities))
    assert abs(bought - sum(probabilities)) < 4 * error


def test_every_context_is_visited_equally():
    """Every value of every axis comes about equally often, and the part of day is the time's own."""
    shop = Shop(ShopConfig(), 1)
    visitors = [shop.visitor(number) for number in range(12_000)]
    for axis, size in (("device", 3), ("channel", 3), ("journey_stage", 4)):
        values = [getattr(visitor, axis) for visitor in visitors]
        counts = [values.count(value) for value in set(values)]
        assert len(counts) == size
        assert all(abs(count - 12_000 / size) < 300 for count in counts)
    assert {PARTS_OF_DAY[v.values[3]] for v in visitors if v.time.hour == 5} == {"night"}
    assert {PARTS_OF_DAY[v.values[3]] for v in visitors if v.time.hour == 18} == {"evening"}


@pytest.mark.parametrize(
    "wrong",
    [{"offers": ()}, {"base_rate": 0}, {"base_rate": 1}, {"taste_strength": -1}, {"delay_decisions": -1}],
)
def test_an_impossible_shop_is_refused(wrong: dict[str, Any]):
    """A config that cannot be a shop is a ValueError."""
    with pytest.raises(ValueError, match=r"must|needs"):
        ShopConfig(**wrong)
