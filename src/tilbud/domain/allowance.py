"""How often something may be done that costs a row for ever: some at once, then so many a second.

What holds: in any span of `s` seconds at most `at_once + s * per_s` are allowed. No clock is read here; times
are microseconds on one clock that does not go back.
"""

from __future__ import annotations


class Allowance:
    """A token bucket, full at first."""

    def __init__(self, *, at_once: int, per_s: float) -> None:
        self._at_once = float(at_once)
        self._per_us = per_s / 1e6
        self._left = float(at_once)
        self._as_of_us: int | None = None

    def take(self, now_us: int) -> bool:
        """Take one, if there is one; say whether there was."""
        if self._as_of_us is not None:
            gained = max(0, now_us - self._as_of_us) * self._per_us
            self._left = min(self._at_once, self._left + gained)
        self._as_of_us = now_us
        if self._left < 1:
            return False
        self._left -= 1
        return True
