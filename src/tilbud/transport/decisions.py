"""DecisionService over gRPC: messages to use cases and back.

What holds: a use case runs to its end also where its caller leaves at a deadline, since what it handed
to the ledger happens all the same. Single calls that arrive together are answered together.
"""

from __future__ import annotations

from asyncio import shield
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import TypeVar

from google.protobuf.message import Message

from tilbud.domain.errors import InvalidField, TilbudError
from tilbud.domain.limits import Limits
from tilbud.service.decide import Answer, DecideService
from tilbud.service.report import ReportService
from tilbud.transport.converters import decide_request, decide_response, outcome_report, timestamp
from tilbud.transport.gathering import Gathering
from tilbud.transport.rpc import Context, Handle
from tilbud.transport.status import status_of
from tilbud.transport.wire import field
from tilbud.v1 import decisions_pb2

_Asked = tuple[decisions_pb2.DecideRequest, float | None]
_GATHERED_MAX = 64  # about 3 ms of work
Said = TypeVar("Said")
Read = TypeVar("Read")


def decision_handlers(decide: DecideService, report: ReportService, limits: Limits) -> Mapping[str, Handle]:
    """Return the handlers of the methods that work, by name."""

    async def decide_all(asked: Sequence[_Asked]) -> list[bytes | Exception]:
        requests = _each([message for message, _ in asked], decide_request)
        answers = await decide.decide_many(requests, [deadline_s for _, deadline_s in asked])
        return [decide_response(each) if isinstance(each, Answer) else each for each in answers]

    async def report_all(messages: Sequence[decisions_pb2.ReportOutcomeRequest]) -> list[Message | Exception]:
        results = await report.report_many(_each(messages, outcome_report))
        return [each if isinstance(each, Exception) else _outcome_response(each) for each in results]

    deciding = Gathering(decide_all, batch_max=_GATHERED_MAX, waiting_max=limits.calls_in_flight_max)
    reporting = Gathering(report_all, batch_max=_GATHERED_MAX, waiting_max=limits.calls_in_flight_max)

    async def decide_one(message: decisions_pb2.DecideRequest, context: Context) -> bytes:
        return await deciding.ask((message, _deadline_s(context)))

    async def report_one(message: decisions_pb2.ReportOutcomeRequest, _: Context) -> Message:
        return await reporting.ask(message)

    async def decide_many(message: decisions_pb2.BatchDecideRequest, context: Context) -> bytes:
        requests = _each(message.requests, decide_request)
        answers = await shield(decide.decide_many(requests, [_deadline_s(context)] * len(requests)))
        return b"".join([field(1, _decision_result(number, answer)) for number, answer in enumerate(answers)])

    async def activate(message: decisions_pb2.ActivateRequest, _: Context) -> Message:
        deadline_us = await shield(
            report.activate(message.campaign, message.decision_id, message.shown_offer_id)
        )
        return decisions_pb2.ActivateResponse(
            reward_deadline=None if deadline_us is None else timestamp(deadline_us)
        )

    async def report_many(message: decisions_pb2.BatchReportOutcomesRequest, _: Context) -> Message:
        results = await shield(report.report_many(_each(message.requests, outcome_report)))
        return decisions_pb2.BatchReportOutcomesResponse(
            results=[_outcome_result(number, result) for number, result in enumerate(results)]
        )

    return {
        "Decide": decide_one,
        "BatchDecide": decide_many,
        "Activate": activate,
        "ReportOutcome": report_one,
        "BatchReportOutcomes": report_many,
    }


def _deadline_s(context: Context) -> float | None:
    """Return when the caller stops waiting, on `perf_counter`'s clock; None: never."""
    left_s = context.time_remaining()
    return None if left_s is None else perf_counter() + left_s


def _each(messages: Sequence[Said], read: Callable[[Said], Read]) -> list[Read | TilbudError]:
    """Read each message of a batch; one that cannot be read becomes its error."""
    requests: list[Read | TilbudError] = []
    for message in messages:
        try:
            requests.append(read(message))
        except InvalidField as error:
            requests.append(error)
    return requests


def _decision_result(number: int, answer: Answer | Exception) -> bytes:
    """Return a serialized BatchDecideResult; an unexpected error fails the whole call."""
    if isinstance(answer, Answer):
        return field(1, decide_response(answer))
    if isinstance(answer, TilbudError):
        return field(2, status_of(_in_batch(number, answer))[1].SerializeToString())
    raise answer


def _outcome_response(status: int) -> decisions_pb2.ReportOutcomeResponse:
    return decisions_pb2.ReportOutcomeResponse(status=status)  # type: ignore[arg-type]  # same numbers


def _outcome_result(number: int, result: int | TilbudError) -> decisions_pb2.BatchReportOutcomesResult:
    if isinstance(result, TilbudError):
        return decisions_pb2.BatchReportOutcomesResult(error=status_of(_in_batch(number, result))[1])
    return decisions_pb2.BatchReportOutcomesResult(outcome=_outcome_response(result))


def _in_batch(number: int, error: TilbudError) -> TilbudError:
    return error.under(f"requests[{number}]") if isinstance(error, InvalidField) else error
