"""Requests to calls of the contract's methods, and answers back, by the Connect protocol or OpenFeature's.

What holds: a call is admitted, answered and counted as one over gRPC is, by the same code; what is wrong
with a request is answered with the status and code of the protocol's reference. Of unary calls it takes
POST alone: no method is marked as one without side effects, and an id in a URL would be in every proxy's
log.

Source: https://connectrpc.com/docs/protocol
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from google.rpc import status_pb2
from grpc import StatusCode
from grpc_health.v1 import health_pb2

from tilbud.domain.errors import InvalidField
from tilbud.domain.limits import Limits
from tilbud.telemetry.process import ProcessMetrics
from tilbud.transport.call import Codec, Handle, Method
from tilbud.transport.connect.connection import Request
from tilbud.transport.connect.errors import problem, refused
from tilbud.transport.connect.json_codec import Json, too_large
from tilbud.transport.connect.ofrep import ALL_FLAGS, EVALUATE, Evaluation, all_flags
from tilbud.transport.connect.origins import Origins
from tilbud.transport.connect.pages import Pages
from tilbud.transport.connect.responses import JSON, PROTO, Response
from tilbud.transport.grpc.server import SERVICES
from tilbud.transport.grpc.status import status_of
from tilbud.transport.grpc.unary import Binary, Refusal, Rpc, methods_of

CONNECT, OFREP = "connect", "ofrep"  # as metrics name how a call came
HEALTH = b"/grpc.health.v1.Health/Check"
_DECIDE = b"/tilbud.v1.DecisionService/Decide"
_VERSION = b"connect-protocol-version"
_TIMEOUT_DIGITS_MAX = 10
_GZIP = 16 + zlib.MAX_WBITS
_POST_ONLY = (("allow", "POST"),)
_LATE = (
    StatusCode.DEADLINE_EXCEEDED,
    status_pb2.Status(
        code=StatusCode.DEADLINE_EXCEEDED.value[0], message="the time of connect-timeout-ms is over"
    ),
)
_UNKNOWN_ENCODING = (
    StatusCode.UNIMPLEMENTED,
    status_pb2.Status(
        code=StatusCode.UNIMPLEMENTED.value[0], message="content-encoding: there are gzip and identity"
    ),
)
Health = Callable[[str], Any]
"""Returns the status of a service of the contract ("": of all); None: there is none of that name."""


async def _no_handler(_message: Any, _call: Any) -> bytes:
    raise NotImplementedError


_CHECK = Method(
    "Check",
    "grpc.health.v1.Health",
    health_pb2.HealthCheckRequest,
    health_pb2.HealthCheckResponse,
    _no_handler,
)


@dataclass(frozen=True, slots=True)
class _Call:
    """A call as its handler sees it."""

    request: Request
    deadline_s: float | None  # on perf_counter's clock

    def peer(self) -> str:
        return self.request.peer

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        headers = self.request.headers
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers.items()]

    def time_remaining(self) -> float | None:
        return None if self.deadline_s is None else self.deadline_s - perf_counter()

    def add_done_callback(self, callback: Any) -> None:
        self.request.taken.append(callback)


class Calls:
    """Answers requests. `handlers` maps a service's name to its methods' handlers."""

    def __init__(
        self,
        *,
        rpc: Rpc,
        handlers: Mapping[str, Mapping[str, Handle]],
        health: Health,
        origins: Origins,
        pages: Pages,
        metrics: ProcessMetrics,
        limits: Limits,
    ) -> None:
        self._rpc = rpc
        self._health = health
        self._origins = origins
        self._pages = pages
        self._metrics = metrics
        self._limits = limits
        self._binary = Binary(limits)
        long = asyncio.Lock()
        self._by_hand = Json(limits, lenient=False, long=long)
        self._by_stub = Json(limits, lenient=True, long=long)
        self._methods: dict[bytes, Method] = {}
        for service in SERVICES:
            methods = methods_of(service, handlers.get(service.name, {}))
            rpc.begin_at_zero(methods, CONNECT)
            self._methods |= {f"/{service.full_name}/{each.name}".encode(): each for each in methods}
        rpc.begin_at_zero([self._methods[_DECIDE]], OFREP)
        self._methods[HEALTH] = _CHECK

    async def answer(self, request: Request) -> Response:
        """Answer a request; never raises."""
        origin = request.headers.get(b"origin", b"").decode("latin-1")
        if not origin:
            return await self._answer(request)
        refusal = self._origins.refusal(origin)
        if refusal is not None:
            return self._no_call(refusal)
        if request.method == b"OPTIONS":
            return self._origins.preflight(origin)
        response = await self._answer(request)
        return replace(response, headers=(*response.headers, *self._origins.headers(origin)))

    async def _answer(self, request: Request) -> Response:
        path = request.target.partition(b"?")[0]
        if path == ALL_FLAGS:
            return self._no_call(all_flags())
        if (page := self._pages.answer(request, path)) is not None:
            return page
        evaluation = Evaluation(path, self._limits) if path.startswith(EVALUATE) else None
        method = self._methods.get(path if evaluation is None else _DECIDE)
        codec, content_type = self._codec(request)
        misdirected = _misdirected(request, method, content_type, binary=evaluation is None)
        if method is None or codec is None or misdirected is not None:
            assert misdirected is not None, "a method, and a way to write its messages"
            return self._no_call(misdirected)
        if method is _CHECK:
            return await self._check(request, codec, content_type)
        if evaluation is not None:
            answer = await self._call(method, evaluation, request, OFREP)
            return Response(200, answer) if isinstance(answer, bytes) else evaluation.refused(answer)
        answer = await self._call(method, codec, request, CONNECT)
        return Response(200, answer, content_type) if isinstance(answer, bytes) else refused(answer)

    async def _call(self, method: Method, codec: Codec, request: Request, protocol: str) -> bytes | Refusal:
        began_s = request.began_s
        try:
            _check_version(request)
            body, timeout_s = _body(request, self._limits), _timeout_s(request)
        except InvalidField as error:
            return self._rpc.refuse(method, status_of(error), protocol=protocol, started=began_s)
        except _UnknownEncodingError:
            return self._rpc.refuse(method, _UNKNOWN_ENCODING, protocol=protocol, started=began_s)
        if timeout_s is None:
            call = _Call(request, None)
            return await self._rpc.answer(method, codec, body, call, protocol=protocol, started=began_s)
        call = _Call(request, began_s + timeout_s)
        try:
            async with asyncio.timeout(began_s + timeout_s - perf_counter()):
                return await self._rpc.answer(method, codec, body, call, protocol=protocol, started=began_s)
        except TimeoutError:
            return _LATE

    def _codec(self, request: Request) -> tuple[Codec | None, str]:
        sent = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if sent == JSON.encode():
            return (self._by_stub if _VERSION in request.headers else self._by_hand), JSON
        return (self._binary, PROTO) if sent == PROTO.encode() else (None, "")

    async def _check(self, request: Request, codec: Codec, content_type: str) -> Response:
        """Answer how a service is, however busy it is."""
        try:
            message: Any = await codec.read(_CHECK, request.body)
        except InvalidField as error:
            return refused(status_of(error))
        status = self._health(message.service)
        if status is None:
            return problem(404, StatusCode.NOT_FOUND, f"there is no service {message.service[:64]!r} here")
        return Response(
            200, await codec.write(_CHECK, health_pb2.HealthCheckResponse(status=status)), content_type
        )

    def _no_call(self, response: Response) -> Response:
        self._metrics.http_refused(response.status)
        return response


def _misdirected(
    request: Request, method: Method | None, content_type: str, *, binary: bool
) -> Response | None:
    """Return what a request hears that is no call: where there are methods, and how they are called."""
    if method is None:
        message = "nothing is here; paths are those of gRPC, such as /tilbud.v1.DecisionService/Decide"
        return problem(404, StatusCode.UNIMPLEMENTED, message)
    if request.method != b"POST":
        return problem(405, StatusCode.UNIMPLEMENTED, "only POST", headers=_POST_ONLY)
    if content_type == JSON or (binary and content_type):
        return None
    types = (JSON, PROTO) if binary else (JSON,)
    message = f"say content-type: {', or '.join(types)}"
    return problem(415, StatusCode.UNKNOWN, message, headers=(("accept-post", ", ".join(types)),))


class _UnknownEncodingError(Exception):
    """A body is written in a way that nobody here reads."""


def _check_version(request: Request) -> None:
    version = request.headers.get(_VERSION, b"1")
    if version != b"1":
        raise InvalidField("connect-protocol-version", 'must be "1"')


def _timeout_s(request: Request) -> float | None:
    """Return how long the caller waits, from the whole request on; None: for ever."""
    sent = request.headers.get(b"connect-timeout-ms")
    if sent is None:
        return None
    if not sent.isdigit() or len(sent) > _TIMEOUT_DIGITS_MAX:
        raise InvalidField("connect-timeout-ms", "must be whole milliseconds of at most 10 digits")
    return int(sent) / 1_000


def _body(request: Request, limits: Limits) -> bytes:
    """Return a request's body as it was before it was compressed."""
    encoding = request.headers.get(b"content-encoding", b"identity").lower()
    if encoding == b"identity" or not request.body:
        return request.body
    if encoding != b"gzip":
        raise _UnknownEncodingError
    unpacking = zlib.decompressobj(_GZIP)
    try:
        body = unpacking.decompress(request.body, limits.message_bytes_max + 1)
    except zlib.error:
        raise InvalidField("request", "is not gzip, as its content-encoding says") from None
    if len(body) > limits.message_bytes_max:
        raise too_large(f"over {limits.message_bytes_max:,}", limits)
    if not unpacking.eof or unpacking.unused_data:
        raise InvalidField("request", "is not one whole gzip, as its content-encoding says")
    return body
