"""Caps hold exactly, whoever asks at once and however: per offer, per group, per channel across campaigns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import grpc
import pytest
from tests.e2e.customers import decide, explain, grant, question, ranked, removed
from tests.running import CALL_S, Service, served

from tilbud.v1 import decisions_pb2 as pb
from tilbud.v1.decisions_pb2_grpc import DecisionServiceStub

CALLERS = 64
CHANNELS = 8
TIMES = 3
EVEN = "exploration: {preset: uniform}\n"
CAPPED = f"""
campaign: capped
groups: {{loud: {{caps: [{{times: {TIMES}, per: 7d}}]}}}}
offers:
  - {{id: thrice, caps: [{{times: {TIMES}, per: 7d}}]}}
  - {{id: plain}}
  - {{id: loud-one, group: loud}}
  - {{id: loud-two, group: loud}}
reward: {{window: 1h, outcomes: {{click: 1}}}}
consent: not_required
{EVEN}
"""
FIRST = f"""
campaign: first
offers: [{{id: one}}, {{id: two}}]
reward: {{window: 1h, outcomes: {{click: 1}}}}
consent: not_required
{EVEN}
"""
CONTACT = f"channels: {{push: {{caps: [{{times: {TIMES}, per: 1d}}]}}}}\n"
FILES = {
    "capped.yaml": CAPPED,
    "first.yaml": FIRST,
    "second.yaml": FIRST.replace("campaign: first", "campaign: second"),
    "contact.yaml": CONTACT,
}
NO_OFFER = pb.DECISION_REASON_FALLBACK_NO_ELIGIBLE_OFFER


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Serves campaigns with caps."""
    with served(tmp_path_factory.mktemp("caps"), FILES) as started:
        yield started


@pytest.fixture(scope="module")
def stubs(service: Service) -> Iterator[list[DecisionServiceStub]]:
    """Several connections."""
    with ExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [
            stack.enter_context(grpc.insecure_channel(service.target, options)) for _ in range(CHANNELS)
        ]
        for channel in channels:
            grpc.channel_ready_future(channel).result(CALL_S)
        yield [DecisionServiceStub(channel) for channel in channels]


def _at_once(
    stubs: Sequence[DecisionServiceStub], requests: Sequence[pb.DecideRequest]
) -> list[pb.DecideResponse]:
    """Ask all at once, over all connections; answers in the requests' order."""
    asked = [stubs[number % len(stubs)].Decide.future(each) for number, each in enumerate(requests)]
    return [each.result(CALL_S) for each in asked]


def _shown(answers: Sequence[pb.DecideResponse]) -> Counter[str]:
    assert all(answer.recorded for answer in answers)
    return Counter(answer.offer_id for answer in answers if answer.reason != NO_OFFER)


def test_an_offers_cap_holds_exactly_under_64_concurrent_callers(
    service: Service, stubs: list[DecisionServiceStub]
) -> None:
    """Of 64 decisions for one customer at once the capped offer is shown three times, the other the rest."""
    asked = question("capped", "offer-cap", include_offers=["thrice", "plain"])
    assert _shown(_at_once(stubs, [asked] * CALLERS)) == {"thrice": TIMES, "plain": CALLERS - TIMES}
    alone = question("capped", "offer-cap-alone", include_offers=["thrice"])
    assert _shown(_at_once(stubs, [alone] * CALLERS)) == {"thrice": TIMES}
    assert _shown(_at_once(stubs, [question("capped", include_offers=["thrice"])] * 8)) == {"thrice": 8}


def test_a_groups_cap_counts_its_offers_together_under_64_concurrent_callers(
    service: Service, stubs: list[DecisionServiceStub]
) -> None:
    """The offers of one group are shown three times together, whichever they are."""
    asked = question("capped", "group-cap", include_offers=["loud-one", "loud-two", "plain"])
    shown = _shown(_at_once(stubs, [asked] * CALLERS))
    assert shown["loud-one"] + shown["loud-two"] == TIMES
    assert shown["plain"] == CALLERS - TIMES


def test_the_contact_policy_counts_a_channel_across_campaigns_under_64_concurrent_callers(
    service: Service, stubs: list[DecisionServiceStub]
) -> None:
    """A channel's cap counts the exposures of all campaigns, and of that channel alone."""
    push, web = pb.Context(channel="push"), pb.Context(channel="web")
    asked = [question(campaign, "contacted", context=push) for campaign in ("first", "second")]
    assert _shown(_at_once(stubs, asked * (CALLERS // 2))).total() == TIMES
    asked = [question(campaign, "contacted", context=web) for campaign in ("first", "second")]
    assert _shown(_at_once(stubs, asked * 4)).total() == 8


def test_caps_hold_over_batches_and_deferred_decisions_at_once(
    service: Service, stubs: list[DecisionServiceStub]
) -> None:
    """Single, batched and deferred decisions of one customer share one cap."""
    single = question("capped", "mixed", include_offers=["thrice"])
    deferred = question("capped", "mixed", include_offers=["thrice"], defer_activation=True)
    batch = pb.BatchDecideRequest(requests=[single, deferred] * 8)
    batches = [stub.BatchDecide.future(batch) for stub in stubs]
    answers = _at_once(stubs, [single, deferred] * 16)
    for each in batches:
        results = each.result(CALL_S).results
        assert [result.error for result in results if result.HasField("error")] == []
        answers += [result.decision for result in results]
    assert _shown(answers) == {"thrice": TIMES}


def test_a_deferred_decision_reserves_its_exposure_until_another_offer_is_shown(service: Service) -> None:
    """A reservation counts; void, it is released; activated, it stays."""
    ask = {"include_offers": ["thrice"], "defer_activation": True}
    waiting = [decide(service, "capped", "reserving", **ask) for _ in range(TIMES)]
    assert all(answer.offer_id == "thrice" for answer in waiting)
    assert ranked(service, "capped", "reserving", include_offers=["thrice"]) == set()
    void = pb.ActivateRequest(campaign="capped", decision_id=waiting[0].decision_id, shown_offer_id="plain")
    service.decisions.Activate(void)
    assert ranked(service, "capped", "reserving", include_offers=["thrice"]) == {"thrice"}
    service.decisions.Activate(pb.ActivateRequest(campaign="capped", decision_id=waiting[1].decision_id))
    assert decide(service, "capped", "reserving", **ask).offer_id == "thrice"
    full = decide(service, "capped", "reserving", **ask)
    assert full.reason == NO_OFFER


def test_a_dry_run_and_a_retry_count_no_exposure(service: Service) -> None:
    """What leaves no trace and what was answered before are not counted again."""
    ask = {"include_offers": ["thrice"]}
    for _ in range(TIMES * 2):
        assert decide(service, "capped", "careful", dry_run=True, **ask).offer_id == "thrice"
        assert decide(service, "capped", "careful", decision_id="careful-1", **ask).offer_id == "thrice"
    for _ in range(TIMES - 1):
        assert decide(service, "capped", "careful", **ask).offer_id == "thrice"
    assert decide(service, "capped", "careful", **ask).reason == NO_OFFER


def test_caps_count_also_after_kill_9(service: Service) -> None:
    """What a customer saw before a crash counts after it."""
    grant(service, "remembered")
    for _ in range(TIMES):
        assert decide(service, "capped", "remembered", include_offers=["thrice"]).offer_id == "thrice"
    service.kill()
    service.start()
    answer = decide(service, "capped", "remembered", include_offers=["thrice"])
    assert answer.reason == NO_OFFER
    assert removed(explain(service, "capped", answer.decision_id))["thrice"] == "caps"
