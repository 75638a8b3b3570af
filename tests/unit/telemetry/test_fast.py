"""Fast counters and histograms say what the client library's counters and histograms would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest

from tilbud.telemetry.exposition import exposition
from tilbud.telemetry.fast import FastCounters, FastHistograms, FastSums

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


@given(st.lists(st.tuples(NAMES, VALUES, VALUES), max_size=50))
def test_counters_side_by_side_read_as_each_alone(counted: list[tuple[str, float, float]]) -> None:
    """The same text as of counters of their own, when written as text and when as samples."""
    together, alone = CollectorRegistry(), CollectorRegistry()
    families = [("t_calls", "Calls"), ("t_s", "Seconds")]
    sums = FastSums(families, ["name", "a_name"], together)
    counters = [FastCounters(name, text, ["name", "a_name"], alone) for name, text in families]
    for name, *values in counted:
        for place, value in enumerate(values):
            sums.labels(name, "x")[place] += value
            counters[place].labels(name, "x").inc(value)
    assert generate_latest(together) == generate_latest(alone)
    assert exposition(together, "") == exposition(alone, "")
