"""Worlds that turn on numbers and on time, told as people tell them.

`thresholds` and `bands` are LEARNING's kind: a basket's value, an age, seconds since the last visit, and
each offer wins or loses where one of them passes a point or lies between two. `segments` tells the same
five groups of visitors in one of many units. `two_groups` has two kinds of visitors whose numbers differ by
little, or by 0 against nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from learning_bench.shops import (
    DECISIONS,
    LIFT,
    OFFERS,
    RATE_MAX,
    additive,
    base_rates,
    likes,
    visitors,
    world,
)
from learning_bench.worlds import SHOP_AXES, Floats, World

TWO_GROUPS_DECISIONS, TWO_GROUPS_LEARNED = 8_000, 6_000
SEGMENTS = 5

UNITS: Mapping[str, Callable[[Floats], Floats]] = MappingProxyType(
    {
        "0..100": lambda place: 100 * place,
        "age": lambda place: np.floor(18 + 72 * place),
        "days": lambda place: np.floor(3_650 * place),
        "year": lambda place: np.floor(1_940 + 70 * place),
        "unix time": lambda place: np.floor(1.60e9 + 1.0e8 * place),
        "0..1": lambda place: place,
        "-50..50": lambda place: 100 * place - 50,
    }
)
"""How a place between 0 and 1 among all visitors is told as a number."""

TWO_GROUPS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "0 v unknown": (0.0, np.nan),
        "1985 v 2005": (1985.0, 2005.0),
        "55.6 v 57.0": (55.6, 57.0),
        "epoch seconds a month apart": (1_790_000_000.0, 1_792_592_000.0),
        "-3 v 3": (-3.0, 3.0),
        "0.2 v 0.3": (0.2, 0.3),
    }
)


def thresholds(seed: int, *, bands: bool = False, categories: bool = False) -> World:
    """Return a shop whose likes turn on three raw numbers; with `categories` on words too."""
    generator = np.random.default_rng([seed, 9])
    basket = np.where(
        generator.random(DECISIONS) < 0.3,
        0.0,
        np.minimum(5_000, np.exp(generator.normal(4.3, 1.2, DECISIONS))),
    )
    numbers = {
        "basket": basket,
        "age": generator.uniform(18, 90, DECISIONS),
        "seconds": np.minimum(3e7, np.exp(generator.normal(11, 2.5, DECISIONS))),
    }
    words = visitors(seed, DECISIONS)
    tastes = likes(seed, OFFERS, SHOP_AXES) if categories else {}
    rates = additive(words, base_rates(seed, OFFERS), tastes)
    for number in numbers.values():
        ordered = np.sort(number)
        for offer in np.flatnonzero(generator.random(OFFERS) < 0.5):
            point, lift = generator.uniform(0.2, 0.8), LIFT * generator.uniform(0.4, 1.0)
            low, high = (point, 1.0) if generator.random() < 0.5 else (0.0, point)
            if bands:
                low = generator.uniform(0, 0.65)
                high = low + 0.35
            ends = (ordered[int(share * (DECISIONS - 1))] for share in (low, high))
            rates[:, offer] += lift * ((number >= next(ends)) & (number <= next(ends)))
    return world(seed, words, np.minimum(rates, RATE_MAX), numbers=numbers)


def segments(seed: int, told: str) -> World:
    """Return the plain shop with five groups of visitors in place of its times of day.

    `told`: as `words`, not at all (`untold`), or as a number in one of the UNITS.
    """
    place = np.random.default_rng([seed, 9]).random(DECISIONS)
    words = visitors(seed, DECISIONS)
    segment = (SEGMENTS * place).astype(np.int64)
    axes = {axis: size for axis, size in SHOP_AXES.items() if axis != "part_of_day"} | {"segment": SEGMENTS}
    tastes = likes(seed, OFFERS, axes)
    tastes["segment"] = 2 * tastes["segment"]
    rates = additive({**words, "segment": segment}, base_rates(seed, OFFERS), tastes)
    if told == "words":
        return world(seed, {**words, "segment": segment}, rates)
    numbers = {} if told == "untold" else {"number": UNITS[told](place)}
    return world(seed, words, rates, numbers=numbers)


def two_groups(seed: int, told: tuple[float, float]) -> World:
    """Return four offers, of which one group likes the first and the other the second, told by a number."""
    group = np.random.default_rng([seed, 9]).integers(0, 2, TWO_GROUPS_DECISIONS)
    rates = np.full((TWO_GROUPS_DECISIONS, 4), 0.05)
    rates[np.arange(TWO_GROUPS_DECISIONS), group] = 0.3
    return world(
        seed,
        visitors(seed, TWO_GROUPS_DECISIONS),
        rates,
        numbers={"number": np.asarray(told)[group]},
        judged=slice(TWO_GROUPS_LEARNED, TWO_GROUPS_DECISIONS),
    )


def by_time(seed: int, unit: str) -> World:
    """Return a shop whose likes turn on the `hour`, at 2, 8, 14 and 20, or on the `weekday`."""
    hours = np.random.default_rng([seed, 9]).integers(0, 7 * 24, DECISIONS)
    words = visitors(seed, DECISIONS) | {"part_of_day": hours % 24 // 6}
    which = (hours % 24 + 4) % 24 // 6 if unit == "hour" else hours // 24
    axes = {axis: size for axis, size in SHOP_AXES.items() if axis != "part_of_day"}
    axes[unit] = 4 if unit == "hour" else 7
    rates = additive({**words, unit: which}, base_rates(seed, OFFERS), likes(seed, OFFERS, axes))
    return world(seed, words, rates, hours=hours)
