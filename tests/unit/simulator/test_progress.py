"""Live progress."""

from __future__ import annotations

import asyncio
import io

import pytest
from rich.console import Console

from tilbud.simulator.progress import Speed, progress


def test_speed_is_that_of_the_last_seconds():
    """A slow start is forgotten: the speed is that of the last seconds."""
    now = [0.0]
    speed = Speed(clock=lambda: now[0])
    count = 0
    for second in range(1, 21):
        now[0] = float(second)
        count += 10 if second <= 10 else 1000
        latest = speed.at(count)
    assert latest == 1000


async def test_plain_lines_where_there_is_no_terminal():
    """Without a terminal, progress is a line now and then, without control characters."""
    shown = io.StringIO()
    console = Console(file=shown, width=120, force_terminal=False)
    async with progress(
        console, total=100, answered=lambda: 40, describe=lambda: "reward [0.1]", line_every_s=0.0
    ):
        for _ in range(5):
            await asyncio.sleep(0)
    text = shown.getvalue()
    assert text.startswith("40 of 100 decisions")
    assert "reward [0.1]" in text
    assert "\x1b" not in text


async def test_a_bar_on_a_terminal_leaves_nothing_behind():
    """On a terminal a bar is shown and taken away again; the body's error is not swallowed."""
    shown = io.StringIO()
    console = Console(file=shown, width=120, force_terminal=True)

    async def failing_run() -> None:
        async with progress(console, total=100, answered=lambda: 40, describe=lambda: "share 0.5"):
            await asyncio.sleep(0)
            raise KeyError

    with pytest.raises(KeyError):
        await failing_run()
    assert "40/100" in shown.getvalue()
