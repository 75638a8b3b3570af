"""Fast counters and histograms say what the client library's counters and histograms would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest

from tilbud.telemetry.fast import FastCounters, FastHistograms

BOUNDS = (0.001, 0.01, 0.5, 1.0)
NAMES = st.sampled_from(["a", 'quote " and \\', "new\nline"])
VALUES = st.one_of(st.sampled_from(BOUNDS), st.floats(0.0, 2.0))


@given(st.lists(st.tuples(NAMES, VALUES), max_size=50))
def test_a_scrape_reads_the_same_text(observed: list[tuple[str, float]]) -> None:
    """Whatever was counted and observed, under whatever labels: the library's text, byte for byte."""
    disable_created_metrics()
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counters, histograms = (
        FastCounters("t_calls", "Calls", ["name"], ours),
        FastHistograms("t_s", "FastHistogram", BOUNDS, ["name"], ours),
    )
    counter = Counter("t_calls", "Calls", ["name"], registry=theirs)
    histogram = Histogram("t_s", "FastHistogram", ["name"], buckets=BOUNDS, registry=theirs)
    for name, value in observed:
        counters.labels(name).inc(value)
        counter.labels(name).inc(value)
        histograms.labels(name).observe(value)
        histogram.labels(name).observe(value)
    assert generate_latest(ours) == generate_latest(theirs)
