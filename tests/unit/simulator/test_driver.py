"""The driver against a fake service in this process."""

from __future__ import annotations

import asyncio
from collections import deque

import grpc
import pytest

from tilbud.simulator.calls import Calls
from tilbud.simulator.counts import Counts
from tilbud.simulator.driver import Answer, Driver, Pacing
from tilbud.simulator.shop import Shop, ShopConfig
from tilbud.simulator.sources import ShopSource
from tilbud.v1 import decisions_pb2

UNAVAILABLE, CANCELLED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED


class Run:
    """One drive of a shop through the fake service."""

    def __init__(self, service, *, decisions: int = 100, delay: int = 0, tries: int = 4, **pacing) -> None:
        self.service = service
        self.pauses: list[float] = []
        self.answers: list[Answer] = []
        self.stop = asyncio.Event()
        self._decisions = decisions
        self._pacing = Pacing(**({"batch": 10} | pacing))
        self._tries = tries
        config = ShopConfig(offers=tuple(service.campaign.offers), delay_decisions=delay)
        self._source = ShopSource(Shop(config, 1))
        self.stopped_because = ""
        self.seconds = 0.0

    async def drive(self) -> Counts:
        async with grpc.aio.insecure_channel(self.service.target) as channel:
            calls = Calls(channel, target="fake", tries=self._tries, pause=self._pause)
            driver = Driver(
                calls,
                self._source,
                campaign="shop",
                decisions=self._decisions,
                pacing=self._pacing,
                id_prefix="sim-1-test",
                observe=self.answers.append,
                stop=self.stop,
            )
            await driver.run()
        self.stopped_because, self.seconds = driver.stopped_because, driver.seconds
        return driver.counts

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


def outcomes_by_decision(service) -> dict[str, set[str]]:
    """The outcomes each decision got."""
    by_decision: dict[str, set[str]] = {}
    for decision_id, outcome, _ in service.reported:
        by_decision.setdefault(decision_id, set()).add(outcome)
    return by_decision


async def test_every_decision_gets_its_one_outcome(service):
    """Each decision is asked once and its outcome reported once: purchase or leave, as the truth says."""
    run = Run(service, decisions=105)
    counts = await run.drive()
    assert len(service.asked) == len(service.decisions) == 105
    assert set(service.reported.values()) == {1}
    assert outcomes_by_decision(service) == {
        answer.decision_id: {name for name, _ in answer.outcome.reports}
        for answer in run.answers
        if answer.outcome
    }
    assert counts.outcomes == {"accepted": 105}
    assert counts.balanced


@pytest.mark.parametrize("code", [UNAVAILABLE, CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED])
async def test_a_lost_answer_is_asked_again_with_the_same_id(service, code: grpc.StatusCode):
    """Where answers are lost after the work was done, the same requests go again: no id is new."""
    service.faults["BatchDecide"] = deque([code, code])
    run = Run(service, decisions=20, in_flight=1)
    counts = await run.drive()
    assert len(service.asked) == 40
    assert sorted(service.decisions) == sorted(f"sim-1-test-{n}" for n in range(20))
    assert counts.decisions_answered == 20
    assert counts.retries == 2
    assert run.pauses == [0.05, 0.1]


async def test_a_lost_acknowledgement_is_not_a_second_outcome(service):
    """An outcome sent again is counted once, as the duplicate the service says it is."""
    service.faults["BatchReportOutcomes"] = deque([UNAVAILABLE])
    counts = await Run(service, decisions=10).drive()
    assert counts.outcomes_sent == 10
    assert counts.outcomes == {"duplicate": 10}
    assert counts.balanced


async def test_only_the_unanswered_part_of_a_batch_goes_again(service):
    """Of a batch in which one question was shed, only that one is asked again."""
    shed = deque([8])

    def refuse(decision_id: str) -> int:
        return shed.popleft() if shed and decision_id.endswith("-3") else 0

    service.refuse = refuse
    counts = await Run(service, decisions=10).drive()
    assert [request.decision_id for request in service.asked].count("sim-1-test-3") == 2
    assert len(service.asked) == 11
    assert counts.decisions_answered == 10


async def test_a_refused_question_is_counted_and_not_repeated(service):
    """A question the service refuses for good is counted with its code; the others go on."""
    service.refuse = lambda decision_id: 3 if decision_id.endswith("5") else 0
    counts = await Run(service, decisions=20).drive()
    assert (counts.decisions_answered, counts.decisions_refused) == (18, 2)
    assert counts.refusals == {"INVALID_ARGUMENT": 2}
    assert counts.first_refusal.endswith("INVALID_ARGUMENT: refused by the test")
    assert counts.outcomes_sent == 18
    assert counts.balanced
    assert len(service.asked) == 20


async def test_trying_has_an_end(service):
    """A service that stays away ends the run after a bounded number of tries, with the reason."""
    service.faults["BatchDecide"] = deque([UNAVAILABLE] * 100)
    run = Run(service, decisions=1000, in_flight=2, tries=3)
    counts = await run.drive()
    assert len(service.faults["BatchDecide"]) == 100 - 2 * 3
    assert counts.decisions_answered == 0
    assert counts.balanced
    assert "UNAVAILABLE" in run.stopped_because


async def test_a_slow_service_is_told_without_options_there_are_not(service):
    """`simulate` and `replay` have no --timeout: the end of a run names none."""
    service.faults["BatchDecide"] = deque([grpc.StatusCode.DEADLINE_EXCEEDED])
    run = Run(service, decisions=10, in_flight=1, tries=1)
    await run.drive()
    assert "DEADLINE_EXCEEDED" in run.stopped_because
    assert "no answer within" in run.stopped_because
    assert "--" not in run.stopped_because


async def test_a_batch_answered_in_part_is_refused(service):
    """Results that cannot be matched with their questions are refused, never guessed."""
    service.forgets_result = True
    counts = await Run(service, decisions=10).drive()
    assert counts.decisions_refused == 10
    assert counts.outcomes_sent == 0
    assert "9 results for 10 requests" in counts.first_refusal


async def test_a_delayed_outcome_waits_for_further_decisions(service):
    """With a delay of 30, thirty decisions come between one and its outcome; in the end none is missing."""
    await Run(service, decisions=100, delay=30, in_flight=1).drive()
    happened = [name for name, _ in service.story]
    when = {decision_id: at for at, (name, decision_id) in enumerate(service.story) if name == "decided"}
    told = {decision_id: at for at, (name, decision_id) in enumerate(service.story) if name != "decided"}
    assert len(told) == 100
    last_decided = max(when.values())
    for decision_id, at in told.items():
        between = happened[when[decision_id] + 1 : at].count("decided")
        assert between >= 30 or at > last_decided
        assert between < 30 + 2 * 10


async def test_feedback_lags_by_no_more_than_what_is_in_flight(service):
    """Without a delay, at most batch × in flight decisions are ever without their outcome."""
    await Run(service, decisions=400, batch=10, in_flight=4).drive()
    open_decisions, most = 0, 0
    for name, _ in service.story:
        open_decisions += 1 if name == "decided" else -1
        most = max(most, open_decisions)
    assert open_decisions == 0
    assert most <= 40


async def test_stopping_finishes_what_is_in_flight(service):
    """After a stop nothing more is asked, and every decision that was answered still gets its outcome."""
    run = Run(service, decisions=10_000, delay=25, in_flight=3)
    service.on_batch = lambda: run.stop.set() if len(service.decisions) >= 60 else None
    counts = await run.drive()
    assert 60 <= len(service.decisions) <= 60 + 3 * 10
    assert len(outcomes_by_decision(service)) == len(service.decisions)
    assert counts.balanced
    assert run.stopped_because == "interrupted"


async def test_nothing_is_reported_against_a_fallback(service):
    """A fallback is counted, and no outcome is reported for an offer that nobody saw."""
    service.reason = decisions_pb2.DECISION_REASON_FALLBACK_MODEL_UNAVAILABLE
    service.policy = lambda _: "welcome"
    counts = await Run(service, decisions=10).drive()
    assert counts.reasons == {"fallback_model_unavailable": 10}
    assert counts.fallbacks == 10
    assert counts.outcomes_sent == 0
    assert counts.balanced


async def test_nothing_is_reported_against_an_unrecorded_answer(service):
    """An answer without a ledger row gets no outcome, even where it names one of the shop's offers."""
    service.recorded = False
    counts = await Run(service, decisions=10).drive()
    assert counts.decisions_answered == 10
    assert not service.reported


async def test_a_pace_is_kept(service):
    """At 1,000 decisions a second, the last of 60 is not asked before its time."""
    run = Run(service, decisions=60, in_flight=1, decisions_per_second=1000)
    await run.drive()
    assert run.seconds >= 0.05


@pytest.mark.parametrize(
    "wrong", [{"batch": 0}, {"batch": 1001}, {"in_flight": 0}, {"decisions_per_second": 0}]
)
def test_an_impossible_pace_is_refused(wrong: dict[str, int]):
    """A pacing the contract does not allow is a ValueError that names it."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Pacing(**wrong)
