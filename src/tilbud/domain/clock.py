"""The two clocks, as the rest of the code sees them; nothing here reads one.

The wall clock says what people mean by a time. The service clock counts the microseconds the
service was there: it stands still while the service is away and does not jump with the wall, so
deadlines kept on it move by every outage, and a jumping wall clock settles nothing early.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Now:
    """One reading of both clocks, in microseconds."""

    wall_us: int
    service_us: int


class Clock(Protocol):
    """Something that can be read; the real one is made in app.py, tests move theirs by hand."""

    def now(self) -> Now:
        """Return one reading of both clocks."""
        ...
