"""The lease to settle, as one process sees it: one of all those on a ledger settles, any of them may.

What holds: who does not hold the lease only looks, and asks for it once it has run out; who holds it
renews it well before that. So it passes to another soon after its holder was killed or hangs, and at once
where the holder stops. `token` may be out of date: settling tells it to the ledger, which refuses an old one.
Nothing here is a task of its own, since a learner that hangs shall lose the lease: its turns ask.
"""

from __future__ import annotations

import structlog

from tilbud.domain.clock import Clock
from tilbud.domain.limits import Limits
from tilbud.ledger.ports import Coordination
from tilbud.telemetry.learning import LearningMetrics


class SettlingLease:
    """The lease, for a process that is called `holder` as no other is."""

    def __init__(
        self,
        *,
        holder: str,
        coordination: Coordination,
        clock: Clock,
        metrics: LearningMetrics,
        limits: Limits,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._holder = holder
        self._coordination = coordination
        self._clock = clock
        self._metrics = metrics
        self._limits = limits
        self._log = log
        self._token = 0
        self._renew_at_us = 0

    @property
    def token(self) -> int:
        """What to settle with; 0 where this process does not hold the lease, as far as it knows."""
        return self._token

    def renewal_due(self) -> bool:
        """Whether this process holds the lease, and it is time to `ask` for it again."""
        left_us = self._renew_at_us - self._clock.now().service_us  # more than all: the clock was set back
        return self._token > 0 and not 0 < left_us <= self._limits.lease_renew_every_s * 1e6

    async def seek(self) -> None:
        """Take the lease if nobody has it. Raises as a read or a commit does."""
        if await self._coordination.leased_until_us() <= self._clock.now().service_us:
            await self.ask()

    async def ask(self) -> None:
        """Take or renew the lease, unless another has it. Raises as a commit does."""
        now = self._clock.now()
        self._renew_at_us = now.service_us + int(self._limits.lease_renew_every_s * 1e6)
        until_us = now.service_us + int(self._limits.lease_s * 1e6)
        token = await self._coordination.lease(self._holder, until_us, now)
        if token == self._token:
            return
        if self._token:
            self.lost()
        if token:
            self._log.info("settling_lease_taken", token=token)
            self._holds(token)

    def lost(self) -> None:
        """Know that another may have it: the ledger refused the token."""
        self._log.warning("settling_lease_lost", token=self._token)
        self._holds(0)

    async def release(self) -> None:
        """Give the lease up, so that another takes it at its next turn. Raises as a commit does."""
        token = self._token
        if token:
            self._holds(0)
            await self._coordination.release(token, self._clock.now())
            self._log.info("settling_lease_released", token=token)

    def _holds(self, token: int) -> None:
        self._token = token
        self._metrics.settling_lease.set(bool(token))
