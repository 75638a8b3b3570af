"""The draw is exact: what comes out is what was drawn with."""

from __future__ import annotations

import math
from collections import Counter
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilbud.domain.decision.draw import (
    NO_CHOICE,
    draw,
    keyed_uniform,
    mixed,
)
from tilbud.domain.decision.experiment import DRAW, SPLIT
from tilbud.domain.errors import ModelUnavailable

KEY = bytes(range(32))
IDS = tuple(f"d-{number}" for number in range(100_000))
POSITIVE = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
SCORES = st.lists(POSITIVE, min_size=1, max_size=60).filter(lambda scores: 0 < sum(scores) < math.inf)
SHARE = st.floats(min_value=0, max_value=1)
UNIT = st.floats(min_value=0, max_value=1, exclude_max=True)


@given(SCORES, SHARE, UNIT)
def test_probabilities_sum_to_one(scores, discovery, u):
    """Whatever the scores' size, probabilities lie in [0, 1] and sum to 1 within float64."""
    choice = draw(scores, len(scores), discovery, u)
    assert len(choice.probabilities) == len(scores)
    assert all(0 <= each <= 1 for each in choice.probabilities)
    assert math.fsum(choice.probabilities) == pytest.approx(1, abs=1e-12)


@given(SCORES, SHARE, UNIT)
def test_discovery_is_a_floor(scores, discovery, u):
    """No offer is less probable than its even share of the discovery."""
    choice = draw(scores, len(scores), discovery, u)
    assert min(choice.probabilities) >= discovery / len(scores)


@given(SCORES, SHARE, UNIT)
def test_the_drawn_offer_is_where_the_sum_passes_u(scores, discovery, u):
    """The drawn offer is the first at which the cumulated probabilities pass u, and it was possible."""
    choice = draw(scores, len(scores), discovery, u)
    assert choice.probability == choice.probabilities[choice.drawn] > 0
    reached = list(accumulate(choice.probabilities))
    before = reached[choice.drawn - 1] if choice.drawn else 0.0
    assert before <= u
    assert u < reached[choice.drawn] or not any(choice.probabilities[choice.drawn + 1 :])


@given(SCORES, SHARE)
def test_a_u_next_to_one_still_draws_what_is_possible(scores, discovery):
    """The largest u below 1 draws an offer with a probability, however the sum was rounded."""
    assert draw(scores, len(scores), discovery, math.nextafter(1, 0)).probability > 0


@given(SCORES)
def test_order_of_scores_is_order_of_probabilities(scores):
    """An offer with a higher score is never less probable."""
    choice = draw(scores, len(scores), 0.02, 0.5)
    pairs = sorted(zip(scores, choice.probabilities, strict=True))
    assert [probability for _, probability in pairs] == sorted(choice.probabilities)


@pytest.mark.parametrize(
    ("scores", "eligible"),
    [
        ([], 0),
        ([], 2),
        ([1.0], 2),
        ([1.0, 1.0], 1),
        ([0.0, 0.0], 2),
        ([0.5, -0.1], 2),
        ([0.5, math.nan], 2),
        ([math.nan, 0.5], 2),
        ([0.5, math.inf], 2),
        ([math.inf, -math.inf], 2),
        ([-math.inf, 0.5], 2),
        ([1.7e308, 1.7e308], 2),
    ],
)
def test_bad_scores_are_refused(scores, eligible):
    """Scores that are not one finite number ≥ 0 for each offer, not all 0, raise ModelUnavailable."""
    with pytest.raises(ModelUnavailable):
        draw(scores, eligible, 0.1, 0.5)


@pytest.mark.parametrize("scores", [[5e-324], [5e-324, 5e-324, 5e-324], [1e-320, 0.0]])
def test_the_smallest_scores_still_make_probabilities(scores):
    """Scores too small to be inverted are shared out like any other."""
    choice = draw(scores, len(scores), 0.0, 0.5)
    assert math.fsum(choice.probabilities) == pytest.approx(1)


@given(
    st.lists(st.floats(1e-6, 1e3), min_size=129, max_size=700),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0, exclude_max=True),
)
def test_scores_of_many_offers_are_rounded_before_the_draw(scores, discovery, u):
    """By a hair, so that their order stays; the probabilities are of what they were rounded to."""
    choice = draw(scores, len(scores), discovery, u)
    assert choice.probabilities == mixed(choice.scores, discovery)
    most = 2.0**-7 if len(scores) <= 512 else 2.0**-6
    assert all(abs(was - now) <= most * was for was, now in zip(scores, choice.scores, strict=True))
    assert len(set(choice.scores)) <= len(scores)
    ranked = sorted(range(len(scores)), key=scores.__getitem__)
    assert [choice.scores[place] for place in ranked] == sorted(choice.scores)
    assert math.isclose(math.fsum(choice.probabilities), 1.0, abs_tol=1e-9)


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=128))
def test_scores_of_few_offers_are_left_alone(scores):
    """Up to 128 offers nothing is rounded."""
    assert draw(scores, len(scores), 0.02, 0.5).scores == tuple(scores)


def test_squarecb_like_ties_are_normalised():
    """A vector of ones, as some explorers give on ties, becomes an even draw."""
    assert draw([1.0, 1.0, 1.0, 1.0], 4, 0.02, 0.0).probabilities == pytest.approx([0.25] * 4)


@given(st.lists(POSITIVE.filter(lambda score: score < 1e100), min_size=2, max_size=8), SHARE)
def test_frequencies_over_a_grid_are_the_probabilities(scores, discovery):
    """Over an even grid of u, each offer is drawn as often as its probability says."""
    if not sum(scores):
        return
    steps = 500
    choices = [draw(scores, len(scores), discovery, (step + 0.5) / steps) for step in range(steps)]
    counts = Counter(choice.drawn for choice in choices)
    for index, probability in enumerate(choices[0].probabilities):
        assert abs(counts[index] - steps * probability) <= 1.001


def test_keyed_draws_follow_the_probabilities():
    """Over 100,000 decision ids, offers are drawn as the probabilities say (chi-square)."""
    scores = [5.0, 0.0, 3.0, 1.0, 0.2]
    counts: Counter[int] = Counter()
    for decision_id in IDS:
        choice = draw(scores, 5, 0.05, keyed_uniform(KEY, DRAW, "shop", decision_id))
        counts[choice.drawn] += 1
    expected = [len(IDS) * probability for probability in choice.probabilities]
    chi_square = sum((counts[index] - want) ** 2 / want for index, want in enumerate(expected))
    assert chi_square < 23.5  # p = 0.0001 at four degrees of freedom


@pytest.mark.parametrize("eligible", [1, 3, 10, 49, 1000])
def test_an_even_draw_is_even(eligible):
    """An even draw gives every offer the same probability, and over a grid the same number of draws."""
    even = [1.0] * eligible
    choices = [draw(even, eligible, 0.0, (step + 0.5) / (3 * eligible)) for step in range(3 * eligible)]
    assert set(choices[0].probabilities) == {1 / eligible}
    assert set(Counter(choice.drawn for choice in choices).values()) == {3}
    assert 0 <= draw(even, eligible, 0.0, math.nextafter(1, 0)).drawn < eligible


def test_a_certain_offer_is_certain():
    """An offer that is always taken has probability 1, the others 0."""
    choice = draw([0.0, 1.0, 0.0], 3, 0.0, 0.5)
    assert (choice.drawn, choice.probability, choice.probabilities) == (1, 1.0, (0.0, 1.0, 0.0))


def test_no_choice_is_certain():
    """A fallback, which is not drawn, has probability 1 and no list."""
    assert (NO_CHOICE.drawn, NO_CHOICE.probability, NO_CHOICE.probabilities) == (-1, 1.0, ())


def test_keyed_numbers_are_uniform():
    """Keyed numbers lie in [0, 1) and fill it evenly."""
    numbers = [keyed_uniform(KEY, DRAW, "shop", decision_id) for decision_id in IDS]
    assert all(0 <= number < 1 for number in numbers)
    buckets = Counter(int(number * 100) for number in numbers)
    assert sum((buckets[each] - 1000) ** 2 / 1000 for each in range(100)) < 170  # p ≈ 1e-5 at 99


def test_split_and_draw_are_independent():
    """The number that splits variants says nothing about the number that draws offers."""
    split = [keyed_uniform(KEY, SPLIT, "shop", decision_id) - 0.5 for decision_id in IDS]
    draw = [keyed_uniform(KEY, DRAW, "shop", decision_id) - 0.5 for decision_id in IDS]
    correlation = sum(map(lambda a, b: a * b, split, draw)) / len(IDS) * 12
    assert abs(correlation) < 5 / math.sqrt(len(IDS))


@given(st.text(), st.text())
def test_keyed_numbers_are_stable(campaign, decision_id):
    """The same key, domain and ids give the same number every time."""
    try:
        decision_id.encode()
    except UnicodeEncodeError:
        return
    first = keyed_uniform(KEY, DRAW, campaign, decision_id)
    assert first == keyed_uniform(bytes(KEY), DRAW, campaign, decision_id)


def test_a_keyed_number_is_what_it_was():
    """A retry after an upgrade meets the number of before: the hash is part of the contract."""
    assert keyed_uniform(KEY, DRAW, "shop", "d-1") == 0.6401912953717391
    assert keyed_uniform(KEY, SPLIT, "shop", "d-1") == 0.8201659612597427


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("shop", "d-1"), ("shop", "d-2")),
        (("shop", "d-1"), ("store", "d-1")),
        (("ab", "c"), ("a", "bc")),
        (("", "abc"), ("abc", "")),
    ],
)
def test_different_ids_give_different_numbers(one, other):
    """Neither id runs into the other, so every campaign draws for itself."""
    assert keyed_uniform(KEY, DRAW, *one) != keyed_uniform(KEY, DRAW, *other)


def test_different_keys_give_different_numbers():
    """Who does not know the key cannot tell the draw."""
    assert keyed_uniform(KEY, DRAW, "shop", "d-1") != keyed_uniform(KEY[:31], DRAW, "shop", "d-1")
