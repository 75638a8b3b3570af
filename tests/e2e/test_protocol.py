"""What every gRPC client may do: keep its connection alive, watch health, look around, and break off."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status import rpc_status
from tests.e2e.campaigns import SLOW
from tests.running import CALL_S, PATIENCE_S, START_S, Service, served, until

from tilbud.v1 import decisions_pb2 as pb
from tilbud.v1.decisions_pb2_grpc import DecisionServiceStub

_DECIDE = "/tilbud.v1.DecisionService/Decide"
_health_messages: Any = health_pb2  # whose types do not know List yet


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One campaign."""
    with served(tmp_path_factory.mktemp("protocol"), {"slow.yaml": SLOW}) as service:
        yield service


def test_a_connection_is_kept_alive_by_pings(service: Service) -> None:
    """A client that pings each second, with no call open, keeps its connection."""
    options = [
        ("grpc.keepalive_time_ms", 1_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    with grpc.insecure_channel(service.target, options) as channel:
        states: list[grpc.ChannelConnectivity] = []
        channel.subscribe(states.append)
        DecisionServiceStub(channel).Decide(pb.DecideRequest(campaign="slow"), timeout=CALL_S)
        time.sleep(5)  # the default would have sent it away at the third ping
        assert states[-1] is grpc.ChannelConnectivity.READY
        assert len(states) <= 3  # idle, connecting, ready


def test_health_lists_every_service(service: Service) -> None:
    """`List` answers for all and for each, as `Check` does one by one."""
    stub: Any = health_pb2_grpc.HealthStub(service.channel)

    def listed() -> dict[str, Any]:
        return dict(stub.List(_health_messages.HealthListRequest(), timeout=CALL_S).statuses)

    assert {"", "tilbud.v1.DecisionService"} < set(listed())
    until(  # it may be another just then
        lambda: all(
            answer == stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=CALL_S)
            for name, answer in listed().items()
        )
    )
    with pytest.raises(grpc.RpcError) as unknown:
        stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=CALL_S)
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_watcher_hears_of_the_stop_and_does_not_hold_it_up(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Who watches is told NOT_SERVING, and let go when the service stops, long before its grace is over."""
    grace = ("--drain-grace-s", str(2 * START_S))  # within which nobody waits for it to stop
    with served(tmp_path_factory.mktemp("watched"), {"slow.yaml": SLOW}, grace) as service:
        with grpc.insecure_channel(service.target) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            seen: list[object] = []
            serving = health_pb2.HealthCheckResponse.SERVING

            def watch() -> None:
                try:
                    for answer in stub.Watch(health_pb2.HealthCheckRequest(), timeout=60):
                        seen.append(answer.status)
                        if answer.status == serving:
                            served_once.set()
                except grpc.RpcError as error:
                    seen.append(error.code())

            served_once = threading.Event()
            watching = threading.Thread(target=watch)
            watching.start()
            assert served_once.wait(PATIENCE_S)
            assert service.stop() == 0
            watching.join(PATIENCE_S)
        assert seen[-2:] == [health_pb2.HealthCheckResponse.NOT_SERVING, grpc.StatusCode.UNAVAILABLE]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
@pytest.mark.parametrize(
    ("symbol", "file"),
    [
        ("tilbud.v1.DecisionService.Decide", "tilbud/v1/decisions.proto"),
        ("tilbud.v1.DecideRequest.campaign", "tilbud/v1/decisions.proto"),
        ("tilbud.v1.Consent.CONSENT_GRANTED", "tilbud/v1/decisions.proto"),
        ("tilbud.v1.CONSENT_GRANTED", "tilbud/v1/decisions.proto"),
        ("tilbud.v1.CustomerService.EraseCustomer", "tilbud/v1/customers.proto"),
        ("grpc.health.v1.Health.List", "health.proto"),
        ("tilbud.v1.DecisionService.Nothing", None),
        ("nothing", None),
    ],
)
def test_reflection_finds_every_symbol(service: Service, version: str, symbol: str, file: str | None) -> None:
    """Services, methods, fields and values of enums are found by their full names; others are not."""
    ask = service.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
    [answer] = list(ask(iter([request]), timeout=CALL_S))
    if file is None:
        assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    else:
        assert any(file.encode() in each for each in answer.file_descriptor_response.file_descriptor_proto)


@pytest.mark.parametrize("method", [_DECIDE, "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/List"])
def test_a_call_that_ends_without_a_message_is_answered(service: Service, method: str) -> None:
    """At once, as the caller's fault; nobody waits for what cannot come any more."""
    call = service.channel.stream_unary(method, bytes, bytes)
    with pytest.raises(grpc.RpcError) as refused:
        call(iter(()), timeout=CALL_S)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "the request message is missing" in str(refused.value.details())


def test_a_call_without_a_message_is_counted(service: Service) -> None:
    """It has its code in the metrics and its reason in the details, as every refusal."""
    name = "tilbud_rpc_duration_seconds_count"
    before = service.metric(name, method="Decide", code="INVALID_ARGUMENT")
    with pytest.raises(grpc.RpcError) as refused:
        service.channel.stream_unary(_DECIDE, bytes, bytes)(iter(()), timeout=CALL_S)
    status = rpc_status.from_call(refused.value)
    assert any(b"REQUEST_MISSING" in detail.value for detail in status.details)
    assert service.metric(name, method="Decide", code="INVALID_ARGUMENT") == before + 1
