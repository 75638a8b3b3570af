"""What a deployment must agree with: the options of `tilbud serve`, and how long a stop takes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import grpc
from tests.running import START_S

from tilbud.runtime.settings import Settings
from tilbud.runtime.supervisor import Supervisor
from tilbud.v1.decisions_pb2 import CONSENT_GRANTED, DecideRequest
from tilbud.v1.decisions_pb2_grpc import DecisionServiceStub

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
_FIRST_LINE = re.compile(r"gRPC on (127\.0\.0\.1:\d+)")


def options() -> set[str]:
    """Return every option of `tilbud serve`, `--workers`, and its variable, `TILBUD_WORKERS`."""
    told = subprocess.run(
        [sys.executable, "-m", "tilbud", "serve", "--help"],
        capture_output=True, text=True, timeout=START_S, check=True, env=os.environ | {"COLUMNS": "200"},
    ).stdout  # fmt: skip
    return set(re.findall(r"--[a-z][a-z-]+|TILBUD_[A-Z_]+", told))


def stop_s(environment: Mapping[str, str]) -> float:
    """Return the longest that a service with these variables takes to stop, whatever its workers."""
    default = Settings()
    settings = Settings(
        drain_notice_s=float(environment.get("TILBUD_DRAIN_NOTICE_S", default.drain_notice_s)),
        drain_grace_s=float(environment.get("TILBUD_DRAIN_GRACE_S", default.drain_grace_s)),
    )

    async def shutdown_timeout_s() -> float:
        return max(
            settings.shutdown_timeout_s, Supervisor(settings).shutdown_timeout_s
        )  # which wants a running loop

    return asyncio.run(shutdown_timeout_s())


class Started:
    """A service of the sample campaigns, by a command of any kind that ends in `tilbud serve`."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                command, env=dict(environment), stdout=subprocess.PIPE, stderr=stream, text=True
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        found = _FIRST_LINE.search(line)
        if not found:
            self._process.kill()
        assert found, f"no first line: {line!r}\n{log.read_text()}"
        self.target = found[1]

    def decide(self) -> float:
        """Ask for an offer of the shop and return its probability."""
        request = DecideRequest(campaign="shop", decision_id="deployed", consent=CONSENT_GRANTED)
        with grpc.insecure_channel(self.target) as channel:
            return (
                DecisionServiceStub(channel).Decide(request, timeout=START_S, wait_for_ready=True).probability
            )

    def stop(self) -> int:
        """Ask it to drain, and return its status."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(START_S)
        finally:
            self._process.kill()
            assert self._process.stdout is not None
            self._process.stdout.close()
