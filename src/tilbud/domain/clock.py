"""The clocks, as the rest of the code sees them; nothing here reads one.

The wall clock says what people mean by a time. The steady clock is the wall clock without its jumps: how
long ago something was, and so what a cap counts and what is old enough to be forgotten, is judged by it. The
service clock counts the microseconds the service was there: it stands still while the service is away and
does not jump with the wall, so deadlines kept on it move by every outage, and a jumping wall clock settles
nothing early.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Now:
    """One reading of the clocks, in microseconds."""

    wall_us: int
    service_us: int
    steady_us: int = -1  # as the wall, where nothing else is given

    def __post_init__(self) -> None:
        """Let the steady clock be the wall's."""
        if self.steady_us < 0:
            object.__setattr__(self, "steady_us", self.wall_us)

    @property
    def jumped_us(self) -> int:
        """How far the wall clock is ahead of what it was to be expected to say; 0 where nothing is wrong."""
        return self.wall_us - self.steady_us


class SteadyClock:
    """The wall clock without its jumps, in microseconds.

    What holds: while the wall clock goes as the machine's monotonic one does, give or take `tolerance_us`
    between two readings, this is the wall clock. Where it jumps this one goes on as before, until the wall
    clock has kept to its new time for `accepted_after_us`. A start is a jump where the wall clock says less
    than before the stop (`last_us`, None: unknown), or more than `away_max_us` later: whoever was away for
    longer finds the right time accepted a while after.
    """

    def __init__(
        self, *, tolerance_us: int, accepted_after_us: int, away_max_us: int, last_us: int | None = None
    ) -> None:
        self._tolerance_us = tolerance_us
        self._accepted_after_us = accepted_after_us
        self._away_max_us = away_max_us
        self._ahead_us: int | None = None  # what it is ahead of the monotonic clock; None: never read
        self._last_us = last_us
        self._jumped: tuple[int, int] | None = None  # by how much, and since when on the monotonic clock

    def read(self, wall_us: int, monotonic_us: int) -> int:
        """Return the time at a reading of both clocks of the machine."""
        if self._ahead_us is None:
            self._ahead_us = self._first(wall_us) - monotonic_us
        expected_us = monotonic_us + self._ahead_us
        jump_us = wall_us - expected_us
        if abs(jump_us) > self._tolerance_us:
            if self._jumped is None or abs(jump_us - self._jumped[0]) > self._tolerance_us:
                self._jumped = (jump_us, monotonic_us)
            if monotonic_us - self._jumped[1] < self._accepted_after_us:
                return expected_us
        self._ahead_us, self._jumped = wall_us - monotonic_us, None
        return wall_us

    def _first(self, wall_us: int) -> int:
        if self._last_us is None:
            return wall_us
        away_us = wall_us - self._last_us
        return wall_us if -self._tolerance_us <= away_us <= self._away_max_us else self._last_us


class Clocks(NamedTuple):
    """A moment on the two clocks of a campaign: they differ while its file is away."""

    waiting: Now  # of decisions that wait for their activation: it goes on
    shown: Now  # of decisions that were shown: it stands


@dataclass(frozen=True, slots=True)
class Absence:
    """How long a campaign was not served, by which its clocks are behind the service clock.

    Callers cannot be expected to report to a campaign that is not there, so its deadlines stand still; what
    reserves something of a customer's is released in time all the same. Who is away for longer than
    `longest_us` counts as removed: its clock goes on, and what is open settles.
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
    """Something that can be read; the real one is `runtime/clock.py`'s, tests move theirs by hand."""

    def now(self) -> Now:
        """Return one reading of the clocks."""
        ...
