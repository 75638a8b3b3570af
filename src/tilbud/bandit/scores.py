"""From predicted costs to scores: how probably each offer is the best, as far as is known.

With costs in deviations of the reward (`scale.py`), an offer's utility is u = −cost + up · √v, known to a
variance v (`counts.py`). Its score against the one that looks best is

    erfc((u_best − u) / (√2 · wide · √(v + v_best))),

which for wide = 1 is twice the probability that two normal variables lie the other way round. A narrower one
tries less: in every measurement (loadtests) about a tenth was best at 30,000 decisions, with a seventh of a
deviation for what is known least (`up`).

An offer that has hardly been learned is not left to what an untaught regression says of it. Of k offers, one
with n settlements gets a part λ of an even share, whatever it scores, and the rest by its score:

    λ = exp(−n / fading),   fading = 20 · min(1, 10 / k);   Σ λ / k at most 1 − (1 − smallest λ) / 2

So new ones together have at most one half beside an offer that is known, and all there is where none is.

What holds: one score ≥ 0 for each offer, the sum 1 up to rounding; a function of its arguments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

NEW_SETTLEMENTS = 20.0  # of an offer, in which its even share falls to 1/e
_NEW_OFFERS = 10  # in catalogues of more, each has less time, so that all have the same
_NEW_MAX = 0.5  # of the probability, for all that are new together
_NEW_PART = 0.01  # of an even share, below which an offer is called new no more
_KNOWN = 20.0  # times as many settlements: e^−20 of an even share is nothing


@dataclass(frozen=True, slots=True)
class Trying:
    """How much is tried: what a preset chooses."""

    wide: float  # of the belief, in its own deviations
    up: float = 0.0  # deviations that an offer is given above what it looks like


def is_new(settled: int, offers: int) -> bool:
    """Say whether one of so many offers, with so many settlements, still has a part of an even share."""
    return math.exp(-settled / _fading(offers)) >= _NEW_PART


def _fading(offers: int) -> float:
    """Return the settlements in which the even share of one of so many offers falls to 1/e."""
    return NEW_SETTLEMENTS * min(1.0, _NEW_OFFERS / offers)


def beliefs(costs: Sequence[float], variances: Sequence[float], trying: Trying) -> list[float]:
    """Return a score in (0, 1] for each offer, 1 for what looks best; NaN where a cost is not finite."""
    up = trying.up
    utilities = [up * math.sqrt(v) - cost for cost, v in zip(costs, variances, strict=True)]
    best = max(utilities)
    of_best = variances[utilities.index(best)]
    scale = math.sqrt(0.5) / trying.wide
    erfc, sqrt = math.erfc, math.sqrt
    return [
        erfc(scale * (best - utility) / sqrt(variance + of_best))
        for utility, variance in zip(utilities, variances, strict=True)
    ]


def with_new(scores: Sequence[float], settled: Sequence[int]) -> list[float]:
    """Return scores that sum to 1, in which offers with few settlements have an even share.

    `scores` are ≥ 0 and not all 0; `settled` are the settlements learned of each offer.
    """
    even = 1.0 / len(scores)
    fading = _fading(len(scores))
    if min(settled) > _KNOWN * fading:
        total = math.fsum(scores)
        return [score / total for score in scores]
    new = [math.exp(-count / fading) for count in settled]
    kept = [score * (1.0 - part) for score, part in zip(scores, new, strict=True)]
    rest = math.fsum(kept)
    if rest <= 0.0:  # all are new, or all that are not score 0
        return [even] * len(scores)
    together = math.fsum(new)
    most = 1.0 - (1.0 - min(new)) * (1.0 - _NEW_MAX)
    each = min(even, most / together)
    share = (1.0 - each * together) / rest
    return [part * each + share * score for part, score in zip(new, kept, strict=True)]
