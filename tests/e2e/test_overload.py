"""Bursts are answered, and what is too much for one caller is not taken from another."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from threading import Event

import grpc
import pytest
from tests.running import CALL_S, Service, served, until

from tilbud.v1 import decisions_pb2 as pb
from tilbud.v1.decisions_pb2_grpc import DecisionServiceStub

CAMPAIGN = f"""
campaign: large
offers: [{{id: one, payload: {{html: {"x" * 8_000}}}}}, {{id: two}}]
reward: {{window: 1h, outcomes: {{click: 1}}}}
variants: {{control: {{share: 1, serves: one}}}}
consent: not_required
"""
SMALL = """
campaign: small
offers: [{id: one}, {id: two}]
reward: {window: 1h, outcomes: {click: 1}}
consent: not_required
"""
ROUNDS = 5
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, DATA, SETTINGS, WINDOW_UPDATE = 1, 0, 4, 8
WINDOW_MAX = 2**31 - 1


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A campaign whose answers are large, and one whose answers are small."""
    files = {"large.yaml": CAMPAIGN, "small.yaml": SMALL}
    with served(tmp_path_factory.mktemp("overload"), files) as service:
        yield service


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _header(name: str, value: str) -> bytes:
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


class _Unread:
    """A connection that asks, and has room for every answer, and reads none."""

    def __init__(self, target: str) -> None:
        host, port = target.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=CALL_S)
        settings = struct.pack(">HI", 4, WINDOW_MAX)  # the window of each stream
        connection_window = struct.pack(">I", WINDOW_MAX - 65_535)
        self.socket.sendall(
            PREFACE + _frame(SETTINGS, 0, 0, settings) + _frame(WINDOW_UPDATE, 0, 0, connection_window)
        )
        self._next = 1

    def ask(self, request: pb.BatchDecideRequest) -> None:
        headers = {
            ":method": "POST", ":scheme": "http", ":path": "/tilbud.v1.DecisionService/BatchDecide",
            ":authority": "x", "content-type": "application/grpc", "te": "trailers",
        }  # fmt: skip
        message = request.SerializeToString()
        block = b"".join(_header(*each) for each in headers.items())
        body = b"\0" + struct.pack(">I", len(message)) + message
        self.socket.sendall(_frame(HEADERS, 4, self._next, block) + _frame(DATA, 1, self._next, body))
        self._next += 2


def test_a_thousand_calls_at_once_on_one_connection_are_answered(service: Service) -> None:
    """A burst is no overload: what the service does not take at once waits at the client."""
    calls = [
        service.decisions.Decide.future(pb.DecideRequest(campaign="large"), timeout=CALL_S)
        for _ in range(1_000)
    ]
    assert all(call.result().recorded for call in calls)


def test_batches_keep_no_single_call_waiting(service: Service) -> None:
    """While one caller has many batches in flight, another's calls are answered in between."""
    asked = pb.DecideRequest(campaign="small", dry_run=True)  # no disk has a part in who comes first
    batch = pb.BatchDecideRequest(requests=[asked] * 400)
    # A busy process may see the end of a round only; one connection in sixteen has the other's listener.
    for _ in range(ROUNDS):
        with service.dial() as channel:
            stub = DecisionServiceStub(channel)
            batches = [stub.BatchDecide.future(batch, timeout=120) for _ in range(40)]
            in_between = 0
            while not all(each.done() for each in batches):
                assert service.decisions.Decide(asked, timeout=CALL_S).offer_id
                in_between += not all(each.done() for each in batches)
            assert all(len(each.result().results) == 400 for each in batches)
        if in_between >= 3:
            return
    raise AssertionError("single calls waited for the batches before them")


def test_who_does_not_read_is_given_no_more(service: Service) -> None:
    """Answers that a connection leaves unread are bounded; its further calls are refused, and counted."""
    refused = {"method": "BatchDecide", "code": "RESOURCE_EXHAUSTED"}
    given = {"method": "BatchDecide", "code": "OK"}
    name = "tilbud_rpc_duration_seconds_count"
    before = service.metric(name, **refused), service.metric(name, **given)
    batch = pb.BatchDecideRequest(requests=[pb.DecideRequest(campaign="large", dry_run=True)] * 450)
    unread = _Unread(service.target)
    for _ in range(16):  # 58 MB of answers
        unread.ask(batch)
    until(lambda: service.metric(name, **refused) + service.metric(name, **given) >= sum(before) + 16)
    assert service.metric(name, **given) - before[1] <= 8
    assert len(service.decisions.BatchDecide(batch, timeout=CALL_S).results) == 450  # of another connection
    unread.socket.close()


def test_streams_of_a_connection_are_bounded(service: Service) -> None:
    """Calls whose message does not come take a connection's streams, and nobody else's."""
    enough = Event()

    def never() -> Iterator[bytes]:
        enough.wait()
        yield from ()

    with service.dial() as channel:
        method = channel.stream_unary("/tilbud.v1.DecisionService/Decide", bytes, bytes)
        open_calls = [method.future(never(), timeout=120) for _ in range(16)]
        with pytest.raises(grpc.RpcError) as waited:
            DecisionServiceStub(channel).Decide(pb.DecideRequest(campaign="large"), timeout=1)
        assert waited.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert service.decisions.Decide(pb.DecideRequest(campaign="large"), timeout=CALL_S).recorded
        for call in open_calls:
            call.cancel()
        enough.set()
