"""DecisionService over gRPC: messages to use cases and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from tilbud.domain.errors import InvalidField, TilbudError
from tilbud.service.decide import Answer, DecideService
from tilbud.service.report import ReportService
from tilbud.transport.converters import decide_request, decide_response, outcome_report, timestamp
from tilbud.transport.rpc import Context, Handle
from tilbud.transport.status import status_of
from tilbud.transport.wire import field
from tilbud.v1 import decisions_pb2

Said = TypeVar("Said")
Read = TypeVar("Read")


def decision_handlers(decide: DecideService, report: ReportService) -> Mapping[str, Handle]:
    """Return the handlers of the methods that work, by name."""

    async def decide_one(message: decisions_pb2.DecideRequest, context: Context) -> bytes:
        answer = await decide.decide(decide_request(message), context.time_remaining())
        return decide_response(answer)

    async def decide_many(message: decisions_pb2.BatchDecideRequest, context: Context) -> bytes:
        requests = _each(message.requests, decide_request)
        answers = await decide.decide_many(requests, context.time_remaining())
        return b"".join([field(1, _decision_result(number, answer)) for number, answer in enumerate(answers)])

    async def activate(message: decisions_pb2.ActivateRequest, _: Context) -> Message:
        deadline_us = await report.activate(message.campaign, message.decision_id, message.shown_offer_id)
        return decisions_pb2.ActivateResponse(
            reward_deadline=None if deadline_us is None else timestamp(deadline_us)
        )

    async def report_one(message: decisions_pb2.ReportOutcomeRequest, _: Context) -> Message:
        status = await report.report(outcome_report(message))
        return _outcome_response(status)

    async def report_many(message: decisions_pb2.BatchReportOutcomesRequest, _: Context) -> Message:
        results = await report.report_many(_each(message.requests, outcome_report))
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


def _each(messages: Sequence[Said], read: Callable[[Said], Read]) -> list[Read | TilbudError]:
    """Read each message of a batch; one that cannot be read becomes its error."""
    requests: list[Read | TilbudError] = []
    for message in messages:
        try:
            requests.append(read(message))
        except InvalidField as error:
            requests.append(error)
    return requests


def _decision_result(number: int, answer: Answer | TilbudError) -> bytes:
    """Return a serialized BatchDecideResult."""
    if isinstance(answer, Answer):
        return field(1, decide_response(answer))
    return field(2, status_of(_in_batch(number, answer))[1].SerializeToString())


def _outcome_response(status: int) -> decisions_pb2.ReportOutcomeResponse:
    return decisions_pb2.ReportOutcomeResponse(status=status)  # type: ignore[arg-type]  # same numbers


def _outcome_result(number: int, result: int | TilbudError) -> decisions_pb2.BatchReportOutcomesResult:
    if isinstance(result, TilbudError):
        return decisions_pb2.BatchReportOutcomesResult(error=status_of(_in_batch(number, result))[1])
    return decisions_pb2.BatchReportOutcomesResult(outcome=_outcome_response(result))


def _in_batch(number: int, error: TilbudError) -> TilbudError:
    return error.under(f"requests[{number}]") if isinstance(error, InvalidField) else error
