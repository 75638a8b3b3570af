"""How often each offer was shown to whom."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from tilbud.bandit.counts import PRIOR, Counts, keys_of

Numbers = list[tuple[int, float]]


def variances(counts: Counts, offers: list[int], words: tuple[int, ...], numbers: Numbers) -> list[float]:
    """How little is known of these offers."""
    return counts.variances(keys_of(offers), counts.settled(offers), words, numbers)


def test_the_variance_is_what_the_formula_says():
    """1 / (5 + n) and x² / (5 + Σ x²) of each feature, over the lessons of that offer alone."""
    counts = Counts()
    for _ in range(20):
        counts.add(1, (10,), [(11, 0.5)])
    for _ in range(7):
        counts.add(2, (10,))
    known, less, nothing = variances(counts, [1, 2, 3], (10,), [(11, 0.5)])
    assert known == pytest.approx(1 / 25 + 1 / 25 + 0.25 / (5 + 20 * 0.25), rel=1e-5)
    assert less == pytest.approx(1 / 12 + 1 / 12 + 0.25 / 5, rel=1e-5)
    assert nothing == pytest.approx((1 + 1 + 0.25) / PRIOR, rel=1e-5)
    assert counts.settled([1, 2, 3]) == [20, 7, 0]


def test_places_that_are_shared_never_make_an_offer_seem_less_known():
    """With 10,000 pairs of offer and feature in the table, what is known is at most what the formula says."""
    counts, generator = Counts(), random.Random(1)
    offers, features = range(100), [generator.getrandbits(48) for _ in range(100)]
    for offer in offers:
        for feature in features:
            counts.add(offer, (feature,))
    found = np.array([variances(counts, list(offers), (feature,), []) for feature in features])
    exact = 1 / (PRIOR + 100) + 1 / (PRIOR + 1)
    assert found.max() <= exact * (1 + 1e-5)
    assert np.mean(found > exact * 0.999) > 0.9


def test_state_is_all_there_is():
    """Taken down and taken up again, counts go on to the last bit."""
    straight, generator = Counts(), random.Random(2)

    def lesson() -> tuple[int, tuple[int, ...], Numbers]:
        offer, number, *words = [generator.getrandbits(48) for _ in range(4)]
        return offer, tuple(words), [(number, generator.random())]

    lessons = [lesson() for _ in range(300)]
    for each in lessons[:200]:
        straight.add(*each)
    settled, table = straight.state()
    again = Counts.of(json.loads(json.dumps(settled)), table)
    for each in lessons[200:]:
        straight.add(*each)
        again.add(*each)
    for offer, words, numbers in lessons:
        assert variances(again, [offer], words, numbers) == variances(straight, [offer], words, numbers)
    assert again.state() == straight.state()


def test_an_offer_without_features_is_counted():
    """A context of which nothing is known teaches how often an offer was shown all the same."""
    counts = Counts()
    counts.add(1, ())
    assert counts.settled([1]) == [1]
    assert variances(counts, [1], (), []) == [pytest.approx(1 / 6)]
