"""What a decision and a settlement take in process, and what a campaign holds in memory.

Times are of the thread, medians over slices, of a campaign that has learned, contexts encoded beforehand and
each after a lesson; `predict` is the policy's scores, `learn` a settlement. Memory is what the process
grew by with each of so many campaigns of ten offers and ten features that have learned 2,000 settlements.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from learning_bench.service import CampaignLearner, ServiceLearner
from learning_bench.shops import many, shop, with_flags
from learning_bench.worlds import DISCOVERY, World
from tilbud.domain.decision.draw import draw

LEARNED = 2_000
SLICE, SLICES = 200, 10
CAMPAIGNS = 20
FEATURES = 10


def figures(presets: Sequence[str]) -> Iterator[str]:
    """Yield a line for each preset and number of offers, then for memory."""
    for preset in presets:
        for offers, build in (
            (10, shop),
            (50, partial(shop, offers=50)),
            (1_000, partial(many, offers=1_000, decisions=LEARNED + SLICE * SLICES)),
        ):
            predict_us, learn_us = times_us(build(1), preset)
            yield f"{preset}, {offers:,} offers: predict {predict_us:.0f} µs, learn {learn_us:.0f} µs"
        # A process of its own has not freed what campaigns would then be made of.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            megabytes = process.submit(memory_bytes, preset).result() / 1e6
        yield f"{preset}, a campaign of 10 offers and {FEATURES} features: {megabytes:.1f} MB"


def times_us(world: World, preset: str) -> tuple[float, float]:
    """Return the median microseconds of a prediction and of a settlement learned."""
    learner = ServiceLearner(world, preset)
    offers = tuple(range(len(world.offers)))
    _learn(world, learner, range(LEARNED))
    predicting, learning = [], []
    for start in range(LEARNED, LEARNED + SLICE * SLICES, SLICE):
        predicted_s = learned_s = 0.0
        for decision in range(start, start + SLICE):
            text = learner.encode(decision)
            began = time.thread_time()
            scores = learner.campaign.scores(text, offers)  # worked out, since something was learned before
            predicted_s += time.thread_time() - began
            choice = draw(scores, len(offers), DISCOVERY, world.draws[decision])
            reward = world.reward(decision, choice.drawn)
            began = time.thread_time()
            learner.campaign.learn(text, offers, choice, reward)
            learned_s += time.thread_time() - began
        predicting.append(predicted_s / SLICE * 1e6)
        learning.append(learned_s / SLICE * 1e6)
    learner.close()
    return statistics.median(predicting), statistics.median(learning)


def memory_bytes(preset: str) -> float:
    """Return by how much a process grows with each small campaign, without what drives it here."""
    world = with_flags(1, FEATURES)
    _campaign(world, preset).close()  # what is there once
    before = _resident_bytes()
    campaigns = [_campaign(world, preset) for _ in range(CAMPAIGNS)]
    grown = _resident_bytes() - before
    for campaign in campaigns:
        campaign.close()
    return grown / CAMPAIGNS


def _campaign(world: World, preset: str) -> CampaignLearner:
    """Return a campaign that has learned."""
    learner = ServiceLearner(world, preset)
    _learn(world, learner, range(LEARNED))
    return learner.campaign


def _learn(world: World, learner: ServiceLearner, decisions: range) -> None:
    offers = tuple(range(len(world.offers)))
    for decision in decisions:
        scores = learner.scores(decision, offers)
        choice = draw(scores, len(offers), DISCOVERY, float(world.draws[decision]))
        learner.learn(decision, offers, choice, world.reward(decision, choice.drawn))


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
