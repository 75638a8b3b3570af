"""Outcomes wait until the service has them: each ends in one state, and is told."""

from __future__ import annotations

import pytest

from tilbud.client.outbox import Outbox, Outcomes, Report
from tilbud.client.refusals import Refusal
from tilbud.client.words import Delivery, OutcomeStatus
from tilbud.v1 import decisions_pb2 as pb

AWAY = Refusal("UNAVAILABLE", ["nobody is there"])
DAY_S = 86_400.0


def _outbox(outcomes_max: int = 10) -> Outbox:
    return Outbox(outcomes_max=outcomes_max, chance=lambda: 0.5)


def _put(outbox: Outbox, name: str, now_s: float = 0.0, **more) -> Report:
    return outbox.put(
        pb.ReportOutcomeRequest(campaign="shop", decision_id=name, outcome="click", **more), now_s
    )


def _taken(outbox: Outbox, now_s: float = 0.0) -> list[str]:
    request, _ = outbox.take(now_s)
    return [each.decision_id for each in request.requests] if request else []


def _answer(*items: int | str) -> pb.BatchReportOutcomesResponse:
    """Answer by status, or by the message of an error after its code."""
    answer = pb.BatchReportOutcomesResponse()
    for item in items:
        if isinstance(item, int):
            answer.results.add().outcome.status = item  # type: ignore[assignment]
        else:
            answer.results.add().error.code = int(item)
    return answer


def test_an_outcome_is_delivered_with_what_the_service_said() -> None:
    """From buffered to delivered; it leaves the buffer, and is counted."""
    outbox = _outbox()
    first, second = _put(outbox, "a"), _put(outbox, "b")
    assert first.delivery is second.delivery is Delivery.BUFFERED
    assert _taken(outbox) == ["a", "b"]
    assert outbox.answered(_answer(1, 2), 0.0) == [first, second]
    assert (first.delivery, first.status) == (Delivery.DELIVERED, OutcomeStatus.ACCEPTED)
    assert (second.delivery, second.status) == (Delivery.DELIVERED, OutcomeStatus.DUPLICATE)
    assert outbox.outcomes == Outcomes(buffered=0, delivered=2, refused=0, dropped=0, skipped=0)


def test_one_batch_at_a_time_is_on_its_way() -> None:
    """What comes meanwhile goes with the next one."""
    outbox = _outbox()
    _put(outbox, "a")
    assert _taken(outbox) == ["a"]
    _put(outbox, "b")
    assert _taken(outbox) == []
    assert outbox.wait_s(0.0) is None
    outbox.answered(_answer(1), 0.0)
    assert _taken(outbox) == ["b"]


def test_a_service_that_is_away_gets_them_again_in_their_order() -> None:
    """After ever longer waits, up to some seconds; what was answered ends that."""
    outbox = _outbox()
    reports = [_put(outbox, name) for name in "ab"]
    now_s, waits = 0.0, []
    for _ in range(8):
        assert _taken(outbox, now_s) == ["a", "b"]
        assert outbox.failed(AWAY, now_s) == []
        waits.append(outbox.wait_s(now_s) or 0.0)
        assert _taken(outbox, now_s) == []
        now_s += waits[-1]
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5])
    assert {(each.delivery, each.problem) for each in reports} == {(Delivery.BUFFERED, "nobody is there")}
    _taken(outbox, now_s)
    outbox.answered(_answer(1, 1), now_s)
    _put(outbox, "c", now_s)
    assert outbox.wait_s(now_s) == 0.0


def test_of_a_batch_only_what_could_not_be_taken_is_sent_again() -> None:
    """One bad outcome fails alone, with the reason; one that the service had no room for waits."""
    outbox = _outbox()
    good, bad, later = (_put(outbox, name) for name in "abc")
    _taken(outbox)
    assert outbox.answered(_answer(1, "5", "8"), 0.0) == [good, bad]
    assert bad.delivery is Delivery.REFUSED
    assert later.delivery is Delivery.BUFFERED
    assert _taken(outbox, 0.1) == ["c"]


def test_the_service_says_when_to_come_back() -> None:
    """A delay that it names is waited for; whoever flushes is in a hurry."""
    outbox = _outbox()
    _put(outbox, "a")
    _taken(outbox)
    outbox.failed(Refusal("RESOURCE_EXHAUSTED", ["too much"], retry_after_s=2.5), 10.0)
    assert outbox.wait_s(10.0) == 2.5
    outbox.hurry()
    assert _taken(outbox, 10.0) == ["a"]


def test_credentials_may_be_mended_while_outcomes_wait() -> None:
    """A token that ran out loses nothing."""
    outbox = _outbox()
    report = _put(outbox, "a")
    _taken(outbox)
    outbox.failed(Refusal("UNAUTHENTICATED", ["the token ran out"]), 0.0)
    assert (report.delivery, report.problem) == (Delivery.BUFFERED, "the token ran out")


def test_a_full_buffer_drops_what_comes_and_says_so() -> None:
    """Also what is on its way takes room."""
    outbox = _outbox(2)
    kept = [_put(outbox, name) for name in "ab"]
    _taken(outbox)
    dropped = _put(outbox, "c")
    assert dropped.delivery is Delivery.DROPPED
    assert "full" in dropped.problem
    assert [each.delivery for each in kept] == [Delivery.BUFFERED] * 2
    assert outbox.outcomes.dropped == 1
    outbox.answered(_answer(1, 1), 0.0)
    assert _put(outbox, "d").delivery is Delivery.BUFFERED


def test_large_outcomes_fill_it_sooner_and_go_in_smaller_batches() -> None:
    """A megabyte a batch, sixteen in all."""
    outbox = _outbox(1_000)
    reports = [_put(outbox, f"{number}", event_id="x" * 400_000) for number in range(50)]
    waiting = [each for each in reports if each.delivery is Delivery.BUFFERED]
    assert len(waiting) == 16 * 1024 * 1024 // 400_000
    assert len(_taken(outbox)) == 2


def test_an_outcome_that_no_batch_could_hold_is_refused() -> None:
    """Nothing waits for ever behind it."""
    outbox = _outbox()
    report = _put(outbox, "a", event_id="x" * 2_000_000)
    assert report.delivery is Delivery.REFUSED
    assert "bytes" in report.problem
    _put(outbox, "b")
    assert _taken(outbox) == ["b"]


def test_what_waits_for_a_day_is_dropped() -> None:
    """The rest goes on."""
    outbox = _outbox()
    old = _put(outbox, "a", 0.0)
    _put(outbox, "b", DAY_S)
    request, dropped = outbox.take(DAY_S + 1)
    assert dropped == [old]
    assert old.delivery is Delivery.DROPPED
    assert request is not None
    assert [each.decision_id for each in request.requests] == ["b"]


def test_what_names_no_decision_is_skipped() -> None:
    """A default has no id: nothing is sent, and the report says why."""
    outbox = _outbox()
    report = _put(outbox, "")
    assert report.delivery is Delivery.SKIPPED
    assert "nothing was recorded" in report.problem
    assert outbox.wait_s(0.0) is None


def test_a_client_that_closes_drops_the_rest() -> None:
    """Also what is on its way; an answer that comes after that changes nothing."""
    outbox = _outbox()
    sent = _put(outbox, "a")
    _taken(outbox)
    waiting = _put(outbox, "b")
    assert outbox.abandon("closed") == [sent, waiting]
    assert {(each.delivery, each.problem) for each in (sent, waiting)} == {(Delivery.DROPPED, "closed")}
    assert outbox.answered(_answer(1), 0.0) == []
    assert outbox.outcomes == Outcomes(buffered=0, delivered=0, refused=0, dropped=2, skipped=0)


def test_an_answer_of_another_length_is_none() -> None:
    """All of the batch is sent again."""
    outbox = _outbox()
    _put(outbox, "a")
    _put(outbox, "b")
    _taken(outbox)
    assert outbox.answered(_answer(1), 0.0) == []
    assert _taken(outbox, 1.0) == ["a", "b"]


def test_an_answer_that_says_nothing_of_an_outcome_delivers_nothing() -> None:
    """Whoever answered so may not be the service; it is sent again."""
    outbox = _outbox()
    report = _put(outbox, "a")
    _taken(outbox)
    empty = pb.BatchReportOutcomesResponse(results=[pb.BatchReportOutcomesResult()])
    assert outbox.answered(empty, 0.0) == []
    assert report.delivery is Delivery.BUFFERED


def test_a_delay_without_end_ends() -> None:
    """Whoever answers it; no clock could wait so long."""
    outbox = _outbox()
    _put(outbox, "a")
    _taken(outbox)
    outbox.failed(Refusal("UNAVAILABLE", ["later"], retry_after_s=1e18), 0.0)
    assert outbox.wait_s(0.0) == 60.0
