"""What calls of the ledger's ports answer with, whatever stores it.

What holds: these are plain values, and one error, the same from every adapter. What a call means is in
ports.py; what is stored, `domain/`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from tilbud.domain.customer.customer import CustomerEventStatus
from tilbud.domain.decision.activation import Activated
from tilbud.domain.decision.rewards import OutcomeStatus
from tilbud.domain.errors import (
    CustomerErased,
    DecisionExpired,
    IdReused,
    InvalidField,
    LedgerUnavailable,
    TooManyOutcomes,
    UnknownDecision,
)

Result = TypeVar("Result")


class StillCommitting(LedgerUnavailable):
    """A commit does not come back and is not waited for any longer; it may come about yet.

    `later` is its result then.
    """

    def __init__(self, message: str, later: asyncio.Future[Any]) -> None:
        super().__init__(message)
        self.later = later


async def or_later(call: Awaitable[Result], count: Callable[[Result], object]) -> Result:
    """Return a call's result; one that comes about when nobody waits any longer is given to `count`.

    Else the ledger would have what no metric has: who repeats the call is told that it was there before.
    """
    try:
        return await call
    except StillCommitting as error:
        error.later.add_done_callback(lambda later: count(later.result()))
        raise


@dataclass(frozen=True, slots=True)
class Settled:
    """One turn of settling: how many decisions settled and expired, and whether more are due."""

    settled: int
    expired: int
    more: bool


@dataclass(frozen=True, slots=True)
class LedgerInfo:
    """What the ledger remembers across restarts, apart from rows."""

    draw_key: bytes  # 32 random bytes made with the ledger; keys draws, splits and fingerprints
    served_service_us: int  # the service clock at the last commit, or shortly before it
    steady_us: int | None = None  # the steady clock then; None: unknown


@dataclass(frozen=True, slots=True)
class ExportPage:
    """Rows about one customer, as plain values with their "kind"; `more` is where the next page begins."""

    rows: tuple[Mapping[str, object], ...]
    more: str  # "": this is the last page


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure removed, and the campaigns whose models had learned some of it."""

    rows: int
    campaigns: tuple[str, ...]
    stranger: bool = False  # nothing was kept of them, not even a tombstone


EventResult = CustomerEventStatus | IdReused | CustomerErased | InvalidField


@dataclass(frozen=True, slots=True)
class Showed:
    """What an outcome met that first activated its decision, and that activation."""

    status: OutcomeStatus
    activated: Activated


ReceiveResult = OutcomeStatus | Showed | UnknownDecision | IdReused | InvalidField | TooManyOutcomes
ActivateResult = Activated | UnknownDecision | DecisionExpired


class Standing(NamedTuple):
    """Where a campaign stands in the ledger: what tells whether there is anything to do for it."""

    last_sequence: int = 0  # of its settlements
    erasures: int = 0
    open: int = 0  # decisions that wait for activation or settlement
    due_service_us: int | None = None  # on the service clock: when the next of them may settle or expire
