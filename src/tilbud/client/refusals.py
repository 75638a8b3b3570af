"""A refused call as sentences for the person who made it.

What holds: each sentence names what is wrong (the field, where there is one) and what helps. What the service
says is told as it says it; what gRPC says is told in our words, since its own are about sockets and frames.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

if TYPE_CHECKING:
    import grpc

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
_ITEM = re.compile(r"^requests\[\d+\]\.")  # of a batch, before the field of one
_REMEDIES = {
    "UNKNOWN_CAMPAIGN": "`tilbud campaigns` lists those that are",
    "UNKNOWN_DECISION": "the id may be another's, or was kept no longer",
    "UNKNOWN_CUSTOMER": "`tilbud customer update ID --consent granted` makes one",
    "CUSTOMER_ERASED": "`tilbud customer update ID --consent granted` brings them back, if they said so",
}


class Refusal(Exception):
    """A call that was not answered; its text is a sentence for each problem."""

    def __init__(
        self,
        code: str,
        lines: Sequence[str],
        *,
        reason: str = "",
        fields: Mapping[str, str] | None = None,
        retry_after_s: float = 0.0,
    ) -> None:
        super().__init__("\n".join(lines))
        self.code = code
        """The gRPC code's name, such as INVALID_ARGUMENT."""
        self.lines = tuple(lines)
        """The sentences."""
        self.reason = reason
        """The service's word for it, such as UNKNOWN_CAMPAIGN; empty where gRPC itself refused."""
        self.fields = dict(fields or {})
        """What is wrong, by the field of the request."""
        self.retry_after_s = retry_after_s
        """In how many seconds to try again, where the service said so."""

    @property
    def later(self) -> bool:
        """The service could not answer: the same call may be answered later."""
        return self.code in LATER


def refusal_of_error(error: grpc.RpcError, *, target: str, timeout_s: float, option: str = "") -> Refusal:
    """Return what a call of gRPC failed with, in either kind of channel."""
    pairs: Any = error.trailing_metadata() or ()  # which the two kinds have in two types
    trailers = dict(pairs)
    return refusal(
        error.code().name,
        error.details() or "",
        trailers.get(DETAILS),
        target=target,
        timeout_s=timeout_s,
        option=option,
    )


def refusal_of_status(status: status_pb2.Status) -> Refusal:
    """Return what one item of a batch failed with, whose fields are its own."""
    try:
        code = code_pb2.Code.Name(status.code)
    except ValueError:
        code = "UNKNOWN"
    return _of_status(code, status) or Refusal(code, [f"{code}: {status.message}"])


def refusal(
    code: str,
    message: str,
    details: bytes | None,
    *,
    target: str,
    timeout_s: float,
    option: str = "",
) -> Refusal:
    """Return what a failed call means; `details` is its trailer, if it came.

    `option` names the target on a command line that has --timeout too; empty: none asked.
    """
    status = status_pb2.Status()
    try:
        status.ParseFromString(details or b"")
    except DecodeError:
        status.Clear()
    return _of_status(code, status) or Refusal(code, [_of_grpc(code, message, target, timeout_s, option)])


def _of_status(code: str, status: status_pb2.Status) -> Refusal | None:
    """Return what the service said; None where it did not."""
    info, bad, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    for detail in status.details:
        with suppress(DecodeError):  # of whoever answers there
            any(detail.Unpack(kind) for kind in (info, bad, retry))
    if info.domain != "tilbud":
        return None
    fields = [(_ITEM.sub("", each.field), each.description) for each in bad.field_violations]
    lines = [_violation(*each) for each in fields] or [status.message]
    if info.reason in _REMEDIES:
        lines[-1] += f"; {_REMEDIES[info.reason]}"
    retry_after_s = retry.retry_delay.ToMilliseconds() / 1_000
    if retry.HasField("retry_delay"):
        lines[-1] += f"; try again in {retry_after_s:g} s"
    return Refusal(
        code,
        lines,
        reason=info.reason,
        fields=dict(fields),
        retry_after_s=retry_after_s,
    )


def _violation(field: str, description: str) -> str:
    return description if field in description else f"{field}: {description}"


def _of_grpc(code: str, message: str, target: str, timeout_s: float, option: str) -> str:
    """Return a sentence for what gRPC itself found, or another server than ours."""
    elsewhere = f"name it with {option}" if option else "ask at another address"
    longer = "wait longer with --timeout" if option else "wait longer"
    sentences = {
        "UNAVAILABLE": f"no service answers there; start one with `tilbud serve`, or {elsewhere}",
        "DEADLINE_EXCEEDED": f"no answer within {timeout_s:g} s; try again, or {longer}",
        "RESOURCE_EXHAUSTED": "the question or its answer is too large, or the service has too much to do",
        "UNIMPLEMENTED": "what answers there does not know this call; is it tilbud, of this version?",
        "CANCELLED": "the call was cancelled; try again",
    }
    return f"{target}: {sentences.get(code, f'{code}: {message}')}"
