"""Durations and times of day as people write them in campaign files: `30m`, `7d`, `08:00-21:00`.

Microseconds throughout, as whole numbers. No clock is read here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_UNITS_US = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_HOURS = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])")
DURATION_PATTERN = rf"^\s*{_DURATION.pattern}\s*$"
HOURS_PATTERN = rf"^\s*{_HOURS.pattern}\s*$"
"""How they are written, in a JSON Schema."""
MINUTE_US = 60_000_000
_DAY_MINUTES = 24 * 60


def parse_duration_us(text: str) -> int:
    """Return the microseconds of `10s`, `30m`, `12h`, `7d` or `500ms`; ValueError on anything else."""
    match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError("write a whole number and a unit: 500ms, 10s, 30m, 12h or 7d")
    return int(match[1]) * _UNITS_US[match[2]]


def duration_text(duration_us: int) -> str:
    """Return a duration as people write it, in the largest unit that gives a whole number."""
    for unit, unit_us in reversed(_UNITS_US.items()):
        if duration_us and duration_us % unit_us == 0:
            return f"{duration_us // unit_us}{unit}"
    return f"{duration_us // 1_000_000}s"


@dataclass(frozen=True, slots=True)
class Hours:
    """A stretch of the day in minutes from midnight, first included, last not; it may wrap midnight."""

    from_minute: int
    until_minute: int

    def contains(self, minute: int) -> bool:
        """Say whether `minute` (0 to 1439) falls within."""
        if self.from_minute < self.until_minute:
            return self.from_minute <= minute < self.until_minute
        return minute >= self.from_minute or minute < self.until_minute

    @property
    def wrap(self) -> bool:
        """Whether they begin on one day and end on the next."""
        return self.until_minute < self.from_minute and self.until_minute > 0

    def begun_yesterday(self, minute: int) -> bool:
        """Say whether `minute`, which falls within, belongs to the hours that began the day before."""
        return self.wrap and minute < self.until_minute

    def begun_minutes_ago(self, minute: int) -> int:
        """Return how long before `minute`, which falls within, the hours began, on a clock without jumps."""
        return (minute - self.from_minute) % _DAY_MINUTES

    def __str__(self) -> str:
        """Return them as `parse_hours` reads them."""
        return "-".join(
            f"{minute // 60:02}:{minute % 60:02}" for minute in (self.from_minute, self.until_minute)
        )


def parse_hours(text: str) -> Hours:
    """Return the hours of `08:00-21:00` or `22:00-06:00`; ValueError on anything else."""
    match = _HOURS.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError('write HH:MM-HH:MM, such as "08:00-21:00"')
    start, end = int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4])
    if start >= _DAY_MINUTES or end > _DAY_MINUTES or start == end % _DAY_MINUTES:
        raise ValueError("hours run from 00:00 to 24:00 and must not be empty or the whole day")
    return Hours(start, end % _DAY_MINUTES)
