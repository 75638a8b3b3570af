"""Outcomes that wait until the service has them.

What holds: each outcome is in one state, which its `Report` tells; a final one never changes. They are sent
in the order they came, and again as long as the service could not answer: it counts each once, however often
it is sent. What waits is bounded in number, bytes and time; what is beyond that is dropped, and told.
What it does not do: send, wait, lock or read a clock. Times are arguments, in seconds that never jump.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tilbud.client.answers import status_of
from tilbud.client.refusals import Refusal, refusal_of_status
from tilbud.client.words import Delivery, OutcomeStatus
from tilbud.v1 import decisions_pb2 as pb

OUTCOMES_MAX = 10_000
CLOSE_S = 5.0
"""How long a client that is closed tries to deliver the rest, where nobody says."""
_BYTES_MAX = 16 * 1024 * 1024
_KEPT_S = 86_400.0
_BATCH_MAX = 500  # of the contract's 1,000: an answer comes sooner
_BATCH_BYTES_MAX = 1024 * 1024
_FIRST_WAIT_S = 0.1
_LAST_WAIT_S = 5.0
_RETRY_AFTER_MAX_S = 60.0  # whatever is answered
_CREDENTIALS = frozenset(("UNAUTHENTICATED", "PERMISSION_DENIED"))  # which may be mended while outcomes wait


@dataclass(slots=True)
class Report:
    """An outcome that was reported, and what has become of it: look again, it changes until it is final."""

    campaign: str
    decision_id: str
    outcome: str
    delivery: Delivery = Delivery.BUFFERED
    status: OutcomeStatus | None = None
    """What the service said of it, once it is delivered."""
    problem: str = ""
    """Why it was refused, dropped or skipped; of one that waits, why it still does."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How many reported outcomes are where, since the client was made."""

    buffered: int
    delivered: int
    refused: int
    dropped: int
    skipped: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    request: pb.ReportOutcomeRequest
    report: Report
    size: int
    since_s: float


class Outbox:
    """A queue of outcomes, of which one batch at a time is on its way."""

    def __init__(self, *, outcomes_max: int, chance: Callable[[], float]) -> None:
        """`chance` returns a number in [0, 1), so that clients do not come back all at once."""
        self._max = outcomes_max
        self._chance = chance
        self._queue: deque[_Waiting] = deque()
        self._sent: list[_Waiting] = []
        self._bytes = 0
        self._final: Counter[Delivery] = Counter()
        self._wait_s = _FIRST_WAIT_S
        self._due_s = float("-inf")

    def __len__(self) -> int:
        return len(self._queue) + len(self._sent)

    @property
    def outcomes(self) -> Outcomes:
        """How many are where."""
        final = (Delivery.DELIVERED, Delivery.REFUSED, Delivery.DROPPED, Delivery.SKIPPED)
        return Outcomes(len(self), *(self._final[each] for each in final))

    def put(self, request: pb.ReportOutcomeRequest, now_s: float) -> Report:
        """Take an outcome in, if there is room for it and it names a decision."""
        report = Report(request.campaign, request.decision_id, request.outcome)
        size = request.ByteSize()
        if not request.decision_id:
            self._end(
                report, Delivery.SKIPPED, "it names no decision: nothing was recorded to report against"
            )
        elif size > _BATCH_BYTES_MAX:
            self._end(report, Delivery.REFUSED, f"it takes {size} bytes; at most {_BATCH_BYTES_MAX} are sent")
        elif len(self) >= self._max or self._bytes + size > _BYTES_MAX:
            self._end(report, Delivery.DROPPED, f"the buffer is full: {len(self)} outcomes wait already")
        else:
            self._queue.append(_Waiting(request, report, size, now_s))
            self._bytes += size
        return report

    def hurry(self) -> None:
        """Let what waits be due at once: somebody waits for it."""
        self._wait_s, self._due_s = _FIRST_WAIT_S, float("-inf")

    def wait_s(self, now_s: float) -> float | None:
        """Return in how many seconds the next batch is due; None where nothing waits to be sent."""
        return max(0.0, self._due_s - now_s) if self._queue and not self._sent else None

    def take(self, now_s: float) -> tuple[pb.BatchReportOutcomesRequest | None, list[Report]]:
        """Return the batch to send, if one is due, and the reports that waited too long and are dropped."""
        too_old = []
        while self._queue and now_s - self._queue[0].since_s > _KEPT_S:
            too_old.append(self._gone(self._queue.popleft(), Delivery.DROPPED, "it waited for a day"))
        if self.wait_s(now_s) != 0.0:
            return None, too_old
        size = 0
        while self._queue and len(self._sent) < _BATCH_MAX:
            size += self._queue[0].size
            if size > _BATCH_BYTES_MAX:
                break
            self._sent.append(self._queue.popleft())
        return pb.BatchReportOutcomesRequest(requests=[each.request for each in self._sent]), too_old

    def answered(self, answer: pb.BatchReportOutcomesResponse, now_s: float) -> list[Report]:
        """The batch was answered: return the reports that are final now."""
        if len(answer.results) != len(self._sent):
            return self.failed(Refusal("INTERNAL", ["the answer to a batch has another length"]), now_s)
        return self._came_back([_result(each) for each in answer.results], now_s)

    def failed(self, refused: Refusal, now_s: float) -> list[Report]:
        """The batch was not: return the reports that are final now, for want of a chance."""
        return self._came_back([refused] * len(self._sent), now_s)

    def abandon(self, problem: str) -> list[Report]:
        """Drop all that waits; return their reports."""
        waiting, self._sent = [*self._sent, *self._queue], []
        self._queue.clear()
        return [self._gone(each, Delivery.DROPPED, problem) for each in waiting]

    def _came_back(self, results: Sequence[OutcomeStatus | Refusal], now_s: float) -> list[Report]:
        sent, self._sent = self._sent, []
        again, final, waits = [], [], []
        for each, result in zip(sent, results, strict=True):
            if isinstance(result, OutcomeStatus):
                each.report.status = result
                final.append(self._gone(each, Delivery.DELIVERED, ""))
            elif result.later or result.code in _CREDENTIALS:
                each.report.problem = str(result)
                again.append(each)
                waits.append(result.retry_after_s)
            else:
                final.append(self._gone(each, Delivery.REFUSED, str(result)))
        self._queue.extendleft(reversed(again))
        if again:
            wait_s = max(*waits, self._wait_s * (0.5 + self._chance()))
            self._due_s = now_s + min(wait_s, _RETRY_AFTER_MAX_S)
            self._wait_s = min(2 * self._wait_s, _LAST_WAIT_S)
        else:
            self.hurry()
        return final

    def _gone(self, waiting: _Waiting, delivery: Delivery, problem: str) -> Report:
        self._bytes -= waiting.size
        return self._end(waiting.report, delivery, problem)

    def _end(self, report: Report, delivery: Delivery, problem: str) -> Report:
        report.delivery, report.problem = delivery, problem
        self._final[delivery] += 1
        return report


def _result(result: pb.BatchReportOutcomesResult) -> OutcomeStatus | Refusal:
    if result.HasField("error"):
        return refusal_of_status(result.error)
    if result.HasField("outcome"):
        return status_of(result.outcome)
    return Refusal("INTERNAL", ["the answer says nothing of it"])
