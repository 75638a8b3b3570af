"""A real service in a process of its own, on loopback, for end-to-end and fault tests.

What holds: a machine that stalls for a few seconds, its disk or all of it, fails no test. A call that the
service cannot take meanwhile (UNAVAILABLE) is made again, as clients should; whoever proves what is refused
dials without that. Whatever is waited for has a minute.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import grpc

from tilbud.v1.campaigns_pb2 import ListCampaignsRequest
from tilbud.v1.campaigns_pb2_grpc import CampaignServiceStub
from tilbud.v1.customers_pb2_grpc import CustomerServiceStub
from tilbud.v1.decisions_pb2_grpc import DecisionServiceStub

Held = TypeVar("Held")
_FIRST_LINE = re.compile(r"gRPC on (\S+?)(?:, HTTP on (\S+?))?, metrics on (http://.*)")
_METRICS = re.compile(r"(http://\S+?:\d+)/metrics")
_CALLS = "tilbud_rpc_duration_seconds_count"
_DIALS_MAX = 64
START_S = 60.0
CALL_S = 60.0
PATIENCE_S = 60.0
POLL_S = 0.01
_RETRIES = ("grpc.service_config", json.dumps({
    "methodConfig": [{
        "name": [{}],
        "retryPolicy": {
            "maxAttempts": 5, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        },
    }],
}))  # fmt: skip


def alive(pid: int) -> bool:
    """Return whether a process runs that is a worker; one that ended and was not reaped yet does not."""
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def until(holds: Callable[[], Held], seconds: float = PATIENCE_S) -> Held:
    """Ask until it holds, and return what was answered; fail when patience is over."""
    deadline = time.monotonic() + seconds
    while not (answer := holds()):
        assert time.monotonic() < deadline, "patience is over"
        time.sleep(POLL_S)
    return answer


def free_port() -> int:
    """Return a port that nobody else is given while the service is away."""
    first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in range(first_given - 1, 1_024, -1):
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


class Service:
    """`tilbud serve` as users start it."""

    def __init__(self, campaigns: Path, data: Path, log: Path, options: Sequence[str] = ()) -> None:
        self.files = campaigns
        self.data = data
        self.log = log
        self.options = options
        self.start()

    def start(self) -> None:
        """Start the process and wait for its first line."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "tilbud", "serve", "--campaigns", self.files, "--data", self.data,
                    "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--metrics", "127.0.0.1:0",
                    "--draw-key", "ab" * 32, "--drain-notice-s", "0.1", *self.options,
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = _FIRST_LINE.search(line)
        assert found, f"no first line: {line!r}; the log says:\n{self.log.read_text()}"
        self.target = found[1]
        self.http = found[2] or ""  # where the contract is served over HTTP
        self.metrics_sides = _METRICS.findall(found[3])  # of each process that answers
        self.metrics_side = self.metrics_sides[0]
        self.channel = grpc.insecure_channel(self.target, [_RETRIES])
        grpc.channel_ready_future(self.channel).result(START_S)
        self.decisions = DecisionServiceStub(self.channel)
        self.campaigns = CampaignServiceStub(self.channel)
        self.customers = CustomerServiceStub(self.channel)

    def get(self, path: str, worker: int = 0) -> tuple[int, str]:
        """Return status and text of the HTTP side, of one worker where there are several."""
        try:
            with urllib.request.urlopen(self.metrics_sides[worker] + path, timeout=CALL_S) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str, worker: int = 0, **labels: str) -> float:
        """Return the sum of a metric's samples that carry these labels, of one worker."""
        total = 0.0
        status, text = self.get("/metrics", worker)
        assert status == 200, text
        for line in text.splitlines():
            if re.match(rf"{name}[{{ ]", line) and all(
                f'{key}="{value}"' in line for key, value in labels.items()
            ):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def metrics(self, name: str, **labels: str) -> list[float]:
        """Return `metric` of each worker."""
        return [self.metric(name, worker, **labels) for worker in range(len(self.metrics_sides))]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log's lines of one event."""
        whole = self.log.read_text().rpartition("\n")[0]  # the last may be written just now
        lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def pids(self) -> list[int]:
        """Return the process of each worker, the newest it had."""
        started = {line["worker"]: int(line["pid"]) for line in self.events("worker_started")}
        return [started[number] for number in sorted(started)]

    def stopped(self) -> Counter[int]:
        """Return how often each worker drained and stopped, over all starts."""
        return Counter(line["worker"] for line in self.events("stopped") if "worker" in line)

    def cpu_s(self) -> float:
        """Return how much of a core the process has used, which no stall of the machine adds to."""
        words = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def ready(self, worker: int = 0) -> str:
        """Return what it says where it is ready, else ""; also where it does not answer."""
        try:
            status, text = self.get("/readyz", worker)
        except OSError:
            return ""
        return text if status == 200 else ""

    def wait_ready(self, worker: int = 0) -> str:
        """Wait until it is ready, which it is not for as long as the disk stalls; return what it says."""
        return until(lambda: self.ready(worker))

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        self.process.send_signal(signal.SIGKILL)
        self._reap()

    def stop(self) -> int:
        """Ask the process to drain and return its status."""
        self.process.send_signal(signal.SIGTERM)
        return self._reap()

    def _reap(self) -> int:
        self.channel.close()
        status = self.process.wait(START_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def close(self) -> None:
        """End what still runs of it."""
        if self.process.poll() is None:
            self.kill()
        for pid in self.pids():
            if alive(pid):
                os.kill(pid, signal.SIGKILL)

    def dial(self, *, retries: bool = True) -> grpc.Channel:
        """Return a connection of its own, to whichever worker the kernel picks."""
        options = [("grpc.use_local_subchannel_pool", 1), *([_RETRIES] if retries else [])]
        channel = grpc.insecure_channel(self.target, options)
        grpc.channel_ready_future(channel).result(START_S)
        return channel

    def dial_each(self) -> list[grpc.Channel]:
        """Return a connection to each worker, in order."""
        found: dict[int, grpc.Channel] = {}
        for _ in range(_DIALS_MAX):
            channel = self.dial()
            before = self.metrics(_CALLS)
            CampaignServiceStub(channel).ListCampaigns(ListCampaignsRequest())
            [reached] = [
                worker for worker, calls in enumerate(self.metrics(_CALLS)) if calls > before[worker]
            ]
            if reached in found:
                channel.close()
            found.setdefault(reached, channel)
            if len(found) == len(self.metrics_sides):
                return [found[worker] for worker in sorted(found)]
        raise AssertionError(f"of {_DIALS_MAX} connections all went to {sorted(found)}")


@contextmanager
def served(directory: Path, files: Mapping[str, str], options: Sequence[str] = ()) -> Iterator[Service]:
    """Serve these campaign files (text by file name) from below `directory`, for as long as it is asked."""
    campaigns = directory / "campaigns"
    campaigns.mkdir(parents=True)
    for name, text in files.items():
        (campaigns / name).write_text(text, encoding="utf-8")
    service = Service(campaigns, directory / "data", directory / "log", options)
    try:
        yield service
    finally:
        service.close()
