"""What the benchmarks share: servers in processes of their own, a C client, and honest counting.

What always holds: a server's CPU and memory are those of all its processes; a load's calls are compared
with what the service itself counted, since a client of HTTP/2 takes a gRPC error for a success; every
server listens on loopback only, and is ended by the one who started it.

It measures nothing by itself and prints nothing: that is the business of the scripts beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from rich.console import Console
from rich.progress import track

from tilbud.runtime.settings import SAMPLES
from tilbud.v1 import decisions_pb2 as pb

SERVICE = "/tilbud.v1.DecisionService/"
DECIDE = f"{SERVICE}Decide"
BATCH_DECIDE = f"{SERVICE}BatchDecide"
REPORT_OUTCOME = f"{SERVICE}ReportOutcome"
BATCH_REPORT_OUTCOMES = f"{SERVICE}BatchReportOutcomes"
BATCH_SIZE = 100
BATCH_IN_FLIGHT = 4
SEED = 1
"""Of the key that draws and splits are made with; ids made by the server differ in every run all the same."""

CAMPAIGN = "shop"
QUESTION = pb.DecideRequest(
    campaign=CAMPAIGN,
    context=pb.Context(device="mobile", channel="app", journey_stage="consideration", time_zone="UTC"),
)
"""What every decision asks: ten offers, no rules, nobody known (samples/shop.yaml, or `offers_campaign`)."""

GRPC_HEADERS = ("content-type: application/grpc", "te: trailers")
_START_S = 300.0
_STOP_S = 60.0
_PORTS = re.compile(r"127\.0\.0\.1:(\d+)")
_RATE = re.compile(r"finished in .*?, ([\d.]+) req/s")
_SUCCEEDED = re.compile(r"(\d+) succeeded")
_OF_A_MODEL = ("personalized", "control")

Micros = npt.NDArray[np.int64]


def _no_micros() -> Micros:
    return np.empty(0, np.int64)


# Servers


class Server:
    """A server in a process of its own, and what it took.

    Its first line on standard output names its ports on 127.0.0.1: the one it serves on, then those of
    its metrics, one for each process that has some.
    """

    def __init__(self, command: Sequence[str], cores: Collection[int] | None = None) -> None:
        """Start it, held on `cores` if there are any, and wait for its first line; else RuntimeError."""
        started = time.perf_counter()
        with held_on(cores):
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.pid = self._process.pid
        line = self._process.stdout.readline()
        ports = _PORTS.findall(line)
        self.ready_s = time.perf_counter() - started
        """Seconds from its start to its first line."""
        if not ports:
            self.kill()
            raise RuntimeError(f"the server did not start: {' '.join(command)}")
        self.port, *self.metrics_ports = map(int, ports)
        self.http_port = self.metrics_ports.pop(0) if ", HTTP on " in line else 0
        """Where the contract is served over HTTP; 0: nowhere."""

    def pids(self) -> list[int]:
        """Return its process, and those it started."""
        pids = [self.pid]
        for pid in pids:
            with contextlib.suppress(OSError):  # it may have ended meanwhile
                for children in Path(f"/proc/{pid}/task").glob("*/children"):
                    pids += map(int, children.read_text().split())
        return pids

    def cpu_s(self) -> float:
        """Return the CPU seconds of all its threads so far, in all its processes that still run."""
        # Linux keeps such a clock of every process, see clock_getcpuclockid(3); /proc tells hundredths only.
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in self.pids())

    def rss_bytes(self) -> int:
        """Return the memory it has now, shared pages counted in each of its processes."""
        found = (
            re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()) for pid in self.pids()
        )
        return sum(int(each[1]) * 1024 for each in found if each)

    def samples(self, name: str, **labels: str) -> list[Sample]:
        """Return the samples of this name with these labels, from each of its processes."""
        found = []
        for port in self.metrics_ports:
            url = f"http://127.0.0.1:{port}/metrics"
            text = urllib.request.urlopen(url, timeout=30).read().decode()
            wanted = "".join(line + "\n" for line in text.splitlines() if line.startswith(name))
            for family in text_string_to_metric_families(wanted):
                found += [each for each in family.samples if each.name == name]
        return [each for each in found if labels.items() <= each.labels.items()]

    def counted(self, name: str, **labels: str) -> int:
        """Return the sum of one of the service's counters over these labels and all its processes."""
        return int(sum(each.value for each in self.samples(name, **labels)))

    def stop(self) -> None:
        """Let it end by itself; where it will not, end it."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._close()

    def kill(self) -> None:
        """End it and all it started, as a crash of the machine would."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(_STOP_S)
        self._close()

    def _close(self) -> None:
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextlib.contextmanager
def held_on(cores: Collection[int] | None) -> Iterator[None]:
    """Hold what is started meanwhile on these cores; None: on any."""
    before = os.sched_getaffinity(0)
    try:
        if cores:
            os.sched_setaffinity(0, cores)
        yield
    finally:
        os.sched_setaffinity(0, before)


def two_sides() -> tuple[list[int], list[int]]:
    """Return the core for the server, and those for its clients; the same where there is one only."""
    first, *others = sorted(os.sched_getaffinity(0))
    return [first], others or [first]


@contextlib.contextmanager
def running(command: Sequence[str], cores: Collection[int] | None = None) -> Iterator[Server]:
    """Run any server as long as it is asked."""
    server = Server(command, cores)
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def served(
    data: Path,
    *,
    campaigns: Path = SAMPLES,
    cores: Collection[int] | None = None,
    options: Sequence[str] = (),
    python: str = sys.executable,
) -> Iterator[Server]:
    """Serve campaigns from a data directory, as `tilbud serve` does, with further options.

    `python` may be another checkout's, whose service it is then.
    """
    command = [
        python, "-m", "tilbud", "serve", "--campaigns", str(campaigns), "--data", str(data),
        "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--log-level", "warning",
        "--http", "off", "--drain-notice-s", "0", "--draw-key", f"{SEED:032x}", *options,
    ]  # fmt: skip
    with running(command, cores) as server:
        yield server


@contextlib.contextmanager
def echoing(*options: str) -> Iterator[Server]:
    """Serve the no-op: the same messages as Decide's, read and written, and nothing between."""
    with running([sys.executable, str(Path(__file__).with_name("echo.py")), *options], None) as server:
        yield server


def offers_campaign(
    offers: int, *, name: str = CAMPAIGN, window: str = "1d", grace: str = "0s", learn: str = "at_deadline"
) -> str:
    """Return a campaign file with so many offers and no rules; its outcomes are `click` and `purchase`.

    With the default window nothing settles while a benchmark runs; with `1s` everything does.
    """
    lines = [
        f"campaign: {name}",
        "offers:",
        *(f"  - {{id: offer-{number}, payload: {{title: Offer {number}}}}}" for number in range(offers)),
        "fallback: {id: welcome}",
        f"reward: {{window: {window}, grace: {grace}, learn: {learn}, outcomes: {{click: 1, purchase: 1}}}}",
        "consent: not_required",
    ]
    return "\n".join(lines) + "\n"


# Load


@dataclass(frozen=True, slots=True)
class Load:
    """What a client did: calls a second, the seconds it took, its own CPU seconds.

    Where asked for, also when each call began (microseconds since 1970) and the microseconds it took.
    """

    rate: float
    seconds: float
    client_cpu_s: float
    started_us: Micros = field(default_factory=_no_micros)
    took_us: Micros = field(default_factory=_no_micros)


def h2load(
    port: int,
    path: str,
    body: Path,
    calls: int,
    in_flight: int,
    *,
    connections: int | None = None,
    rps: float | None = None,
    logged: bool = False,
    cores: Collection[int] | None = None,
    headers: Sequence[str] = GRPC_HEADERS,
    options: Sequence[str] = (),
) -> Load:
    """Send a body so many times, `in_flight` at a time; every answer must be an HTTP success.

    Without `connections`, calls share eight of them, fewer than eight calls one. `rps` is the calls a second
    of each connection, `in_flight` then the most that may be open. `logged` fills the times of each call.
    """
    clients = connections or (1 if in_flight < 8 else 8)
    assert in_flight % clients == 0, f"{in_flight} in flight do not spread over {clients} connections"
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        command: list[Any] = [
            "h2load", "-n", calls, "-c", clients, "-m", in_flight // clients, "-d", body, *options,
            *(part for header in headers for part in ("-H", header)),
            *(("--rps", rps) if rps else ()), *(("--log-file", log) if logged else ()),
            f"http://127.0.0.1:{port}{path}",
        ]  # fmt: skip
        before_s = _children_cpu_s()
        with held_on(cores):
            ran = subprocess.run([*map(str, command)], check=True, capture_output=True, text=True).stdout
        client_cpu_s = _children_cpu_s() - before_s
        started_us, took_us = _times(log) if logged else (_no_micros(), _no_micros())
    rate, succeeded = _RATE.search(ran), _SUCCEEDED.search(ran)
    if rate is None or succeeded is None or int(succeeded[1]) != calls:
        sys.exit(f"not all of {calls} calls succeeded:\n{ran}")
    return Load(float(rate[1]), calls / float(rate[1]), client_cpu_s, started_us, took_us)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _times(log: Path) -> tuple[Micros, Micros]:
    rows = np.loadtxt(log, dtype=np.int64, usecols=(0, 2), ndmin=2)
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    return rows[:, 0], rows[:, 1]


def framed(message: Message, directory: Path, name: str = "body") -> Path:
    """Write a message as gRPC sends it, for `h2load`, and return its file."""
    text = message.SerializeToString()
    path = directory / name
    path.write_bytes(b"\0" + struct.pack(">I", len(text)) + text)
    return path


@contextlib.contextmanager
def accounted(
    server: Server, *, decisions: int | None = None, outcomes: int | None = None, **calls: int
) -> Iterator[None]:
    """End the benchmark unless the service counts what was called meanwhile, `Decide=2_000` for example.

    Each method must have been called so often, always with the status OK; so many `decisions` must have been
    made and recorded, none of them a fallback; so many `outcomes` accepted.
    """
    before = _Accounts.of(server)
    yield
    after = _Accounts.of(server)
    for method, count in calls.items():
        got = after.calls[method] - before.calls[method]
        if got != Counter(OK=count):
            sys.exit(f"{count:,} calls of {method}, but the service counted {dict(got)}")
    got_decisions, got_outcomes = after.decisions - before.decisions, after.outcomes - before.outcomes
    if decisions not in {None, got_decisions}:
        sys.exit(f"{decisions:,} decisions were asked for, but {got_decisions:,} recorded")
    if outcomes not in {None, got_outcomes}:
        sys.exit(f"{outcomes:,} outcomes were reported, but {got_outcomes:,} accepted")


@dataclass(frozen=True, slots=True)
class _Accounts:
    """What a service has counted so far; calls by method and status."""

    calls: defaultdict[str, Counter[str]]
    decisions: int
    outcomes: int

    @classmethod
    def of(cls, server: Server) -> _Accounts:
        calls: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for each in server.samples("tilbud_rpc_duration_seconds_count"):
            calls[each.labels["method"]][each.labels["code"]] += int(each.value)
        decisions = sum(server.counted("tilbud_decisions_total", reason=reason) for reason in _OF_A_MODEL)
        return cls(calls, decisions, server.counted("tilbud_outcomes_total", status="accepted"))


# Words


def parser_of(doc: str | None, *, rounds: int = 3) -> argparse.ArgumentParser:
    """Return the command line every benchmark has: its docstring as --help, and --rounds."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help="rounds; the table shows medians")
    return parser


def turns(what: str, rounds: int) -> Iterable[int]:
    """Count rounds, and show on standard error how far they are."""
    return track(range(rounds), what, console=Console(stderr=True), transient=True)


def need_h2load() -> None:
    """End the benchmark with a sentence where its client is missing."""
    if not shutil.which("h2load"):
        sys.exit("h2load is missing; install it with: apt-get install nghttp2-client")


def machine() -> str:
    """Return the machine, the versions and the seed, for under the table."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    versions = ", ".join(f"{name} {version(name)}" for name in ("grpcio", "protobuf", "vowpalwabbit"))
    python = sys.version.split()[0]
    name = model[1] if model else "unknown CPU"
    return f"{name}, {os.cpu_count()} cores, Python {python}, {versions}, seed {SEED}"
