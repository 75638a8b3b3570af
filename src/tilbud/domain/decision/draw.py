"""The draw. One pure function holds the exact-propensity invariant.

What holds: the probabilities that come out are the ones the draw used; they lie in [0, 1], sum to 1
within float64, and each is at least discovery / k. Bad scores raise ModelUnavailable; nothing is
repaired silently.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from tilbud.domain.errors import ModelUnavailable
from tilbud.domain.limits import Limits

_SCALE = 2.0**-53
_SIGNIFICANT_BITS = 53
_WHOLE_MAX = 128  # offers, whose scores keep all their digits
_MANY_MAX, _DIGITS_OF_MANY, _DIGITS_OF_MORE = 512, 7, 6


class Choice(NamedTuple):
    """The drawn index and the probabilities it was drawn with."""

    drawn: int
    probabilities: tuple[float, ...]
    scores: tuple[float, ...] = ()  # that `mixed` makes the probabilities of again, to the last bit
    discovery: float = 0.0  # the share of probability that was spread evenly

    @property
    def probability(self) -> float:
        """The probability the drawn offer had."""
        return self.probabilities[self.drawn] if self.drawn >= 0 else 1.0


NO_CHOICE = Choice(-1, ())  # the fallback, for certain


def draw(scores: Sequence[float], eligible: int, discovery: float, u: float) -> Choice:
    """Draw one of `eligible` offers from `scores` (≥ 0, not all 0) mixed with an even share.

    p = (1 − discovery) · score / Σ scores + discovery / k; `u` in [0, 1) picks by the cumulated sum. Of many
    offers the scores are rounded first, see `rounded`. Raises ModelUnavailable where the scores are not one
    finite number ≥ 0 for each offer.
    """
    if len(scores) != eligible or not eligible:
        raise ModelUnavailable(f"{len(scores)} scores for {eligible} offers")
    scores = rounded(scores)
    probabilities = mixed(scores, discovery)
    return Choice(_pick(probabilities, u), probabilities, tuple(scores), discovery)


def mixed(scores: Sequence[float], discovery: float) -> tuple[float, ...]:
    """Return the probabilities that scores give; raises ModelUnavailable as `draw` does."""
    try:
        total = math.fsum(scores)
    except (OverflowError, ValueError):  # beyond float64, or infinities of both signs
        total = math.nan
    if not 0.0 < total < math.inf or min(scores) < 0.0:
        raise ModelUnavailable("scores are not finite, not negative and not all zero")
    if len(scores) == 1:
        return (1.0,)  # to the last digit, which the sum below might miss
    floor = discovery / len(scores)
    share = 1.0 - discovery
    # Divided one by one: a quotient is never above 1, and no total is too small to divide by.
    return tuple([share * (score / total) + floor for score in scores])


def rounded(scores: Sequence[float]) -> Sequence[float]:
    """Return scores with as many binary digits as the record of a decision among so many has room for.

    Of up to 128 offers they are left alone. Of up to 512 a score moves by at most 0.8 %, of more by 1.6 %,
    before anything is drawn: the draw, the answer, the record and what is learned have one number.
    """
    if len(scores) <= _WHOLE_MAX:
        return scores
    digits = _DIGITS_OF_MANY if len(scores) <= _MANY_MAX else _DIGITS_OF_MORE
    # Dekker's splitting (1971, "A floating-point technique for extending the available precision", 4): what
    # is left of a sum with something so much larger has this many digits, rounded to the nearest.
    larger = 2.0 ** (_SIGNIFICANT_BITS - digits) + 1.0
    return [larger * score - (larger * score - score) for score in scores]


def _pick(probabilities: tuple[float, ...], u: float) -> int:
    drawn = bisect_right(list(accumulate(probabilities)), u)  # never one of probability 0: it adds nothing
    if drawn < len(probabilities):
        return drawn
    return max(
        index for index, probability in enumerate(probabilities) if probability > 0.0
    )  # sum < u, by a hair


def keyed_uniform(key: bytes, domain: bytes, campaign: str, decision_id: str) -> float:
    """Return a number in [0, 1) that the key, the domain and the ids determine.

    `domain` (≤ 16 bytes) keeps the draw and the split apart: one shared number would tie the
    variant to the offer.
    """
    keyed = _keyed(key, domain).copy()
    keyed.update(f"{campaign}\0{decision_id}".encode())
    return (int.from_bytes(keyed.digest(), "big") >> 11) * _SCALE


@lru_cache(maxsize=Limits.keyed_hashes_cached_max)
def _keyed(key: bytes, domain: bytes) -> hashlib.blake2b:
    """Return the hash before anything was fed to it, to be copied: to make it takes longer than to use it."""
    return hashlib.blake2b(digest_size=8, key=key, person=domain)
