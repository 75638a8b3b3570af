"""What a scrape reads is what the client library writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, disable_created_metrics
from prometheus_client.exposition import choose_encoder

from tilbud.telemetry.exposition import exposition
from tilbud.telemetry.fast import FastCounters, FastHistograms

TEXTS = st.text('ab {}%\\\n"é')
NUMBERS = st.floats(0.0, 1e12)
FORMATS = ("", "text/plain;version=1.0.0", "application/openmetrics-text;version=1.0.0")


@pytest.mark.parametrize("accept", FORMATS)
@given(observed=st.lists(st.tuples(TEXTS, TEXTS, NUMBERS), max_size=20))
def test_it_is_the_librarys_text(accept: str, observed: list[tuple[str, str, float]]) -> None:
    """Byte for byte in every format, whatever the labels and numbers are."""
    disable_created_metrics()
    registry = CollectorRegistry()
    counters = FastCounters("t_calls", 'Calls \\ "so"', ["zone", "name"], registry)
    histograms = FastHistograms("t_s", "FastHistogram", (0.5, 1.0, 1e6), ["zone", "name"], registry)
    for zone, name, number in observed:
        counters.labels(zone, name).inc(number)
        histograms.labels(zone, name).observe(number)
    encode, content_type = choose_encoder(accept)
    assert exposition(registry, accept) == (encode(registry), content_type)


@pytest.mark.parametrize("accept", FORMATS)
def test_what_the_library_counts_is_there_too(accept: str) -> None:
    """Behind the others; the end comes once, and last."""
    registry = CollectorRegistry()
    Gauge("t_gauge", "A gauge", registry=registry).set(3)
    FastCounters("t_calls", "Calls", ["name"], registry).labels("a").inc()
    text = exposition(registry, accept)[0].decode()
    assert 't_calls_total{name="a"} 1.0\n' in text
    assert "t_gauge 3.0\n" in text
    assert text.count("# EOF") == ("openmetrics" in accept)
    assert text.endswith("# EOF\n") == ("openmetrics" in accept)
