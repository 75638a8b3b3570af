"""grpc.health.v1: whether the service serves, overall and each of its services.

What holds: every method of the protocol works, and is answered however busy the service is. Who watches
hears of each change, holds nobody else up by reading slowly, and is let go when the service stops. Watchers
are bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from tilbud.domain.errors import RequestMissing
from tilbud.domain.limits import Limits
from tilbud.transport.grpc.arrivals import Arrivals, Context
from tilbud.transport.grpc.codec import Unreadable, reader

SERVICE_NAME = "grpc.health.v1.Health"
_messages: Any = health_pb2  # whose types do not know List yet
_Status = health_pb2.HealthCheckResponse


class HealthService:
    """Answers for the services `names`, and "": all of them. Not serving until it is set so."""

    def __init__(self, names: Sequence[str], limits: Limits) -> None:
        self._names = ("", *names)
        self._limits = limits
        self._status: Any = _Status.NOT_SERVING
        self._changed = asyncio.Event()  # a new one after each change
        self._ended = False
        self._watchers = 0
        self._arrivals = Arrivals(limits, lambda _method, _code, _seconds: None)

    def set(self, *, serving: bool) -> None:
        """Say SERVING or NOT_SERVING from now on, also to those who watch."""
        self._status = _Status.SERVING if serving else _Status.NOT_SERVING
        self._changed.set()
        self._changed = asyncio.Event()

    def status(self, name: str) -> Any:
        """Return the status of a service, "": of all; None: there is none of that name."""
        return self._status if name in self._names else None

    def end(self) -> None:
        """Let those go who watch, and take no more."""
        self._ended = True
        self._changed.set()

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the service as gRPC wants it."""
        check: Any = grpc.stream_unary_rpc_method_handler(
            self._check, _read(health_pb2.HealthCheckRequest), _Status.SerializeToString
        )
        watch: Any = grpc.stream_stream_rpc_method_handler(
            self._watch, _read(health_pb2.HealthCheckRequest), _Status.SerializeToString
        )
        listing: Any = grpc.stream_unary_rpc_method_handler(
            self._list,
            _read(_messages.HealthListRequest),
            _messages.HealthListResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(
            SERVICE_NAME, {"Check": check, "Watch": watch, "List": listing}
        )

    async def _check(self, _: object, context: Context) -> health_pb2.HealthCheckResponse:
        name = (await self._message(context)).service
        status = self.status(name)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {name[:64]!r} here")
        return _Status(status=status)

    async def _list(self, _: object, context: Context) -> Any:
        await self._message(context)
        return _messages.HealthListResponse(
            statuses={name: _Status(status=self._status) for name in self._names}
        )

    async def _watch(self, _: object, context: Context) -> None:
        name = (await self._message(context)).service
        if self._watchers >= self._limits.watchers_max:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watch here; ask Check")
        self._watchers += 1
        try:
            await self._tell(name, context)
        finally:
            self._watchers -= 1
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the service stops")

    async def _tell(self, name: str, context: Context) -> None:
        is_served = name in self._names
        last = None
        while not self._ended:
            changed = self._changed
            status = self._status if is_served else _Status.SERVICE_UNKNOWN
            if status != last:
                await context.write(_Status(status=status))
                last = status
            await changed.wait()

    async def _message(self, context: Context) -> Any:
        try:
            message = await self._arrivals.read(context, "health")
        except RequestMissing as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if isinstance(message, Unreadable):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{message.field}: {message.problem}")
        return message


def _read(request: Any) -> Any:
    return reader(request, Limits.text_chars_max * 8)
