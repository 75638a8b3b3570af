"""What one HTTP/1.1 connection does with bytes, whatever they are, and with time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilbud.domain.limits import Limits
from tilbud.transport.connect.connection import Connection, Request
from tilbud.transport.connect.responses import Response

LIMITS = replace(Limits(), message_bytes_max=1_000, refused_message_bytes_max=4_000, connect_free_bytes=200)


class _Transport(asyncio.Transport):
    """A client that takes what it is sent, or does not for a while."""

    def __init__(self, protocol: Connection) -> None:
        super().__init__()
        self.protocol = protocol
        self.sent = b""
        self.stuck = False
        self.ended = ""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 5) if name == "peername" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert (high, low) == (0, None)

    def write(self, data: Any) -> None:
        self.sent += data
        if self.stuck:
            self.protocol.pause_writing()

    def write_eof(self) -> None:
        self.ended = self.ended or "half"

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"


class _Server:
    """Answers with what it was asked, when it is let."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.limits = limits
        self.closing = False
        self.room = True
        self.asked: list[Request] = []
        self.held_bytes = 0
        self.go = asyncio.Event()
        self.go.set()
        self.cancelled = 0

    def opened(self, _connection: Connection) -> bool:
        return self.room

    def closed(self, connection: Connection) -> None:
        pass

    def hold(self, more: int) -> bool:
        self.held_bytes += more
        return self.held_bytes <= 500

    async def answer(self, request: Request) -> Response:
        self.asked.append(request)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Response(200, request.target + b" " + request.body)


class _Client:
    """A connection, its server and what was sent back."""

    def __init__(self, server: _Server | None = None) -> None:
        self.server = server or _Server()
        self.connection = Connection(self.server)
        self.transport = _Transport(self.connection)
        self.connection.connection_made(self.transport)

    async def send(self, *parts: bytes) -> list[tuple[int, bytes]]:
        """Send bytes and return the responses by then: status and body."""
        for part in parts:
            self.connection.data_received(part)
        return await self.responses()

    async def responses(self) -> list[tuple[int, bytes]]:
        for _ in range(20):
            await asyncio.sleep(0)
        found, left = [], self.transport.sent
        while left:
            head, _, left = left.partition(b"\r\n\r\n")
            status = int(head.split(b" ")[1])
            if status == 100:
                found.append((status, b""))
                continue
            length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
            found.append((status, left[:length]))
            left = left[length:]
        return found


def _post(target: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"POST {target} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def _message(responses: Sequence[tuple[int, bytes]]) -> str:
    return str(json.loads(responses[-1][1])["message"])


async def test_a_request_is_the_same_however_its_bytes_come() -> None:
    """All at once, one by one, or in chunks."""
    whole = _post("/a", b"hello", "X-Y: z")
    assert await _Client().send(whole) == [(200, b"/a hello")]
    assert await _Client().send(*(whole[at : at + 1] for at in range(len(whole)))) == [(200, b"/a hello")]
    client = _Client()
    chunked = (
        b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nT: u\r\n\r\n"
    )
    assert await client.send(chunked) == [(200, b"/a hello")]
    assert client.server.asked[0].headers == {b"transfer-encoding": b"chunked"}


async def test_requests_sent_together_are_answered_in_order_and_bounded() -> None:
    """One after the other; what is more than may wait is refused, and nothing after it is read."""
    client = _Client()
    sent = b"".join(_post(f"/{number}") for number in range(LIMITS.streams_max + 5))
    responses = await client.send(sent)
    assert [body for status, body in responses if status == 200] == [
        f"/{number} ".encode() for number in range(LIMITS.streams_max)
    ]
    assert responses[-1][0] == 429
    assert len(responses) == LIMITS.streams_max + 1
    assert client.transport.ended == "half"


async def test_the_next_request_waits_until_the_answer_was_taken() -> None:
    """So no client that does not read keeps more than one answer here; the others hear that it was taken."""
    client = _Client()
    client.transport.stuck = True
    told: list[object] = []
    client.server.go.clear()
    await client.send(_post("/a") + _post("/b"))
    client.server.asked[0].taken.append(told.append)
    client.server.go.set()
    assert len(await client.responses()) == 1
    assert (told, len(client.server.asked)) == ([], 1)
    client.connection.resume_writing()
    assert len(await client.responses()) == 2
    assert told == [None]


async def test_a_client_that_leaves_ends_its_call() -> None:
    """As over gRPC: what was handed to the ledger happens all the same; who counts its answer hears of it."""
    client = _Client()
    client.server.go.clear()
    await client.send(_post("/a"))
    told: list[object] = []
    client.server.asked[0].taken.append(told.append)
    client.connection.connection_lost(None)
    await asyncio.sleep(0)
    assert (client.server.cancelled, told) == (1, [None])


async def test_a_client_that_only_stops_sending_is_answered() -> None:
    """A half-closed connection gets its answer, then it ends."""
    client = _Client()
    client.server.go.clear()
    await client.send(_post("/a"))
    assert client.connection.eof_received()
    client.server.go.set()
    assert await client.responses() == [(200, b"/a ")]
    assert client.transport.ended == "closed"
    assert not _Client().connection.eof_received()


@pytest.mark.parametrize(
    ("sent", "status", "why"),
    [
        (b"\x16\x03\x01\x00\x05hello", 400, "request: is no HTTP/1.1"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "gRPC is on the address of --listen"),
        (
            b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "is no HTTP/1.1",
        ),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", 400, "is no HTTP/1.1"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, "is no HTTP/1.1"),
        (b"POST / HTTP/1.1\r\nA: " + b"x" * 20_000 + b"\r\n\r\n", 431, "a head has at most"),
        (b"POST /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", 431, "a head has at most"),
        (b"POST / HTTP/1.1\r\n" + b"A: b\r\n" * 101 + b"\r\n", 431, "a head has at most"),
        (_post("/", b"x" * 1_001), 400, "request: holds 1,001 bytes, more than 1,000; send less at once"),
        (
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"64\r\n" + b"x" * 100 + b"\r\n",
            0,
            "",
        ),
        (b"CONNECT a:1 HTTP/1.1\r\n\r\n", 405, "only POST"),
    ],
)
async def test_what_cannot_be_read_is_answered_once(sent: bytes, status: int, why: str) -> None:
    """Then nothing more is read, and the connection ends when the client has left or its time is over."""
    client = _Client()
    responses = await client.send(sent, _post("/after"))
    if not status:  # a chunk that is not over: nothing is wrong yet
        return
    assert [each for each, _ in responses] == [status]
    assert why in _message(responses)
    assert client.server.asked == []
    assert client.transport.ended == "half"
    client.connection.data_received(b"x" * (LIMITS.refused_message_bytes_max + 1))
    assert client.transport.ended == "aborted"


async def test_what_grows_without_end_is_ended() -> None:
    """A header that never ends, a body in chunks that never ends, and one that is mostly framing."""
    client = _Client()
    responses = await client.send(b"POST / HTTP/1.1\r\nA: ", *(b"x" * 8_192 for _ in range(5)))
    assert [status for status, _ in responses] == [431]
    chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    responses = await _Client().send(chunked, *(b"64\r\n" + b"x" * 100 + b"\r\n" for _ in range(11)))
    assert "request: holds over 1,000 bytes" in _message(responses) or responses[0][0] == 429
    framing = b"1;" + b"e" * 200 + b"\r\nx\r\n"
    responses = await _Client().send(chunked, *(framing for _ in range(25)))
    assert [status for status, _ in responses] == [400]


async def test_long_bodies_that_arrive_are_bounded_together() -> None:
    """Short ones are always taken; what was counted is given back, however it ends."""
    server = _Server()
    first, second, short = _Client(server), _Client(server), _Client(server)
    half = _post("/a", b"x" * 900)[:-450]
    await first.send(half)
    responses = await second.send(half)
    assert [status for status, _ in responses] == [429]
    assert await short.send(_post("/b", b"x" * 100)) == [(200, b"/b " + b"x" * 100)]
    assert (await first.send(b"x" * 50))[-1:] != [(200, b"")]
    first.connection.connection_lost(None)
    assert server.held_bytes == 0


async def test_a_wish_for_another_protocol_is_passed_over() -> None:
    """As Java's client has it by default; the request keeps its body, and the next one comes."""
    client = _Client()
    upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
    assert await client.send(_post("/a", b"hello", *upgrade)) == [(200, b"/a hello")]
    assert b"upgrade" not in client.server.asked[0].headers
    assert await client.send(_post("/b")) == [(200, b"/a hello"), (200, b"/b ")]


async def test_a_client_that_asks_whether_to_send_is_told_so() -> None:
    """Unless its body would be refused."""
    client = _Client()
    head, body = _post("/a", b"hello", "Expect: 100-continue")[:-5], b"hello"
    assert await client.send(head) == [(100, b"")]
    assert await client.send(body) == [(100, b""), (200, b"/a hello")]
    assert [
        status for status, _ in await _Client().send(_post("/", b"x" * 2_000, "Expect: 100-continue"))
    ] == [400]


async def test_connections_are_kept_as_http_says() -> None:
    """HTTP/1.1 keeps it unless asked otherwise, HTTP/1.0 does not; a service that drains keeps none."""
    kept, asked, old, draining = _Client(), _Client(), _Client(), _Client()
    await kept.send(_post("/a"))
    await asked.send(_post("/a", b"", "Connection: close"))
    await old.send(b"POST /a HTTP/1.0\r\n\r\n")
    draining.server.closing = True
    await draining.send(_post("/a"))
    assert [each.transport.ended for each in (kept, asked, old, draining)] == [
        "",
        "closed",
        "closed",
        "closed",
    ]
    assert b"connection: close" not in kept.transport.sent
    assert b"connection: close" in draining.transport.sent


async def test_head_has_no_body() -> None:
    """The length it would have, and nothing of it."""
    client = _Client()
    await client.send(b"HEAD /a HTTP/1.1\r\n\r\n")
    assert b"content-length: 3" in client.transport.sent
    assert client.transport.sent.endswith(b"\r\n\r\n")


async def test_each_state_has_its_time() -> None:
    """Sending a request, being idle, taking an answer: each ends; an answer takes as long as it takes."""
    loop = asyncio.get_running_loop()
    client = _Client()

    def left_s() -> float:
        return client.connection.due_s - loop.time()

    assert 19 < left_s() <= 20
    await client.send(b"POST")
    assert 19 < left_s() <= 20
    due_s = client.connection.due_s
    client.server.go.clear()
    await client.send(b" /a HTTP/1.1\r\n")
    assert client.connection.due_s == due_s  # bytes now and then win no time
    await client.send(b"\r\n")
    assert left_s() == float("inf")
    client.server.go.set()
    client.transport.stuck = True
    await client.responses()
    assert 19 < left_s() <= 20
    client.connection.resume_writing()
    await client.responses()
    assert client.connection.idle
    assert 74 < left_s() <= 75


async def test_who_is_overdue_hears_why_or_is_left() -> None:
    """In the middle of a request: 408. Idle, or not taking an answer: the end."""
    slow, idle = _Client(), _Client()
    await slow.send(b"POST /a HTTP/1.1\r\nA: ")
    slow.connection.overdue()
    idle.connection.overdue()
    responses = await slow.responses()
    assert responses[0][0] == 408
    assert _message(responses) == "the request was not whole in 20 s"
    assert idle.transport.ended == "aborted"


async def test_a_connection_for_which_there_is_no_room_hears_so() -> None:
    """It is refused like a call beyond the room for calls."""
    server = _Server()
    server.room = False
    responses = await _Client(server).send(_post("/a"))
    assert [status for status, _ in responses] == [429]
    assert server.asked == []


@given(parts=st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(
    [b"POST / HTTP/1.1\r\n", b"\r\n\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n\r\n",
     b"0\r\n\r\n"]
)), max_size=12))  # fmt: skip
async def test_no_bytes_break_a_connection(parts: list[bytes]) -> None:
    """Whatever comes: nothing is raised, and what is answered is HTTP."""
    client = _Client()
    for status, _ in await client.send(*parts):
        assert status in {100, 200, 400, 405, 429, 431}
    client.connection.connection_lost(None)
