"""The Ledger port: what durable truth must do, whatever stores it.

What holds, of every adapter (tests/contract/ proves it):
 * A row has one writer: of two appends under one id, one is stored and both see it.
 * What an awaited call returned is durable as `Durability` says; what failed left nothing.
 * Each campaign's settlements are numbered 1, 2, 3, … without gaps, in order of (due, recorded).
 * Settling and its sequence, receiving an outcome and its effect, are one transaction each.
 * Rows are handed to a writer in bounded numbers; where it is full, calls fail at once with
   Overloaded. A failed commit is LedgerUnavailable.

Writes are coroutines, for the loop that called `start`. Reads are plain, take microseconds, and see
every write that was acknowledged before them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from tilbud.domain.clock import Now
from tilbud.domain.decisions import Decision, Settlement
from tilbud.domain.errors import DecisionExpired, IdReused, UnknownDecision
from tilbud.domain.rewards import Outcome, OutcomeStatus, RewardRules


class Durability(StrEnum):
    """What acknowledged rows survive: the end of the process, or also the loss of power."""

    PROCESS = "process"
    POWER = "power"


@dataclass(frozen=True, slots=True)
class Activation:
    """A deferred decision's offer was shown; what its campaign allows from then on."""

    campaign: str
    decision_id: str
    shown_offer_id: str  # "": the decision's own
    window_us: int
    grace_us: int
    ends_now: frozenset[str]  # outcomes that settle a decision at once (learn: on_settlement)


@dataclass(frozen=True, slots=True)
class Activated:
    """The decision's window; `deadline_us` is wall time, None where the decision is void.

    `held` is how many held outcomes count from now on; 0 when the activation was a repeat.
    """

    deadline_us: int | None
    repeated: bool
    held: int


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


ReceiveResult = OutcomeStatus | UnknownDecision | IdReused
ActivateResult = Activated | UnknownDecision | DecisionExpired


class LedgerReading(Protocol):
    """What can be read of the record, also beside the service that writes it."""

    def find(self, campaign: str, decision_id: str) -> Decision | None:
        """Return the recorded decision."""
        ...

    def settlements(self, campaign: str, after: int, limit: int) -> list[Settlement]:
        """Return settlements with sequence > `after`, in order."""
        ...

    def sequences(self, campaign: str) -> tuple[int, int]:
        """Return the first and the last retained sequence; (0, 0) where nothing settled yet.

        Where all of them were purged it is the empty run after the last: (last + 1, last).
        """
        ...

    def drawn(self, campaign: str, lineage: str, after: int, limit: int) -> list[tuple[int, Decision]]:
        """Return up to `limit` decisions the bandit drew with this lineage, in the order of recording.

        Each with its place in that order; the next ones are `after` the last. For the audit of `rebuild`.
        """
        ...

    def campaigns(self) -> list[str]:
        """Return every campaign the ledger has rows of, served or not."""
        ...

    def pending(self, campaign: str) -> int:
        """Return how many decisions wait for activation or settlement."""
        ...

    def oldest_due_service_us(self, campaign: str) -> int | None:
        """Return when the next decision settles or expires, on the service clock."""
        ...


class Ledger(LedgerReading, Protocol):
    """The durable record of decisions, outcomes and settlements."""

    async def start(self, observe_commit: Callable[[float, int], None]) -> LedgerInfo:
        """Open the store for the running loop; `observe_commit(seconds, rows)` after each commit.

        No rows: the commit failed. `observe_commit` may be called from another thread. Raises
        LedgerInvalid where a newer version wrote the data, or it is damaged.
        """
        ...

    async def close(self) -> None:
        """Commit what was handed over, then close. Safe to call twice."""
        ...

    async def record(self, decisions: Sequence[Decision], now: Now) -> list[Decision]:
        """Store decisions; for each return the stored one: itself, or the earlier one of that id.

        All of one call are one transaction.
        """
        ...

    async def receive(self, outcomes: Sequence[Outcome], now: Now) -> list[ReceiveResult]:
        """Store outcomes, each by `domain.rewards.receive`; known ones are DUPLICATE or IdReused.

        Unknown decisions store nothing. An outcome that `ends_now` makes its decision due at once;
        held ones do so when the decision is activated.
        """
        ...

    async def activate(self, activations: Sequence[Activation], now: Now) -> list[ActivateResult]:
        """Open the window of deferred decisions, void those whose offer was not the one shown.

        A repeat, and a decision that was never deferred, returns its window unchanged. Until it
        settles, a decision of which another offer was shown is void, whichever report came first.
        """
        ...

    async def settle(self, campaign: str, rules: RewardRules, limit: int, now: Now) -> Settled:
        """Settle up to `limit` active decisions that are due, in order; expire pending ones."""
        ...

    async def touch(self, now: Now) -> None:
        """Remember the service clock; proves that the ledger can commit."""
        ...

    async def purge(self, campaign: str, before_us: int, keep_after: int, limit: int, now: Now) -> int:
        """Remove up to `limit` decisions that ended, decided before `before_us`; return how many.

        With their outcomes, and their settlements, of which those above sequence `keep_after` stay
        (a checkpoint still needs them), as do their decisions. Settled decisions go in order of
        sequence, so that what is retained has no gaps, others as recorded: the first that is too
        young keeps those behind it until it is old enough.
        """
        ...
