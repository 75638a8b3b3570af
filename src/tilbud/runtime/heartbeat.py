"""The beat of a process that serves: it looks several times a second how the process is, and says so.

What holds: while nothing else is committed, a commit of nothing proves that the ledger takes outcomes, which
is what the service clock goes by; whoever asks `/readyz` or grpc.health.v1 learns within about two seconds
that it does not, that it is damaged or lost, that it cannot be read, or that the event loop does not come
round, and as soon again that all is well. Each change is one line of the log. It never waits for the ledger:
what does not come back is what it is there to tell of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import Protocol

import structlog

from tilbud.domain.clock import Clock, Now
from tilbud.domain.errors import TilbudError
from tilbud.domain.limits import Limits
from tilbud.telemetry.process import ProcessMetrics


class WatchedLedger(Protocol):
    """What is asked of the ledger."""

    def trouble(self) -> tuple[str, str]:
        """Return what is wrong with it: a kind, and a sentence."""
        ...

    def failed_reads(self) -> int:
        """Return how many reads have failed."""
        ...

    def idle_s(self) -> float:
        """Return for how long nothing was committed."""
        ...

    def look(self) -> None:
        """Find out whether it works again."""
        ...

    async def touch(self, now: Now) -> None:
        """Commit nothing but the clock."""
        ...


class Beats:
    """One task of the event loop; `stalled` may be asked from any thread."""

    def __init__(
        self,
        *,
        ledger: WatchedLedger,
        clock: Clock,
        unready: Callable[[], str],
        set_serving: Callable[..., Awaitable[None]],
        metrics: ProcessMetrics,
        limits: Limits,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._unready = unready
        self._set_serving = set_serving
        self._metrics = metrics
        self._limits = limits
        self._log = log
        self._at_s = monotonic()
        self._said = ("", "")  # why it does not serve, as last logged: the ledger's trouble, and a sentence
        self._failed_reads = 0
        self._touching: asyncio.Task[None] | None = None

    def stalled(self) -> str:
        """Say that the event loop has not come round, or ""."""
        late_s = monotonic() - self._at_s
        if late_s > self._limits.loop_overdue_s:
            return f"the event loop has not come round for {late_s:.1f} s"
        return ""

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            self._at_s = monotonic()
            await self.beat()
            await asyncio.sleep(self._limits.beat_every_s)

    async def beat(self) -> None:
        """Look once."""
        ledger = self._ledger
        ledger.look()
        idle = ledger.idle_s() >= self._limits.idle_proof_s
        if idle and (self._touching is None or self._touching.done()):
            self._touching = asyncio.create_task(self._touch())
        failed_reads = ledger.failed_reads()
        kind, _ = ledger.trouble()
        self._metrics.ledger_condition(kind, failed_reads - self._failed_reads)
        self._failed_reads = failed_reads
        reason = self._unready()
        before_kind, before = self._said
        if reason and (not before or kind not in ("", before_kind)):  # numbers in it change at each look
            self._log.error("not_ready", reason=reason)
        elif before and not reason:
            self._log.warning("ready_again")
        if bool(reason) != bool(before):
            await self._set_serving(serving=not reason)
        self._said = kind or (before_kind if reason else ""), reason

    async def _touch(self) -> None:
        with suppress(TilbudError):  # the ledger knows, and is asked
            await self._ledger.touch(self._clock.now())
