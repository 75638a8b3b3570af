"""From predicted costs and counts to scores."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilbud.bandit.scores import Trying, beliefs, with_new

costs = st.floats(-500, 500)
sets = st.integers(1, 40).flatmap(
    lambda size: st.tuples(
        st.lists(costs, min_size=size, max_size=size),
        st.lists(st.floats(1e-6, 50), min_size=size, max_size=size),
        st.lists(st.integers(0, 5_000), min_size=size, max_size=size),
    )
)
trying = st.builds(Trying, wide=st.floats(0.05, 2), up=st.floats(0, 1))


@given(given_set=sets, how=trying)
def test_scores_are_a_distribution(given_set, how):
    """One score ≥ 0 for each offer, and together 1, whatever was predicted and counted."""
    predicted, variances, settled = given_set
    scores = with_new(beliefs(predicted, variances, how), settled)
    assert len(scores) == len(predicted)
    assert min(scores) >= 0.0
    assert math.fsum(scores) == pytest.approx(1.0, abs=1e-9)


@given(given_set=sets, how=trying)
def test_the_best_looking_scores_most(given_set, how):
    """With nothing added for what is unknown, the least cost has the largest score, which is 1."""
    predicted, variances, _ = given_set
    scores = beliefs(predicted, variances, Trying(how.wide))
    assert scores[predicted.index(min(predicted))] == 1.0
    assert max(scores) == 1.0


def test_a_score_is_twice_the_chance_that_it_is_the_better():
    """At the belief's own width: two normal variables a deviation of their difference apart."""
    [one, other] = beliefs([0.0, math.sqrt(0.5)], [0.25, 0.25], Trying(1.0))
    assert one == 1.0
    assert other == pytest.approx(2 * 0.158655, rel=1e-4)


def test_what_is_known_less_is_tried_more():
    """Of two that look alike behind the best, the one that was tried less scores more."""
    _, known, unknown = beliefs([0.0, 0.2, 0.2], [0.01, 0.01, 0.5], Trying(0.2))
    assert unknown > known


@given(
    many=st.integers(2, 200),
    score=st.floats(0.0, 1.0),
    best=st.integers(500, 10**6),
)
def test_an_unseen_offer_has_an_even_share(many, score, best):
    """Whatever a regression says of it, one offer among known ones has 1 / k until it has a settlement."""
    scores = with_new([score, *[1.0] * (many - 1)], [0, *[best] * (many - 1)])
    assert scores[0] == pytest.approx(1 / many if many > 2 else 0.5)


@given(new=st.integers(1, 50), known=st.integers(1, 50))
def test_new_offers_together_have_at_most_half(new, known):
    """Each has half an even share at least and no more than one, and all at most half the traffic."""
    scores = with_new([1.0] * new + [1e-9] * known, [0] * new + [10**6] * known)
    even = 1 / (new + known)
    assert sum(scores[:new]) <= 0.5 + 1e-9
    assert all(0.5 * even - 1e-9 <= share <= even + 1e-9 for share in scores[:new])


def test_in_a_new_campaign_all_are_alike():
    """Where every offer is new none is preferred; nor is the one that happens to be learned first."""
    assert with_new([1.0, 0.0, 0.0, 0.5], [0, 0, 0, 0]) == [0.25] * 4
    first, *others = with_new([1.0, *[0.5] * 9], [1, *[0] * 9])
    assert first < 2 / 10
    assert min(others) > 0.5 / 10


def test_after_two_hundred_settlements_nothing_is_left_of_it():
    """What turned out to be worthless has less than a hundredth of an even share by then."""
    scores = with_new([0.0, *[1.0] * 9], [200, *[3_000] * 9])
    assert scores[0] < 0.01 * 0.1


def test_a_thousand_offers_are_not_new_for_ever():
    """In a large catalogue newness fades with few settlements each: it would be all there is."""
    scores = with_new([1.0, *[0.0] * 999], [30] * 1_000)
    assert scores[0] > 0.99
