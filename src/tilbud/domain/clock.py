"""The two clocks, as the rest of the code sees them; nothing here reads one.

The wall clock says what people mean by a time. The service clock counts the microseconds the
service was there: it stands still while the service is away and does not jump with the wall, so
deadlines kept on it move by every outage, and a jumping wall clock settles nothing early.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Now:
    """One reading of both clocks, in microseconds."""

    wall_us: int
    service_us: int


class Clocks(NamedTuple):
    """A moment on the two clocks of a campaign: they differ while its file is away."""

    waiting: Now  # of decisions that wait for their activation: it goes on
    shown: Now  # of decisions that were shown: it stands


@dataclass(frozen=True, slots=True)
class Absence:
    """How long a campaign was not served, by which its clocks are behind the service clock.

    Callers cannot be expected to report to a campaign that is not there, so its deadlines stand still; what
    reserves something of a customer's is released in time all the same. Who is away for longer than
    `longest_us` is taken as gone: its clock goes on, and what is open settles.
    """

    over_us: int = 0  # of absences that are over
    since_us: int | None = None  # service clock; None: it is served

    def clocks(self, now: Now, longest_us: int) -> Clocks:
        """Return the campaign's clocks, at `now` of the service's."""
        waiting_us = now.service_us - self.over_us
        standing_us = self._standing_us(now, longest_us)
        return Clocks(Now(now.wall_us, waiting_us), Now(now.wall_us, waiting_us - standing_us))

    def after(self, now: Now, longest_us: int, *, served: bool) -> Absence:
        """Return what is known from now on, where the campaign is served or not."""
        if served:
            return Absence(self.over_us + self._standing_us(now, longest_us))
        return Absence(self.over_us, now.service_us) if self.since_us is None else self

    def _standing_us(self, now: Now, longest_us: int) -> int:
        return 0 if self.since_us is None else min(max(now.service_us - self.since_us, 0), longest_us)


SERVED = Absence()


class Clock(Protocol):
    """Something that can be read; the real one is made in app.py, tests move theirs by hand."""

    def now(self) -> Now:
        """Return one reading of both clocks."""
        ...
