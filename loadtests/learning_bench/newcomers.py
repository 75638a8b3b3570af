"""Worlds in which something begins late: an offer, three of them, or a word for what had another.

The figure of these is the share of the possible uplift from then on. Beside it stand the newcomers' shares
of the decisions, as multiples of an even share: until the first of their settlements is learned, after 200
of them, and after 1,000 (`runs.py`).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from learning_bench.shops import OFFERS, RATE_MAX, additive, base_rates, likes, visitors, world
from learning_bench.worlds import SHOP_AXES, Newcomers, World

DECISIONS, SINCE = 24_000, 8_000
DELAY = 2_000

Quality = Literal["like the others", "worthless", "best"]


def new_offers(
    seed: int,
    *,
    count: int = 1,
    base: float = 0.03,
    quality: Quality = "like the others",
    delay: int = DELAY,
    **more: Any,
) -> World:
    """Return a shop whose last `count` offers may be shown from decision SINCE on.

    `base` is what every offer succeeds at beside its likes; a worthless one never does, and the best one
    succeeds a tenth more often than the others ever do. `more` are fields of World.
    """
    words = visitors(seed, DECISIONS)
    rates = additive(words, base_rates(seed, OFFERS) + base - 0.03, likes(seed, OFFERS, SHOP_AXES))
    new = tuple(range(OFFERS - count, OFFERS))
    if quality == "worthless":
        rates[:, new] = 0.0
    elif quality == "best":
        rates[:, new] = np.minimum(rates.max(axis=1, keepdims=True) + 0.1, RATE_MAX)
    eligible = np.ones(rates.shape, np.bool_)
    eligible[:SINCE, new] = False
    return world(
        seed,
        words,
        rates,
        eligible=eligible,
        newcomers=Newcomers(new, SINCE),
        judged=slice(SINCE, DECISIONS),
        delay=delay,
        **more,
    )


def renamed_word(seed: int) -> World:
    """Return a shop that calls one of its devices by another word from decision SINCE on."""
    words = visitors(seed, DECISIONS)
    rates = additive(words, base_rates(seed, OFFERS), likes(seed, OFFERS, SHOP_AXES))
    renamed = (words["device"] == 0) & (np.arange(DECISIONS) >= SINCE)
    words["device"] = np.where(renamed, SHOP_AXES["device"], words["device"])
    return world(seed, words, rates, judged=slice(SINCE, DECISIONS), delay=DELAY)
