"""A service of our own for one run: a process on ports that the system chooses, with data that goes with it.

What always holds: the process ends and its data is removed, however the run ends; Ctrl-C does not reach it.
One that does not say in time that it serves is ended too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tilbud.simulator.errors import SimulatorError

_ANY_PORT = "127.0.0.1:0"
_FIRST_LINE = re.compile(r"gRPC on (\S+:\d+)")
_START_S, _STOP_S = 60.0, 30.0


@asynccontextmanager
async def child(*command: str | Path, **streams: Any) -> AsyncIterator[Process]:
    """Run a program for as long as it is needed, out of reach of the terminal's Ctrl-C, and end it."""
    process = await asyncio.create_subprocess_exec(*command, start_new_session=True, **streams)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def first_line(process: Process) -> str:
    """Return the line in which a service says where it serves; "" where it ended, or takes too long."""
    assert process.stdout is not None
    with contextlib.suppress(TimeoutError):
        return (await asyncio.wait_for(process.stdout.readline(), _START_S)).decode()
    return ""


@asynccontextmanager
async def own_service(campaigns: Path, directory: Path, draw_key: str) -> AsyncIterator[str]:
    """Serve `campaigns` with data in `directory`; yields the address. Raises SimulatorError."""
    log = directory / "log"
    settings = {name: value for name, value in os.environ.items() if not name.startswith("TILBUD_")}
    with log.open("wb") as errors:
        async with child(
            sys.executable, "-m", "tilbud", "serve", "--campaigns", campaigns, "--data", directory / "data",
            "--listen", _ANY_PORT, "--http", "off", "--metrics", _ANY_PORT, "--workers", "1",
            "--draw-key", draw_key, "--drain-notice-s", "0", "--strict",
            stdin=DEVNULL, stdout=PIPE, stderr=errors, env=settings,
        ) as process:  # fmt: skip
            found = _FIRST_LINE.search(await first_line(process))
            if found is None:
                said = log.read_text(encoding="utf-8").strip()
                raise SimulatorError(f"the service did not start:\n{said}")
            yield found[1]
