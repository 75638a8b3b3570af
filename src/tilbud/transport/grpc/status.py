"""The one table from an error to what the caller sees: a gRPC code with rich details.

What holds: every error a caller can do something about has a code, a google.rpc.ErrorInfo with domain
`tilbud`, and what helps to mend it (BadRequest names the field, RetryInfo the delay). Any other error
shows nothing but a correlation id, under which the log has the rest.
"""

from __future__ import annotations

from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from tilbud.domain import errors
from tilbud.domain.limits import Limits

DOMAIN = "tilbud"
CODES: tuple[tuple[type[errors.TilbudError], StatusCode, str], ...] = (
    (errors.AnswersTooLarge, StatusCode.INVALID_ARGUMENT, "ANSWERS_TOO_LARGE"),
    (errors.InvalidField, StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
    (errors.CampaignInvalid, StatusCode.INVALID_ARGUMENT, "INVALID_CAMPAIGN_FILE"),
    (errors.RequestMissing, StatusCode.INVALID_ARGUMENT, "REQUEST_MISSING"),
    (errors.UnknownCampaign, StatusCode.NOT_FOUND, "UNKNOWN_CAMPAIGN"),
    (errors.UnknownDecision, StatusCode.NOT_FOUND, "UNKNOWN_DECISION"),
    (errors.IdReused, StatusCode.ALREADY_EXISTS, "ID_REUSED"),
    (errors.TooManyOutcomes, StatusCode.INVALID_ARGUMENT, "TOO_MANY_OUTCOMES"),
    (errors.DecisionExpired, StatusCode.FAILED_PRECONDITION, "DECISION_EXPIRED"),
    (errors.UnknownCustomer, StatusCode.NOT_FOUND, "UNKNOWN_CUSTOMER"),
    (errors.CustomerChanged, StatusCode.ABORTED, "CUSTOMER_CHANGED"),
    (errors.ConsentMissing, StatusCode.FAILED_PRECONDITION, "CONSENT_MISSING"),
    (errors.CustomerErased, StatusCode.FAILED_PRECONDITION, "CUSTOMER_ERASED"),
    (errors.Overloaded, StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"),
    (errors.LedgerUnavailable, StatusCode.UNAVAILABLE, "LEDGER_UNAVAILABLE"),
    (errors.ModelUnavailable, StatusCode.UNAVAILABLE, "MODEL_UNAVAILABLE"),
)
EXPECTED = tuple(kind for kind, _, _ in CODES)


def status_of(error: errors.TilbudError) -> tuple[StatusCode, status_pb2.Status]:
    """Return the code and the rich status of an expected error."""
    for kind, code, reason in CODES:
        if isinstance(error, kind):
            return code, _status(code, str(error), [_info(reason), *_details(error)])
    raise TypeError(f"{type(error).__name__} has no gRPC code; add it to the table")


def internal_status(correlation_id: str) -> tuple[StatusCode, status_pb2.Status]:
    """Return what the caller sees of an unexpected error."""
    info = _info("INTERNAL", correlation_id=correlation_id)
    message = f"internal error; correlation id {correlation_id}"
    return StatusCode.INTERNAL, _status(StatusCode.INTERNAL, message, [info])


def unimplemented_status(method: str) -> tuple[StatusCode, status_pb2.Status]:
    """Return what a method answers that does not work yet."""
    message = f"{method} does not work in this version yet"
    return StatusCode.UNIMPLEMENTED, _status(
        StatusCode.UNIMPLEMENTED, message, [_info("NOT_IMPLEMENTED_YET")]
    )


def _status(code: StatusCode, message: str, details: list[Message]) -> status_pb2.Status:
    status = status_pb2.Status(code=code.value[0], message=_cut(message, Limits.status_message_bytes_max))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _info(reason: str, **metadata: str) -> Message:
    return error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)


def _details(error: errors.TilbudError) -> list[Message]:
    if isinstance(error, errors.InvalidField):
        return [_bad_request((error.field, error.problem))]
    if isinstance(error, errors.IdReused | errors.ConsentMissing | errors.TooManyOutcomes):
        return [_bad_request((error.field, str(error)))]
    if isinstance(error, errors.CampaignInvalid):
        return [_bad_request(*((problem.key or problem.file, str(problem)) for problem in error.problems))]
    if isinstance(error, errors.Overloaded):
        return [_retry_info(error.retry_after_s)]
    if isinstance(error, errors.LedgerUnavailable):
        return [_retry_info(Limits.retry_unavailable_s)]
    return []


def _bad_request(*violations: tuple[str, str]) -> Message:
    bad_request = error_details_pb2.BadRequest()
    for field, problem in violations:
        bad_request.field_violations.add(field=_cut(field, 400), description=_cut(problem, 1_000))
        if bad_request.ByteSize() > Limits.status_violations_bytes_max:
            if len(bad_request.field_violations) > 1:
                del bad_request.field_violations[-1]
            break
    return bad_request


def _cut(text: str, bytes_max: int) -> str:
    encoded = text.encode(errors="replace")
    if len(encoded) <= bytes_max:
        return encoded.decode()
    return encoded[: bytes_max - 3].decode(errors="ignore") + "…"


def trailers_of(status: status_pb2.Status) -> tuple[tuple[str, str | bytes], ...]:
    """Return what goes with a status: its details, and when gRPC's own retries may try again."""
    trailers: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", status.SerializeToString())]
    info = error_details_pb2.RetryInfo()
    if any(detail.Unpack(info) for detail in status.details):
        trailers.append(("grpc-retry-pushback-ms", str(info.retry_delay.ToMilliseconds())))
    return tuple(trailers)


def _retry_info(after_s: float) -> Message:
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromNanoseconds(int(after_s * 1e9))
    return info
