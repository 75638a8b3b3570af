"""Decision ids the service makes: UUID version 7 (RFC 9562), so that rows arrive nearly in order.

What holds: 74 bits of each are the operating system's random ones, used once. They are fetched a few
thousand at a time: asking for them gives the interpreter's lock up, and to win it back from the ledger's
writer costs many times what the bits do.
"""

from __future__ import annotations

import os
from collections.abc import Callable

_FETCHED_BYTES = 4_096
_DIGITS = 19
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


class Uuid7:
    """Makes UUIDv7; for one thread."""

    def __init__(self, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._random_bytes = random_bytes
        self._digits = ""
        self._used = 0

    def __call__(self, now_us: int) -> str:
        """Return a UUIDv7 for a wall clock in microseconds since 1970."""
        if self._used + _DIGITS > len(self._digits):
            self._digits, self._used = self._random_bytes(_FETCHED_BYTES).hex(), 0
        random = self._digits[self._used : self._used + _DIGITS]
        self._used += _DIGITS
        time = f"{now_us // 1_000 & (1 << 48) - 1:012x}"
        return f"{time[:8]}-{time[8:]}-7{random[:3]}-{_VARIANT[random[3]]}{random[4:7]}-{random[7:]}"
