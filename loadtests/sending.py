"""A gRPC client for what a C client cannot do: to send messages that differ.

`h2load` sends one body; an outcome needs a decision of its own. So this sends lines of prepared messages,
those of one line one after the other, lines beside one another, over several connections, from a process of
its own. Python spends about as much on a small call as a server does: the rate of single calls is as
much this client's as the server's, and the tables say so; the server's CPU a call is the server's alone.

What holds: any status but OK ends the benchmark with a sentence. What answers say is not looked at: the
service's counters tell.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import grpc

from arriving import Message
from serving import Load, held_on

CONNECTIONS = 8


class Refused(Exception):
    """A call ended with another status than OK."""


def send(port: int, lines: Sequence[Sequence[Message]], cores: Collection[int] | None = None) -> Load:
    """Send every message, as many at a time as there are lines; return what the client did."""
    # Spawned: a process must not be forked once gRPC was used.
    context = multiprocessing.get_context("spawn")
    with held_on(cores), ProcessPoolExecutor(max_workers=1, mp_context=context) as process:
        try:
            return process.submit(_send_all, port, lines).result()
        except Refused as error:
            sys.exit(f"the service refused a call: {error}")


def in_lines(messages: Sequence[Message], in_flight: int) -> list[Sequence[Message]]:
    """Spread messages over lines."""
    return [messages[first::in_flight] for first in range(in_flight)]


def _send_all(port: int, lines: Sequence[Sequence[Message]]) -> Load:
    try:
        return asyncio.run(_send(port, lines))
    except grpc.aio.AioRpcError as error:  # which cannot travel between processes
        raise Refused(f"{error.code().name}: {error.details()}") from None


async def _send(port: int, lines: Sequence[Sequence[Message]]) -> Load:
    options = (("grpc.use_local_subchannel_pool", 1),)  # else all channels share one connection
    channels = [
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options)
        for _ in range(min(CONNECTIONS, len(lines)))
    ]
    try:
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        started, cpu_s = time.perf_counter(), time.process_time()
        await asyncio.gather(
            *(_through(channels[number % len(channels)], line) for number, line in enumerate(lines))
        )
        seconds = time.perf_counter() - started
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))
    return Load(sum(map(len, lines)) / seconds, seconds, time.process_time() - cpu_s)


async def _through(channel: grpc.aio.Channel, line: Sequence[Message]) -> None:
    calls: dict[str, Any] = {path: channel.unary_unary(path) for path, _ in line}
    for path, message in line:
        await calls[path](message)
