"""Shops: who comes, and what they like.

A visitor has one word on each of four axes. An offer has a base rate, and likes: words that make it more
likely to be bought, by an amount that belongs to the pair. Unless told otherwise the chance of success is the
sum of both, at most 0.95. A family, the offer's one attribute, means nothing; the service crosses it with
the context all the same, as it would in a campaign.

The figures of these shops, a twentieth of base and a fifth of lift, are the kind a marketer sees: at rate 1,
offers succeed in 5 to 25 of a hundred decisions, and knowing the visitor doubles what the best offer earns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from learning_bench.worlds import SHOP_AXES, Flags, Floats, Integers, World

DECISIONS = 30_000
JUDGED = 10_000
OFFERS = 10
RATE_MAX = 0.95
BASE = 0.03
LIFT = 0.1
LIKED_SHARE = 0.25
"""Of the words of an axis, how many an offer likes in the mean."""
FAMILIES = 4


def visitors(seed: int, decisions: int, axes: Mapping[str, int] = SHOP_AXES) -> dict[str, Integers]:
    """Return a word for each visitor on each axis, all equally likely."""
    generator = np.random.default_rng([seed, 1])
    return {name: generator.integers(0, size, decisions) for name, size in axes.items()}


def base_rates(seed: int, offers: int, rate: float = 1.0) -> Floats:
    """Return how likely a success is for those who like nothing of it (K)."""
    return np.random.default_rng([seed, 2]).uniform(0.5, 1.5, offers) * BASE * rate


def likes(seed: int, offers: int, axes: Mapping[str, int], rate: float = 1.0) -> dict[str, Floats]:
    """Return what each word adds to each offer's rate, by axis (words, K)."""
    generator = np.random.default_rng([seed, 3])
    return {
        name: (generator.random((size, offers)) < LIKED_SHARE)
        * generator.uniform(0.4, 1.0, (size, offers))
        * LIFT
        * rate
        for name, size in axes.items()
    }


def additive(words: Mapping[str, Integers], base: Floats, tastes: Mapping[str, Floats]) -> Floats:
    """Return the chance of success of each offer in each decision (T, K)."""
    rates = np.tile(base, (len(next(iter(words.values()))), 1))
    for axis, of_words in tastes.items():
        rates += of_words[words[axis]]
    return np.minimum(rates, RATE_MAX)


def families(offers: int) -> tuple[dict[str, str], ...]:
    """Return the attributes of offers that say nothing about them."""
    return tuple({"family": f"family-{index % FAMILIES}"} for index in range(offers))


def world(seed: int, words: Mapping[str, Integers], rates: Floats, **more: Any) -> World:
    """Return a world with these visitors and rates; `more` are fields of World."""
    decisions, offers = rates.shape
    generator = np.random.default_rng([seed, 4])
    luck, draws = generator.random((2, decisions))
    return World(
        words=words,
        rates=rates.astype(np.float32),
        luck=luck,
        draws=draws,
        **{
            "offers": families(offers),
            "worth": np.ones(offers),
            "judged": slice(decisions - decisions // 3, decisions),
            **more,
        },
    )


def shop(seed: int, *, rate: float = 1.0, offers: int = OFFERS, **more: Any) -> World:
    """Return the plain shop, or one with other rates or as many offers."""
    words = visitors(seed, DECISIONS)
    tastes = likes(seed, offers, SHOP_AXES, rate)
    return world(seed, words, additive(words, base_rates(seed, offers, rate), tastes), **more)


def small_gap(seed: int) -> World:
    """Return two offers, 4 % and 5 %, liked alike by everybody."""
    rates = np.tile([0.04, 0.05] if seed % 2 else [0.05, 0.04], (DECISIONS, 1))
    return world(seed, visitors(seed, DECISIONS), rates, offers=({}, {}))


def changing(seed: int, *, slowly: bool) -> World:
    """Return a shop that becomes another: at half of its decisions, or little by little."""
    words = visitors(seed, DECISIONS)
    before, after = (
        additive(words, base_rates(other, OFFERS), likes(other, OFFERS, SHOP_AXES))
        for other in (seed, seed + 1_000)
    )
    way = np.linspace(0, 1, DECISIONS) if slowly else (np.arange(DECISIONS) >= DECISIONS // 2).astype(float)
    return world(seed, words, before + way[:, None] * (after - before))


def ruled(seed: int) -> World:
    """Return a shop where rules remove every other offer, by chance."""
    generator = np.random.default_rng([seed, 5])
    eligible = generator.random((DECISIONS, OFFERS)) < 0.5
    for decision in np.flatnonzero(eligible.sum(axis=1) < 2):
        eligible[decision, generator.permutation(OFFERS)[:2]] = True
    return shop(seed, eligible=eligible)


def churning(seed: int) -> World:
    """Return a shop of thirty offers, ten at a time: the oldest goes and another comes every 1,500."""
    first = np.minimum(np.arange(DECISIONS) // 1_500, 20)[:, None]
    place = np.arange(30)
    eligible: Flags = (place >= first) & (place < first + 10)
    return shop(seed, offers=30, eligible=eligible)


def pairs(seed: int) -> World:
    """Return a shop where pairs of words count, device with journey stage and channel with part of day."""
    words, generator = visitors(seed, DECISIONS), np.random.default_rng([seed, 6])
    rates = np.tile(base_rates(seed, OFFERS), (DECISIONS, 1))
    for one, other in (("device", "journey_stage"), ("channel", "part_of_day")):
        shape = (SHOP_AXES[one], SHOP_AXES[other], OFFERS)
        liked = (generator.random(shape) < 0.18) * generator.uniform(0.6, 1.4, shape) * LIFT
        rates += liked[words[one], words[other]]
    return world(seed, words, np.minimum(rates, RATE_MAX))


def coffee(seed: int) -> World:
    """Return a coffee shop in which person, weather and part of day together decide which of four is wanted.

    As in the sample that comes with Azure Personalizer: the wanted one is bought for certain, others never.
    """
    axes = {"person": 4, "weather": 3, "part": 3}
    words = {**visitors(seed, DECISIONS, SHOP_AXES), **visitors(seed + 1, DECISIONS, axes)}
    for axis in SHOP_AXES:
        words[axis] = np.zeros(DECISIONS, np.int64)
    wanted = np.random.default_rng([seed, 6]).integers(0, 4, tuple(axes.values()))
    chosen = wanted[words["person"], words["weather"], words["part"]]
    attributes = tuple(
        {"temperature": "hot" if index % 2 else "cold", "roast": "dark" if index < 2 else "light"}
        for index in range(4)
    )
    return world(seed, words, (chosen[:, None] == np.arange(4)).astype(float), offers=attributes)


def logistic(seed: int) -> World:
    """Return a shop whose effects add up in log-odds, not in rates."""
    words, generator = visitors(seed, DECISIONS), np.random.default_rng([seed, 6])
    log_odds = np.tile(generator.normal(-2.4, 0.2, OFFERS), (DECISIONS, 1))
    for axis, size in SHOP_AXES.items():
        log_odds += generator.normal(0, 0.35, (size, OFFERS))[words[axis]]
    return world(seed, words, 1 / (1 + np.exp(-log_odds)))


def with_flags(seed: int, count: int) -> World:
    """Return the plain shop with flags that mean nothing."""
    generator = np.random.default_rng([seed, 7])
    return shop(seed, flags={f"flag_{number}": generator.random(DECISIONS) < 0.5 for number in range(count)})


def with_noise(seed: int) -> World:
    """Return the plain shop with ten categories of ten words that mean nothing."""
    noise = visitors(seed + 1, DECISIONS, {f"noise_{number}": 10 for number in range(10)})
    plain = shop(seed)
    return replace(plain, words={**plain.words, **noise})


def many(seed: int, offers: int, decisions: int = DECISIONS) -> World:
    """Return a catalogue: offers of 12 categories and 25 brands, visitors of whom most looked at a category.

    What is liked is a matter of the category, and a little of the brand and the offer.
    """
    generator = np.random.default_rng([seed, 6])
    category, brand = generator.integers(0, 12, offers), generator.integers(0, 25, offers)
    words = visitors(seed, decisions)
    seen = np.where(generator.random(decisions) < 0.6, generator.integers(0, 12, decisions), -1)
    by_category = likes(seed, 12, SHOP_AXES)
    rates = np.tile(base_rates(seed, offers) + 0.05 * generator.random(25)[brand], (decisions, 1))
    for axis, of_words in by_category.items():
        rates += of_words[words[axis]][:, category]
    rates += LIFT * (seen[:, None] == category)
    attributes = tuple(
        {"category": f"category-{c}", "brand": f"brand-{b}"} for c, b in zip(category, brand, strict=True)
    )
    return world(seed, {**words, "last_seen": seen}, np.minimum(rates, RATE_MAX), offers=attributes)


def worth(seed: int, *, success: float = 1.0, reward_range: tuple[float, float]) -> World:
    """Return the plain shop with a success worth so much, in a campaign with such a range."""
    return shop(seed, worth=np.full(OFFERS, success), reward_range=reward_range)


def heavy_tailed(seed: int, *, high: float, spread: float) -> World:
    """Return the plain shop with order values: log-normal around 40, clipped at the range's end."""
    generator = np.random.default_rng([seed, 8])
    sizes = 40 * np.exp(generator.normal(0, 0.25, OFFERS))
    amounts = np.exp(generator.normal(0, spread, DECISIONS) - spread**2 / 2)
    common = np.exp(np.random.default_rng(0).normal(0, spread, 200_000) - spread**2 / 2)
    mean = np.array([np.minimum(high, size * common).mean() for size in sizes])
    return shop(seed, worth=mean, sizes=sizes, amounts=amounts, reward_range=(0.0, high))
