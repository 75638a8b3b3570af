"""Where a service may listen: IPv6, unix sockets and a port alone, asked as people write it."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest
from tests.conftest import Serve
from tests.e2e.campaigns import RULES
from tests.running import PATIENCE_S, Service

from tilbud.v1 import decisions_pb2 as pb


def _asked(target: str) -> None:
    """Ask as a person does, who writes where the service listens."""
    for words in (
        ["health", "--listen", target],
        ["health", "--target", target],
        ["decide", "rules", "--target", target],
    ):
        ran = subprocess.run(
            [sys.executable, "-m", "tilbud", *words], check=False, capture_output=True, text=True, timeout=60
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


class _UnixConnection(HTTPConnection):
    """HTTP by a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _decides(connection: HTTPConnection) -> bool:
    connection.request(
        "POST",
        "/tilbud.v1.DecisionService/Decide",
        json.dumps({"campaign": "rules"}),
        {"content-type": "application/json"},
    )
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return bool(answer["recorded"])


def test_loopback_of_ipv6(serve: Serve) -> None:
    """[::1] for gRPC, HTTP and metrics; the first line says it as it can be dialled and opened."""
    if not socket.has_ipv6 or not _has_ipv6_loopback():
        pytest.skip("no IPv6 here")
    here = ("--listen", "[::1]:0", "--http", "[::1]:0", "--metrics", "[::1]:0")
    service = serve(RULES, options=here)
    for address in (service.target, service.http, service.metrics_side):
        assert "[::1]:" in address
    assert service.wait_ready() == "ready\n"
    assert _decides(HTTPConnection(service.http.removeprefix("http://"), timeout=PATIENCE_S))
    _asked(service.target)


def _has_ipv6_loopback() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_a_port_alone_is_every_address(serve: Serve) -> None:
    """As it is to most servers: IPv4 and IPv6; who asks at the port alone asks on loopback."""
    service = serve(RULES, options=("--listen", ":0", "--http", ":0", "--metrics", ":0"))
    grpc_port, http_port, metrics_port = (
        address.rpartition(":")[2] for address in (service.target, service.http, service.metrics_side)
    )
    _asked(f":{grpc_port}")
    for host in ("127.0.0.1", "[::1]") if _has_ipv6_loopback() else ("127.0.0.1",):
        with socket.create_connection((host.strip("[]"), int(grpc_port)), timeout=PATIENCE_S):
            pass
        assert _decides(HTTPConnection(f"{host}:{http_port}", timeout=PATIENCE_S))
        probe = HTTPConnection(f"{host}:{metrics_port}", timeout=PATIENCE_S)
        probe.request("GET", "/livez")
        assert probe.getresponse().status == 200
        probe.close()


@pytest.fixture
def on_sockets(serve: Serve, tmp_path: Path) -> Service:
    """A service that is reached by unix sockets alone, but for its metrics."""
    here = ("--listen", f"unix:{tmp_path}/grpc", "--http", f"unix:{tmp_path}/http")
    return serve(RULES, options=here)


def test_unix_sockets(on_sockets: Service, tmp_path: Path) -> None:
    """One file for gRPC and one for HTTP, of their owner and group alone, which a stop removes."""
    assert on_sockets.target == f"unix:{tmp_path}/grpc"
    _asked(on_sockets.target)
    assert _decides(_UnixConnection(tmp_path / "http"))
    for name in ("grpc", "http"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o660
    assert on_sockets.stop() == 0
    assert not (tmp_path / "grpc").exists()
    assert not (tmp_path / "http").exists()


def test_a_unix_socket_that_a_killed_service_left_gives_way(on_sockets: Service, tmp_path: Path) -> None:
    """To the next service, and to nobody while it is served."""
    on_sockets.kill()
    assert (tmp_path / "grpc").is_socket()
    assert (tmp_path / "http").is_socket()
    on_sockets.start()
    assert on_sockets.decisions.Decide(pb.DecideRequest(campaign="rules")).recorded
    said = _refused("--listen", on_sockets.target, "--data", str(tmp_path / "other"))
    assert f"cannot listen on {on_sockets.target}: Address already in use; choose another --listen" in said
    assert on_sockets.decisions.Decide(pb.DecideRequest(campaign="rules")).recorded


def test_what_cannot_be_listened_at_is_a_sentence(tmp_path: Path) -> None:
    """A file that is no socket stays, and each refusal names the option and what helps."""
    (tmp_path / "file").write_text("kept")
    data = ("--data", str(tmp_path / "data"))
    for words, sentence in (
        (("--listen", f"unix:{tmp_path}/file"), f"unix:{tmp_path}/file: a file is there that is no socket"),
        (("--http", f"unix:{tmp_path}/no/file"), "No such file or directory; choose another --http"),
        (("--listen", "unix:"), "--listen: 'unix:' names no socket; write unix:/run/tilbud.sock"),
        (("--listen", f"unix:/{'long' * 30}"), "--listen: the path of a unix socket has 107 bytes at most"),
        (("--http", "::1:8000"), "--http: '::1:8000' is not HOST:PORT"),
        (("--metrics", "unix:/run/metrics"), "--metrics: Prometheus scrapes no unix socket"),
        (("--workers", "2", "--http", "unix:/run/http"), "a unix socket is one process's alone"),
    ):
        assert sentence in _refused(*words, *data), words
    assert (tmp_path / "file").read_text() == "kept"


def _refused(*words: str) -> str:
    """Start a service that cannot listen; return what it says."""
    ended = subprocess.run(
        [
            sys.executable, "-m", "tilbud", "serve",
            "--listen", "127.0.0.1:0", "--http", "off", "--metrics", "127.0.0.1:0", *words,
        ],
        check=False, capture_output=True, text=True, timeout=PATIENCE_S, cwd=os.sep,
    )  # fmt: skip
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "GRPC_VERBOSITY" not in ended.stderr
    return ended.stderr
