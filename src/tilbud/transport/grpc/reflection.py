"""Reflection, so that a shell can list, describe and call: v1 and the older v1alpha.

grpcio-reflection ships only v1alpha, whose messages v1 shares, and finds no file for the name of a method.

What holds: a stream that asks nothing for a while is ended, and so many are open at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection, reflection_pb2

from tilbud.domain.limits import Limits

SERVICE_NAMES = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)
_FILE = "grpc/reflection/v1/reflection.proto"
_Request = reflection_pb2.ServerReflectionRequest
_Response = reflection_pb2.ServerReflectionResponse


def reflection_handlers(names: Sequence[str], limits: Limits) -> tuple[grpc.GenericRpcHandler, ...]:
    """Return both services, over the services `names`."""
    _describe()
    reflecting = _Reflecting(names, limits)
    method: Any = grpc.stream_stream_rpc_method_handler(
        reflecting.answer_all, _Request.FromString, _Response.SerializeToString
    )
    return tuple(
        grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method}) for name in SERVICE_NAMES
    )


class _Pool:
    """The default pool, which finds the file of a method and of an enum's value by their full names too."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - protobuf's name
        """Return the file that declares a symbol; raises KeyError."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            parent, _, name = symbol.rpartition(".")
        for find, children in (
            (self._pool.FindServiceByName, "methods_by_name"),
            (self._pool.FindEnumTypeByName, "values_by_name"),
        ):
            try:
                descriptor: Any = find(parent)
            except KeyError:
                continue
            if name in getattr(descriptor, children):
                file: FileDescriptor = descriptor.file
                return file
        raise KeyError(symbol)


class _Reflecting:
    def __init__(self, names: Sequence[str], limits: Limits) -> None:
        self._servicer = reflection.aio.ReflectionServicer(names, pool=_Pool())
        self._limits = limits
        self._open = 0

    async def answer_all(self, _: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Answer one request after the other."""
        if self._open >= self._limits.reflections_max:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many ask for reflection; try again")
        self._open += 1
        try:
            responses: Any = self._servicer.ServerReflectionInfo(self._requests(context), context)
            async for response in responses:
                await context.write(response)
        finally:
            self._open -= 1

    async def _requests(self, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        while (request := await self._next(context)) is not grpc.aio.EOF:
            yield request

    async def _next(self, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        reading = asyncio.ensure_future(context.read())
        done, _ = await asyncio.wait([reading], timeout=self._limits.request_wait_s)
        if not done:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "nothing was asked for a while")
        return await reading


def _describe() -> None:
    """Add the v1 descriptors to the default pool, so that clients can ask for them too."""
    pool = descriptor_pool.Default()
    try:
        pool.FindFileByName(_FILE)
    except KeyError:
        file = descriptor_pb2.FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(file)
        file.name, file.package = _FILE, "grpc.reflection.v1"
        file.ClearField("options")
        for message in file.message_type:
            for member in message.field:
                if member.type_name:
                    member.type_name = _renamed(member.type_name)
        for service in file.service:
            for method in service.method:
                method.input_type = _renamed(method.input_type)
                method.output_type = _renamed(method.output_type)
        pool.AddSerializedFile(file.SerializeToString())


def _renamed(name: str) -> str:
    return name.replace(".grpc.reflection.v1alpha.", ".grpc.reflection.v1.")
