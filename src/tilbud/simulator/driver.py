"""The driver: asks, shows, reports what came of it. One for every source.

`in_flight` lanes each ask one batch, activate what is deferred and known, report the outcomes that are
due, and only then ask the next batch. So with no delay, an outcome is reported at most batch × in_flight
decisions after its own; keeping_up.py sees to it that the model hears of it as soon.

What always holds:
 * The outcome of an answered decision is reported once: with the first batch that ends `delay_decisions`
   or more answers later, or at the end where there is none; also after `stop`.
 * Decision ids are `<id_prefix>-<number>`: a retry repeats its id, another run (another prefix) does not.
 * A decision of unknown outcome is not activated and nothing is reported for it; nor is one of an earlier
   decision that a sticky campaign serves again, which is counted and not observed.
 * Where the service stays away longer than the calls are patient, the run stops and says why.

What it does not do: know what an outcome is worth (see tally.py), or print.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from tilbud.client.answers import reason_of, status_of
from tilbud.client.refusals import Refusal
from tilbud.simulator.calls import Calls, is_temporary
from tilbud.simulator.counts import Counts
from tilbud.simulator.keeping_up import UNLEARNED_MAX, KeepingUp
from tilbud.simulator.sources import Outcome, Source
from tilbud.v1 import campaigns_pb2, decisions_pb2

BATCH = 50
IN_FLIGHT = 4
SERVED_AGAIN = "served_again"
BATCH_MAX = 1000
"""The contract's limit."""


@dataclass(frozen=True, slots=True)
class Pacing:
    """How fast to ask."""

    batch: int = BATCH
    """Decisions a call, 1 to 1,000."""
    in_flight: int = IN_FLIGHT
    """Calls at once."""
    decisions_per_second: float | None = None
    """None: as fast as the service answers."""
    unlearned_max: int | None = UNLEARNED_MAX
    """Wait while the model lacks more of the reported outcomes than this; None: never wait."""

    def __post_init__(self) -> None:
        if not 1 <= self.batch <= BATCH_MAX:
            raise ValueError(f"batch must be 1 to {BATCH_MAX:,}, not {self.batch}")
        if self.in_flight < 1:
            raise ValueError(f"in_flight must be at least 1, not {self.in_flight}")
        if self.decisions_per_second is not None and not self.decisions_per_second > 0:
            raise ValueError(f"decisions_per_second must be positive, not {self.decisions_per_second}")
        if self.unlearned_max is not None and self.unlearned_max < 0:
            raise ValueError(f"unlearned_max must not be negative, not {self.unlearned_max}")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered decision, and what came of it."""

    number: int
    decision_id: str
    offer: str
    variant: str
    reason: str
    """The reason's name in small letters, such as `personalized`; `served_again`: an earlier decision."""
    outcome: Outcome | None
    """None: unknown, so nothing was activated or reported."""
    eligible: tuple[str, ...] = ()
    """The offers that might have been shown, where the source asks for them."""


class Driver:
    """One run."""

    def __init__(
        self,
        calls: Calls,
        source: Source,
        *,
        campaign: str,
        decisions: int,
        id_prefix: str,
        pacing: Pacing,
        observe: Callable[[Answer], None],
        stop: asyncio.Event,
        keeping_up: KeepingUp | None = None,
    ) -> None:
        self.counts = Counts()
        self.stopped_because = ""
        self._calls = calls
        self._source = source
        self._campaign = campaign
        self._decisions = decisions if source.size is None else min(decisions, source.size)
        self._id_prefix = id_prefix
        self._pacing = pacing
        self._observe = observe
        self._stop = stop
        self._keeping_up = keeping_up
        self._next = 0
        self._undelivered: deque[tuple[int, decisions_pb2.ReportOutcomeRequest]] = deque()
        self._started_s = 0.0
        self.seconds = 0.0

    @property
    def decisions(self) -> int:
        """How many will be asked for, unless stopped."""
        return self._decisions

    async def run(self) -> None:
        """Until every decision is asked for and every outcome reported, or `stop` is set."""
        self._started_s = time.monotonic()
        async with asyncio.TaskGroup() as lanes:
            for _ in range(self._pacing.in_flight):
                lanes.create_task(self._lane())
        await self._report(self._due(everything=True))
        self.counts.retries = self._calls.retries
        self.counts.learner_followed = not (self._keeping_up and self._keeping_up.given_up)
        self.seconds = time.monotonic() - self._started_s
        if self._stop.is_set() and not self.stopped_because:
            self.stopped_because = "interrupted"

    @property
    def _to_learn(self) -> int:
        """How much the model has been given to learn."""
        return self.counts.shown if self._source.settles_unreported else self.counts.outcomes["accepted"]

    async def _lane(self) -> None:
        while not self._stop.is_set():
            await self._keep_pace()
            if self._keeping_up:
                await self._keeping_up.wait(self._to_learn, self._stop)
            numbers = self._take()
            if not numbers:
                return
            await self._tell(numbers)
            answers = await self._decide(numbers)
            if self._source.deferred:
                answers = await asyncio.gather(*(self._activate(answer) for answer in answers))
            for answer in answers:
                self._settle(answer)
            await self._report(self._due())

    async def _keep_pace(self) -> None:
        if self._pacing.decisions_per_second is None:
            return
        due_s = self._started_s + self._next / self._pacing.decisions_per_second
        wait_s = due_s - time.monotonic()
        if wait_s > 0:
            try:
                await asyncio.wait_for(self._stop.wait(), wait_s)
            except TimeoutError:
                return

    def _take(self) -> range:
        if self._stop.is_set():
            return range(0)
        first, self._next = self._next, min(self._next + self._pacing.batch, self._decisions)
        return range(first, self._next)

    async def _tell(self, numbers: range) -> None:
        tellings = [telling for number in numbers for telling in self._source.before(number)]
        for reply in await asyncio.gather(*map(self._calls.tell, tellings)):
            if isinstance(reply, Refusal):
                self._refused(reply)

    async def _decide(self, numbers: range) -> list[Answer]:
        requests = [self._question(number) for number in numbers]
        self.counts.decisions_asked += len(requests)
        answers = []
        for number, reply in zip(numbers, await self._calls.decide(requests), strict=True):
            if isinstance(reply, Refusal):
                self.counts.decisions_refused += 1
                self._refused(reply)
                continue
            self.counts.decisions_answered += 1
            answers.append(self._answer(number, reply))
            self.counts.reasons[answers[-1].reason] += 1
        return answers

    def _question(self, number: int) -> decisions_pb2.DecideRequest:
        question = self._source.question(number)
        question.campaign = self._campaign
        question.decision_id = self._decision_id(number)
        question.defer_activation = self._source.deferred
        return question

    def _decision_id(self, number: int) -> str:
        return f"{self._id_prefix}-{number}"

    def _answer(self, number: int, reply: decisions_pb2.DecideResponse) -> Answer:
        repeated = reply.decision_id != self._decision_id(number)
        reason = SERVED_AGAIN if repeated else str(reason_of(reply))
        drawn = reply.recorded and not repeated and not reason.startswith("fallback")
        return Answer(
            number=number,
            decision_id=reply.decision_id,
            offer=reply.offer_id,
            variant=reply.variant,
            reason=reason,
            outcome=self._source.outcome(number, reply.offer_id) if drawn else None,
            eligible=tuple(ranked.offer_id for ranked in reply.ranking),
        )

    async def _activate(self, answer: Answer) -> Answer:
        """The answer, without its outcome where it is not shown after all."""
        if answer.outcome is None or not answer.outcome.shown or answer.outcome.tells_shown:
            return answer
        self.counts.activations_asked += 1
        request = decisions_pb2.ActivateRequest(campaign=self._campaign, decision_id=answer.decision_id)
        reply = await self._calls.activate(request)
        if not isinstance(reply, Refusal):
            return answer
        self.counts.activations_refused += 1
        self._refused(reply)
        return replace(answer, outcome=None)

    def _settle(self, answer: Answer) -> None:
        """Count what came of it, and line its outcomes up."""
        if answer.reason == SERVED_AGAIN:
            return
        if answer.outcome is not None and not answer.outcome.shown:
            self.counts.unseen += 1
            return
        self._observe(answer)
        if answer.outcome is None:
            return
        self.counts.shown += 1
        due = self.counts.decisions_answered + self._source.delay_decisions
        for name, value in answer.outcome.reports:
            request = decisions_pb2.ReportOutcomeRequest(
                campaign=self._campaign, decision_id=answer.decision_id, outcome=name
            )
            if value != 1:
                request.value = value
            self.counts.outcomes_sent += 1
            self._undelivered.append((due, request))

    def _due(self, everything: bool = False) -> list[decisions_pb2.ReportOutcomeRequest]:
        requests = []
        while self._undelivered and (everything or self._undelivered[0][0] <= self.counts.decisions_answered):
            requests.append(self._undelivered.popleft()[1])
        return requests

    async def _report(self, requests: Sequence[decisions_pb2.ReportOutcomeRequest]) -> None:
        for first in range(0, len(requests), self._pacing.batch):
            for reply in await self._calls.report(requests[first : first + self._pacing.batch]):
                if isinstance(reply, Refusal):
                    self.counts.outcomes["refused"] += 1
                    self._refused(reply)
                else:
                    self.counts.outcomes[str(status_of(reply))] += 1

    def _refused(self, refusal: Refusal) -> None:
        self.counts.refuse(refusal.code, str(refusal))
        if is_temporary(refusal) and not self._stop.is_set():
            self.stopped_because = f"the service stayed away ({refusal.code}): {refusal}"
            self._stop.set()


def keeping_up(calls: Calls, served: campaigns_pb2.Campaign, pacing: Pacing) -> KeepingUp | None:
    """What waits for the learner of a served campaign; None where the pacing does not want it."""
    if pacing.unlearned_max is None:
        return None
    return KeepingUp(calls, served.id, served.model_version, unlearned_max=pacing.unlearned_max)


@contextmanager
def stop_on_interrupt(stop: asyncio.Event) -> Iterator[None]:
    """The first interrupt (Ctrl-C, or what else ends a program) sets `stop`; a second one ends it."""
    loop = asyncio.get_running_loop()
    endings = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        endings.append(signal.SIGHUP)

    def ignore_no_more() -> None:
        for ending in endings:
            loop.remove_signal_handler(ending)

    def interrupted() -> None:
        ignore_no_more()
        stop.set()

    try:
        for ending in endings:
            loop.add_signal_handler(ending, interrupted)
    except (NotImplementedError, RuntimeError, ValueError):  # not on Windows, nor outside the main thread
        yield
        return
    try:
        yield
    finally:
        ignore_no_more()
