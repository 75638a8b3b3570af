"""A gRPC client that calls when a call is due, and takes next to nothing of the machine it shares.

It does what h2load cannot: it calls at times known beforehand, whether earlier calls were answered or not,
and each call may be another's, of any method. On two cores a client of grpcio would take as much as the
server it measures; this one sends frames of HTTP/2 made beforehand and reads of the answers where they end.

What always holds: a latency counts from the moment a call was due, so that a call which had to wait behind
a slow one says so; a call without an answer ends the benchmark, and so does one answered by an error alone.
The text of an answer is not read: the service's own counters must say that each was right.

It speaks HTTP/2 as far as a gRPC server on loopback does: no TLS, no messages beyond one frame, and it
relies on the server to widen its window for what is sent. A connection has as many calls at once as the
server says it may; those beyond wait here, as in any client of gRPC.
"""

from __future__ import annotations

import gc
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Seconds = npt.NDArray[np.float64]
Message = tuple[str, bytes]
"""A method's path, and what it is asked."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM = _ACK = 1
_END_HEADERS = 4
_STREAMS_MAX = 3  # a setting: calls at once on a connection
_POST_HTTP, _PATH = b"\x83\x86", b"\x04"  # the path is not remembered, since methods take turns
_WIDEST = 2**31 - 1
_WINDOW_AT_FIRST = 65_535
_FRAME_BYTES_MAX = 16_384
_ANSWER_WAITED_S = 30.0
_BEGIN_S = 0.1  # from the call of `when_due` to the beginning of its times


@dataclass(frozen=True, slots=True)
class Calls:
    """When each call was due, sent and answered, in seconds since the beginning, and the client's CPU."""

    due_s: Seconds
    sent_s: Seconds
    answered_s: Seconds
    client_cpu_s: float

    @property
    def latency_s(self) -> Seconds:
        """Return the seconds from when each call was due to its answer."""
        return self.answered_s - self.due_s

    @property
    def rate(self) -> float:
        """Return the answers a second."""
        return len(self.due_s) / float(self.answered_s.max())


def arrivals(rate: float, seconds: float, seed: int, *, even: bool = False) -> Seconds:
    """Return when so many calls a second are due: by chance, as customers come who know of no other.

    `even`: each as long after the one before. The number of calls is the same, `rate` × `seconds`.
    """
    count = round(rate * seconds)
    if even:
        return np.arange(count) / rate
    # Given their number, the arrivals of a Poisson process are that many uniform draws, in order.
    return np.sort(np.random.default_rng(seed).uniform(0.0, seconds, count))


def when_due(port: int, messages: Sequence[Message], due_s: Seconds, *, connections: int = 8) -> Calls:
    """Make a call at each of these times, sending the messages in turn; return when all are answered.

    Raises TimeoutError, ConnectionError or RuntimeError where a call is not answered by a message.
    """
    with _Client(port, messages, connections, len(due_s)) as client:
        started = client.start(_BEGIN_S)
        upcoming = 0
        while client.answered < len(due_s):
            now_s = time.perf_counter() - started
            while upcoming < len(due_s) and due_s[upcoming] <= now_s:
                client.send(upcoming)
                upcoming += 1
            if upcoming < len(due_s):
                client.receive(max(0.0, due_s[upcoming] - now_s))
            else:
                client.await_some()
        return client.calls(due_s)


def in_turn(
    port: int, messages: Sequence[Message], calls: int, in_flight: int, *, connections: int = 1
) -> Calls:
    """Make so many calls, sending the messages in turn, a new one as soon as one is answered.

    Raises TimeoutError, ConnectionError or RuntimeError where a call is not answered by a message.
    """
    with _Client(port, messages, connections, calls) as client:
        client.start(0.0)
        upcoming = 0
        while client.answered < calls:
            may = min(client.answered + in_flight, calls)
            for number in range(upcoming, may):
                client.send(number)
            upcoming = may
            client.await_some()
        return client.calls(client.sent_s)


class _Client:
    """Connections that take turns, and when each call was sent and answered."""

    def __init__(self, port: int, messages: Sequence[Message], connections: int, calls: int) -> None:
        self.sent_s: Seconds = np.zeros(calls)
        self._answered_s: Seconds = np.zeros(calls)
        self.answered = 0
        self._messages = [(path, struct.pack(">xI", len(text)) + text) for path, text in messages]
        longest = max(len(body) for _, body in self._messages)
        assert longest <= _FRAME_BYTES_MAX, "a message must fit into one frame"
        self._lines = [_Line(port) for _ in range(connections)]
        self._by_socket = {line.socket: line for line in self._lines}
        self._started = 0.0
        self._cpu_s = 0.0

    def __enter__(self) -> _Client:  # noqa: PYI034 - Self would say no more of a class that none extends
        gc.collect()
        gc.disable()  # its pauses would be taken for the server's
        return self

    def __exit__(self, *_: object) -> None:
        gc.enable()
        for line in self._lines:
            line.socket.close()

    def start(self, begin_s: float) -> float:
        """Let the clock begin so many seconds from now; return when that is."""
        self._cpu_s = time.process_time()
        self._started = time.perf_counter() + begin_s
        return self._started

    def send(self, number: int) -> None:
        """Make a call."""
        self.sent_s[number] = time.perf_counter() - self._started
        self._lines[number % len(self._lines)].send(number, *self._messages[number % len(self._messages)])

    def await_some(self) -> None:
        """Take what comes next, be it an answer or not; raises TimeoutError where nothing does."""
        if not self.receive(_ANSWER_WAITED_S):
            raise TimeoutError(f"{len(self.sent_s) - self.answered} calls were not answered")

    def receive(self, timeout_s: float) -> bool:
        """Take what comes by then; return whether anything did."""
        # Not selectors: they round a wait up to a millisecond.
        ready, _, _ = select.select(self._by_socket, (), (), timeout_s)
        for each in ready:
            numbers = self._by_socket[each].receive()
            now_s = time.perf_counter() - self._started
            for number in numbers:
                self._answered_s[number] = now_s
            self.answered += len(numbers)
        return bool(ready)

    def calls(self, due_s: Seconds) -> Calls:
        """Return what was measured."""
        return Calls(due_s, self.sent_s, self._answered_s, time.process_time() - self._cpu_s)


class _Line:
    """One connection of HTTP/2."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_WAITED_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        settings = struct.pack(">HIHI", 2, 0, 4, _WIDEST)  # nothing pushed, windows as wide as can be
        widen = struct.pack(">I", _WIDEST - _WINDOW_AT_FIRST)
        self.socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW, 0, 0, widen))
        self._headers, self._headers_next = _headers(f"127.0.0.1:{port}")
        self._stream = 1
        self._calls: dict[int, int] = {}
        self._room = 0  # until the server says how many calls there may be
        self._waiting: deque[tuple[int, str, bytes]] = deque()
        self._with_message: set[int] = set()
        self._read = bytearray()
        self._unwidened = 0

    def send(self, number: int, path: str, body: bytes) -> None:
        """Make a call, as soon as the connection may have another."""
        if len(self._calls) < self._room:
            self._send(number, path, body)
        else:
            self._waiting.append((number, path, body))

    def _send(self, number: int, path: str, body: bytes) -> None:
        stream = self._stream
        self._calls[stream] = number
        self._stream += 2
        headers = _POST_HTTP + _PATH + _text(path) + self._headers
        self.socket.sendall(
            _frame(_HEADERS, _END_HEADERS, stream, headers) + _frame(_DATA, _END_STREAM, stream, body)
        )
        self._headers = self._headers_next

    def receive(self) -> list[int]:
        """Read what is there; return the calls that ended."""
        came = self.socket.recv(1 << 18)
        if not came:
            raise ConnectionError("the server closed a connection")
        self._read += came
        ended: list[int] = []
        at = 0
        while len(self._read) - at >= 9:
            high, low, kind, flags, stream = struct.unpack_from(">BHBBI", self._read, at)
            end = at + 9 + (high << 16 | low)
            if end > len(self._read):
                break
            if self._take(kind, flags, stream, self._read[at + 9 : end]):
                ended.append(self._calls.pop(stream))
            at = end
        del self._read[:at]
        while self._waiting and len(self._calls) < self._room:
            self._send(*self._waiting.popleft())
        return ended

    def _take(self, kind: int, flags: int, stream: int, payload: bytearray) -> bool:
        """Take one frame; return whether a call ended with it."""
        if kind == _DATA:
            self._with_message.add(stream)
            self._widen(len(payload))
        elif kind == _HEADERS and flags & _END_STREAM:
            if stream not in self._with_message:
                raise RuntimeError("a call was answered by an error; the service's counters tell which")
            self._with_message.discard(stream)
            return True
        elif kind in {_SETTINGS, _PING} and not flags & _ACK:
            if kind == _SETTINGS:
                settings = dict(struct.iter_unpack(">HI", payload))
                self._room = settings.get(_STREAMS_MAX, self._room or _WIDEST)
            self.socket.sendall(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind in {_RESET, _GOAWAY}:
            raise ConnectionError("the server ended a call or a connection")
        return False

    def _widen(self, read: int) -> None:
        self._unwidened += read
        if self._unwidened > _WIDEST // 2:
            self.socket.sendall(_frame(_WINDOW, 0, 0, struct.pack(">I", self._unwidened)))
            self._unwidened = 0


def _frame(kind: int, flags: int, stream: int, payload: bytes | bytearray) -> bytes:
    return struct.pack(">BHBBI", len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def _headers(authority: str) -> tuple[bytes, bytes]:
    """Return what stands behind the path in a connection's first call, and in those after it (RFC 7541).

    The first has the server remember it; later ones only say where it stands in its table.
    """
    named = (
        (b"\x41", authority),
        (b"\x40" + _text("content-type"), "application/grpc"),
        (b"\x40" + _text("te"), "trailers"),
    )
    return b"".join(name + _text(value) for name, value in named), b"\xc0\xbf\xbe"


def _text(value: str) -> bytes:
    assert len(value) < 127, "longer texts are written otherwise"
    return bytes([len(value)]) + value.encode()
