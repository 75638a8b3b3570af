"""One HTTP/1.1 connection: bytes to requests, responses to bytes, and how long each may take.

What holds: requests are answered one after the other, in order, and the next is not begun before the answer
to the one before was taken; whatever a client sends, or does not, what is kept of it is bounded, and after
its time the connection ends. A request that cannot be read is answered once, and nothing after it is read.
The parser is llhttp, which Node has: it refuses whatever two readers could understand differently.

What it does not do: HTTP/2, other protocols by `Upgrade`, trailers. An upgrade is passed over, as HTTP
allows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from math import inf
from time import perf_counter, time
from typing import Any, Protocol, cast

from grpc import StatusCode
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from tilbud.domain.errors import InvalidField, Overloaded
from tilbud.domain.limits import Limits
from tilbud.transport.connect.errors import problem, refused
from tilbud.transport.connect.json_codec import too_large
from tilbud.transport.connect.responses import Response
from tilbud.transport.grpc.status import status_of

_HTTP1_0 = "1.0"  # whose clients may wait for the end of a connection, not of an answer
_HTTP2 = b"PRI * HTTP/2"
_OF_AN_UPGRADE = {b"upgrade", b"connection", b"http2-settings"}


@dataclass(slots=True)
class Request:
    """A whole request, and its caller's connection."""

    peer: str
    method: bytes
    target: bytes
    headers: dict[bytes, bytes]  # names in lower case; of several alike the last
    body: bytes
    keep_alive: bool
    size: int  # in bytes, as the room for requests counts it
    began_s: float  # on perf_counter's clock, when it was complete
    taken: list[Callable[[Any], None]] = field(default_factory=list)
    """Called when the answer was taken by the client, or will never be."""


class Connections(Protocol):
    """What a connection needs of its server."""

    limits: Limits
    closing: bool  # whether each answer is the last of its connection

    def opened(self, connection: Connection) -> bool:
        """Know of a connection; False: there are too many."""

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""

    def hold(self, more: int) -> bool:
        """Count bytes of requests that are not answered yet; False: there are too many of them."""

    def answer(self, request: Request) -> Awaitable[Response]:
        """Answer a request; never raises."""


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: Connections) -> None:
        self._server = server
        self._limits = server.limits
        self._loop = asyncio.get_running_loop()
        self._parser = HttpRequestParser(self)
        self._waiting: deque[Request | Response] = deque()
        self._answering: asyncio.Task[None] | None = None
        self._taken: asyncio.Future[None] | None = None  # of an answer that its client has not taken
        self._untaken: list[Callable[[Any], None]] = []
        self._deaf = False  # nothing more is read
        self._last = False  # nothing more comes
        self._held = 0  # bytes of requests that came, and are not answered yet
        self._body: bytes | bytearray = b""
        self._clear()
        self.peer = ""
        self.due_s = inf  # when it ends, on the loop's clock

    @property
    def idle(self) -> bool:
        """Whether nothing of a request is here, nor of an answer."""
        return self._answering is None and not self._begun and not self._deaf

    def close(self) -> None:
        """End it, whatever it does."""
        self._transport.abort()
        if self._answering is not None:  # which would write on it before it hears of the end
            self._answering.cancel()

    def overdue(self) -> None:
        """End it, since its time is over; who is in the middle of a request hears why."""
        if self._begun and not self._deaf:
            wait_s = self._limits.request_wait_s
            self._refuse(
                problem(408, StatusCode.INVALID_ARGUMENT, f"the request was not whole in {wait_s:g} s")
            )
        else:
            self.close()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0)
        # Each connection is a peer of its own; those of a unix socket have no name.
        host, port, *_ = self._transport.get_extra_info("peername") or ("unix", id(self))
        self.peer = f"http:{host}:{port}"
        self.due_s = self._loop.time() + self._limits.request_wait_s
        if not self._server.opened(self):
            self._refuse(self._overloaded("the room for connections"))

    def connection_lost(self, _: Exception | None) -> None:
        self._deaf = True
        self._waiting.clear()
        if self._answering is not None:
            self._answering.cancel()
        self._is_taken()
        self._count_held(-self._held)
        self._server.closed(self)

    def pause_writing(self) -> None:
        self._taken = self._loop.create_future()

    def resume_writing(self) -> None:
        self._is_taken()

    def eof_received(self) -> bool:
        self._last = self._deaf = True
        return self._answering is not None  # else it is closed at once

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            self._unread += len(data)
            if self._unread > self._limits.refused_message_bytes_max:
                self.close()
            return
        self._raw += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._pass_over_upgrade(data[upgrade.args[0] :])
        except HttpParserError:
            self._refuse(_not_http(data))
        if self._begun and not self._deaf:
            self._check_sizes()

    # What the parser calls

    def on_message_begin(self) -> None:
        if not self._deaf:
            self._clear()
            self._begun = True
            if self._answering is None:
                self.due_s = self._loop.time() + self._limits.request_wait_s

    def on_url(self, part: bytes) -> None:
        if self._deaf:
            return
        self._target += part
        self._count_head(len(part))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._deaf or self._whole_head:  # or a trailer
            return
        self._headers[name.lower()] = value
        self._header_count += 1
        self._count_head(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        if self._deaf or self._parser.should_upgrade():
            return
        self._whole_head = True
        length = self._headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._limits.message_bytes_max:
            self._refuse(refused(status_of(too_large(f"{int(length):,}", self._limits))))
        elif not self._hold(self._head_bytes):
            self._refuse(self._overloaded("the room for requests"))
        elif self._headers.get(b"expect", b"").lower() == b"100-continue" and self._answering is None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, part: bytes) -> None:
        if self._deaf:
            return
        if not self._body:
            self._body = part
        elif isinstance(self._body, bytearray):
            self._body += part
        else:
            self._body = bytearray(self._body) + part  # many small parts would be many objects
        room = self._hold(len(part))
        if len(self._body) > self._limits.message_bytes_max:
            too_many = f"over {self._limits.message_bytes_max:,}"
            self._refuse(refused(status_of(too_large(too_many, self._limits))))
        elif not room:
            self._refuse(self._overloaded("the room for requests"))

    def on_message_complete(self) -> None:
        if self._deaf or self._parser.should_upgrade():
            return
        if len(self._waiting) >= self._limits.streams_max:
            self._refuse(self._overloaded("this connection's room for calls"))
            return
        request = Request(
            peer=self.peer,
            method=self._parser.get_method(),
            target=self._target,
            headers=self._headers,
            body=bytes(self._body),
            keep_alive=self._parser.should_keep_alive() and self._parser.get_http_version() != _HTTP1_0,
            size=self._size,
            began_s=perf_counter(),
        )
        self._clear()  # or an idle connection would keep its last body
        self._enqueue(request)

    # What follows

    def _clear(self) -> None:
        """Begin a request."""
        self._begun = self._whole_head = False
        self._raw = self._unread = 0
        self._head_bytes = self._header_count = self._size = 0
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._body = b""

    def _overloaded(self, room: str) -> Response:
        return refused(status_of(Overloaded(room, self._limits.retry_after_s)))

    def _hold(self, more: int) -> bool:
        """Count bytes of the request that comes; False: there are too many of all connections."""
        self._size += more
        return self._count_held(more)

    def _count_held(self, more: int) -> bool:
        free = self._limits.connect_free_bytes
        before = max(0, self._held - free)
        self._held += more
        return self._server.hold(max(0, self._held - free) - before)

    def _count_head(self, more: int) -> None:
        self._head_bytes += more
        if (
            self._head_bytes > self._limits.http_head_bytes_max
            or self._header_count > self._limits.connect_headers_max
        ):
            self._refuse(_large_head(self._limits))

    def _check_sizes(self) -> None:
        """End what the parser keeps for itself: a header without end, chunks that are mostly framing."""
        if not self._whole_head:
            if self._raw > 2 * self._limits.http_head_bytes_max:
                self._refuse(_large_head(self._limits))
        elif self._raw > self._limits.refused_message_bytes_max:
            self._refuse(refused(status_of(too_large(f"over {self._raw:,}", self._limits))))

    def _pass_over_upgrade(self, rest: bytes) -> None:
        """Read a request again without its wish for another protocol, which the parser would obey."""
        method = self._parser.get_method()
        if self._deaf:
            return
        if method == b"CONNECT":
            self._refuse(problem(405, StatusCode.UNIMPLEMENTED, "only POST", headers=(("allow", "POST"),)))
            return
        head = [b"%b %b HTTP/1.1" % (method, self._target)]
        head += [b"%b: %b" % pair for pair in self._headers.items() if pair[0] not in _OF_AN_UPGRADE]
        self._parser = HttpRequestParser(self)
        self.data_received(b"\r\n".join([*head, b"", b""]) + rest)

    def _refuse(self, response: Response) -> None:
        """Answer what cannot be read, after all that came before it, and read nothing more."""
        if self._deaf:
            return
        self._deaf = True
        self._count_held(-self._size)
        self._clear()
        self._enqueue(response)

    def _enqueue(self, item: Request | Response) -> None:
        self._waiting.append(item)
        if self._answering is None:
            self.due_s = inf
            self._answering = self._loop.create_task(self._answer_all())

    async def _answer_all(self) -> None:
        last = False
        while self._waiting and not last:
            item = self._waiting.popleft()
            last = await self._answer(item)
        self._answering = None
        if not last and not self._last:
            wait_s = self._limits.request_wait_s if self._begun else self._limits.connect_idle_s
            self.due_s = self._loop.time() + wait_s
            if self._server.closing and not self._begun:
                self._transport.close()
        elif self._deaf and not self._last:  # what still comes is read, or the answer would be lost with it
            self._transport.write_eof()
            self.due_s = self._loop.time() + self._limits.connect_linger_s
        else:
            self._transport.close()

    async def _answer(self, item: Request | Response) -> bool:
        """Answer a request, or write a response that is there; return whether it was the last."""
        if isinstance(item, Response):
            response, last, bodiless = item, True, False
        else:
            self._count_held(-item.size)  # the call's room has it from here on
            self._untaken = item.taken
            try:
                response = await self._server.answer(item)
            except Exception:
                self.close()
                raise
            last = response.close or not item.keep_alive or self._server.closing
            bodiless = item.method == b"HEAD"
            item.body = b""  # while the answer is taken
        self._transport.write(_written(response, close=last, bodiless=bodiless))
        if self._taken is None:
            self._is_taken()
        else:
            self.due_s = self._loop.time() + self._limits.connect_answer_s
            await self._taken
            self.due_s = inf
        return last

    def _is_taken(self) -> None:
        if self._taken is not None and not self._taken.done():
            self._taken.set_result(None)
        self._taken = None
        while self._untaken:
            self._untaken.pop()(None)


def _written(response: Response, *, close: bool, bodiless: bool) -> bytes:
    head = _head(response.status, response.content_type, int(time()))
    lines = "".join([f"{name}: {value}\r\n" for name, value in response.headers])
    ends = "connection: close\r\n" if close else ""
    length = "" if response.status == HTTPStatus.NO_CONTENT else f"content-length: {len(response.body)}\r\n"
    return f"{head}{length}{lines}{ends}\r\n".encode("latin-1") + (b"" if bodiless else response.body)


@lru_cache(maxsize=Limits.connect_heads_cached_max)
def _head(status: int, content_type: str, now_s: int) -> str:
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:  # 499, which proxies invented
        reason = "Client Closed Request"
    return (
        f"HTTP/1.1 {status} {reason}\r\ndate: {formatdate(now_s, usegmt=True)}\r\n"
        f"content-type: {content_type}\r\n"
    )


def _not_http(data: bytes) -> Response:
    hint = "; gRPC is on the address of --listen" if data.startswith(_HTTP2) else ""
    return refused(status_of(InvalidField("request", f"is no HTTP/1.1{hint}")))


def _large_head(limits: Limits) -> Response:
    return problem(
        431,
        StatusCode.INVALID_ARGUMENT,
        f"a head has at most {limits.http_head_bytes_max:,} bytes and {limits.connect_headers_max} headers",
    )
