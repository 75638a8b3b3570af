"""References of the learning bench agree with closed forms, and with mabwiser where it has the method."""

from __future__ import annotations

import math

import numpy as np
import pytest

from learning_bench.references import (
    REFERENCES,
    Learner,
    Linear,
    Ridges,
    Scale,
    SharedLinUcb,
    newton_step,
)
from learning_bench.shops import many, shop
from learning_bench.worlds import World
from tilbud.domain.decision.draw import Choice

LEARNED = 300


def dense(world: World, decisions: int) -> np.ndarray:
    """The first visitors as rows of the references' design."""
    design = world.design("buckets")
    rows = np.zeros((decisions, design.width))
    np.add.at(rows, (np.arange(decisions)[:, None], design.ids[:decisions]), design.values[:decisions])
    return rows


def taught(world: World, learner: Learner | None) -> tuple[np.ndarray, np.ndarray]:
    """Teach a learner a few decisions that uniform made, and return the offers and the rewards."""
    count = len(world.offers)
    drawn = (world.draws[:LEARNED] * count).astype(int)
    rewards = np.array([world.reward(decision, offer) for decision, offer in enumerate(drawn)])
    if learner is not None:
        for decision, offer in enumerate(drawn.tolist()):
            choice = Choice(offer, (1 / count,) * count)
            learner.learn(decision, tuple(range(count)), choice, float(rewards[decision]))
    return drawn, rewards


def predicted(ridges: Ridges, world: World, decision: int) -> tuple[np.ndarray, np.ndarray]:
    """Each offer's mean and variance by the sparse form."""
    design = world.design("buckets")
    return ridges.predict(range(len(world.offers)), design.ids[decision], design.values[decision])


def test_ridges_are_the_closed_form():
    """Updates one by one give the weights and variances of the normal equations with λ = 1."""
    world, rows = shop(1), dense(shop(1), LEARNED)
    drawn, rewards = taught(world, None)
    design = world.design("buckets")
    ridges = Ridges(len(world.offers), design.width)
    for decision, offer in enumerate(drawn.tolist()):
        ridges.learn(offer, design.ids[decision], design.values[decision], float(rewards[decision]))
    for offer in range(len(world.offers)):
        own = rows[drawn == offer]
        gram = np.eye(design.width) + own.T @ own
        assert np.allclose(ridges.weights[offer], np.linalg.solve(gram, own.T @ rewards[drawn == offer]))
        assert np.allclose(ridges.inverse[offer], np.linalg.inv(gram))


def test_linucb_is_mabwisers():
    """LinUCB in rewards has mabwiser's means plus widths, for visitors it has not seen."""
    mab = pytest.importorskip("mabwiser.mab", reason="mabwiser is not installed")
    world, rows = shop(2), dense(shop(2), LEARNED + 50)
    learner = Linear(world, world.design("buckets"), "ucb", 0.2, in_rewards=True)
    drawn, rewards = taught(world, learner)
    offers = list(range(len(world.offers)))
    theirs = mab.MAB(offers, mab.LearningPolicy.LinUCB(alpha=0.2, l2_lambda=1.0))
    theirs.fit(drawn.tolist(), rewards.tolist(), rows[:LEARNED])
    for decision in range(LEARNED, LEARNED + 50):
        expected = theirs.predict_expectations(rows[decision : decision + 1])
        ours = learner.upper_bounds(decision, tuple(offers))
        assert np.allclose(ours, [expected[offer] for offer in offers])
        assert learner.scores(decision, tuple(offers))[int(np.argmax(ours))] == 1


def test_greedy_is_mabwisers():
    """Of ε-greedy the best offer has 1 − ε and its part of ε, the others theirs; means are mabwiser's."""
    mab = pytest.importorskip("mabwiser.mab", reason="mabwiser is not installed")
    world, rows = shop(3), dense(shop(3), LEARNED + 1)
    learner = Linear(world, world.design("buckets"), "greedy", 0.1)
    drawn, rewards = taught(world, learner)
    offers = list(range(len(world.offers)))
    theirs = mab.MAB(offers, mab.LearningPolicy.LinGreedy(epsilon=0.0, l2_lambda=1.0))
    theirs.fit(drawn.tolist(), rewards.tolist(), rows[:LEARNED])
    expected = theirs.predict_expectations(rows[LEARNED:])
    scores = learner.scores(LEARNED, tuple(offers))
    best = max(offers, key=lambda offer: expected[offer])
    assert scores[best] == pytest.approx(0.91)
    assert sorted(scores)[:-1] == pytest.approx([0.01] * 9)


def test_thompson_sampling_draws_from_mabwisers_posterior():
    """Draws of a mean have mabwiser's mean, and the closed form's deviation times the width."""
    mab = pytest.importorskip("mabwiser.mab", reason="mabwiser is not installed")
    world, rows = shop(4), dense(shop(4), LEARNED + 1)
    learner = Linear(world, world.design("buckets"), "thompson", 0.25, in_rewards=True)
    drawn, rewards = taught(world, learner)
    offers = tuple(range(len(world.offers)))
    theirs = mab.MAB(list(offers), mab.LearningPolicy.LinGreedy(epsilon=0.0, l2_lambda=1.0))
    theirs.fit(drawn.tolist(), rewards.tolist(), rows[:LEARNED])
    expected = theirs.predict_expectations(rows[LEARNED:])
    samples = np.array([learner.upper_bounds(LEARNED, offers) for _ in range(4_000)])
    row = rows[LEARNED]
    for offer in offers:
        own = rows[:LEARNED][drawn == offer]
        deviation = 0.25 * math.sqrt(row @ np.linalg.inv(np.eye(len(row)) + own.T @ own) @ row)
        assert samples[:, offer].std() == pytest.approx(deviation, rel=0.08)
        assert abs(samples[:, offer].mean() - expected[offer]) < 5 * deviation / math.sqrt(4_000)


@pytest.mark.parametrize(
    "world", [shop(5), many(5, 200, decisions=1_000)], ids=["all crossed", "some crossed"]
)
def test_shared_linucb_is_one_ridge_regression(world):
    """Its means and widths are those of the normal equations on attributes × context and the offer's own."""
    learner = SharedLinUcb(world, world.design("buckets"), 0.5)
    drawn, rewards = taught(world, learner)
    offers = tuple(range(len(world.offers)))

    def row(decision: int, offer: int) -> np.ndarray:
        columns, values = learner.columns(decision, (offer,))
        full = np.zeros(learner.width)
        np.add.at(full, columns[0], values)
        return full

    own = np.array([row(decision, offer) for decision, offer in enumerate(drawn.tolist())])
    gram = np.eye(learner.width) + own.T @ own
    weights = np.linalg.solve(gram, own.T @ rewards)
    asked = np.array([row(LEARNED, offer) for offer in offers[:20]])
    widths = np.sqrt(np.einsum("ij,ji->i", asked, np.linalg.solve(gram, asked.T)))
    means, spreads = learner.predict(LEARNED, offers)
    assert np.allclose(means[:20], asked @ weights)
    assert np.allclose(spreads[:20], widths)


def test_a_logistic_step_is_newtons():
    """One step moves weights by the inverse of (curvature of all so far) times the gradient."""
    width, reward = 4, 1.0
    ids, values = np.array([1, 3]), np.array([0.5, 1.0])
    ridges = Ridges(1, width)
    ridges.weights[0, -1] = -1.0
    before, row = ridges.weights[0].copy(), np.array([0.0, 0.5, 0.0, 1.0])
    chance = 1 / (1 + math.exp(-before @ row))
    hessian = np.eye(width) + chance * (1 - chance) * np.outer(row, row)
    newton_step(ridges, 0, ids, values, reward)
    assert np.allclose(ridges.inverse[0], np.linalg.inv(hessian))
    assert np.allclose(ridges.weights[0], before + np.linalg.solve(hessian, row) * (reward - chance))


def test_units_do_not_matter_to_the_scale():
    """Rewards become shares of the range, and their deviation is that of the shares after some hundreds."""
    generator = np.random.default_rng(1)
    scale = Scale((0.0, 100.0))
    shares = [scale.share(float(reward)) for reward in generator.random(2_000) < 0.1]
    assert max(shares) == 0.01
    assert scale.deviation == pytest.approx(np.std(shares), rel=0.01)


@pytest.mark.parametrize("name", REFERENCES)
def test_every_reference_scores_what_it_is_asked_for(name):
    """Each has a score ≥ 0 for each of some offers, not all 0, also after it has learned."""
    world = shop(7)
    learner = REFERENCES[name](world)
    taught(world, learner)
    scores = learner.scores(LEARNED, (1, 4, 6))
    assert len(scores) == 3
    assert min(scores) >= 0
    assert sum(scores) == pytest.approx(1, abs=2.1)
    learner.close()
