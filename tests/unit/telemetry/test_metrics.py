"""What is counted of decisions, calls and the process."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from tests.builders import CAMPAIGN, decision

from tilbud.domain.decisions import Reason
from tilbud.telemetry.metrics import POLICY_EVERY, Metrics


@pytest.fixture
def metrics() -> Metrics:
    """The metrics of a process."""
    return Metrics(CollectorRegistry(), version="test", vw_version="test")


def _value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_the_smallest_probability_is_observed_with_the_entropy(metrics: Metrics) -> None:
    """Of one personalized decision in so many, into the bucket it belongs to; control says nothing of it."""
    for _ in range(2 * POLICY_EVERY):
        metrics.decided(decision(probabilities=(0.004, 0.976, 0.02), drawn=1), 0.001)
        metrics.decided(decision(reason=Reason.CONTROL, variant="control"), 0.001)
    for name in ("tilbud_policy_probability_min", "tilbud_policy_entropy_ratio"):
        assert _value(metrics, f"{name}_count", campaign=CAMPAIGN) == 2, name
    smallest = "tilbud_policy_probability_min_bucket"
    assert _value(metrics, smallest, campaign=CAMPAIGN, le="0.002") == 0
    assert _value(metrics, smallest, campaign=CAMPAIGN, le="0.005") == 2


def test_campaigns_that_are_asked_in_turn_are_all_observed(metrics: Metrics) -> None:
    """Each has a count of its own, which begins with its first decision: no alert is blind to one of them."""
    campaigns = ("first", "second")
    for number in range(2 * POLICY_EVERY):
        for campaign in campaigns:
            metrics.decided(decision(campaign=campaign, probabilities=(0.5, 0.5), drawn=1), 0.001)
            seen = _value(metrics, "tilbud_policy_entropy_ratio_count", campaign=campaign)
            assert seen == number // POLICY_EVERY + 1


def test_calls_in_flight_are_read_at_each_scrape(metrics: Metrics) -> None:
    """The number of that moment, beside the most there may be."""
    calls = 3
    metrics.watch_calls(lambda: calls, 4_096)
    assert _value(metrics, "tilbud_calls_in_flight") == 3
    calls = 5
    assert _value(metrics, "tilbud_calls_in_flight") == 5
    assert _value(metrics, "tilbud_calls_in_flight_max") == 4_096


def test_the_process_tells_its_memory_and_time(metrics: Metrics) -> None:
    """CPU, memory, open files and start are in the same scrape, under the names every process has."""
    for name in (
        "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds",
        "process_start_time_seconds",
    ):  # fmt: skip
        assert (_value(metrics, name) or 0) > 0, name


def test_results_of_reloads_are_there_before_the_first(metrics: Metrics) -> None:
    """At 0: what appears at 1 has not risen, and no alert would see it."""
    for result in ("loaded", "refused"):
        assert _value(metrics, "tilbud_campaign_reloads_total", result=result) == 0
