"""Families of metrics, made in one registry and named alike.

What holds: every name begins with `tilbud_`. It does not say what is exported: that is for who makes them.
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tilbud.telemetry.fast import FastCounters, FastHistograms, FastSums

FAST_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Bounds of what takes well below a second, in seconds."""
CONTEXT_LABELS = ("campaign", "variant", "channel", "device", "journey_stage")
AT_USE = "at 0 before the first only where the words make few series"


class Families:
    """Makes the families of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """Return a counter that any thread may add to."""
        return Counter(f"tilbud_{name}", text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """Return a gauge."""
        return Gauge(f"tilbud_{name}", text, labels, registry=self.registry)

    def histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        """Return a histogram that any thread may add to."""
        return Histogram(f"tilbud_{name}", text, labels, buckets=buckets, registry=self.registry)

    def fast_counters(self, name: str, text: str, *labels: str) -> FastCounters:
        """Return a counter for the thread of the event loop alone, without a lock."""
        return FastCounters(f"tilbud_{name}", text, labels, self.registry)

    def fast_sums(self, families: Sequence[tuple[str, str]], *labels: str) -> FastSums:
        """Return several such counters, each a name and a text, with the same labels."""
        return FastSums([(f"tilbud_{name}", text) for name, text in families], labels, self.registry)

    def fast_histograms(self, name: str, text: str, bounds: Sequence[float], *labels: str) -> FastHistograms:
        """Return a histogram for the thread of the event loop alone, without a lock."""
        return FastHistograms(f"tilbud_{name}", text, bounds, labels, self.registry)
