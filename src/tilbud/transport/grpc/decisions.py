"""DecisionService over gRPC: messages to use cases and back.

What holds: a use case runs to its end also where its caller leaves at a deadline, since what it handed
to the ledger happens all the same. Single calls that arrive together are answered together.
"""

from __future__ import annotations

from asyncio import shield
from collections.abc import Callable, Coroutine, Mapping, Sequence
from time import perf_counter
from typing import Any, TypeVar

from google.protobuf.message import Message

from tilbud.concurrency.batching import AnswerAll, MicroBatcher, Question, Reply
from tilbud.concurrency.time_slice import TimeSlice
from tilbud.concurrency.turns import Turns
from tilbud.deciding.answer_space import AnswerSpace
from tilbud.deciding.pipeline import Answer, DecideService
from tilbud.domain.errors import InvalidField, TilbudError
from tilbud.domain.limits import Limits
from tilbud.service.outcomes import ReportService
from tilbud.telemetry.spans import Traces
from tilbud.transport.call import Call, Handle
from tilbud.transport.grpc.codec import field
from tilbud.transport.grpc.converters import (
    answer_bytes,
    decide_request,
    decide_response,
    outcome_report,
    timestamp,
)
from tilbud.transport.grpc.status import status_of
from tilbud.transport.grpc.unsent import Unsent
from tilbud.v1 import decisions_pb2

_Asked = tuple[decisions_pb2.DecideRequest, float | None, Any]  # with its deadline, and its place in a trace
_FRAME_BYTES = 12  # around an answer in a batch: two tags and two lengths
Item = TypeVar("Item")
Result = TypeVar("Result")


class DecisionHandlers:
    """The methods of DecisionService that work."""

    def __init__(
        self,
        decide: DecideService,
        report: ReportService,
        unsent: Unsent,
        limits: Limits,
        traces: Traces | None = None,
    ) -> None:
        self._decide = decide
        self._traces = traces
        self._report = report
        self._unsent = unsent
        self._limits = limits
        self._turns = Turns(limits)
        self._deciding = self._batcher(self._decide_all)
        self._reporting = self._batcher(self._report_all)

    def _batcher(self, answer_all: AnswerAll[Question, Reply]) -> MicroBatcher[Question, Reply]:
        return MicroBatcher(
            answer_all,
            batch_max=self._limits.gathered_calls_max,
            waiting_max=self._limits.calls_in_flight_max,
            retry_after_s=self._limits.retry_after_s,
            every_s=self._limits.gathered_every_s,
        )

    def by_name(self) -> Mapping[str, Handle]:
        """Return the handlers by the method's name."""
        return {
            "Decide": self.decide_one,
            "BatchDecide": self.decide_many,
            "Activate": self.activate,
            "ReportOutcome": self.report_one,
            "BatchReportOutcomes": self.report_many,
        }

    async def decide_one(self, message: decisions_pb2.DecideRequest, call: Call) -> bytes:
        asked = message, _deadline_s(call), None if self._traces is None else self._traces.place()
        if not (message.customer_id and self._decide.counts(message.campaign, message.context.channel)):
            return await self._deciding.submit(call.peer(), asked)
        async with self._decide.locks.holding(message.customer_id):  # or it would hold the others' batch up
            return await self._deciding.submit(call.peer(), asked)

    async def decide_many(self, message: decisions_pb2.BatchDecideRequest, call: Call) -> bytes:
        self._check_size(message.requests)

        def begin() -> Coroutine[Any, Any, bytes]:
            self._unsent.check(call)  # again: others of this connection were answered meanwhile
            return self._decide_batch(message, _deadline_s(call))

        return await self._turns.run(call.peer(), len(message.requests), begin)

    async def _decide_batch(
        self, message: decisions_pb2.BatchDecideRequest, deadline_s: float | None
    ) -> bytes:
        deadlines_s = [deadline_s] * len(message.requests)
        space = AnswerSpace(self._limits.answers_bytes_max, _reply_bytes)
        answers = await self._answers(message.requests, deadlines_s, space=space)
        results = await self._in_slices(
            list(enumerate(answers)), lambda numbered: field(1, _decision_result(*numbered))
        )
        return b"".join(results)

    async def activate(self, message: decisions_pb2.ActivateRequest, _: Call) -> Message:
        deadline_us = await shield(
            self._report.activate(message.campaign, message.decision_id, message.shown_offer_id)
        )
        return decisions_pb2.ActivateResponse(
            reward_deadline=None if deadline_us is None else timestamp(deadline_us)
        )

    async def report_one(self, message: decisions_pb2.ReportOutcomeRequest, call: Call) -> Message:
        return await self._reporting.submit(call.peer(), message)

    async def report_many(self, message: decisions_pb2.BatchReportOutcomesRequest, call: Call) -> Message:
        self._check_size(message.requests)
        return await self._turns.run(call.peer(), len(message.requests), lambda: self._report_batch(message))

    async def _report_batch(self, message: decisions_pb2.BatchReportOutcomesRequest) -> Message:
        reports = await self._in_slices(message.requests, _reading(outcome_report))
        results = await self._report.report_many(reports)
        return decisions_pb2.BatchReportOutcomesResponse(
            results=[_outcome_result(number, result) for number, result in enumerate(results)]
        )

    async def _decide_all(self, asked: Sequence[_Asked]) -> list[bytes | Exception]:
        messages, deadlines_s = [message for message, _, _ in asked], [left for _, left, _ in asked]
        began_ns = 0 if self._traces is None else self._traces.now_ns()
        answers = await self._answers(messages, deadlines_s, in_line=True)
        if self._traces is not None:
            for (_, _, place), answer in zip(asked, answers, strict=True):
                _trace(self._traces, place, began_ns, answer)
        return await self._in_slices(answers, _response)

    async def _answers(
        self,
        messages: Sequence[decisions_pb2.DecideRequest],
        deadlines_s: Sequence[float | None],
        *,
        in_line: bool = False,
        space: AnswerSpace[Answer | Exception] | None = None,
    ) -> list[Answer | Exception]:
        requests = await self._in_slices(messages, _reading(decide_request))
        return await self._decide.decide_many(requests, deadlines_s, in_line=in_line, space=space)

    async def _report_all(
        self, messages: Sequence[decisions_pb2.ReportOutcomeRequest]
    ) -> list[Message | Exception]:
        results = await self._report.report_many(await self._in_slices(messages, _reading(outcome_report)))
        return [result if isinstance(result, Exception) else _outcome_response(result) for result in results]

    async def _in_slices(self, items: Sequence[Item], do: Callable[[Item], Result]) -> list[Result]:
        """Return what `do` returns for each item; others may run between two slices of it."""
        time_slice = TimeSlice(self._limits.loop_slice_s)
        results = []
        for item in items:
            if time_slice.expired():
                await time_slice.yield_to_loop()
            results.append(do(item))
        return results

    def _check_size(self, requests: Sequence[object]) -> None:
        if len(requests) > self._limits.batch_items_max:
            raise InvalidField("requests", f"at most {self._limits.batch_items_max}, got {len(requests)}")


def _deadline_s(call: Call) -> float | None:
    """Return when the caller stops waiting, on `perf_counter`'s clock; None: never."""
    left_s = call.time_remaining()
    return None if left_s is None else perf_counter() + left_s


def _trace(traces: Traces, place: Any, began_ns: int, answer: Answer | Exception) -> None:
    if isinstance(answer, Answer):
        decision = answer.decision
        traces.decision(
            place,
            began_ns,
            campaign=decision.campaign,
            variant=decision.variant,
            reason=decision.reason.name.lower(),
            recorded=answer.recorded,
        )


def _response(result: Answer | Exception) -> bytes | Exception:
    """Return a serialized DecideResponse, or the error in its place."""
    try:
        return decide_response(result) if isinstance(result, Answer) else result
    except Exception as error:  # noqa: BLE001 - the others of the batch are other callers'
        return error


def _reading(read: Callable[[Item], Result]) -> Callable[[Item], Result | Exception]:
    """Return `read`, with its error as its value: one bad message of many is an error in its place."""

    def reading(message: Item) -> Result | Exception:
        try:
            return read(message)
        except Exception as error:  # noqa: BLE001 - the others of the batch may be other callers'
            return error

    return reading


def _reply_bytes(reply: Answer | Exception) -> int:
    """Return how many bytes a BatchDecideResult takes in its answer, or a little more."""
    if isinstance(reply, Answer):
        return answer_bytes(reply) + _FRAME_BYTES
    if isinstance(reply, TilbudError):
        return status_of(reply)[1].ByteSize() + 2 * _FRAME_BYTES  # "requests[…]." stands twice in it
    return 0  # fails the whole call


def _decision_result(number: int, answer: Answer | Exception) -> bytes:
    """Return a serialized BatchDecideResult; an unexpected error fails the whole call."""
    if isinstance(answer, Answer):
        return field(1, decide_response(answer))
    if isinstance(answer, TilbudError):
        return field(2, status_of(_in_batch(number, answer))[1].SerializeToString())
    raise answer


def _outcome_response(status: int) -> decisions_pb2.ReportOutcomeResponse:
    return decisions_pb2.ReportOutcomeResponse(status=status)  # type: ignore[arg-type]  # same numbers


def _outcome_result(number: int, result: int | Exception) -> decisions_pb2.BatchReportOutcomesResult:
    """Return what became of one outcome; an unexpected error fails the whole call."""
    if isinstance(result, TilbudError):
        return decisions_pb2.BatchReportOutcomesResult(error=status_of(_in_batch(number, result))[1])
    if isinstance(result, Exception):
        raise result
    return decisions_pb2.BatchReportOutcomesResult(outcome=_outcome_response(result))


def _in_batch(number: int, error: TilbudError) -> TilbudError:
    return error.under(f"requests[{number}]") if isinstance(error, InvalidField) else error
