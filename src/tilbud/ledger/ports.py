"""The ports of the ledger: what durable truth must do for each of its clients, whatever stores it.

    Decisions          for who decides: one look before, one record after
    Outcomes           for who takes outcomes and activations
    Pauses             for who pauses offers and campaigns, and shows it
    Customers          for who keeps profiles and events, and erases
    CustomerExport     for who gives people what is stored of them
    SettlementBounds   for whoever asks how much there is to learn
    SettlementHistory  that, for whoever learns a model
    SettlementLog      that, and what settling needs
    Retention          for who forgets what is old
    Coordination       for what the processes on one ledger agree in
    Reader             for who looks into the record, also from outside
    Ledger             all of them, for who opens a store

A client takes the ports that it uses; that one adapter has them all is nobody's business but the wiring's.

What holds, of every adapter (tests/contract/ proves it):
 * A row has one writer: of two appends under one id, one is stored and both see it.
 * What an awaited call returned is durable as `Durability` says; what failed left nothing, unless it is
   StillCommitting (both in answers.py).
 * Each campaign's settlements are numbered 1, 2, 3, … without gaps, in order of (due, recorded).
 * Settling and its sequence, receiving an outcome and its effect, are one transaction each.
 * Of all processes one settles, the holder of the lease; who has lost it settles nothing, even unawares.
 * A decision for a customer is stored with its exposures, and only while the customer is as it was decided
   on: caps hold across processes.
 * A pause, a profile, an erasure count for every read after they were acknowledged.
 * Rows are handed to a writer in bounded numbers; where it is full, calls fail at once with
   Overloaded. A failed commit is LedgerUnavailable.

All calls are for the loop that called `start`, but those of a Reader. A read sees every write that was
acknowledged before it; a store on the same machine may answer without suspending.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from tilbud.domain.clock import Clocks, Now
from tilbud.domain.customer.customer import (
    Customer,
    CustomerEvent,
    CustomerKey,
    Profile,
)
from tilbud.domain.decision.activation import Activation
from tilbud.domain.decision.facts import Facts, LookUp
from tilbud.domain.decision.records import Decision, ExposureEffect, InternedText, Repeat, Settlement
from tilbud.domain.decision.rewards import Outcome, RewardRules
from tilbud.domain.pauses import Pause
from tilbud.ledger.answers import (
    ActivateResult,
    Erased,
    EventResult,
    ExportPage,
    LedgerInfo,
    ReceiveResult,
    Settled,
    Standing,
)


class Decisions(Protocol):
    """What deciding needs of a ledger: one look before, one record after."""

    async def look_up(self, looks: Sequence[LookUp]) -> Sequence[Facts]:
        """Return what decisions need to know, for each look-up, as it is at one moment.

        Of a repeat `earlier` is the decision it stands for, with the repeat's fingerprint and payload. A
        customer is looked for under their first key, and under an older one where that alone is known. Of
        each scope there are the newest `limits.cap_times_max` exposures at least. A sticky decision is the
        last one, and neither void nor expired. What a look-up does not ask for is left out, and costs
        nothing. What is newer than the customer's version is caught when the decision is recorded.
        """
        ...

    async def record(
        self, decisions: Sequence[Decision], now: Now, contacts: Sequence[ExposureEffect | None] = ()
    ) -> list[Decision | None]:
        """Store decisions; for each return the stored one: itself, or the earlier one of that id.

        `contacts` (none, or one for each decision) says what a decision of a customer means for them. Where
        the customer's version is no longer the contact's, or they are erased, nothing of that decision is
        stored and None is returned: decide again. A contact makes the customer known, and its exposures count
        from now; one that is `counted` changes the version. One that is not has no rivals among the decisions
        of its own call. Those of a deferred decision are reserved: they count
        whatever the time until its activation, then from that, and are released where it expires or is
        void. An id that stands for an earlier decision (see `repeat`) is taken. All of one call are one
        transaction.
        """
        ...

    async def repeat(self, repeats: Sequence[Repeat], now: Now) -> list[Decision | None]:
        """Let ids stand for earlier decisions; return for each what `Outcomes.find` returns from now on.

        Outcomes and activations under such an id are the earlier decision's. None, with nothing stored, where
        that is gone, void or expired, or where the customer's version is not the contact's: decide again.
        The scopes of the contact count once more; only then the version changes. Whose id is new is answered
        with its own fingerprint, that very object; where the id was known, with what was kept under it.
        """
        ...


class Outcomes(Protocol):
    """What taking outcomes and activations needs of a ledger."""

    async def find(self, campaign: str, decision_id: str) -> Decision | None:
        """Return the recorded decision; of a repeat the earlier one, with the repeat's fingerprint."""
        ...

    async def receive(self, outcomes: Sequence[Outcome], now: Now) -> list[ReceiveResult]:
        """Store outcomes, each by `domain.decision.rewards.receive`; known ones are DUPLICATE or IdReused.

        An outcome is worth what the rules say that its decision was made with; one they do not declare what
        it says itself (`weight`), or it is InvalidField ("outcome"). A new one that they say `shows` first
        activates a decision that waits for it, with the offer drawn: Showed. Unknown decisions store nothing,
        nor do those without rules in a campaign that is not served (no `weight` either). A new outcome of a
        customer's decision is also when it last `happened` to its offer, whatever it met here. An outcome
        that `ends_now` makes its decision due at once; held ones do so when the decision is activated. A new
        one beyond `limits.outcomes_max` of its decision is TooManyOutcomes, and not stored.
        """
        ...

    async def activate(self, activations: Sequence[Activation], now: Now) -> list[ActivateResult]:
        """Open the window of deferred decisions, void those whose offer was not the one shown.

        By the rules the decision was made with, else the activation's; without either it is UnknownDecision.
        A repeat, and a decision that was never deferred, returns its window unchanged. Until it
        settles, a decision of which another offer was shown is void, whichever report came first.
        """
        ...


class Pauses(Protocol):
    """The pauses that people set: of what, until when, and why."""

    async def pauses(self, campaign: str) -> tuple[Pause, ...]:
        """Return the pauses of a campaign, also those whose time is over."""
        ...

    async def every_pause(self) -> tuple[Pause, ...]:
        """Return the pauses of every campaign, also those whose time is over."""
        ...

    async def pause(self, pause: Pause, now: Now) -> None:
        """Pause an offer, or a campaign; replaces an earlier pause of it. Those that are over go."""
        ...

    async def resume(self, campaign: str, offer_id: str, now: Now) -> bool:
        """End a pause; return whether there was one."""
        ...


class Customers(Protocol):
    """The durable record of customers, in the same transactions as decisions."""

    async def customer(self, key: CustomerKey) -> Customer:
        """Return what is known; UNKNOWN_CUSTOMER where nothing is."""
        ...

    async def update_customer(
        self, key: CustomerKey, change: Callable[[Customer], Profile], now: Now
    ) -> Profile:
        """Replace a profile by `change` of it, within one transaction; return what is stored.

        What `change` raises is raised, and nothing is stored; it may be called more than once, and not in
        the loop's thread. `updated_us` and `changes` are set here. A change that takes consent back
        (`withdraws`, in `domain/customer/`) voids the customer's open decisions, in every campaign, releases
        what was reserved by those that were not shown yet, and removes events and what happened. One that
        grants consent lifts a tombstone. The version changes.
        """
        ...

    async def receive_events(self, events: Sequence[CustomerEvent], now: Now) -> list[EventResult]:
        """Store events where the consent that counts (`resolve_consent`) is GRANTED; return what each met.

        An event id that is known is DUPLICATE, or IdReused where it was another event. An event that makes
        more than `limits.customer_events_max` different ones of a customer is InvalidField ("event").
        Events that come late do not make what last happened older.
        """
        ...

    async def erase(self, key: CustomerKey, now: Now) -> Erased:
        """Remove every row about a customer, and leave a tombstone under the key, also of one unknown.

        A settlement keeps its place in the order and nothing else. When it returns, the file and its log
        hold no copy of what was removed, unless someone who reads held the log for seconds: then it
        is emptied once they are done.
        """
        ...


class SettlementBounds(Protocol):
    """How far settlements reach."""

    async def sequences(self, campaign: str) -> tuple[int, int]:
        """Return the first and the last retained sequence; (0, 0) where nothing settled yet.

        Where all of them were purged it is the empty run after the last: (last + 1, last).
        """
        ...


class SettlementHistory(SettlementBounds, Protocol):
    """What a model is learned from."""

    async def settlements(self, campaign: str, after: int, limit: int) -> list[Settlement]:
        """Return settlements with sequence > `after`, in order."""
        ...

    async def erasures(self, campaign: str) -> int:
        """Return how many erasures removed settlements of the campaign; part of its model's lineage."""
        ...


class SettlementLog(SettlementHistory, Protocol):
    """What settling and learning need of a ledger."""

    async def standings(self) -> Mapping[str, Standing]:
        """Return where every campaign stands that the ledger has rows of, in one read of one moment.

        It costs next to nothing where nobody committed since it was last asked.
        """
        ...

    async def campaigns(self) -> list[str]:
        """Return every campaign the ledger has rows of, served or not."""
        ...

    async def pending(self, campaign: str) -> int:
        """Return how many decisions wait for activation or settlement."""
        ...

    async def clocks(self, campaign: str, now: Now) -> Clocks:
        """Return what the campaign's clocks say at `now` of the service's; they differ while it is away."""
        ...

    async def oldest_due_service_us(self, campaign: str) -> int | None:
        """Return when the next decision settles or expires, on the campaign's clocks."""
        ...

    async def settle(
        self, campaign: str, rules: RewardRules | None, limit: int, now: Now, token: int
    ) -> Settled:
        """Settle up to `limit` active decisions that are due, in order; expire pending ones.

        Each by the rules it was made with; `rules` are for those recorded before any were kept. Where there
        are none either (None: the campaign is not served), such a decision is void, counted as expired.

        Raises LeaseLost, and settles nothing, where `token` is not the lease's current one.
        """
        ...

    async def under_other_rules(self, campaign: str, rules: InternedText) -> int:
        """Return how many open decisions were made with other rules; it may read them all, in a thread."""
        ...


class Retention(Protocol):
    """What forgetting old rows needs of a ledger."""

    async def purge(self, campaign: str, before_us: int, keep_after: int, limit: int, now: Now) -> int:
        """Remove up to `limit` decisions that ended, decided before `before_us`; return how many.

        Where they have many outcomes or repeats it may be some of those alone, and their number: 0 says that
        nothing is left to remove.
        `before_us` is on the steady clock; a decision must be as old on the service clock too, and one that
        is dated later than now need only be old on that.
        With their outcomes, and their settlements, of which those above sequence `keep_after` stay
        (a checkpoint still needs them), as do their decisions. Settled decisions go in order of
        sequence, so that what is retained has no gaps, others as recorded: the first that is too
        young keeps those behind it until it is old enough.
        """
        ...

    async def purge_customers(
        self, events_before_us: int, exposures_before_us: int, limit: int, now: Now
    ) -> int:
        """Remove up to `limit` old rows of customers; return how many.

        Those are events and exposures from before these times on the steady clock, and customers without a
        profile or tombstone to whom nothing happened since either. When something last happened is kept with
        the customer.
        """
        ...


class Coordination(Protocol):
    """What processes on one ledger agree in: what time it is, who settles, what is served."""

    def service_us(self) -> int:
        """Return the service clock (µs), which all processes on the ledger read alike; from any thread.

        It counts while somebody serves and commits: who starts goes on from what the last commit proved. It
        never goes back behind that, and costs no read. All times that calls are given as `now` are of it.
        """
        ...

    async def leased_until_us(self) -> int:
        """Return when the lease to settle runs out, on the service clock (µs); 0 where nobody has it."""
        ...

    async def lease(self, holder: str, until_us: int, now: Now) -> int:
        """Take or renew the lease to settle until a service time (µs); return its token, 0: another has it.

        Another's is free once it has run out at `now`. The same holder renews its own under the same token,
        also when it ran out, unless somebody took it meanwhile; each change of holder raises the token by
        one. Holders are told apart by name: no two processes may have the same. All of them must read one
        service clock.
        """
        ...

    async def release(self, token: int, now: Now) -> None:
        """Give the lease up at once, if it is still this token's."""
        ...

    async def serve(self, campaigns: Collection[str], now: Now) -> None:
        """Let the clocks of these campaigns go from now on, and those of all others stand.

        A campaign that comes back after less than `limits.campaign_away_max_s` finds its deadlines moved by
        the time it was away; those of another go on after that time, so that nothing waits for ever.
        Decisions that wait for their activation expire in time all the same, and can be activated.
        """
        ...

    async def touch(self, now: Now) -> None:
        """Remember the service clock; proves that the ledger can commit."""
        ...


class CustomerExport(Protocol):
    """All that is stored of somebody, for them to have."""

    async def export(self, key: CustomerKey, after: str, limit: int, bytes_max: int) -> ExportPage:
        """Return rows about a customer: at most `limit`, and about `bytes_max` of JSON, but at least one.

        `after` is the `more` of the page before, "" at first; raises InvalidField ("page_token") on another.
        """
        ...


class Reader(SettlementBounds, CustomerExport, Protocol):
    """What the record tells those who look into it, also from outside the process that writes it.

    It holds up no event loop: it has a connection of its own. Each answer, and each page of a longer one, is
    of the moment it is asked for, and has every write that was acknowledged by then.
    """

    async def find(self, campaign: str, decision_id: str) -> Decision | None:
        """Return the recorded decision; of a repeat the earlier one, with the repeat's fingerprint."""
        ...

    async def erasures(self, campaign: str) -> int:
        """Return how many erasures removed settlements of the campaign; part of its model's lineage."""
        ...

    def settlements(self, campaign: str, after: int) -> AsyncIterator[Sequence[Settlement]]:
        """Yield the settlements with sequence > `after`, in order, by pages."""
        ...

    def drawn(self, campaign: str, lineage: str) -> AsyncIterator[Sequence[Decision]]:
        """Yield the decisions that the bandit drew with this lineage, in the order of recording, by pages."""
        ...


class Ledger(Decisions, Outcomes, Pauses, Customers, SettlementLog, Retention, Coordination, Protocol):
    """All of the ports on one store, as an adapter is, with its beginning and end.

    For who opens a store and hands its ports out; nobody else takes all of it.
    """

    async def start(self, observe_commit: Callable[[float, int], None]) -> LedgerInfo:
        """Open the store for the running loop; `observe_commit(seconds, rows)` after each commit.

        No rows: the commit failed. `observe_commit` may be called from another thread. Raises
        LedgerInvalid where a newer version wrote the data, or it is damaged.
        """
        ...

    def reader(self) -> AbstractAsyncContextManager[Reader]:
        """Return a reader of this store, for `async with`, that is closed before it."""
        ...

    async def close(self) -> None:
        """Commit what was handed over, then close. Safe to call twice."""
        ...
