"""The cells of the table: which worlds, and what is wanted in each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from learning_bench import newcomers, numbers, shops
from learning_bench.worlds import World

Bounds = tuple[float, float]
ANY: Bounds = (0.0, math.inf)


@dataclass(frozen=True, slots=True)
class Cell:
    """A kind of world; each seed is one of them."""

    name: str
    group: str
    build: Callable[[int], World]
    """From a seed."""
    has_numbers: bool = False
    stationary: bool = True
    """Whether tastes and offers stay what they are."""
    wanted: float | None = None
    """The least figure, where one is wanted whatever LinUCB does."""
    newcomers_first: Bounds = (0.5, 2.0)
    newcomers_after_200: Bounds = ANY
    newcomers_after_1000: Bounds = ANY
    """What newcomers are wanted to have, as multiples of an even share: before any settlement, and later."""


def _cells() -> tuple[Cell, ...]:
    found: list[Cell] = []

    def add(group: str, name: str, build: Callable[[int], World], **more: bool | float) -> None:
        found.append(Cell(name, group, build, has_numbers=group == "numbers", **more))  # type: ignore[arg-type]

    add("rates", "shop", shops.shop)
    for name, rate in (("1%", 0.125), ("3%", 0.375), ("10%", 1.25), ("20%", 2.5)):
        add("rates", name, partial(shops.shop, rate=rate))
    add("rates", "small gap", shops.small_gap)
    add("rates", "delay 2000", partial(shops.shop, delay=2_000))
    add("rates", "logistic", shops.logistic)

    add("offers", "3 offers", partial(shops.shop, offers=3))
    add("offers", "50 offers", partial(shops.shop, offers=50))
    add("offers", "200 offers", partial(shops.many, offers=200))
    add("offers", "1000 offers", partial(shops.many, offers=1_000, decisions=10_000))
    add("offers", "rules", shops.ruled)
    add("offers", "churn", shops.churning, stationary=False)

    for low, high in ((-1.0, 1.0), (0.0, 10.0), (0.0, 100.0)):
        add("units", f"range {low:g}..{high:g}", partial(shops.worth, reward_range=(low, high)))
    add("units", "40 in 0..10000", partial(shops.worth, success=40.0, reward_range=(0.0, 10_000.0)))
    add("units", "log-normal in 0..1000", partial(shops.heavy_tailed, high=1_000.0, spread=1.0))
    add("units", "heavy tail in 0..500", partial(shops.heavy_tailed, high=500.0, spread=1.2))

    add("numbers", "thresholds", numbers.thresholds)
    add("numbers", "thresholds and words", partial(numbers.thresholds, categories=True))
    add("numbers", "bands", partial(numbers.thresholds, bands=True))
    for told in ("untold", "words", *numbers.UNITS):
        add("numbers", f"segments: {told}", partial(numbers.segments, told=told))
    for name, told_as in numbers.TWO_GROUPS.items():
        add("numbers", name, partial(numbers.two_groups, told=told_as), wanted=0.95)
    for unit in ("hour", "weekday"):
        add("numbers", unit, partial(numbers.by_time, unit=unit))

    for count, wanted in ((5, None), (10, 0.84), (20, None), (40, 0.80)):
        cell = Cell(f"{count} flags", "features", partial(shops.with_flags, count=count), wanted=wanted)
        found.append(cell)
    add("features", "10 categories of noise", shops.with_noise)
    add("features", "pairs", shops.pairs, wanted=0.88)
    add("features", "coffee", shops.coffee)

    add("change", "change at half", partial(shops.changing, slowly=False), stationary=False, wanted=0.80)
    add("change", "drift", partial(shops.changing, slowly=True), stationary=False, wanted=0.82)

    late = newcomers.new_offers
    newcomer = partial(Cell, group="newcomers", stationary=False)
    found += [
        newcomer("new at 3 %", build=late),
        newcomer("new at 17 %", build=partial(late, base=0.17)),
        newcomer("new at 60 %", build=partial(late, base=0.60)),
        newcomer("new without delay", build=partial(late, delay=0)),
        newcomer("new in -1..1", build=partial(late, reward_range=(-1.0, 1.0))),
        newcomer("new in 0..100", build=partial(late, reward_range=(0.0, 100.0))),
        newcomer(
            "new and worthless", build=partial(late, quality="worthless"), newcomers_after_200=(0.0, 0.1)
        ),
        newcomer("new and best", build=partial(late, quality="best"), newcomers_after_1000=(5.0, math.inf)),
        newcomer("three new", build=partial(late, count=3), newcomers_first=(0.5, 0.5 / 0.3)),
        newcomer("word renamed", build=newcomers.renamed_word),
    ]
    return tuple(found)


CELLS = {cell.name: cell for cell in _cells()}
GROUPS = tuple(dict.fromkeys(cell.group for cell in CELLS.values()))


def chosen(names: str) -> list[Cell]:
    """Return the cells of a comma-separated list of names and groups; ValueError, with all there are."""
    found: dict[str, Cell] = {}
    for name in filter(None, map(str.strip, names.split(","))):
        cells = [cell for cell in CELLS.values() if name in (cell.name, cell.group, "all")]
        if not cells:
            raise ValueError(f"no cell {name!r}; there are: all, {', '.join([*GROUPS, *CELLS])}")
        found |= {cell.name: cell for cell in cells}
    return list(found.values())
