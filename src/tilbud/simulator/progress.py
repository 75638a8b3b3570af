"""Live progress: a bar on a terminal, a plain line every few seconds anywhere else.

What always holds: it only reads; a run is the same whether anybody watches or not.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_TERMINAL_EVERY_S = 0.25
_LINE_EVERY_S = 5.0
_SPEED_WINDOW_S = 5.0


class Speed:
    """Decisions per second over the last few seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._marks: deque[tuple[float, int]] = deque([(clock(), 0)])

    def at(self, count: int) -> float:
        """The speed now that `count` decisions have been answered."""
        now = self._clock()
        self._marks.append((now, count))
        then, before = self._marks[0]
        if now - then >= _SPEED_WINDOW_S:
            self._marks.popleft()
        return (count - before) / (now - then) if now > then else 0.0


@asynccontextmanager
async def progress(
    console: Console,
    *,
    total: int,
    answered: Callable[[], int],
    describe: Callable[[], str],
    line_every_s: float = _LINE_EVERY_S,
) -> AsyncIterator[None]:
    """Show how far it is, how fast, and what `describe` says, until the body ends."""
    if console.is_terminal:
        shown = _bar(console, total, answered, describe)
    else:
        shown = _lines(console, total, answered, describe, line_every_s)
    task = asyncio.create_task(shown)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _bar(
    console: Console, total: int, answered: Callable[[], int], describe: Callable[[], str]
) -> None:
    speed = Speed()
    bar_column = BarColumn(bar_width=10)  # so that 80 columns hold the rest
    columns = (bar_column, MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as bar:
        task = bar.add_task("", total=total)
        while True:
            count = answered()
            bar.update(task, completed=count, description=f"{speed.at(count):,.0f}/s  {describe()}")
            bar.refresh()
            await asyncio.sleep(_TERMINAL_EVERY_S)


async def _lines(
    console: Console, total: int, answered: Callable[[], int], describe: Callable[[], str], every_s: float
) -> None:
    speed = Speed()
    while True:
        await asyncio.sleep(every_s)
        count = answered()
        text = f"{count:,} of {total:,} decisions  {speed.at(count):,.0f}/s  {describe()}"
        console.print(text, highlight=False, markup=False)
