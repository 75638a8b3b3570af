"""The HTTP server on real sockets, on the event loop that serves: times, rooms, ends and the stop."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
import struct
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from tilbud.domain.limits import Limits
from tilbud.transport.connect.connection import Connection, Request
from tilbud.transport.connect.responses import Response
from tilbud.transport.connect.server import ConnectServer, connections_max

SOON_S = 0.05
PATIENCE_S = 30.0
LIMITS = replace(
    Limits(),
    connect_connections_max=3,
    message_bytes_max=100_000,
    request_bytes_in_flight_max=200_000,
    request_sweep_every_s=SOON_S / 5,
)
GET = b"GET /a HTTP/1.1\r\n\r\n"


class _Client:
    """One connection, as a program holds it that writes and reads what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *parts: bytes) -> None:
        """Send each part by itself."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    async def answer(self) -> tuple[int, bytes, bytes]:
        """Return the next answer: status, head, body."""
        async with asyncio.timeout(PATIENCE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            body = await self.reader.readexactly(int(length[1])) if length else b""
        return int(head.split()[1]), head, body

    async def ended(self) -> bytes:
        """Return what still comes until the server ends the connection."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    def reset(self) -> None:
        """Leave as a program does that crashed."""
        there: Any = self.writer.get_extra_info("socket")
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class _Server(ConnectServer):
    """A server that tells of its connections."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.newest: asyncio.Queue[Connection] = asyncio.Queue()

    def opened(self, connection: Connection) -> bool:
        self.newest.put_nowait(connection)
        return super().opened(connection)


class _Service:
    """A server whose answers wait until they may go, and what it was asked."""

    def __init__(self, limits: Limits) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        self.go = asyncio.Event()
        self.go.set()
        self.asked: asyncio.Queue[Request] = asyncio.Queue()
        self.cancelled, self.taken = asyncio.Event(), asyncio.Event()
        self.body = b"answer"
        self.server = _Server(sockets=[listening], answer=self._answer, limits=limits)
        self.clients = AsyncExitStack()

    async def _answer(self, request: Request) -> Response:
        self.asked.put_nowait(request)
        request.taken.append(lambda _: self.taken.set())
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Response(200, self.body)

    async def dial(self, **options: Any) -> _Client:
        """Connect; the connection ends with the test."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, **options)
        self.clients.callback(writer.transport.abort)
        return _Client(reader, writer)


Served = Callable[..., Awaitable[_Service]]


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """Starts servers; none may leave an error that nobody caught."""
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
    started: list[_Service] = []

    async def start(**limits: Any) -> _Service:
        service = _Service(replace(LIMITS, **limits))
        await service.server.start()
        started.append(service)
        return service

    yield start
    for service in started:
        await service.clients.aclose()
        async with asyncio.timeout(PATIENCE_S):
            await service.server.drain(0, 0)
    gc.collect()  # an error of a task is told when the task goes
    assert problems == []


def _post(length: int, *headers: str) -> bytes:
    return "\r\n".join(["POST /a HTTP/1.1", f"Content-Length: {length}", *headers, "", ""]).encode()


async def test_a_connection_serves_request_after_request(served: Served) -> None:
    """In one write, in many, and one behind the other."""
    client = await (await served()).dial()
    await client.send(_post(5) + b"hello" + GET + GET)
    for _ in range(3):
        assert (await client.answer())[0] == 200
    whole = _post(5) + b"hello"
    await client.send(*(whole[at : at + 1] for at in range(len(whole))))
    status, head, body = await client.answer()
    assert (status, body) == (200, b"answer")
    assert b"connection:" not in head


@pytest.mark.parametrize(
    "sent", [b"", b"POST", b"POST /a HTTP/1.1\r\nA: ", _post(100) + b"x"], ids=["", "word", "head", "body"]
)
async def test_a_request_that_does_not_come_to_its_end_has_its_time(served: Served, sent: bytes) -> None:
    """Whoever began one hears why; whoever said nothing is just left."""
    service = await served()
    client = await service.dial()
    await client.send(sent)
    connection = await service.server.newest.get()
    while sent and connection.idle:  # noqa: ASYNC110 - nobody tells when bytes were read
        await asyncio.sleep(0)
    connection.due_s = 0.0
    if sent:
        assert (await client.answer())[0] == 408
        client.writer.write_eof()
    assert await client.ended() == b""


async def test_an_idle_connection_has_its_time(served: Served) -> None:
    """It ends without a word, which a client takes for what it is."""
    client = await (await served(connect_idle_s=SOON_S)).dial()
    await client.send(GET)
    assert (await client.answer())[0] == 200
    assert await client.ended() == b""


async def test_who_does_not_take_an_answer_is_left(served: Served) -> None:
    """After its time; until then the next request of the connection is not begun."""
    service = await served(connect_answer_s=SOON_S)
    service.body = b"x" * 2**24
    client = await service.dial(limit=2**10)
    await client.send(GET, GET)
    async with asyncio.timeout(PATIENCE_S):
        await service.taken.wait()  # or given up
    assert len(await client.ended()) < len(service.body)
    assert service.asked.qsize() == 1


async def test_who_sends_too_much_hears_so_however_long_they_go_on(served: Served) -> None:
    """The answer is not lost under what is still sent."""
    service = await served(connect_linger_s=PATIENCE_S)
    for sent, status in ((_post(10**6), 400), (b"GET /" + b"a" * 20_000, 431)):
        client = await service.dial()
        await client.send(sent, b"x" * 10**6)
        assert (await client.answer())[0] == status
        client.writer.write_eof()
        assert await client.ended() == b""
    assert service.asked.empty()


async def test_who_leaves_ends_what_was_asked(served: Served) -> None:
    """Also with a reset, at any point: the call is ended, and the room is another's."""
    service = await served(connect_connections_max=5)
    service.go.clear()
    for _ in range(10):
        asking = await service.dial()
        await asking.send(GET)
        await service.asked.get()
        service.cancelled.clear()
        asking.reset()
        async with asyncio.timeout(PATIENCE_S):
            await service.cancelled.wait()
        sending = await service.dial()
        await sending.send(_post(100) + b"x")
        sending.reset()
    service.go.set()
    last = await service.dial()
    await last.send(GET)
    assert (await last.answer())[0] == 200


async def test_requests_that_wait_are_bounded_together(served: Served) -> None:
    """Also whole ones, behind an answer that is not taken or not made yet; all of it is given back."""
    service = await served(connect_free_bytes=1_000, request_bytes_in_flight_max=150_000)
    service.go.clear()
    first, second = await service.dial(), await service.dial()
    await first.send(GET)
    await service.asked.get()
    await first.send(_post(90_000) + b"x" * 90_000)  # waits
    await second.send(_post(90_000) + b"x" * 90_000)
    assert (await second.answer())[0] == 429
    service.go.set()
    for _ in range(2):
        assert (await first.answer())[0] == 200
    third = await service.dial()
    await third.send(_post(90_000) + b"x" * 90_000)
    assert (await third.answer())[0] == 200


@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "in small chunks"])
async def test_nothing_is_kept_of_a_request_that_was_answered(served: Served, *, chunked: bool) -> None:
    """A connection that stays open costs as little after a large request as before it."""
    service = await served(message_bytes_max=10**6, request_bytes_in_flight_max=10**7)
    client = await service.dial()
    await client.send(GET)
    await client.answer()
    tracemalloc.start()
    try:
        if chunked:
            await client.send(b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
            await client.send(b"2\r\nxx\r\n" * 100_000)
            most = tracemalloc.get_traced_memory()[1]
            assert most < 3 * 2**20, "a small part costs more than its bytes"
            await client.send(b"0\r\n\r\n")
        else:
            await client.send(_post(10**6), b"x" * 10**6)
        assert (await client.answer())[0] == 200
        while not service.asked.empty():
            service.asked.get_nowait()
        assert tracemalloc.get_traced_memory()[0] < 300_000
    finally:
        tracemalloc.stop()


async def test_the_newest_connection_is_served_rather_than_an_idle_one(served: Served) -> None:
    """Where there is no room; where all are busy, the newest is refused, and told when to come again."""
    service = await served(connect_connections_max=2)
    idle, busy = await service.dial(), await service.dial()
    await idle.send(GET)
    await idle.answer()
    while not service.asked.empty():
        service.asked.get_nowait()
    service.go.clear()
    await busy.send(GET)
    await service.asked.get()
    newest = await service.dial()
    await newest.send(GET)
    await service.asked.get()
    assert await idle.ended() == b""
    refused = await service.dial()
    status, head, _ = await refused.answer()
    assert (status, b"retry-after: 1" in head) == (429, True)
    service.go.set()
    assert [(await client.answer())[0] for client in (busy, newest)] == [200, 200]


async def test_a_crowd_is_told_or_left(served: Served) -> None:
    """Beyond as many again as there is room for nobody is told; who was there before is answered."""
    service = await served(connect_connections_max=2)
    service.go.clear()
    there = [await service.dial() for _ in range(2)]
    for client in there:
        await client.send(GET)
        await service.asked.get()
    crowd = [await service.dial() for _ in range(20)]
    heard = [await client.ended() for client in crowd]
    assert any(each.startswith(b"HTTP/1.1 429") for each in heard)
    service.go.set()
    assert [(await client.answer())[0] for client in there] == [200, 200]


async def test_a_stop_finishes_what_is_in_flight(served: Served) -> None:
    """Idle connections end, new ones are refused, the answer that is made is the last of its connection."""
    service = await served()
    idle, busy, half = [await service.dial() for _ in range(3)]
    await idle.send(GET)
    await idle.answer()
    await half.send(_post(5))
    while not service.asked.empty():
        service.asked.get_nowait()
    service.go.clear()
    await busy.send(GET)
    await service.asked.get()
    draining = asyncio.create_task(service.server.drain(0, PATIENCE_S))
    assert await idle.ended() == b""
    with pytest.raises(OSError, match=r"Connect|connect|refused"):
        await service.dial()
    service.go.set()
    await half.send(b"hello")
    for client in (busy, half):
        status, head, _ = await client.answer()
        assert (status, b"connection: close" in head) == (200, True)
        assert await client.ended() == b""
    await draining


async def test_a_stop_waits_for_nobody_for_ever(served: Served) -> None:
    """After the grace, who still sends and who still waits is cut off."""
    service = await served()
    service.go.clear()
    half, waiting = await service.dial(), await service.dial()
    await half.send(_post(5))
    await waiting.send(GET)
    await service.asked.get()
    await service.server.drain(0, SOON_S)
    assert [await half.ended(), await waiting.ended()] == [b"", b""]
    assert service.cancelled.is_set()


async def test_an_old_client_hears_the_end_of_its_answer(served: Served) -> None:
    """HTTP/1.0 ends a connection with its answer, also where the client hoped to keep it."""
    client = await (await served()).dial()
    await client.send(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    _, head, body = await client.answer()
    assert (b"connection: close" in head, body, await client.ended()) == (True, b"answer", b"")


@asynccontextmanager
async def _nothing_listens(bound: Sequence[socket.socket]) -> AsyncIterator[None]:
    yield
    assert [each.fileno() for each in bound] == [-1] * len(bound)


async def test_a_start_that_fails_leaves_nothing() -> None:
    """Where one socket cannot be listened on, the others are closed too."""
    good, bad = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    async def answer(_request: Request) -> Response:
        raise NotImplementedError

    server = ConnectServer(sockets=[good, bad], answer=answer, limits=LIMITS)
    async with _nothing_listens([good, bad]):
        with pytest.raises((OSError, ValueError)):
            await server.start()


def test_connections_leave_descriptors_to_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are served and those that hear why not take a quarter of what gRPC leaves."""
    monkeypatch.setattr("resource.getrlimit", lambda _: (1_024, 1_024))
    assert connections_max(Limits()) == (1_024 - Limits().descriptors_kept) // 8
    assert connections_max(replace(Limits(), connect_connections_max=5)) == 5
