"""How fast are decisions, beside a gRPC server that does nothing?

    python loadtests/decide.py [--calls 20000] [--rounds 3]

Durable unary Decide (10 offers) against a no-op grpc.aio echo of the same messages, in alternating
rounds of one run, driven by h2load (Debian: nghttp2-client) at 1 and 32 calls in flight; then
BatchDecide(100) with the server held on one core. Prints its table and the machine. Checks that
what was called was recorded: h2load sees HTTP only, so the service's own counters must agree.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
from rich.console import Console
from rich.table import Table

from tilbud.config import SAMPLES
from tilbud.v1 import decisions_pb2 as pb

DECIDE = "/tilbud.v1.DecisionService/Decide"
BATCH_DECIDE = "/tilbud.v1.DecisionService/BatchDecide"
QUESTION = pb.DecideRequest(
    campaign="shop",
    context=pb.Context(device="mobile", channel="app", journey_stage="consideration", time_zone="UTC"),
)
BATCH_SIZE = 100
BATCH_IN_FLIGHT = 4
_PORT = re.compile(r"127\.0\.0\.1:(\d+)(?:.*127\.0\.0\.1:(\d+))?")
_RATE = re.compile(r"finished in [\d.]+m?s, ([\d.]+) req/s")
_SUCCEEDED = re.compile(r"(\d+) succeeded")


class Server:
    """A server in a process of its own, with the CPU time it took."""

    def __init__(self, command: list[str], cores: set[int] | None = None) -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if cores:
            os.sched_setaffinity(self._process.pid, cores)
        found = _PORT.search(self._process.stdout.readline())
        assert found, "the server did not start"
        self.port, self.http_port = int(found[1]), int(found[2] or 0)

    def cpu_s(self) -> float:
        """Return the CPU seconds of all its threads so far."""
        # Linux keeps such a clock of every process, see clock_getcpuclockid(3); /proc tells hundredths only.
        return time.clock_gettime((~self._process.pid << 3) | 2)

    def counted(self, metric: str) -> int:
        """Return the sum of one of the service's counters."""
        url = f"http://127.0.0.1:{self.http_port}/metrics"
        text = urllib.request.urlopen(url, timeout=30).read().decode()
        lines = [line for line in text.splitlines() if line.startswith(metric)]
        return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines))

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(60)


@contextlib.contextmanager
def served(data: Path, cores: set[int] | None = None, campaigns: Path = SAMPLES) -> Iterator[Server]:
    """Serve campaigns from an empty data directory."""
    command = [
        sys.executable, "-m", "tilbud", "serve", "--campaigns", str(campaigns), "--data", str(data),
        "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--log-level", "warning", "--drain-notice-s", "0",
    ]  # fmt: skip
    server = Server(command, cores)
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def echoing() -> Iterator[Server]:
    """Serve the no-op: the same messages, read and written, and nothing between."""
    server = Server([sys.executable, __file__, "--echo"])
    try:
        yield server
    finally:
        server.stop()


async def echo() -> None:
    """Be the no-op server."""
    answer = pb.DecideResponse(
        decision_id="01939f3e-0000-7000-8000-000000000000",
        offer_id="free-shipping",
        probability=0.1,
        reason=pb.DECISION_REASON_PERSONALIZED,
        variant="personalized",
        model_version="0123456789ab.1",
        recorded=True,
    )
    answer.payload["title"] = "Free shipping this week"
    answer.reward_deadline.GetCurrentTime()

    async def handle(_request: pb.DecideRequest, _context: object) -> pb.DecideResponse:
        return answer

    method = grpc.unary_unary_rpc_method_handler(
        handle,
        request_deserializer=pb.DecideRequest.FromString,
        response_serializer=pb.DecideResponse.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("tilbud.v1.DecisionService", {"Decide": method}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    Console().print(f"127.0.0.1:{port}")
    sys.stdout.flush()
    await server.wait_for_termination()


def h2load(port: int, body: Path, calls: int, in_flight: int) -> float:
    """Return calls a second; one connection with one stream, or eight with four each."""
    clients = 1 if in_flight == 1 else 8
    ran = subprocess.run(
        ["h2load", "-n", str(calls), "-c", str(clients), "-m", str(in_flight // clients), "-d", str(body),
         "-H", "content-type: application/grpc", "-H", "te: trailers", f"http://127.0.0.1:{port}{DECIDE}"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    rate, succeeded = _RATE.search(ran), _SUCCEEDED.search(ran)
    assert rate is not None
    assert succeeded is not None
    assert int(succeeded[1]) == calls, ran
    return float(rate[1])


def measure(server: Server, body: Path, calls: int, in_flight: int) -> tuple[float, float]:
    """Return calls a second and CPU microseconds a call."""
    before = server.cpu_s()
    rate = h2load(server.port, body, calls, in_flight)
    return rate, (server.cpu_s() - before) / calls * 1e6


def unary(calls: int, rounds: int, table: Table) -> None:
    """Measure Decide and the no-op in turn."""
    with tempfile.TemporaryDirectory() as directory:
        body = Path(directory) / "question"
        message = QUESTION.SerializeToString()
        body.write_bytes(b"\0" + struct.pack(">I", len(message)) + message)
        with served(Path(directory) / "data") as service, echoing() as noop:
            asked = 0
            for in_flight, each in ((1, calls // 4), (32, calls)):
                for server in (noop, service):
                    h2load(server.port, body, 2_000, in_flight)
                asked += 2_000 + rounds * each
                measured = [
                    (measure(noop, body, each, in_flight), measure(service, body, each, in_flight))
                    for _ in range(rounds)
                ]
                ratio = statistics.median(decide[0] / echo[0] for echo, decide in measured)
                for name, index in (("no-op echo", 0), ("Decide", 1)):
                    rate = statistics.median(pair[index][0] for pair in measured)
                    cpu = statistics.median(pair[index][1] for pair in measured)
                    shown = f"{ratio:.2f}" if index else "1"
                    table.add_row(name, str(in_flight), f"{rate:,.0f}", f"{cpu:.0f}", shown)
            recorded = service.counted("tilbud_decisions_total")
            assert recorded == asked, f"{asked} calls, {recorded} decisions recorded"


async def batches(port: int, seconds: float) -> float:
    """Return decisions a second over batches of 100, a few in flight; each result is checked."""
    message = pb.BatchDecideRequest(requests=[QUESTION] * BATCH_SIZE).SerializeToString()
    decisions = 0
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_unary(BATCH_DECIDE)
        until = time.perf_counter() + seconds

        async def ask() -> None:
            nonlocal decisions
            while time.perf_counter() < until:
                answer = await call(message)
                results = pb.BatchDecideResponse.FromString(answer).results
                decisions += sum(result.decision.recorded for result in results)

        started = time.perf_counter()
        await asyncio.gather(*(ask() for _ in range(BATCH_IN_FLIGHT)))
        return decisions / (time.perf_counter() - started)


def batched(rounds: int, seconds: float, table: Table) -> None:
    """Measure BatchDecide(100) on one core; the client has another."""
    cores = sorted(os.sched_getaffinity(0))
    rates, cpus = [], []
    with tempfile.TemporaryDirectory() as directory, served(Path(directory) / "data", {cores[0]}) as service:
        if len(cores) > 1:
            os.sched_setaffinity(0, set(cores[1:]))
        asyncio.run(batches(service.port, 1.0))
        for _ in range(rounds):
            counted, before = service.counted("tilbud_decisions_total"), service.cpu_s()
            rates.append(asyncio.run(batches(service.port, seconds)))
            decided = service.counted("tilbud_decisions_total") - counted
            cpus.append((service.cpu_s() - before) / decided * 1e6)
        os.sched_setaffinity(0, set(cores))
    rate, cpu = statistics.median(rates), statistics.median(cpus)
    table.add_row(
        f"BatchDecide({BATCH_SIZE}), decisions", str(BATCH_IN_FLIGHT), f"{rate:,.0f}", f"{cpu:.0f}", ""
    )


def machine() -> str:
    """Return the machine and the versions, for under the table."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    versions = ", ".join(f"{name} {version(name)}" for name in ("grpcio", "protobuf", "vowpalwabbit"))
    python = sys.version.split()[0]
    return f"{model[1] if model else 'unknown CPU'}, {os.cpu_count()} cores, Python {python}, {versions}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=20_000, help="calls a round at 32 in flight")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the table shows medians")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round of batches")
    parser.add_argument("--echo", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.echo:
        asyncio.run(echo())
        return
    if not shutil.which("h2load"):
        sys.exit("h2load is missing; install it with: apt-get install nghttp2-client")
    table = Table(
        "what", "in flight", "a second", "CPU µs each", "of the no-op", title="Durable decisions, 10 offers"
    )
    unary(options.calls, options.rounds, table)
    batched(options.rounds, options.seconds, table)
    console = Console(width=100)
    console.print(table)
    console.print(f"medians of {options.rounds} rounds; server and client on one machine: {machine()}")


if __name__ == "__main__":
    main()
