"""Answers as values."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tilbud.client.answers import check_default, decision_of, decisions_of, default_of, status_of
from tilbud.client.questions import Question
from tilbud.client.refusals import Refusal
from tilbud.client.words import OutcomeStatus, Reason
from tilbud.v1 import decisions_pb2 as pb


def _words(constants, prefix: str) -> set[str]:
    return {name.removeprefix(prefix).lower() for name in constants.DESCRIPTOR.values_by_name} - {
        "unspecified"
    }


def test_every_constant_of_the_contract_has_a_word() -> None:
    """And every word beside is one of ours."""
    assert set(Reason) - _words(pb.DecisionReason, "DECISION_REASON_") == {Reason.DEFAULT, Reason.UNKNOWN}
    assert _words(pb.DecisionReason, "DECISION_REASON_") < set(Reason)
    assert set(OutcomeStatus) - _words(pb.OutcomeStatus, "OUTCOME_STATUS_") == {OutcomeStatus.UNKNOWN}
    assert _words(pb.OutcomeStatus, "OUTCOME_STATUS_") < set(OutcomeStatus)


def test_a_decision_is_plain_values() -> None:
    """A payload is a dict with whole numbers, a time has its zone."""
    answer = pb.DecideResponse(
        decision_id="d-1", offer_id="a", probability=0.25, reason=pb.DECISION_REASON_CONTROL, recorded=True,
        variant="control", model_version="abc.7", ranking=[pb.RankedOffer(offer_id="a", probability=1)],
    )  # fmt: skip
    answer.payload.update({"title": "Free", "items": [1, 2.5], "more": {"deep": True}})
    answer.reward_deadline.FromDatetime(datetime(2026, 1, 2, tzinfo=UTC))
    decision = decision_of("shop", answer)
    assert decision.payload == {"title": "Free", "items": [1, 2.5], "more": {"deep": True}}
    assert decision.reason is Reason.CONTROL
    assert decision.reward_deadline == datetime(2026, 1, 2, tzinfo=UTC)
    assert (decision.decision_id, decision.served, decision.ranking[0].offer_id) == ("d-1", True, "a")


def test_what_has_no_record_has_no_id() -> None:
    """So that nothing is reported against it."""
    decision = decision_of("shop", pb.DecideResponse(decision_id="d-1", offer_id="a", recorded=False))
    assert decision.decision_id == ""
    assert decision.reward_deadline is None
    assert decision.served


def test_words_of_a_newer_service_are_unknown() -> None:
    """They are no error."""
    newer = pb.DecideResponse(reason=99)  # type: ignore[arg-type]
    assert decision_of("shop", newer).reason is Reason.UNKNOWN
    assert status_of(pb.ReportOutcomeResponse(status=99)) is OutcomeStatus.UNKNOWN  # type: ignore[arg-type]


def test_of_many_questions_a_wrong_one_fails_alone() -> None:
    """It gets its own refusal, the others their decisions."""
    answer = pb.BatchDecideResponse()
    answer.results.add().error.code = 5
    answer.results.add().decision.offer_id = "a"
    wrong, right = decisions_of([Question("x"), Question("shop")], answer)
    assert isinstance(wrong, Refusal)
    assert wrong.code == "NOT_FOUND"
    assert not isinstance(right, Refusal)
    assert (right.campaign, right.offer_id) == ("shop", "a")


@pytest.mark.parametrize(
    "code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED", "INTERNAL", "UNKNOWN"]
)
def test_a_default_stands_in_for_a_service_that_cannot_answer(code: str) -> None:
    """It says that it is one, and why; there is nothing to report."""
    decision = default_of("shop", "house", {"title": "Ours"}, Refusal(code, ["it is away"]))
    assert (decision.offer_id, decision.payload) == ("house", {"title": "Ours"})
    assert not decision.served
    assert decision.reason is Reason.DEFAULT
    assert decision.problem == f"{code}: it is away"
    assert decision.decision_id == ""


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "UNAUTHENTICATED"])
def test_a_wrong_question_is_no_outage(code: str) -> None:
    """No default hides it."""
    with pytest.raises(Refusal):
        default_of("shop", "house", None, Refusal(code, ["the question is wrong"]))


def _no_number(answer: pb.DecideResponse) -> None:
    answer.payload["price"] = float("nan")


def _no_time(answer: pb.DecideResponse) -> None:
    answer.reward_deadline.seconds = 10**17


@pytest.mark.parametrize("spoil", [_no_number, _no_time])
def test_what_no_service_of_ours_answers_is_a_refusal(spoil) -> None:
    """Of one decision or one of many: so a default stands in, also for another server's answer."""
    answer = pb.DecideResponse(offer_id="a", recorded=True)
    spoil(answer)
    with pytest.raises(Refusal, match="cannot be read") as refused:
        decision_of("shop", answer)
    assert refused.value.later
    many = pb.BatchDecideResponse(results=[pb.BatchDecideResult(decision=answer)])
    [one] = decisions_of([Question("shop")], many)
    assert isinstance(one, Refusal)
    with pytest.raises(Refusal, match="cannot be read"):
        decisions_of([Question("shop")] * 2, many)


def test_a_default_that_could_not_stand_in_is_refused_at_once() -> None:
    """Not only once the service is away."""
    with pytest.raises(TypeError, match=r"^default: write the id of an offer; it is of type int$"):
        check_default(5, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^default_payload: write a dict; it is of type list$"):
        check_default("house", ["a"])  # type: ignore[arg-type]
    check_default(None, None)
    check_default("house", {"a": 1})
