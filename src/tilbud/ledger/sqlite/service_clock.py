"""The service clock, which every process of a service reads alike, and stops while none of them commits.

What holds: the clock counts the machine's monotonic microseconds, less what it is behind them. How far it is
behind stands in the ledger, and so does the reading at the last commit, the proof that outcomes could be
acknowledged then. Who begins a transaction and finds no proof for longer than `outage_from_s` sets the clock
back by all of that time, in this transaction: a process that was frozen, a full disk, a ledger that another
program locked, take no time from anybody's deadline. For `outage_allowance_s` more it then stands still,
so that callers, who do not know yet, can tell what they have before anything settles. It never goes back
behind a proof. CLOCK_MONOTONIC itself stands still while the machine sleeps.

A process that committed a while ago that is too short for an outage need not look: nobody can have set the
clock back since.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from tilbud.domain.limits import Limits

_PROGRESS = "SELECT behind_us, served_service_us FROM progress"
_PROVE = (
    "UPDATE progress SET commits = commits + 1, served_service_us = max(served_service_us, ?), "
    "steady_us = ?, "
    "behind_us = coalesce(?, behind_us) RETURNING commits"
)
_BEGIN = "UPDATE progress SET behind_us = ? RETURNING served_service_us"


class _Standing(NamedTuple):
    behind_us: int  # what the monotonic clock is ahead
    proven_us: int  # the clock is never read below this


class ServiceClock:
    """What a process reads the time by; `monotonic_us` is the machine's own. Any thread may read it."""

    def __init__(self, monotonic_us: Callable[[], int]) -> None:
        self.monotonic_us = monotonic_us
        self.standing = _Standing(0, 0)

    def now_us(self) -> int:
        """Return the service time."""
        return self.at(self.monotonic_us(), self.standing)

    @staticmethod
    def at(monotonic_us: int, standing: _Standing) -> int:
        """Return the service time at a reading of the machine's clock."""
        return max(standing.proven_us, monotonic_us - standing.behind_us)

    def begin(self, connection: sqlite3.Connection) -> None:
        """Let the clock go on from the last proof; for who begins a service, before anybody reads it."""
        [[proven_us]] = connection.execute("SELECT served_service_us FROM progress").fetchall()
        behind_us = self.monotonic_us() - proven_us
        connection.execute(_BEGIN, (behind_us,)).fetchall()
        self.standing = _Standing(behind_us, proven_us)

    def join(self, connection: sqlite3.Connection) -> None:
        """Read the clock as the service's other processes do."""
        self.standing = _Standing(*connection.execute(_PROGRESS).fetchone())


class Proof:
    """What each transaction of one connection does about the clock; without one it only counts commits.

    `observe_outage` hears of each outage found here, in seconds, when the transaction is committed.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        clock: ServiceClock | None,
        limits: Limits,
        observe_outage: Callable[[float], None],
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._observe_outage = observe_outage
        self._outage_us = int(limits.outage_from_s * 1e6)
        self._allowance_us = int(limits.outage_allowance_s * 1e6)
        self._proved_us = -self._outage_us  # by the machine's clock: this connection's last commit
        self._began_us = 0
        self._found: _Standing | None = None
        self._away_us = 0

    def begin(self) -> int | None:
        """Return the service time of the transaction that just began; None without a clock.

        No call in it can have happened later than that.
        """
        clock = self._clock
        if clock is None:
            return None
        self._began_us = clock.monotonic_us()
        standing = clock.standing
        if self._began_us - self._proved_us >= self._outage_us // 2:
            standing = self._found = self._look(self._began_us)
        return clock.at(self._began_us, standing)

    def _look(self, monotonic_us: int) -> _Standing:
        behind_us, proven_us = self._connection.execute(_PROGRESS).fetchone()
        away_us = monotonic_us - behind_us - proven_us
        if away_us >= self._outage_us:
            self._away_us = away_us
            behind_us += away_us + min(away_us, self._allowance_us)
        return _Standing(behind_us, proven_us)

    def finish(self, service_us: int, steady_us: int) -> int:
        """Prove that the ledger commits, as the last thing before it does; return the commit's number."""
        behind_us = self._found.behind_us if self._found is not None and self._away_us else None
        [[commits]] = self._connection.execute(_PROVE, (service_us, steady_us, behind_us)).fetchall()
        return int(commits)

    def keep(self) -> None:
        """Go by what the transaction found: it was committed."""
        if self._clock is None:
            return
        self._proved_us = self._began_us
        if self._found is not None:
            self._clock.standing = self._found
        if self._away_us:
            self._observe_outage(self._away_us / 1e6)
        self.forget()

    def forget(self) -> None:
        """Forget what the transaction found: it was rolled back."""
        self._found, self._away_us = None, 0
