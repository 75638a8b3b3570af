"""Worlds of the learning bench: what happens in them, and what is best."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from learning_bench.cells import CELLS, GROUPS, chosen
from learning_bench.classes import bandit
from learning_bench.references import BestFixed
from learning_bench.runs import live
from learning_bench.shops import heavy_tailed, shop
from learning_bench.worlds import DISCOVERY, World

LARGE = {"1000 offers", "200 offers"}
SEVERAL = [name for name in CELLS if name not in LARGE]


class Knowing:
    """Chooses what is truly best for each visitor."""

    def __init__(self, world: World) -> None:
        self._expected = world.expected(slice(None))

    def scores(self, decision, offers):
        expected = self._expected[decision, list(offers)]
        return [float(index == expected.argmax()) for index in range(len(offers))]

    def learn(self, decision, offers, choice, reward):
        """There is nothing to learn."""

    def close(self):
        """Nothing is held."""


def same(one: object, other: object) -> bool:
    """Say whether two fields of worlds are equal, arrays by their numbers."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))
    return one == other


@pytest.mark.parametrize("name", SEVERAL)
def test_a_world_is_its_seed(name):
    """A cell and a seed are one world, another seed is another."""
    one, again, other = (CELLS[name].build(seed) for seed in (1, 1, 2))
    assert all(same(getattr(one, field.name), getattr(again, field.name)) for field in fields(World))
    assert not same(one.luck, other.luck)


@pytest.mark.parametrize("name", SEVERAL)
def test_a_world_is_sound(name):
    """Chances lie in [0, 1], somebody may be shown something at any time, and knowing visitors pays."""
    world = CELLS[name].build(3)
    assert world.rates.min() >= 0
    assert world.rates.max() <= 1
    low, high = world.reward_range
    expected = world.expected(slice(None))
    assert low <= expected.min() < expected.max() <= high
    if world.eligible is not None:
        assert world.eligible.sum(axis=1).min() >= 2
        expected = np.where(world.eligible, expected, np.nan)
    assert np.nanmax(expected, axis=1)[world.judged].mean() > np.nanmean(expected[world.judged]) * 1.05


@pytest.mark.parametrize("name", ["coffee", "rules", "new and best"])
def test_who_knows_the_truth_gets_all_but_discovery(name):
    """The figure of the truly best choice is 1 less the share of discovery; of luck it knows nothing."""
    world = CELLS[name].build(5)
    lived = live(world, Knowing(world))
    judged = world.judged
    gained = (lived.earned - lived.uniform)[judged].sum() / (lived.best - lived.uniform)[judged].sum()
    assert gained == pytest.approx(1 - DISCOVERY)


def test_outcomes_come_as_often_as_the_truth_says():
    """The mean of what is paid is what was expected, in amounts with a heavy tail too."""
    world = heavy_tailed(4, high=500.0, spread=1.2)
    offer = 3
    paid = [min(world.reward(decision, offer), 500.0) for decision in range(world.decisions)]
    error = np.std(paid) / np.sqrt(len(paid))
    assert abs(np.mean(paid) - world.expected(slice(None))[:, offer].mean()) < 4 * error


def test_best_fixed_is_the_best_of_all_fixed_offers():
    """No offer, shown to everybody, earns more than the one that is known beforehand to be best."""
    world = shop(6)
    scores = BestFixed(world).scores(0, tuple(range(len(world.offers))))
    assert scores.index(1.0) == world.expected(world.judged).mean(axis=0).argmax()


def test_a_design_tells_what_is_known():
    """Each visitor is a row of columns that lie within the width, with an intercept; hats add up to one."""
    world = CELLS["0 v unknown"].build(2)
    number = world.numbers["number"]
    for how in ("hat", "buckets", "log"):
        design = world.design(how)
        assert design.ids.shape == design.values.shape
        assert design.ids.max() == design.width - 1
        assert (design.values[:, -1] == 1).all()
    design = world.design("hat")
    unknown, *hat = design.values[:, 4:-1].T
    assert (unknown == np.isnan(number)).all()
    assert np.allclose(np.sum(hat, axis=0), ~np.isnan(number))


def test_classes_are_a_bandit():
    """A table for classification pays 1 for the right class, and its rows come in the seed's order."""
    classes = np.arange(30) % 3
    world = bandit(1, {"number": classes.astype(float)}, {}, classes)
    assert len(world.offers) == 3
    assert (world.rates.argmax(axis=1) == world.numbers["number"]).all()
    assert not np.array_equal(world.numbers["number"][:30], world.numbers["number"][30:60])


def test_cells_are_chosen_by_name_or_group():
    """A group stands for its cells, each comes once, and an unknown name is refused with all there are."""
    assert [cell.name for cell in chosen("pairs,pairs")] == ["pairs"]
    assert {cell.group for cell in chosen("change")} == {"change"}
    assert len(chosen("all")) == len(CELLS)
    with pytest.raises(ValueError, match=f"there are: all, {GROUPS[0]}"):
        chosen("shops")
