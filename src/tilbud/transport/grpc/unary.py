"""One outermost wrapper around every unary method: admit, read, handle, answer or refuse, measure.

What holds: nothing a handler raises reaches grpcio; calls beyond what may be in flight are refused before
their message is parsed (health checks and reflection do not come through here, so they never are); each call
is observed once with its code. It knows no method by name.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
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
Handle = Callable[[Any, Context], Awaitable[Message | bytes]]
Refusal = tuple[grpc.StatusCode, status_pb2.Status]
_ENDS = ("OK", "CANCELLED", "INTERNAL", *dict.fromkeys(code.name for _, code, _ in CODES))
_OK, _CANCELLED = grpc.StatusCode.OK.name, grpc.StatusCode.CANCELLED.name  # to look one up takes a while


class Rpc:
    """Turns handlers into gRPC methods, counting the calls in flight over all of them."""

    def __init__(
        self, *, metrics: ProcessMetrics, limits: Limits, log: structlog.typing.FilteringBoundLogger
    ) -> None:
        self._metrics = metrics
        self._limits = limits
        self._log = log
        self._in_flight = InFlight(limits)
        self._arrivals = Arrivals(limits, metrics.rpc)
        self.unsent = Unsent(limits)

    @property
    def in_flight(self) -> int:
        """How many calls are being answered now."""
        return self._in_flight.calls

    def service(
        self, descriptor: ServiceDescriptor, handlers: Mapping[str, Handle]
    ) -> grpc.GenericRpcHandler:
        """Return the whole service; methods without a handler answer UNIMPLEMENTED."""
        methods = {
            method.name: self._method(
                method.name, GetMessageClass(method.input_type), handlers.get(method.name)
            )
            for method in descriptor.methods
        }
        return grpc.method_handlers_generic_handler(descriptor.full_name, methods)

    def _method(
        self, name: str, request: type[Message], handle: Handle | None
    ) -> grpc.RpcMethodHandler[Any, Any]:
        answer_to: Handle = handle or _unimplemented
        read = reader(request, self._limits.message_bytes_max)
        self._metrics.answers(name, _ENDS)

        async def serve(_: object, context: Context) -> bytes:
            started = perf_counter()
            code = _CANCELLED  # unless the handler gets to its end
            try:
                data: bytes = await self._arrivals.read(context, name)
            except RequestMissing as error:
                refusal = status_of(error)
                self._metrics.rpc(name, refusal[0].name, perf_counter() - started)
                return await _abort(context, refusal)
            connection, size = context.peer(), len(data)
            try:
                self._in_flight.enter(connection, size)
                try:
                    self.unsent.check(context)
                    answer = await answer_to(_message(read(data)), context)
                    if not isinstance(answer, bytes):
                        answer = answer.SerializeToString()
                    self.unsent.add(context, len(answer))
                    code = _OK
                    return answer
                finally:
                    self._in_flight.leave(connection, size)
            except Exception as error:  # noqa: BLE001 - the outermost wrapper maps everything
                refusal = self._refusal(name, error)
                code = refusal[0].name
            finally:
                self._metrics.rpc(name, code, perf_counter() - started)
            return await _abort(context, refusal)

        return grpc.stream_unary_rpc_method_handler(serve)  # without a deserializer: it gets bytes

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


def _message(message: Message | Unreadable) -> Message:
    if isinstance(message, Unreadable):
        raise InvalidField(message.field, message.problem)
    return message


class _UnimplementedError(Exception):
    """The method has no handler yet."""


async def _unimplemented(_message: Message, _context: Context) -> Message:
    raise _UnimplementedError


async def _abort(context: Context, refusal: Refusal) -> NoReturn:
    code, status = refusal
    await context.abort(code, status.message, trailers_of(status))
