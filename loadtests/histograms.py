"""What a Prometheus histogram saw between two readings: count, mean, quantiles.

What holds: count and mean are exact. A quantile is only known to lie within a bucket; it is taken to lie
there in proportion, as PromQL's histogram_quantile does, and is infinite beyond the last bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client.samples import Sample


@dataclass(frozen=True, slots=True)
class Seen:
    """So many observations at or below each bound, by bound, and their sum (of durations, in seconds)."""

    cumulative: dict[float, float]
    total: float

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Seen:
        """Return what these samples, `…_bucket` and `…_sum` of any labels, say together."""
        cumulative: dict[float, float] = {}
        total = 0.0
        for each in samples:
            if each.name.endswith("_bucket"):
                bound = float(each.labels["le"])
                cumulative[bound] = cumulative.get(bound, 0.0) + each.value
            elif each.name.endswith("_sum"):
                total += each.value
        return cls(cumulative, total)

    def __sub__(self, before: Seen) -> Seen:
        """Return what was seen since."""
        seen = {bound: count - before.cumulative.get(bound, 0.0) for bound, count in self.cumulative.items()}
        return Seen(seen, self.total - before.total)

    @property
    def count(self) -> int:
        """Return how many were observed."""
        return int(self.cumulative.get(math.inf, 0.0))

    @property
    def mean(self) -> float:
        """Return their mean; NaN of nothing."""
        return self.total / self.count if self.count else math.nan

    def beyond(self, bound: float) -> int:
        """Return how many were above a bound, which must be one of the histogram's."""
        return self.count - int(self.cumulative[bound])

    def quantile(self, share: float) -> float:
        """Return where this share of them lies below, for example 0.99; NaN of nothing."""
        wanted = share * self.count
        low, below = 0.0, 0.0
        for bound, count in sorted(self.cumulative.items()):
            if count >= wanted and count > below:
                return low + (bound - low) * (wanted - below) / (count - below)
            low, below = bound, count
        return math.nan
