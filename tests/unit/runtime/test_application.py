"""What one process makes of its own start."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tilbud.campaigns import loader as reload
from tilbud.campaigns.source import Loaded, load_good
from tilbud.domain.limits import Limits
from tilbud.runtime.application import Application
from tilbud.runtime.settings import Settings

CAMPAIGN = """
campaign: c
offers: [{id: a}, {id: b}]
reward: {window: 1h, outcomes: {click: 1}}
consent: not_required
"""
STARTS_IN_S = 600


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Leave the collector of garbage as it was: a service sets it once, for its process."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


async def test_a_slow_start_is_no_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands still for it all the same; nobody counts it, and nobody is warned."""
    away_us = 0

    def slowly(paths: list[Path], limits: Limits) -> Loaded:
        nonlocal away_us
        away_us = STARTS_IN_S * 1_000_000
        return load_good(paths, limits)

    monkeypatch.setattr(reload, "load_good", slowly)
    file = tmp_path / "c.yaml"
    file.write_text(CAMPAIGN)
    settings = Settings(
        campaigns=(file,),
        data=tmp_path / "data",
        listen="127.0.0.1:0",
        http="127.0.0.1:0",
        metrics="127.0.0.1:0",
        drain_notice_s=0,
    )
    application = Application(
        replace(settings, drain_grace_s=0.1), monotonic_us=lambda: time.monotonic_ns() // 1_000 + away_us
    )
    with capture_logs() as logged:
        await application.start()
        [stood] = [line for line in logged if line["event"].startswith("service_clock")]
        await application.stop()
    assert (stood["event"], stood["log_level"]) == ("service_clock_stood_still", "info")
    assert stood["away_s"] == pytest.approx(STARTS_IN_S, abs=5)
