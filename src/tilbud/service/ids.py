"""Decision ids the service makes: UUID version 7 (RFC 9562), so that rows arrive nearly in order."""

from __future__ import annotations

import os
from uuid import UUID


def uuid7(now_us: int) -> str:
    """Return a UUIDv7 for a wall clock in microseconds since 1970."""
    random = int.from_bytes(os.urandom(10), "big")
    value = (now_us // 1_000 & (1 << 48) - 1) << 80 | random
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(UUID(int=value))
