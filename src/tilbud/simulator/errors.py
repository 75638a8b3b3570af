"""What can go wrong before or while the simulator runs, in words for the person who started it.

    SimulatorError
    ├── LogError        the logged data cannot be used: file, line, column
    └── CampaignError   the service's campaign does not fit the source

All of them are the world's mistakes, never ours; the command line prints the text and leaves. A service that
cannot be reached, or refuses the first question about its campaign, is a client.refusals.Refusal.
"""

from __future__ import annotations

from pathlib import Path


class SimulatorError(Exception):
    """The run cannot begin, or its data cannot be used."""


class LogError(SimulatorError):
    """Logged data that cannot be used; names the file, the line and the column."""

    def __init__(self, file: Path, line: int | None, column: str | None, problem: str) -> None:
        where = str(file)
        if line is not None:
            where += f", line {line}"
        if column is not None:
            where += f", column {column!r}"
        super().__init__(f"{where}: {problem}")
        self.file = file
        self.line = line
        self.column = column
        self.problem = problem


class CampaignError(SimulatorError):
    """The campaign the service serves does not fit the source."""
