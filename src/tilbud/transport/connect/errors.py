"""Statuses as the Connect protocol writes them: an HTTP status, and JSON with code, message and details."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2
from grpc import StatusCode

from tilbud.transport.connect.json_codec import dumped
from tilbud.transport.connect.responses import Response
from tilbud.transport.grpc.unary import Refusal

STATUSES = {
    StatusCode.CANCELLED: 499,
    StatusCode.UNKNOWN: 500,
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.DEADLINE_EXCEEDED: 504,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.ABORTED: 409,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.INTERNAL: 500,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DATA_LOSS: 500,
    StatusCode.UNAUTHENTICATED: 401,
}
"""The HTTP status of each code, by the protocol's reference."""


def code_name(code: StatusCode) -> str:
    """Return a code as Connect writes it."""
    return "canceled" if code is StatusCode.CANCELLED else code.name.lower()


def refused(refusal: Refusal) -> Response:
    """Return the response of a call that was refused."""
    code, status = refusal
    headers: tuple[tuple[str, str], ...] = ()
    retry = error_details_pb2.RetryInfo()
    if any(detail.Unpack(retry) for detail in status.details):
        after_s = max(1, -(-retry.retry_delay.ToMilliseconds() // 1_000))  # whole seconds, by HTTP
        headers = (("retry-after", str(after_s)),)
    return problem(STATUSES[code], code, status.message, *map(_detail, status.details), headers=headers)


def problem(
    status: int,
    code: StatusCode,
    message: str,
    *details: dict[str, Any],
    headers: tuple[tuple[str, str], ...] = (),
) -> Response:
    """Return a response that says what is wrong, to people and to clients of Connect."""
    error: dict[str, Any] = {"code": code_name(code), "message": message}
    if details:
        error["details"] = details
    return Response(status, dumped(error), headers=headers)


def _detail(detail: AnyMessage) -> dict[str, Any]:
    debug = MessageToDict(detail)
    del debug["@type"]
    value = b64encode(detail.value).decode().rstrip("=")
    return {"type": detail.TypeName(), "value": value, "debug": debug}
