"""The lease to settle: of all processes on a ledger, the one that holds it settles.

What holds: the lease is one row, changed within the writer's transaction. Each change of holder raises its
token by one, and settling tells its token in its own transaction: who slept through the end of its lease
settles nothing once another has taken it. Who only looks does not commit. How long a lease is, and who
should ask for it, is `learning/settling_lease.py`'s business.
"""

from __future__ import annotations

import sqlite3

from tilbud.domain.clock import Now
from tilbud.domain.errors import LeaseLost

LEASED_UNTIL = "SELECT until_service_us FROM lease"
_TAKE = (
    "UPDATE lease SET token = token + (holder <> ?), holder = ?, until_service_us = ? "
    "WHERE holder IN (?, '') OR until_service_us <= ? RETURNING token"
)
_RELEASE = "UPDATE lease SET holder = '', until_service_us = 0 WHERE token = ?"
_HELD = "SELECT 1 FROM lease WHERE token = ? AND holder <> ''"


class Leases:
    """The lease on one connection; for one thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def take(self, holder: str, until_us: int, now: Now) -> int:
        """Take or renew the lease; return its token, 0 where another has it."""
        # RETURNING is whole only when its rows were all read.
        taken = self._connection.execute(_TAKE, (holder, holder, until_us, holder, now.service_us)).fetchall()
        return int(taken[0][0]) if taken else 0

    def release(self, token: int) -> None:
        """Give the lease up, if it is still this token's."""
        self._connection.execute(_RELEASE, (token,))

    def check(self, token: int) -> None:
        """Raise LeaseLost where the token is not the lease's current one."""
        if self._connection.execute(_HELD, (token,)).fetchone() is None:
            raise LeaseLost(token)
