"""Pauses: the answer to bad news on the day of a campaign."""

from __future__ import annotations

import time
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tests.e2e.customers import decide, explain, ranked, refused, removed, report, sequence
from tests.running import PATIENCE_S, POLL_S, Service, served, until

from tilbud.v1 import campaigns_pb2 as cpb
from tilbud.v1 import decisions_pb2 as pb

SWITCHED = """
campaign: switched
offers: [{id: one}, {id: two}, {id: three}]
fallback: {id: welcome}
reward:
  window: 1h
  outcomes: {bought: {weight: 1, final: true}}
  learn: on_settlement
consent: not_required
"""
FILES = {
    "switched.yaml": SWITCHED,
    "other.yaml": SWITCHED.replace("campaign: switched", "campaign: other"),
}
PAUSED = pb.DECISION_REASON_FALLBACK_CAMPAIGN_PAUSED
OFFERED = pb.DECISION_REASON_PERSONALIZED
SHORT_S = (1.0, 4.0, 16.0, 64.0)  # how far away an end may be, for as long as the machine is slower than it


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Serves two campaigns alike."""
    with served(tmp_path_factory.mktemp("pauses"), FILES) as service:
        yield service


@pytest.fixture
def service(started: Service) -> Service:
    """The service with everything on."""
    for pause in _pauses(started):
        if pause.offer_id:
            _resume(started, pause.offer_id)
        else:
            started.campaigns.ResumeCampaign(cpb.ResumeCampaignRequest(campaign="switched"))
    return started


def _pause(service: Service, offer_id: str, reason: str = "Recalled", **fields: object) -> None:
    service.campaigns.PauseOffer(
        cpb.PauseOfferRequest(campaign="switched", offer_id=offer_id, reason=reason, **fields)
    )


def _pause_all(service: Service, reason: str = "Bad news", **fields: object) -> None:
    service.campaigns.PauseCampaign(cpb.PauseCampaignRequest(campaign="switched", reason=reason, **fields))


def _resume(service: Service, offer_id: str) -> None:
    service.campaigns.ResumeOffer(cpb.ResumeOfferRequest(campaign="switched", offer_id=offer_id))


def _pauses(service: Service) -> list[cpb.Pause]:
    request = cpb.GetCampaignRequest(campaign="switched")
    return list(service.campaigns.GetCampaign(request).campaign.pauses)


def _in(seconds: float) -> Timestamp:
    end = Timestamp()
    end.FromMicroseconds(int((time.time() + seconds) * 1e6))
    return end


def _over(end: Timestamp) -> bool:
    return time.time() >= end.ToNanoseconds() / 1e9


def test_a_paused_offer_is_in_no_decision_until_it_is_resumed(service: Service) -> None:
    """From the very next decision on: not eligible, told by explanation and metric; then back."""
    assert ranked(service, "switched") == {"one", "two", "three"}
    before = service.metric("tilbud_excluded_offers_total", campaign="switched", rule="paused")
    _pause(service, "two", "The supplier called")
    assert ranked(service, "switched") == {"one", "three"}
    answers = [decide(service, "switched", include_ranking=True) for _ in range(20)]
    assert all({each.offer_id for each in answer.ranking} == {"one", "three"} for answer in answers)
    assert removed(explain(service, "switched", answers[0].decision_id)) == {"two": "paused"}
    after = service.metric("tilbud_excluded_offers_total", campaign="switched", rule="paused")
    assert after == before + 20
    (pause,) = _pauses(service)
    assert (pause.offer_id, pause.reason) == ("two", "The supplier called")
    assert not pause.HasField("end_time")
    assert abs(pause.start_time.seconds - time.time()) < PATIENCE_S
    assert ranked(service, "other") == {"one", "two", "three"}
    _resume(service, "two")
    assert ranked(service, "switched") == {"one", "two", "three"}
    assert _pauses(service) == []


def test_a_paused_campaign_answers_with_its_fallback_and_still_takes_outcomes(service: Service) -> None:
    """The very next decision is the fallback with its reason; what was decided before is learned."""
    earlier = decide(service, "switched")
    learned = sequence(service, "switched")
    _pause_all(service)
    answer = decide(service, "switched")
    assert (answer.offer_id, answer.reason, answer.recorded) == ("welcome", PAUSED, True)
    fates = removed(explain(service, "switched", answer.decision_id))
    assert fates == dict.fromkeys(("one", "two", "three"), "campaign_paused")
    assert report(service, "switched", earlier.decision_id, "bought") == pb.OUTCOME_STATUS_ACCEPTED
    until(lambda: sequence(service, "switched") == learned + 1)
    assert decide(service, "other").reason == OFFERED
    service.campaigns.ResumeCampaign(cpb.ResumeCampaignRequest(campaign="switched"))
    assert decide(service, "switched").reason == OFFERED


def test_an_answer_from_before_a_pause_stays_its_answer(service: Service) -> None:
    """A retry is word for word the decision it repeats, paused or not."""
    before = decide(service, "switched", decision_id="before-the-pause")
    _pause(service, before.offer_id)
    _pause_all(service)
    assert decide(service, "switched", decision_id="before-the-pause") == before
    assert decide(service, "switched", decision_id="in-the-pause").reason == PAUSED
    service.campaigns.ResumeCampaign(cpb.ResumeCampaignRequest(campaign="switched"))
    assert decide(service, "switched", decision_id="in-the-pause").reason == PAUSED


def test_pauses_survive_kill_9(service: Service) -> None:
    """What was paused is paused after a crash, with its reason; what was resumed is not."""
    _pause(service, "one")
    _resume(service, "one")
    _pause(service, "three", "Recalled")
    service.kill()
    service.start()
    assert ranked(service, "switched") == {"one", "two"}
    assert [(pause.offer_id, pause.reason) for pause in _pauses(service)] == [("three", "Recalled")]
    _pause_all(service)
    service.kill()
    service.start()
    assert decide(service, "switched").reason == PAUSED
    assert [pause.offer_id for pause in _pauses(service)] == ["", "three"]


def test_a_pause_ends_by_itself_at_its_end_time(service: Service) -> None:
    """Every decision before the end is paused, every one after it is not, and nobody did anything."""
    for short_s in SHORT_S:
        end = _in(short_s)
        if _paused_until(service, end):
            break
    else:
        pytest.fail("each end came before the machine was done pausing")
    while True:
        over = _over(end)
        answer = decide(service, "switched", include_ranking=True)
        if answer.reason != PAUSED:
            break
        assert not over, "what is asked after the end is not paused"
        time.sleep(POLL_S)
    assert _over(end)
    assert {each.offer_id for each in answer.ranking} == {"one", "two", "three"}
    assert _pauses(service) == []


def _paused_until(service: Service, end: Timestamp) -> bool:
    """Pause a campaign and an offer of it until then; return whether it was not too late for that."""
    try:
        _pause_all(service, end_time=end)
        _pause(service, "two", end_time=end)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert _over(end)
        return False
    pauses, reason = _pauses(service), decide(service, "switched").reason
    if _over(end):
        return False
    assert [pause.end_time for pause in pauses] == [end, end]
    assert reason == PAUSED
    return True


def test_pausing_again_replaces_reason_and_end(service: Service) -> None:
    """The last word counts; resuming what is on changes nothing."""
    _pause(service, "one", "First word", end_time=_in(60.0))
    _pause(service, "one", "Last word")
    (pause,) = _pauses(service)
    assert pause.reason == "Last word"
    assert not pause.HasField("end_time")
    _resume(service, "two")
    assert ranked(service, "switched") == {"two", "three"}


def test_a_switch_that_makes_no_sense_is_refused(service: Service) -> None:
    """Unknown campaign or offer, no reason, an end in the past: refused, and nothing is paused."""
    unknown = cpb.PauseCampaignRequest(campaign="nowhere", reason="x")
    refusal = refused(lambda: service.campaigns.PauseCampaign(unknown))
    assert refusal == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_CAMPAIGN")
    for call in (
        lambda: _pause(service, "nothing"),
        lambda: _pause(service, ""),
        lambda: _pause(service, "one", ""),
        lambda: _pause(service, "one", "line\nbreak"),
        lambda: _pause(service, "one", "x" * 501),
        lambda: _pause(service, "one", end_time=Timestamp(seconds=int(time.time()) - 60)),
        lambda: _resume(service, "nothing"),
    ):
        assert refused(call) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert _pauses(service) == []
    assert ranked(service, "switched") == {"one", "two", "three"}
