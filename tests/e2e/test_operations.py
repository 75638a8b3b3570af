"""What those who run it see: health, reflection, metrics, logs, signals."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from tests.conftest import Serve
from tests.e2e.campaigns import RULES, SLOW
from tests.running import CALL_S, START_S, Service, served, until

from tilbud.domain.limits import Limits
from tilbud.v1 import decisions_pb2 as pb
from tilbud.v1.decisions_pb2_grpc import DecisionServiceStub

_SAMPLE = re.compile(r"^(?P<name>\w+)(\{(?P<labels>.*)\})? ")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
SERVING = health_pb2.HealthCheckResponse.SERVING
DESIGNED = {
    "decisions_total": {"campaign", "variant", "reason", "offer"},
    "context_decisions_total": {"campaign", "variant", "channel", "device", "journey_stage"},
    "outcomes_total": {"campaign", "outcome", "status"},
    "settlements_total": {"campaign", "variant", "offer"},
    "reward_gain_total": {"campaign", "variant", "offer"},
    "reward_loss_total": {"campaign", "variant", "offer"},
    "reward_squares_total": {"campaign", "variant", "offer"},
    "importance_weights_total": {"campaign", "variant", "offer"},
    "importance_weight_squares_total": {"campaign", "variant", "offer"},
    "weighted_reward_gain_total": {"campaign", "variant", "offer"},
    "weighted_reward_loss_total": {"campaign", "variant", "offer"},
    "weighted_reward_squares_total": {"campaign", "variant", "offer"},
    "square_weighted_reward_gain_total": {"campaign", "variant", "offer"},
    "square_weighted_reward_loss_total": {"campaign", "variant", "offer"},
    "context_settlements_total": {"campaign", "variant", "channel", "device", "journey_stage"},
    "context_reward_gain_total": {"campaign", "variant", "channel", "device", "journey_stage"},
    "context_reward_loss_total": {"campaign", "variant", "channel", "device", "journey_stage"},
    "context_reward_squares_total": {"campaign", "variant", "channel", "device", "journey_stage"},
    "decide_duration_seconds_count": {"campaign"},
    "rpc_duration_seconds_count": {"method", "code", "protocol"},
    "ledger_commit_duration_seconds_count": set(),
    "learn_duration_seconds_count": {"campaign"},
    "settlement_lag_seconds": {"campaign"},
    "pending_decisions": {"campaign"},
    "model_sequence": {"campaign", "lineage"},
    "probability_drawn_count": {"campaign", "variant"},
    "policy_entropy_ratio_count": {"campaign"},
    "policy_probability_min_count": {"campaign"},
    "ledger_bytes": {"file"},
    "data_free_bytes": set(),
    "calls_in_flight": set(),
    "ready": set(),
    "excluded_offers_total": {"campaign", "rule"},
    "dropped_values_total": {"campaign", "field", "why"},
    "event_loop_stall_seconds_count": set(),
    "event_loop_stall_max_seconds": set(),
    "build_info": {"version", "vw_version"},
}


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Serves one campaign, to those tests that only look."""
    with served(tmp_path_factory.mktemp("slow"), {"slow.yaml": SLOW}) as service:
        yield service


def _health(service: Service, name: str = "", channel: grpc.Channel | None = None) -> int:
    check = (channel or service.channel).unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    return int(check(health_pb2.HealthCheckRequest(service=name)).status)


def test_metrics_have_their_names_and_labels_and_no_ids(serve: Serve) -> None:
    """Every metric of the design is there under its labels; ids and undeclared words never label one."""
    service = serve(RULES)
    context = pb.Context(device="secret-device", channel="app", place="secret-place")
    for number in range(40):
        request = pb.DecideRequest(
            campaign="rules", customer_id="secret-customer", decision_id=f"secret-{number}", context=context
        )
        service.decisions.Decide(request)
        service.decisions.ReportOutcome(
            pb.ReportOutcomeRequest(campaign="rules", decision_id=f"secret-{number}", outcome="bought")
        )
    until(lambda: service.metric("tilbud_settlements_total") == 40)
    until(lambda: service.metric("tilbud_pending_decisions") == 0)
    text = service.get("/metrics")[1]
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        if match := _SAMPLE.match(line):
            found[match["name"]] = {name for name, _ in _LABEL.findall(match["labels"] or "")}
    for name, labels in DESIGNED.items():
        assert found.get(f"tilbud_{name}") == labels, name
    assert 'device="other"' in text
    assert "secret" not in text
    assert "secret" not in service.log.read_text()


def test_a_default_for_metrics_that_is_taken_keeps_nobody_from_serving(serve: Serve) -> None:
    """Where another program has the port that metrics have by default, they go elsewhere, and it is said."""
    with socket.socket() as taken:
        with contextlib.suppress(OSError):  # by somebody else
            taken.bind(("127.0.0.1", 8080))
            taken.listen()
        service = serve(RULES, options=("--metrics", "127.0.0.1:8080"))
        assert service.get("/readyz")[0] == 200
    assert not service.metrics_side.endswith(":8080")
    assert '"metrics_elsewhere"' in service.log.read_text()
    metrics = urllib.request.urlopen(f"{service.http}/metrics", timeout=CALL_S)  # sent there
    assert "tilbud_ready 1.0" in metrics.read().decode()


def test_a_stall_of_the_event_loop_is_measured(slow: Service) -> None:
    """A process that is held for a while shows it, to a sleep: as the largest stall, and in the histogram."""
    stalled_s, before = 0.4, _long_stalls(slow)
    slow.process.send_signal(signal.SIGSTOP)
    threading.Event().wait(stalled_s)  # it has to last
    slow.process.send_signal(signal.SIGCONT)
    until(lambda: _long_stalls(slow) > before)
    assert slow.metric("tilbud_event_loop_stall_max_seconds") >= stalled_s - Limits.stall_idle_sleep_s - 0.02


def _long_stalls(service: Service) -> float:
    page = service.get("/metrics")[1]  # one, since every sleep is observed too
    counts = dict(
        re.findall(r'^tilbud_event_loop_stall_seconds_bucket{le="(.*?)"} (.*)$', page, re.MULTILINE)
    )
    return float(counts["+Inf"]) - float(counts["0.25"])


def test_logs_are_json_lines(serve: Serve) -> None:
    """Every line of the log is one JSON object with a time, a level and an event."""
    service = serve(SLOW)
    service.stop()
    lines = [json.loads(line) for line in service.log.read_text().splitlines()]
    assert {"serving", "draining", "stopped"} <= {line["event"] for line in lines}
    assert all({"time", "level", "event"} <= line.keys() for line in lines)


def test_health_and_readiness_follow_the_service(slow: Service) -> None:
    """SERVING overall and for each service, /livez and /readyz 200; unknown services NOT_FOUND."""
    for name in ("", "tilbud.v1.DecisionService", "tilbud.v1.CampaignService"):
        until(lambda name=name: _health(slow, name) == SERVING)
    assert slow.get("/livez") == (200, "alive\n")
    assert slow.wait_ready() == "ready\n"
    assert slow.get("/nothing")[0] == 404


def _listening(port: int) -> int:
    """How many sockets listen on a port, as Linux tells (proc_pid_net(5))."""
    rows = [
        line.split()
        for table in ("tcp", "tcp6")  # grpcio takes an IPv4 address for one of IPv6
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


def test_every_connection_meets_the_same_service(slow: Service) -> None:
    """Whichever listener has it: the service is healthy there, and a retry is the same decision."""
    assert _listening(int(slow.target.rpartition(":")[2])) == Limits().listeners
    request = pb.DecideRequest(campaign="slow", decision_id="one")
    answer = slow.decisions.Decide(request)
    for _ in range(4 * Limits().listeners):
        with slow.dial() as channel:
            until(lambda channel=channel: _health(slow, "tilbud.v1.DecisionService", channel) == SERVING)
            assert DecisionServiceStub(channel).Decide(request) == answer


def test_sigterm_drains_without_losing_a_call(serve: Serve) -> None:
    """SIGTERM under load: callers that retry lose nothing, the process ends with 0, and ids answer again.

    Each caller has a connection of its own, so that several of the listeners have calls in flight.
    """
    service = serve(SLOW)
    acknowledged: list[str] = []
    retried: list[str] = []
    stopping = threading.Event()

    def ask() -> None:
        decisions = DecisionServiceStub(service.dial())
        for number in range(100_000):
            name = f"drain-{threading.get_ident()}-{number}"
            try:
                decisions.Decide(pb.DecideRequest(campaign="slow", decision_id=name))
            except (grpc.RpcError, ValueError) as error:
                code = error.code() if isinstance(error, grpc.RpcError) else grpc.StatusCode.CANCELLED
                assert code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}, code
                retried.append(name)
                return
            acknowledged.append(name)
            if number == 200:
                stopping.set()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert stopping.wait(60)
    service.process.terminate()
    assert service.process.wait(60) == 0
    for thread in threads:
        thread.join(60)
    service.start()
    for name in acknowledged + retried:
        assert service.decisions.Decide(pb.DecideRequest(campaign="slow", decision_id=name)).recorded
    assert service.metric("tilbud_decisions_total") <= len(retried), (
        "acknowledged ones were answered from the ledger"
    )


def test_grpcurl_lists_and_calls_through_reflection(slow: Service) -> None:
    """Reflection works for both of its versions' clients: grpcurl lists, describes and calls."""
    grpcurl = str(Path(sys.executable).with_name("grpcurl"))
    assert shutil.which(grpcurl)

    def run(*words: str) -> str:
        return subprocess.run(
            [grpcurl, "-plaintext", *words], check=True, capture_output=True, text=True
        ).stdout

    listed = run(slow.target, "list").split()
    assert {"tilbud.v1.DecisionService", "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection", "grpc.health.v1.Health"} <= set(listed)  # fmt: skip
    answer = run("-d", '{"campaign": "slow"}', slow.target, "tilbud.v1.DecisionService/Decide")
    assert json.loads(answer)["recorded"]


def test_reflection_v1_describes_itself(slow: Service) -> None:
    """A client of reflection v1 finds the services and the file of v1 itself."""
    from grpc_reflection.v1alpha import reflection_pb2  # noqa: PLC0415 - the same messages

    call = slow.channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    asked = (
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="grpc.reflection.v1.ServerReflection"),
    )
    listed, described = call(iter(asked))
    assert "tilbud.v1.DecisionService" in {each.name for each in listed.list_services_response.service}
    assert described.file_descriptor_response.file_descriptor_proto


def test_a_taken_address_is_a_sentence(slow: Service, tmp_path: Path) -> None:
    """Starting on a taken port ends with status 2 and says so."""
    ended = subprocess.run(
        [sys.executable, "-m", "tilbud", "serve", "--data", tmp_path / "other", "--http", "off",
         "--metrics", "127.0.0.1:0", "--listen", slow.target],
        check=False, capture_output=True, text=True, timeout=2 * START_S,
    )  # fmt: skip
    assert ended.returncode == 2
    assert f"cannot listen on {slow.target}: Address already in use; choose another" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_data_directory_has_one_service(slow: Service) -> None:
    """A second service on the same data directory is refused with a sentence, and harms nothing."""
    ended = subprocess.run(
        [sys.executable, "-m", "tilbud", "serve", "--data", slow.data, "--http", "off",
         "--metrics", "127.0.0.1:0", "--listen", "127.0.0.1:0"],
        check=False, capture_output=True, text=True, timeout=2 * START_S,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "another process serves" in ended.stderr
    assert slow.decisions.Decide(pb.DecideRequest(campaign="slow")).recorded


def test_idle_connections_to_the_http_side_are_bounded(slow: Service) -> None:
    """Hundreds of idle connections cost a bounded number of threads; decisions go on."""
    port = int(slow.metrics_side.rsplit(":", 1)[1])
    before = len(list(Path(f"/proc/{slow.process.pid}/task").iterdir()))
    idle = [socket.create_connection(("127.0.0.1", port), timeout=CALL_S) for _ in range(200)]
    assert slow.decisions.Decide(pb.DecideRequest(campaign="slow")).recorded
    assert len(list(Path(f"/proc/{slow.process.pid}/task").iterdir())) - before <= 2 * 16 + 8
    for connection in idle:
        connection.close()
