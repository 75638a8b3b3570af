"""A refused call as sentences for the person who made it.

What holds: each sentence names what is wrong (the field, where there is one) and what helps. What the service
says is told as it says it; what gRPC says is told in our words, since its own are about sockets and frames.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

LATER = frozenset(
    (
        "UNAVAILABLE",
        "DEADLINE_EXCEEDED",
        "RESOURCE_EXHAUSTED",
        "CANCELLED",
        "INTERNAL",
        "UNKNOWN",
        "UNIMPLEMENTED",
    )
)
"""Codes of a service that could not answer; with any other the question should change."""
DETAILS = "grpc-status-details-bin"
"""The trailer that has the rest of a status."""
_REMEDIES = {
    "UNKNOWN_CAMPAIGN": "`tilbud campaigns` lists those that are",
    "UNKNOWN_DECISION": "the id may be another's, or was kept no longer",
    "UNKNOWN_CUSTOMER": "`tilbud customer update ID --consent granted` makes one",
    "CUSTOMER_ERASED": "`tilbud customer update ID --consent granted` brings them back, if they said so",
}


class Refusal(Exception):
    """A call that was not answered."""

    def __init__(self, code: str, lines: Sequence[str]) -> None:
        """`code` is the gRPC code's name."""
        super().__init__("\n".join(lines))
        self.code = code
        self.lines = tuple(lines)

    @property
    def later(self) -> bool:
        """The service could not answer: the same call may be answered later."""
        return self.code in LATER


def refusal(
    code: str,
    message: str,
    details: bytes | None,
    *,
    target: str,
    timeout_s: float,
    option: str = "--target",
) -> Refusal:
    """Return what a failed call means; `details` is its trailer, if it came, `option` names the target."""
    status = status_pb2.Status()
    try:
        status.ParseFromString(details or b"")
    except DecodeError:
        status.Clear()
    info, bad, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    for detail in status.details:
        any(detail.Unpack(kind) for kind in (info, bad, retry))
    if info.domain != "tilbud":
        return Refusal(code, [_of_grpc(code, message, target, timeout_s, option)])
    lines = [_violation(each.field, each.description) for each in bad.field_violations] or [status.message]
    if info.reason in _REMEDIES:
        lines[-1] += f"; {_REMEDIES[info.reason]}"
    if retry.HasField("retry_delay"):
        lines[-1] += f"; try again in {retry.retry_delay.ToMilliseconds() / 1_000:g} s"
    return Refusal(code, lines)


def _violation(field: str, description: str) -> str:
    return description if field in description else f"{field}: {description}"


def _of_grpc(code: str, message: str, target: str, timeout_s: float, option: str) -> str:
    """Return a sentence for what gRPC itself found, or another server than ours."""
    sentences = {
        "UNAVAILABLE": f"no service answers there; start one with `tilbud serve`, or name it with {option}",
        "DEADLINE_EXCEEDED": f"no answer within {timeout_s:g} s; try again, or wait longer with --timeout",
        "RESOURCE_EXHAUSTED": "the question or its answer is too large, or the service has too much to do",
        "UNIMPLEMENTED": "what answers there does not know this call; is it tilbud, of this version?",
        "CANCELLED": "the call was cancelled; try again",
    }
    return f"{target}: {sentences.get(code, f'{code}: {message}')}"
