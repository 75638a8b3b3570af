"""How often each offer was shown to whom, and so how little is known of it.

Of an offer with n lessons, of which those with a feature x have Σ x² = N, little is known to the variance

    1 / (5 + n) + Σ x² / (5 + N)     over the features of a context.

That is the variance of the mean of n noises of deviation 1, after five more that stand for what is believed
beforehand; features are added as if none knew of another, which is on the safe side.

What holds: the state is a function of the lessons, in order, of a fixed size. Each pair of an offer and a
feature of contexts has a place in a table, found by hashing; pairs that share one share their sum, so that
little may seem known better than it is, and never worse. An offer's own settlements are counted exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain, repeat
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tilbud.domain.limits import Limits

Keys = NDArray[np.uint64]

PRIOR = 5.0
"""What every count begins with."""
BITS = 17  # a table of 0.5 MB; a thousand offers and fifty words take a third of the places
_SHIFT = 64 - BITS
# Multiplicative hashing (Knuth, TAOCP 3, 6.4), by odd numbers of 64 random bits.
_OFFER, _FEATURE, _BOTH = 0xA0761D6478BD642F, 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93
_MASK = (1 << 64) - 1
_NP_FEATURE, _NP_BOTH, _NP_SHIFT = np.uint64(_FEATURE), np.uint64(_BOTH), np.uint64(_SHIFT)


def keys_of(offers: Sequence[int]) -> Keys:
    """Return what offers are looked up by, many at once: a column."""
    return np.array([[offer * _OFFER & _MASK] for offer in offers], np.uint64)


@lru_cache(maxsize=Limits.feature_situations_cached_max)
def _hashed(features: tuple[int, ...]) -> Keys:
    """Return what features are looked up by; equal contexts of one minute ask for the same."""
    return np.array(features, np.uint64) * _NP_FEATURE  # modulo 2^64, as the others


class Counts:
    """Sums of squares of features by offer, and settlements by offer."""

    def __init__(self) -> None:
        self._known = np.full(1 << BITS, 1.0 / PRIOR, np.float32)  # 1 / (5 + N)
        self._settled: dict[int, int] = {}

    def settled(self, offers: Sequence[int]) -> list[int]:
        """Return how many settlements of each offer were learned."""
        get = self._settled.get
        return [get(offer, 0) for offer in offers]

    def variances(
        self,
        keys: Keys,
        settled: Sequence[int],
        words: tuple[int, ...],
        numbers: Sequence[tuple[int, float]] = (),
    ) -> list[float]:
        """Return how little is known of each offer in a context of these words, and numbers' features."""
        known = self._known[(keys + _hashed(words)) * _NP_BOTH >> _NP_SHIFT]
        if numbers:
            hashed = np.array([feature for feature, _ in numbers], np.uint64) * _NP_FEATURE
            squares = np.array([value * value for _, value in numbers], np.float32)
            of_numbers = self._known[(keys + hashed) * _NP_BOTH >> _NP_SHIFT] * squares
            known = np.concatenate((known, of_numbers), axis=1)
        # No BLAS product: its order of adding is the machine's, and replicas must agree to the last bit.
        of_features: list[float] = np.add.reduce(known, axis=1).tolist()
        return [1.0 / (PRIOR + n) + v for n, v in zip(settled, of_features, strict=True)]

    def add(self, offer: int, words: Sequence[int], numbers: Sequence[tuple[int, float]] = ()) -> None:
        """Take note of a lesson: an offer shown in a context of these words, and numbers' features."""
        self._settled[offer] = self._settled.get(offer, 0) + 1
        known, key = self._known, offer * _OFFER
        for feature, value in chain(zip(words, repeat(1.0)), numbers):
            place = ((key + feature * _FEATURE) * _BOTH & _MASK) >> _SHIFT
            known[place] = 1.0 / (1.0 / known.item(place) + value * value)

    def state(self) -> tuple[dict[str, int], bytes]:
        """Return all there is: settlements by offer, and the places where something is known, and what."""
        used = np.flatnonzero(self._known != np.float32(1.0 / PRIOR))
        settled = {str(offer): count for offer, count in self._settled.items()}
        return settled, used.astype("<u4").tobytes() + self._known[used].astype("<f4").tobytes()

    @classmethod
    def of(cls, settled: Mapping[str, int], table: bytes) -> Self:
        """Return it from its state; ValueError where that is none."""
        counts = cls()
        counts._settled = {int(offer): count for offer, count in settled.items()}
        used, known = np.split(np.frombuffer(table, "<u4"), 2)
        counts._known[used] = known.view("<f4")
        return counts
