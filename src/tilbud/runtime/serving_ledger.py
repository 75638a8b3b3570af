"""The ledger as a service opens it: with what, and who hears what it tells of itself.

What holds: every process of a service opens it here, and so does their supervisor before them; what it says
is logged, and acknowledged commits that it lacks are counted. Starting and closing it is its opener's.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from tilbud.ledger.open import ledger_at
from tilbud.ledger.sqlite.adapter import Serving, SqliteLedger
from tilbud.ledger.sqlite.opening_check import ACKNOWLEDGED_LOST
from tilbud.runtime.data_directory import DataDirectory
from tilbud.runtime.settings import Settings, WorkerSlot


def serving_ledger(
    settings: Settings,
    data: DataDirectory,
    *,
    slot: WorkerSlot | None = None,
    monotonic_us: Callable[[], int],
    lost_commits: Callable[[int], object],
    observe_outage: Callable[[float], None] = lambda _seconds: None,
    log: structlog.typing.FilteringBoundLogger,
) -> SqliteLedger:
    """Return the ledger to serve from, not open yet; a `slot` joins the service that began on it."""

    def tell(event: str, values: dict[str, object]) -> None:
        log.error(event, **values)
        if event == ACKNOWLEDGED_LOST:
            lost_commits(int(str(values["commits"])))

    return ledger_at(
        data.ledger_address,
        limits=settings.limits,
        durability=settings.durability,
        serving=Serving(
            monotonic_us=monotonic_us,
            place=slot.number if slot else 0,
            joins=slot.ledger if slot else None,
            accept_loss=settings.accept_loss,
            tell=tell,
            observe_outage=observe_outage,
        ),
    )
