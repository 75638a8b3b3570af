"""The tools that tests of deploy/ need, where they are to be had."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_HOW = "`make prometheus` gets it where apt-get can, or install Debian's package prometheus"
_TOOLS = ("promtool", "prometheus")


def _tool(name: str) -> Path | None:
    """Return a program of the venv that runs this, else one on the PATH."""
    found = shutil.which(name, path=Path(sys.prefix) / "bin") or shutil.which(name)
    return Path(found) if found else None


def _required(name: str) -> Path:
    found = _tool(name)
    if found is None:
        pytest.skip(f"no {name} here: {_HOW}")
    return found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which versions the tests ran with."""
    for name in _TOOLS:
        tool = _tool(name)
        if tool is None:
            terminalreporter.write_line(f"{name}: none; {_HOW}")
            continue
        said = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False)
        terminalreporter.write_line((said.stdout or said.stderr).partition("\n")[0])


@pytest.fixture(scope="session")
def promtool() -> Path:
    """The program that checks and tests rules."""
    return _required("promtool")


@pytest.fixture(scope="session")
def prometheus() -> Path:
    """The server's program; `tests.deploy.prometheus.running` runs it."""
    return _required("prometheus")
