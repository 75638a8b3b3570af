"""Fixtures that tests of several rooms share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings
from tests.running import Service

# An example may take long where the machine is busy with something else: that says nothing of the code.
settings.register_profile("tilbud", deadline=None)
settings.load_profile("tilbud")

Serve = Callable[..., Service]


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
