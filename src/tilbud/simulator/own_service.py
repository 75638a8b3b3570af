"""A service of our own for one run: a process on ports that the system chooses, with data that goes with it.

What always holds: the process ends and its data is removed, however the run ends; Ctrl-C does not reach it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tilbud.simulator.errors import SimulatorError

_ANY_PORT = "127.0.0.1:0"
_FIRST_LINE = re.compile(r"gRPC on (\S+:\d+)")
_STOP_S = 10.0


@asynccontextmanager
async def own_service(campaigns: Path, directory: Path, draw_key: str) -> AsyncIterator[str]:
    """Serve `campaigns` with data in `directory`; yields the address. Raises SimulatorError."""
    log = directory / "log"
    settings = {name: value for name, value in os.environ.items() if not name.startswith("TILBUD_")}
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tilbud", "serve", "--campaigns", campaigns, "--data", directory / "data",
            "--listen", _ANY_PORT, "--http", "off", "--metrics", _ANY_PORT, "--workers", "1",
            "--draw-key", draw_key, "--drain-notice-s", "0", "--strict",
            stdin=DEVNULL, stdout=PIPE, stderr=errors, start_new_session=True, env=settings,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        found = _FIRST_LINE.search((await process.stdout.readline()).decode())
        if found is None:
            raise SimulatorError(f"the service did not start:\n{log.read_text(encoding='utf-8').strip()}")
        yield found[1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()
