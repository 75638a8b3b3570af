"""The HTTP side answers probes whatever others do to it. Sockets are real, on loopback."""

from __future__ import annotations

import http.client
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import Metric

from tilbud.transport.http.metrics_server import HttpSide


@contextmanager
def _serving(registry: CollectorRegistry | None = None, ready: Callable[[], str] = str) -> Iterator[int]:
    side = HttpSide(host="127.0.0.1", port=0, registry=registry or CollectorRegistry(), ready=ready)
    side.start()
    try:
        yield side.port
    finally:
        side.stop()


def _get(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def _dial(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def test_each_path_has_its_answer() -> None:
    """Liveness, readiness with its reason, metrics, and a hint for anything else."""
    registry = CollectorRegistry()
    Gauge("answers", "Of the test.", registry=registry).set(42)
    with _serving(registry, lambda: "starting") as port:
        assert _get(port, "/livez") == (200, "alive\n")
        assert _get(port, "/readyz") == (503, "starting\n")
        assert "answers 42.0" in _get(port, "/metrics")[1]
        assert "answers 42.0" not in _get(port, "/metrics?name[]=other")[1]
        assert _get(port, "/livez", "HEAD") == (200, "")
        assert _get(port, "/livez", "POST")[0] == 405
        assert _get(port, "/elsewhere")[0] == 404


@pytest.mark.parametrize("said", [b"", b"GET /livez", b"GET /livez HTTP/1.1\r\nHost: x\r\n"])
def test_slow_sockets_keep_no_probe_out(said: bytes) -> None:
    """Hundreds of connections that never finish their request: each probe is answered."""
    with _serving() as port, ExitStack() as undo:
        for _ in range(400):
            undo.enter_context(_dial(port)).sendall(said)
        for _ in range(5):
            assert _get(port, "/livez") == (200, "alive\n")


@pytest.mark.parametrize("said", [b"\r\n\r\n", b"\x00" * 100 + b"\r\n\r\n", b"GET\r\n\r\n", b"x" * 20_000])
def test_nonsense_costs_nobody_else_anything(said: bytes) -> None:
    """Bytes that are no request end their own connection."""
    with _serving() as port:
        with _dial(port) as connection:
            connection.sendall(said)
            try:
                answer = connection.recv(100)
            except ConnectionResetError:
                answer = b""
        assert answer == b"" or b" 40" in answer
        assert _get(port, "/livez") == (200, "alive\n")


def test_a_scrape_that_hangs_keeps_no_probe_waiting() -> None:
    """Nor does it stop the service: scrapes beyond a few are refused, probes are answered."""
    release = threading.Event()
    hanging = threading.Semaphore(0)

    class Hanging:
        def collect(self) -> Iterator[Metric]:
            hanging.release()
            release.wait(120)
            yield from ()

    registry = CollectorRegistry(auto_describe=False)
    with _serving(registry) as port, ExitStack() as undo:
        registry.register(Hanging())
        for _ in range(4):
            undo.enter_context(_dial(port)).sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            assert hanging.acquire(timeout=60)
        assert _get(port, "/livez") == (200, "alive\n")
        assert _get(port, "/metrics")[0] == 503
        release.set()


def test_without_descriptors_it_answers_and_does_not_spin() -> None:
    """Where the process has none left, a probe gets one that was kept back, and waiting costs nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with _serving() as port, ExitStack() as undo:
        assert _get(port, "/livez") == (200, "alive\n")
        probe = undo.enter_context(socket.socket())
        with _dial(port) as last:
            used = last.fileno() + 1
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
            probe.settimeout(60)
            probe.connect(("127.0.0.1", port))
            probe.sendall(b"GET /livez HTTP/1.1\r\n\r\n")
            assert b"alive" in probe.recv(1_000)
            began, spent = time.monotonic(), time.process_time()
            time.sleep(0.5)
            assert time.process_time() - spent < 0.25 * (time.monotonic() - began)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert _get(port, "/livez") == (200, "alive\n")
