"""The clocks of a process: the machine's wall clock, and the service clock that the ledger keeps.

What holds: whoever decides, takes reports or settles gets one reading of all of them, a `Now`, from here.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tilbud.domain.clock import Now, SteadyClock
from tilbud.domain.limits import Limits
from tilbud.ledger.ports import Coordination


def monotonic_us() -> int:
    """Return CLOCK_MONOTONIC, which the service clock follows."""
    return time.monotonic_ns() // 1_000


class SystemClock:
    """Wall time as the machine has it, service time as the ledger has it, and wall time without its jumps."""

    def __init__(
        self,
        coordination: Coordination,
        limits: Limits,
        last_us: int | None,
        monotonic_us: Callable[[], int] = monotonic_us,
    ) -> None:
        self._coordination = coordination
        self._monotonic_us = monotonic_us
        self._steady = SteadyClock(
            tolerance_us=int(limits.wall_clock_tolerance_s * 1e6),
            accepted_after_us=int(limits.wall_clock_accepted_after_s * 1e6),
            away_max_us=int(limits.wall_clock_away_max_s * 1e6),
            last_us=last_us,
        )

    def now(self) -> Now:
        """Return one reading of the clocks."""
        wall_us = time.time_ns() // 1_000
        steady_us = self._steady.read(wall_us, self._monotonic_us())
        return Now(wall_us, self._coordination.service_us(), steady_us)
