"""Whatever becomes of standard error, calls are answered, what is due is learned, and the drain ends."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.conftest import Serve
from tests.e2e.campaigns import RULES
from tests.running import CALL_S, PATIENCE_S, Service, until

from tilbud.v1 import campaigns_pb2, decisions_pb2

RELOADS = 60  # with a pipe of one page more than it takes
_SET_PIPE_SIZE, _PAGE = 1031, 4_096


class _Unheard(Service):
    """A service whose log nobody keeps."""

    def events(self, name: str) -> list[dict[str, object]]:  # noqa: ARG002 - as those of others
        return []


@contextmanager
def _serving(directory: Path, standard_error: Path, *options: str) -> Iterator[Service]:
    campaigns = directory / "campaigns"
    campaigns.mkdir()
    (campaigns / "rules.yaml").write_text(RULES)
    service = _Unheard(campaigns, directory / "data", standard_error, options)
    try:
        yield service
    finally:
        service.close()


def _goes_on(service: Service) -> None:
    """Ask, report and load again and again: all is answered, counted and settled."""
    for number in range(RELOADS):
        decision = service.decisions.Decide(decisions_pb2.DecideRequest(campaign="rules"), timeout=CALL_S)
        service.decisions.ReportOutcome(
            decisions_pb2.ReportOutcomeRequest(
                campaign="rules", decision_id=decision.decision_id, outcome="bought"
            ),
            timeout=CALL_S,
        )
        service.campaigns.ReloadCampaigns(campaigns_pb2.ReloadCampaignsRequest(), timeout=CALL_S)
        assert decision.recorded, number
    until(lambda: sum(service.metrics("tilbud_settlements_total")) >= RELOADS)
    assert service.wait_ready() == "ready\n"


@pytest.mark.parametrize("options", [(), ("--workers", "2")])
def test_a_reader_that_is_gone_costs_lines_of_the_log_and_nothing_else(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    """A closed pipe: what cannot be written is counted; status 0 at the end."""
    pipe = tmp_path / "log"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with _serving(tmp_path, pipe, *options) as service:
        os.close(reader)
        _goes_on(service)
        assert sum(service.metrics("tilbud_log_lines_dropped_total", reason="closed")) > 0
        assert service.stop() == 0


@pytest.mark.parametrize("options", [(), ("--workers", "2")])
def test_a_reader_that_does_not_read_holds_nobody_up(tmp_path: Path, options: tuple[str, ...]) -> None:
    """A pipe that is full: calls are answered as ever, and the drain does not wait for it."""
    pipe = tmp_path / "log"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, _SET_PIPE_SIZE, _PAGE)
    with _serving(tmp_path, pipe, *options) as service:
        _goes_on(service)
        assert service.stop() == 0
    os.close(reader)


def test_a_full_disk_of_the_log_is_counted(tmp_path: Path) -> None:
    """ENOSPC at each line: the counter says so, and nothing else happens."""
    with _serving(tmp_path, Path("/dev/full")) as service:
        _goes_on(service)
        assert service.metric("tilbud_log_lines_dropped_total", reason="no_space") >= RELOADS
        assert service.metric("tilbud_log_lines_dropped_total", reason="full") == 0
        assert service.stop() == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--nonsense",), "No such option"),
        (("--campaigns", "/nowhere"), "there is no such file or directory"),
        (("--draw-key", "short"), "hexadecimal digits"),
        (("--log-level", "loud"), "is none of debug, info"),
        (("--data", "/dev/null/x"), "cannot be the data directory"),
    ],
)
def test_every_line_of_a_start_that_fails_is_json(words: tuple[str, ...], said: str) -> None:
    """Whoever says it, the command line, rich or the service: an object with event, level and time."""
    ended = subprocess.run(
        [sys.executable, "-m", "tilbud", "serve", "--http", "off", "--metrics", "127.0.0.1:0", *words],
        check=False, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert ended.returncode == 2
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert all({"event", "level", "time"} <= line.keys() for line in lines)
    assert any(said in line.get("text", "") for line in lines)


def test_the_line_that_says_it_serves_says_what_and_where(serve: Serve) -> None:
    """Version, paths that are absolute, durability, and addresses as they can be dialled."""
    service = serve(RULES, options=("--durability", "power"))
    [line] = service.events("serving")
    assert line["version"] == version("tilbud")
    assert (line["campaigns"], line["data"]) == ([str(service.files)], str(service.data))
    assert line["durability"] == "power"
    assert (line["grpc"], f"http://{line['http']}") == (service.target, service.http)
    assert [f"http://{address}" for address in line["metrics"]] == service.metrics_sides


def test_variables_of_libraries_are_not_heeded(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They may be there for another program: counts stay in /metrics, and no colours get into the log."""
    (tmp_path / "counts").mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "counts"))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("TERMINAL_WIDTH", "wide")
    service = serve(RULES)
    service.decisions.Decide(decisions_pb2.DecideRequest(campaign="rules"), timeout=CALL_S)
    assert service.metric("tilbud_decisions_total", campaign="rules") == 1
    assert list((tmp_path / "counts").iterdir()) == []
    ended = subprocess.run(
        [sys.executable, "-m", "tilbud", "serve", "--nonsense"],
        check=False, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert "No such option" in ended.stderr
    assert "u001b" not in ended.stderr


_CLOSED = """
import os, sys
os.closerange(0, 3)
os.execv(sys.executable, [sys.executable, "-m", "tilbud", "serve", *sys.argv[1:]])
"""


def test_standard_streams_that_are_closed_harm_nothing(tmp_path: Path) -> None:
    """It serves and drains, and no file takes their place, so no line of the log is written into one."""
    campaigns = tmp_path / "campaigns"
    campaigns.mkdir()
    (campaigns / "rules.yaml").write_text(RULES)
    data = tmp_path / "data"
    with subprocess.Popen(
        [
            sys.executable, "-c", _CLOSED, "--campaigns", campaigns, "--data", data,
            "--listen", "127.0.0.1:0", "--http", "off", "--metrics", "127.0.0.1:0", "--drain-notice-s", "0",
        ],
    ) as service:  # fmt: skip
        until(lambda: service.poll() is not None or (data / "ledger.sqlite3-wal").exists())
        assert service.poll() is None
        streams = [str(Path(f"/proc/{service.pid}/fd/{number}").readlink()) for number in range(3)]
        service.send_signal(signal.SIGTERM)
        assert service.wait(PATIENCE_S) == 0
    assert streams == ["/dev/null"] * 3
