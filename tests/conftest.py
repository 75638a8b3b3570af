"""Fixtures that tests of several rooms share, and what keeps tests from judging how busy the machine is.

What holds: property tests have no deadline, and what tests write is in memory where there is enough of it, so
that no disk that stalls, or is slow, has a part in them.
"""

from __future__ import annotations

import os
import re
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings
from tests.running import Service

MEMORY = Path("/dev/shm")  # noqa: S108 - directories of their own are made there
ENOUGH_BYTES = 4 * 2**30

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

Serve = Callable[..., Service]


def pytest_configure() -> None:
    """Let all that is written for a while be in memory, where nobody said another place, and Ctrl-C be heard.

    Whoever runs tests in the background may ignore it, and programs that tests start would inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "TMPDIR" not in os.environ and _has_room():
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # which was looked for before


def _has_room() -> bool:
    """Return whether programs of large files can be kept there, and run."""
    try:
        there = os.statvfs(MEMORY)
        [free_kib] = re.findall(r"^MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except (OSError, ValueError):
        return False
    enough = min(there.f_bavail * there.f_frsize, int(free_kib) * 1_024) >= ENOUGH_BYTES
    return enough and not there.f_flag & os.ST_NOEXEC and os.access(MEMORY, os.W_OK)


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Leave logging as it was: a level set for one test would hide lines that another looks for."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts services below the test's own directory, and ends them after it."""
    started: list[Service] = []

    def start(campaign: str | Path, *, data: Path | None = None, options: tuple[str, ...] = ()) -> Service:
        """Serve a campaign: a path, or YAML text."""
        number = len(started)
        if isinstance(campaign, str):
            campaigns = tmp_path / f"campaigns-{number}"
            campaigns.mkdir()
            (campaigns / "campaign.yaml").write_text(campaign, encoding="utf-8")
        else:
            campaigns = campaign
        service = Service(campaigns, data or tmp_path / f"data-{number}", tmp_path / f"log-{number}", options)
        started.append(service)
        return service

    yield start
    for service in started:
        service.close()
