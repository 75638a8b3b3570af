"""What is counted of decisions, calls and the process."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from tests.builders import CAMPAIGN, decision

from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.decision.records import Reason
from tilbud.telemetry.decisions import POLICY_EVERY
from tilbud.telemetry.metrics import Metrics


def _campaign(*offers: str) -> Campaign:
    one_word = {"devices": ["mobile"], "channels": ["web"], "journey_stages": ["consideration"]}
    return Campaign.model_validate({
        "campaign": CAMPAIGN,
        "consent": "not_required",
        "context": {**one_word, "features": {"cart": "number"}},
        "offers": [{"id": offer} for offer in offers or ("a", "b")],
        "fallback": {"id": "none"},
        "reward": {"outcomes": {"click": 1.0}},
        "variants": {"control": {"share": 0.1}},
    })  # fmt: skip


@pytest.fixture
def metrics() -> Metrics:
    """The metrics of a process."""
    return Metrics(CollectorRegistry(), version="test", vw_version="test")


def _value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_the_smallest_probability_is_observed_with_the_entropy(metrics: Metrics) -> None:
    """Of one personalized decision in so many, into the bucket it belongs to; control says nothing of it."""
    for _ in range(2 * POLICY_EVERY):
        metrics.decisions.decided(decision(probabilities=(0.004, 0.976, 0.02), drawn=1), 0.001)
        metrics.decisions.decided(decision(reason=Reason.CONTROL, variant="control"), 0.001)
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
            metrics.decisions.decided(decision(campaign=campaign, probabilities=(0.5, 0.5), drawn=1), 0.001)
            seen = _value(metrics, "tilbud_policy_entropy_ratio_count", campaign=campaign)
            assert seen == number // POLICY_EVERY + 1


def test_calls_in_flight_are_read_at_each_scrape(metrics: Metrics) -> None:
    """The number of that moment, beside the most there may be."""
    calls = 3
    metrics.process.watch_calls(lambda: calls, 4_096)
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


def _samples(metrics: Metrics, campaign: str = "") -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if not campaign or sample.labels.get("campaign") == campaign
    }


def test_all_that_a_campaign_may_count_begins_at_zero(metrics: Metrics) -> None:
    """Each offer, fallback, outcome, rule and reason; nothing that cannot happen."""
    metrics.served(_campaign(), 0)
    samples = _samples(metrics, CAMPAIGN)
    assert not any(samples.values())
    decisions = {key[2:] for key in samples if key[0] == "tilbud_decisions_total"}
    assert ("personalized", "personalized", "a") in decisions
    assert ("control", "control", "b") in decisions
    assert ("personalized", "fallback_no_time", "none") in decisions
    assert ("personalized", "personalized", "none") not in decisions
    assert ("control", "fallback_no_time", "a") not in decisions
    assert len(decisions) == 2 * 2 + 2 * 5
    for key in (
        ("tilbud_outcomes_total", CAMPAIGN, "click", "late"),
        ("tilbud_excluded_offers_total", CAMPAIGN, "caps"),
        ("tilbud_dropped_values_total", CAMPAIGN, "cart", "out_of_range"),
        ("tilbud_reward_loss_total", CAMPAIGN, "control", "none"),
        ("tilbud_activations_total", CAMPAIGN, "void"),
        ("tilbud_sticky_decisions_total", CAMPAIGN),
        ("tilbud_decide_duration_seconds_count", CAMPAIGN),
    ):
        assert samples[key] == 0, key


def test_what_is_counted_was_there_before(metrics: Metrics) -> None:
    """A decision and its outcome add no series to those the campaign began with."""
    metrics.served(_campaign(), 1_000)
    before = _samples(metrics).keys()
    metrics.decisions.decided(decision(offer_id="a"), 0.001)
    metrics.decisions.outcome(CAMPAIGN, "click", "accepted")
    assert _samples(metrics).keys() == before


@pytest.mark.parametrize(("at_most", "series"), [(2 * 3 * 3 * 3, 54), (53, 0)])
def test_series_by_context_are_made_up_to_a_bound(metrics: Metrics, at_most: int, series: int) -> None:
    """All of them, where they are not more; beyond it each is made as it is used."""
    metrics.served(_campaign(), at_most)
    by_context = [key for key in _samples(metrics, CAMPAIGN) if key[0] == "tilbud_context_decisions_total"]
    assert len(by_context) == series


def test_nothing_is_shown_of_a_campaign_that_goes_and_what_returns_counts(metrics: Metrics) -> None:
    """Its series go, those of others stay; when it comes back it counts from 0."""
    metrics.served(_campaign(), 1_000)
    metrics.decisions.decided(decision(offer_id="a"), 0.001)
    metrics.decisions.decided(decision(campaign="other"), 0.001)
    metrics.forget(CAMPAIGN)
    assert not _samples(metrics, CAMPAIGN)
    assert _samples(metrics, "other")
    metrics.served(_campaign(), 1_000)
    metrics.decisions.decided(decision(offer_id="a"), 0.001)
    counted = {
        key: value for key, value in _samples(metrics, CAMPAIGN).items() if "decisions_total" in key[0]
    }
    assert sum(value for key, value in counted.items() if key[0] == "tilbud_decisions_total") == 1


def test_series_of_removed_offers_go_with_the_next_change(metrics: Metrics) -> None:
    """Not at once, as their decisions may settle yet; where offers change daily, series do not pile up."""
    metrics.served(_campaign("a", "b"), 1_000)
    metrics.decisions.decided(decision(offer_id="b"), 0.001)
    metrics.served(_campaign("a"), 1_000)
    shown = {"campaign": CAMPAIGN, "variant": "personalized", "reason": "personalized", "offer": "b"}
    assert _value(metrics, "tilbud_decisions_total", **shown) == 1
    metrics.served(_campaign("a", "c"), 1_000)
    assert not [key for key in _samples(metrics, CAMPAIGN) if "b" in key]
    metrics.served(_campaign("a", "b"), 1_000)
    metrics.decisions.decided(decision(offer_id="b"), 0.001)
    assert _value(metrics, "tilbud_decisions_total", **shown) == 1


def test_calls_and_customer_events_begin_at_zero(metrics: Metrics) -> None:
    """By each code a method may end with, and by each status."""
    metrics.process.answers("Decide", ("OK", "NOT_FOUND"), "grpc")
    for code in ("OK", "NOT_FOUND"):
        labels = {"method": "Decide", "code": code, "protocol": "grpc"}
        assert _value(metrics, "tilbud_rpc_duration_seconds_count", **labels) == 0
    assert _value(metrics, "tilbud_customer_events_total", status="no_consent") == 0
