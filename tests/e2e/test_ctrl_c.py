"""Ctrl-C ends a command that has just begun, without a word."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.running import PATIENCE_S

from tilbud.runtime.settings import SAMPLES

NOBODY = "127.0.0.1:1"
SERVE = ["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]


@pytest.mark.parametrize(
    ("words", "module"),
    [
        (SERVE, "tilbud.cli"),
        (SERVE, "typer"),
        (SERVE, "tilbud.domain.campaign.campaign"),
        ([*SERVE, "--workers", "2"], "tilbud.domain.campaign.campaign"),
        (["check", str(SAMPLES)], "typer"),
        (["check", str(SAMPLES)], "tilbud.campaigns.source"),
        (["decide", "shop", "--target", NOBODY], "tilbud.v1.decisions_pb2"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[:1] + value[7:8]),
)
def test_an_interrupted_start_ends_with_130_and_says_nothing(
    words: list[str], module: str, tmp_path: Path
) -> None:
    """While the program imports what it needs: no traceback."""
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "tilbud", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    ) as running:  # fmt: skip
        assert running.stderr is not None
        try:
            assert any(line.rpartition("|")[2].strip() == module for line in running.stderr)
            running.send_signal(signal.SIGINT)
            printed, errors = running.communicate(timeout=PATIENCE_S)
        finally:
            running.kill()
    assert running.returncode == 130, errors
    assert printed == ""
    assert [line for line in errors.splitlines() if not line.startswith("import time:")] == []
