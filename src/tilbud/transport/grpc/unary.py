"""One outermost wrapper around every unary method: admit, read, handle, answer or refuse, measure.

What holds: nothing a handler raises reaches a transport; calls beyond what may be in flight are refused
before their message is parsed (health checks and reflection do not come through here, so they never are);
each call is observed once with its code. It knows no method by name. What is in flight and unsent is
counted over all transports together.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, NoReturn

import grpc
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import status_pb2

from tilbud.domain.errors import InvalidField, RequestMissing
from tilbud.domain.limits import Limits
from tilbud.telemetry.log import where
from tilbud.telemetry.process import ProcessMetrics
from tilbud.telemetry.spans import CallSpan, Traces
from tilbud.transport.call import Call, Codec, Handle, Method
from tilbud.transport.grpc.arrivals import Arrivals
from tilbud.transport.grpc.codec import Unreadable, reader
from tilbud.transport.grpc.in_flight import InFlight
from tilbud.transport.grpc.status import (
    CODES,
    EXPECTED,
    internal_status,
    status_of,
    trailers_of,
    unimplemented_status,
)
from tilbud.transport.grpc.unsent import Unsent

Context = grpc.aio.ServicerContext[Any, Any]
Refusal = tuple[grpc.StatusCode, status_pb2.Status]
GRPC = "grpc"
_ENDS = ("OK", "CANCELLED", "INTERNAL", *dict.fromkeys(code.name for _, code, _ in CODES))
_OK, _CANCELLED = grpc.StatusCode.OK.name, grpc.StatusCode.CANCELLED.name  # to look one up takes a while


def methods_of(descriptor: ServiceDescriptor, handlers: Mapping[str, Handle]) -> Sequence[Method]:
    """Return the methods of a service; those without a handler answer UNIMPLEMENTED."""
    return [
        Method(
            method.name,
            descriptor.full_name,
            GetMessageClass(method.input_type),
            GetMessageClass(method.output_type),
            handlers.get(method.name, _unimplemented),
        )
        for method in descriptor.methods
    ]


class Binary:
    """Messages as protobuf writes them."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._readers: dict[type[Message], Callable[[bytes], Message | Unreadable]] = {}

    async def read(self, method: Method, data: bytes) -> Message:
        read = self._readers.get(method.request)
        if read is None:
            read = self._readers[method.request] = reader(method.request, self._limits.message_bytes_max)
        message = read(data)
        if isinstance(message, Unreadable):
            raise InvalidField(message.field, message.problem)
        return message

    async def write(self, _method: Method, answer: Message | bytes) -> bytes:
        return answer if isinstance(answer, bytes) else answer.SerializeToString()


class Rpc:
    """Answers calls of methods, counting those in flight over all of them."""

    def __init__(
        self,
        *,
        metrics: ProcessMetrics,
        limits: Limits,
        log: structlog.typing.FilteringBoundLogger,
        traces: Traces | None = None,
    ) -> None:
        self._metrics = metrics
        self._traces = traces
        self._log = log
        self._in_flight = InFlight(limits)
        self._arrivals = Arrivals(limits, self._left)
        self._binary = Binary(limits)
        self.unsent = Unsent(limits)

    @property
    def in_flight(self) -> int:
        """How many calls are being answered now."""
        return self._in_flight.calls

    def begin_at_zero(self, methods: Sequence[Method], protocol: str) -> None:
        """Begin at 0 the counts of methods that are served by a protocol."""
        for method in methods:
            self._metrics.answers(method.name, _ENDS, protocol)

    async def answer(
        self, method: Method, codec: Codec, data: bytes, call: Call, *, protocol: str, started: float
    ) -> bytes | Refusal:
        """Answer a call with its response message, written, or with why not; `started` is a perf_counter."""
        code = _CANCELLED  # unless the handler gets to its end
        connection, size = call.peer(), len(data)
        span = None if self._traces is None else _span(self._traces, method, call, protocol, started)
        try:
            self._in_flight.enter(connection, size)
            try:
                self.unsent.check(call)
                message = await codec.read(method, data)
                answer = await method.handle(message, call)
                counted = len(answer) if isinstance(answer, bytes) else 0
                self.unsent.add(call, counted)  # also while it waits to be written
                written = await codec.write(method, answer)
                self.unsent.add(call, len(written) - counted)
                code = _OK
                return written
            finally:
                self._in_flight.leave(connection, size)
        except Exception as error:  # noqa: BLE001 - the outermost wrapper maps everything
            refusal = self._refusal(method.name, error)
            code = refusal[0].name
            self._tell(method.name, code, protocol)
            return refusal
        finally:
            self._metrics.rpc(method.name, code, perf_counter() - started, protocol)
            if span is not None:
                span.end(code)

    def refuse(self, method: Method, refusal: Refusal, *, protocol: str, started: float) -> Refusal:
        """Count a call that got no further than its transport, and return why."""
        self._metrics.rpc(method.name, refusal[0].name, perf_counter() - started, protocol)
        self._tell(method.name, refusal[0].name, protocol)
        return refusal

    def _tell(self, method: str, code: str, protocol: str) -> None:
        """Log that a call was refused, for who looks closely: it is its caller's business, who hears why."""
        self._log.debug("call_refused", method=method, code=code, protocol=protocol)

    def service(
        self, descriptor: ServiceDescriptor, handlers: Mapping[str, Handle]
    ) -> grpc.GenericRpcHandler:
        """Return the whole service, for a server of grpcio."""
        methods = methods_of(descriptor, handlers)
        self.begin_at_zero(methods, GRPC)
        return grpc.method_handlers_generic_handler(
            descriptor.full_name, {method.name: self._method(method) for method in methods}
        )

    def _method(self, method: Method) -> grpc.RpcMethodHandler[Any, Any]:
        async def serve(_: object, context: Context) -> bytes:
            started = perf_counter()
            try:
                data: bytes = await self._arrivals.read(context, method.name)
            except RequestMissing as error:
                refusal = self.refuse(method, status_of(error), protocol=GRPC, started=started)
                return await _abort(context, refusal)
            answer = await self.answer(method, self._binary, data, context, protocol=GRPC, started=started)
            return answer if isinstance(answer, bytes) else await _abort(context, answer)

        return grpc.stream_unary_rpc_method_handler(serve)  # without a deserializer: it gets bytes

    def _left(self, method: str, code: str, seconds: float) -> None:
        self._metrics.rpc(method, code, seconds, GRPC)

    def _refusal(self, name: str, error: Exception) -> Refusal:
        if isinstance(error, _UnimplementedError):
            return unimplemented_status(name)
        if isinstance(error, EXPECTED):
            return status_of(error)
        correlation_id = secrets.token_hex(8)
        self._log.error(
            "unexpected_error",
            method=name,
            correlation_id=correlation_id,
            kind=type(error).__name__,
            where=where(error.__traceback__),
        )
        return internal_status(correlation_id)


def _span(traces: Traces, method: Method, call: Call, protocol: str, started: float) -> CallSpan:
    return traces.call(f"{method.service}/{method.name}", protocol, call.invocation_metadata(), started)


class _UnimplementedError(Exception):
    """The method has no handler yet."""


async def _unimplemented(_message: Message, _call: Call) -> Message:
    raise _UnimplementedError


async def _abort(context: Context, refusal: Refusal) -> NoReturn:
    code, status = refusal
    await context.abort(code, status.message, trailers_of(status))
