"""A real Prometheus in a process of its own, on loopback, and what it answers to queries."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ADDRESS = re.compile(r'msg="Listening on" address=(127\.0\.0\.1:\d+)')
START_S = 60.0
ASK_S = 60.0
POLL_S = 0.1


class Prometheus:
    """A running Prometheus, asked over its HTTP API."""

    def __init__(self, address: str) -> None:
        self.url = f"http://{address}"

    def get(self, path: str, arguments: Mapping[str, str] | None = None) -> Any:
        """Return `data` of an API answer, `path` below /api/v1/; raises ValueError with its error."""
        query = urllib.parse.urlencode(arguments or {})
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=ASK_S) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"{path} {arguments}: {error.read().decode()}") from error

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an instant vector, as the API gives them: `metric`, `value`."""
        data = self.get("query", {"query": expression})
        assert data["resultType"] == "vector", f"{expression}: {data['resultType']}"
        found: list[dict[str, Any]] = data["result"]
        return found

    def value(self, expression: str) -> float:
        """Return the one number an expression gives, which it does not while a scrape has failed."""
        [sample] = self.wait_for(expression)
        return float(sample["value"][1])

    def wait_for(self, expression: str, seconds: float = START_S) -> list[dict[str, Any]]:
        """Ask until there is a sample, and return what came; AssertionError when the time is over."""
        until = time.monotonic() + seconds
        while not (found := self.query(expression)):
            assert time.monotonic() < until, f"nothing in {seconds:g} s: {expression}"
            time.sleep(POLL_S)
        return found


@contextmanager
def running(binary: Path, config: Path, directory: Path) -> Iterator[Prometheus]:
    """Run Prometheus with this configuration for as long as it is asked; data and log below `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "prometheus.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [
                binary, f"--config.file={config}", f"--storage.tsdb.path={directory / 'tsdb'}",
                "--web.listen-address=127.0.0.1:0",
            ],
            stdout=subprocess.DEVNULL,
            stderr=stream,
        )  # fmt: skip
    try:
        yield Prometheus(_address(process, log))
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(START_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Return where it listens, once it answers queries."""
    until = time.monotonic() + START_S
    while True:
        text = log.read_text(encoding="utf-8")
        found = _ADDRESS.search(text)
        if found and "Server is ready" in text:
            return found[1]
        assert process.poll() is None, f"Prometheus ended:\n{text}"
        assert time.monotonic() < until, f"Prometheus is not ready:\n{text}"
        time.sleep(POLL_S)
