"""Decision ids the service makes: UUID version 7 (RFC 9562), so that rows arrive nearly in order.

What holds: the time of an id is the one that was handed in, in milliseconds; its other 74 bits are random,
so that ids of one millisecond have no order. The generator is seeded by the operating system and does not ask
it for each id: that would give up the interpreter's lock, and to win it back from the ledger's writer costs
many times what the id does.
"""

from __future__ import annotations

import uuid_utils


def uuid7(now_us: int) -> str:
    """Return a UUIDv7 for a wall clock in microseconds since 1970."""
    return str(uuid_utils.uuid7(nanoseconds=now_us * 1_000))
