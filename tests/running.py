"""A real service in a process of its own, on loopback, for end-to-end and fault tests."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc

from tilbud.v1.campaigns_pb2_grpc import CampaignServiceStub
from tilbud.v1.customers_pb2_grpc import CustomerServiceStub
from tilbud.v1.decisions_pb2_grpc import DecisionServiceStub

_FIRST_LINE = re.compile(r"gRPC on 127\.0\.0\.1:(\d+), metrics on http://127\.0\.0\.1:(\d+)/metrics")
START_S = 60.0
CALL_S = 30.0


class Service:
    """`tilbud serve` as users start it."""

    def __init__(self, campaigns: Path, data: Path, log: Path, options: Sequence[str] = ()) -> None:
        self.files = campaigns
        self.data = data
        self.log = log
        self._options = options
        self.start()

    def start(self) -> None:
        """Start the process and wait for its first line."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "tilbud", "serve", "--campaigns", self.files, "--data", self.data,
                    "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0",
                    "--draw-key", "ab" * 32, "--drain-notice-s", "0.1", *self._options,
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = _FIRST_LINE.search(line)
        assert found, f"no first line: {line!r}; the log says:\n{self.log.read_text()}"
        self.target = f"127.0.0.1:{found[1]}"
        self.http = f"http://127.0.0.1:{found[2]}"
        self.channel = grpc.insecure_channel(self.target)
        grpc.channel_ready_future(self.channel).result(START_S)
        self.decisions = DecisionServiceStub(self.channel)
        self.campaigns = CampaignServiceStub(self.channel)
        self.customers = CustomerServiceStub(self.channel)

    def get(self, path: str) -> tuple[int, str]:
        """Return status and text of the HTTP side."""
        try:
            with urllib.request.urlopen(self.http + path, timeout=CALL_S) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that carry these labels."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            if re.match(rf"{name}[{{ ]", line) and all(
                f'{key}="{value}"' in line for key, value in labels.items()
            ):
                total += float(line.rsplit(" ", 1)[1])
        return total

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
        """End the process if it still runs."""
        if self.process.poll() is None:
            self.kill()


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
