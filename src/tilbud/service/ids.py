"""Decision ids the service makes: UUID version 7 (RFC 9562), so that rows arrive nearly in order."""

from __future__ import annotations

import os


def uuid7(now_us: int) -> str:
    """Return a UUIDv7 for a wall clock in microseconds since 1970."""
    random = int.from_bytes(os.urandom(10), "big")
    value = (now_us // 1_000 & (1 << 48) - 1) << 80 | random
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
