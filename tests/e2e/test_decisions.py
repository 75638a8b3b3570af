"""Decide, BatchDecide, Activate and outcomes against a real server, as a caller sees them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from tests.e2e.campaigns import RULES, SLOW
from tests.running import Service, served

from tilbud.v1 import decisions_pb2 as pb
from tilbud.v1 import insights_pb2
from tilbud.v1.insights_pb2_grpc import InsightServiceStub

FILES = {
    "rules.yaml": RULES,
    "slow.yaml": SLOW,
    "asked.yaml": SLOW.replace("campaign: slow", "campaign: asked").replace("not_required", "required"),
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Serves a campaign with every rule of a context, one that can wait, and one that asks for consent."""
    with served(tmp_path_factory.mktemp("decisions"), FILES) as started:
        yield started


def _decide(service: Service, **fields: object) -> pb.DecideResponse:
    return service.decisions.Decide(pb.DecideRequest(**{"campaign": "slow", **fields}))


def _report(service: Service, decision_id: str, outcome: str = "click", **fields: object) -> int:
    request = pb.ReportOutcomeRequest(campaign="slow", decision_id=decision_id, outcome=outcome, **fields)
    return service.decisions.ReportOutcome(request).status


def _refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """Return the code a call is refused with, and the reason of its ErrorInfo."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    status = rpc_status.from_call(raised.value)
    info = error_details_pb2.ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    assert info.domain == "tilbud"
    return raised.value.code(), info.reason


def test_a_retry_gets_the_same_answer_word_for_word_also_after_a_restart(service: Service) -> None:
    """One (campaign, decision_id) has one answer, whatever was learned, counted or restarted since."""
    request = pb.DecideRequest(
        campaign="rules", decision_id="same-1", include_ranking=True, context=pb.Context(channel="app")
    )
    first = service.decisions.Decide(request).SerializeToString(deterministic=True)
    for number in range(200):
        asked = service.decisions.Decide(pb.DecideRequest(campaign="rules", decision_id=f"other-{number}"))
        service.decisions.ReportOutcome(
            pb.ReportOutcomeRequest(campaign="rules", decision_id=asked.decision_id, outcome="bought")
        )
    counted = service.metric("tilbud_decisions_total", campaign="rules")
    assert service.decisions.Decide(request).SerializeToString(deterministic=True) == first
    assert service.metric("tilbud_decisions_total", campaign="rules") == counted
    service.stop()
    service.start()
    assert service.decisions.Decide(request).SerializeToString(deterministic=True) == first


def test_one_id_for_two_questions_is_refused(service: Service) -> None:
    """A decision_id that comes again with another request is ALREADY_EXISTS."""
    _decide(service, decision_id="twice")
    code, reason = _refused(lambda: _decide(service, decision_id="twice", customer_id="someone"))
    assert (code, reason) == (grpc.StatusCode.ALREADY_EXISTS, "ID_REUSED")


def test_a_dry_run_leaves_no_trace(service: Service) -> None:
    """A dry run is not recorded, not counted, takes no outcome, and leaves its id free."""
    before = service.metric("tilbud_decisions_total")
    answer = _decide(service, decision_id="dry", dry_run=True)
    assert not answer.recorded
    assert not answer.HasField("reward_deadline")
    assert _refused(lambda: _report(service, "dry"))[0] is grpc.StatusCode.NOT_FOUND
    assert service.metric("tilbud_decisions_total") == before
    assert _decide(service, decision_id="dry", customer_id="other").recorded


def test_without_an_eligible_offer_the_fallback_answers_and_is_recorded(service: Service) -> None:
    """No eligible offer: the campaign's fallback, its payload, its reason, probability 1."""
    before = _excluded(service)
    answer = service.decisions.Decide(
        pb.DecideRequest(campaign="rules", include_offers=["app-only"], context=pb.Context(channel="web"))
    )
    assert answer.reason == pb.DECISION_REASON_FALLBACK_NO_ELIGIBLE_OFFER
    assert (answer.offer_id, answer.payload["title"], answer.probability) == ("welcome", "Welcome", 1.0)
    assert answer.recorded
    after = _excluded(service)
    assert {rule: after[rule] - before[rule] for rule in after} == {"include_offers": 5, "channels": 1}


def _excluded(service: Service) -> dict[str, float]:
    return {
        rule: service.metric("tilbud_excluded_offers_total", campaign="rules", rule=rule)
        for rule in ("include_offers", "channels")
    }


def test_without_required_consent_the_fallback_answers(service: Service) -> None:
    """`consent: required` and not granted: the fallback with its reason; granted: an offer."""
    said = (pb.CONSENT_UNSPECIFIED, pb.CONSENT_DENIED, pb.CONSENT_GRANTED)
    assert [_decide(service, campaign="asked", consent=each).reason for each in said] == [
        pb.DECISION_REASON_FALLBACK_NO_CONSENT,
        pb.DECISION_REASON_FALLBACK_NO_CONSENT,
        pb.DECISION_REASON_PERSONALIZED,
    ]


def test_outcomes_of_a_deferred_decision_are_held_until_it_is_activated(service: Service) -> None:
    """Deferred: HELD, a repeat DUPLICATE; after Activate ACCEPTED; the window opens at activation."""
    decision_id = _decide(service, defer_activation=True).decision_id
    assert _report(service, decision_id) == pb.OUTCOME_STATUS_HELD
    assert _report(service, decision_id) == pb.OUTCOME_STATUS_DUPLICATE
    activate = pb.ActivateRequest(campaign="slow", decision_id=decision_id)
    first = service.decisions.Activate(activate)
    assert first.reward_deadline.seconds > time.time() + 3_000
    assert service.decisions.Activate(activate) == first
    assert _report(service, decision_id, event_id="again") == pb.OUTCOME_STATUS_ACCEPTED


def test_another_offer_shown_voids_the_decision(service: Service) -> None:
    """Activate with another offer: no deadline, and outcomes are LATE."""
    answer = _decide(service, defer_activation=True)
    other = "two" if answer.offer_id == "one" else "one"
    activate = pb.ActivateRequest(campaign="slow", decision_id=answer.decision_id, shown_offer_id=other)
    assert not service.decisions.Activate(activate).HasField("reward_deadline")
    assert _report(service, answer.decision_id) == pb.OUTCOME_STATUS_LATE


def test_outcomes_count_once_and_every_status_is_counted(service: Service) -> None:
    """Sent = accepted + duplicate + late + held + orphan + refused."""
    before = _counted(service)
    decision_id = _decide(service).decision_id
    assert _report(service, decision_id) == pb.OUTCOME_STATUS_ACCEPTED
    assert _report(service, decision_id) == pb.OUTCOME_STATUS_DUPLICATE
    assert _report(service, decision_id, event_id="e1", value=2.0) == pb.OUTCOME_STATUS_ACCEPTED
    reused = _refused(lambda: _report(service, decision_id, event_id="e1", value=3.0))
    assert reused == (grpc.StatusCode.ALREADY_EXISTS, "ID_REUSED")
    assert _refused(lambda: _report(service, "nobody"))[1] == "UNKNOWN_DECISION"
    assert _refused(lambda: _report(service, decision_id, outcome="kiss"))[1] == "INVALID_FIELD"
    counted = Counter(_counted(service))
    counted.subtract(before)
    assert counted == {"accepted": 2, "duplicate": 1, "late": 0, "held": 0, "orphan": 1, "refused": 2}


def _counted(service: Service) -> dict[str, int]:
    return {
        status: int(service.metric("tilbud_outcomes_total", campaign="slow", status=status))
        for status in ("accepted", "duplicate", "late", "held", "orphan", "refused")
    }


def test_a_bad_item_of_a_batch_fails_alone(service: Service) -> None:
    """Batches answer in order; an error stands in its own place and names the item."""
    good, unknown = pb.DecideRequest(campaign="slow"), pb.DecideRequest(campaign="nowhere")
    bad = pb.DecideRequest(campaign="slow", decision_id="no spaces")
    results = service.decisions.BatchDecide(
        pb.BatchDecideRequest(requests=[good, bad, unknown, good])
    ).results
    assert [each.WhichOneof("result") for each in results] == ["decision", "error", "error", "decision"]
    violation = error_details_pb2.BadRequest()
    assert results[1].error.details[1].Unpack(violation)
    assert violation.field_violations[0].field == "requests[1].decision_id"
    assert results[0].decision.decision_id != results[3].decision.decision_id
    reports = [
        pb.ReportOutcomeRequest(campaign="slow", decision_id=results[0].decision.decision_id, outcome=outcome)
        for outcome in ("click", "", "click")
    ]
    reported = service.decisions.BatchReportOutcomes(pb.BatchReportOutcomesRequest(requests=reports)).results
    assert [each.outcome.status for each in reported] == [
        pb.OUTCOME_STATUS_ACCEPTED, pb.OUTCOME_STATUS_UNSPECIFIED, pb.OUTCOME_STATUS_DUPLICATE,
    ]  # fmt: skip


def test_an_oversized_batch_is_refused_whole(service: Service) -> None:
    """More than 1,000 items: INVALID_ARGUMENT naming the field, and nothing is recorded."""
    before = service.metric("tilbud_decisions_total")
    asked = pb.BatchDecideRequest(requests=[pb.DecideRequest(campaign="slow")] * 1_001)
    reported = pb.BatchReportOutcomesRequest(requests=[pb.ReportOutcomeRequest(campaign="slow")] * 1_001)
    assert _refused(lambda: service.decisions.BatchDecide(asked))[1] == "INVALID_FIELD"
    assert _refused(lambda: service.decisions.BatchReportOutcomes(reported))[1] == "INVALID_FIELD"
    assert service.metric("tilbud_decisions_total") == before


def test_methods_of_later_versions_say_so(service: Service) -> None:
    """A method that does not work yet is UNIMPLEMENTED, not missing."""
    insights = InsightServiceStub(service.channel)
    code, _ = _refused(lambda: insights.GetReport(insights_pb2.GetReportRequest(campaign="slow")))
    assert code is grpc.StatusCode.UNIMPLEMENTED
