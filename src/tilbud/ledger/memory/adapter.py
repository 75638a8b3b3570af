"""All ports of the ledger in memory: the same promises but for one, since it is gone with the process.

What holds: each call happens at once and whole. It is for tests, demonstrations and whoever wants to
read what a ledger does; it holds a bounded number of decisions and is full beyond it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from tilbud.domain.clock import Now
from tilbud.domain.customer.customer import CustomerKey
from tilbud.domain.decision import lifecycle
from tilbud.domain.decision.activation import Activated, Activation
from tilbud.domain.decision.lifecycle import Window, check_decision, is_old
from tilbud.domain.decision.records import (
    NO_RULES,
    Decision,
    ExposureEffect,
    InternedText,
    Repeat,
    State,
)
from tilbud.domain.decision.rewards import CountedOutcome, Outcome, OutcomeStatus, RewardRules
from tilbud.domain.errors import (
    IdReused,
    LedgerUnavailable,
    Overloaded,
    TooManyOutcomes,
    UndeclaredOutcome,
    UnknownDecision,
)
from tilbud.domain.limits import Limits
from tilbud.domain.pauses import Pause
from tilbud.ledger.answers import ActivateResult, LedgerInfo, ReceiveResult, Settled, Showed
from tilbud.ledger.marks import RESERVED_US, outcome_mark, sticky_mark
from tilbud.ledger.memory.entries import OPEN, Campaign, Entry
from tilbud.ledger.memory.reader import MemoryReader
from tilbud.ledger.memory.reads import MemoryReads


class MemoryLedger(MemoryReads):
    """The Ledger without a file."""

    def __init__(
        self,
        *,
        limits: Limits,
        decisions_max: int = 1_000_000,
        monotonic_us: Callable[[], int] = lambda: time.monotonic_ns() // 1_000,
    ) -> None:
        super().__init__(limits=limits)
        self._decisions_max = decisions_max
        self._info = LedgerInfo(self._key, 0)
        self._monotonic_us = monotonic_us
        self._behind_us = 0  # what the service clock is behind the machine's
        self._opened = False

    async def start(self, observe_commit: Callable[[float, int], None]) -> LedgerInfo:  # noqa: ARG002 - the port's
        """Begin; there are no commits to observe."""
        if not self._opened:
            self._behind_us = self._monotonic_us() - self._info.served_service_us
        self._opened = True
        return self._info

    async def close(self) -> None:
        """End; reads find what was there until the object is gone."""
        self._opened = False

    async def record(
        self, decisions: Sequence[Decision], now: Now, contacts: Sequence[ExposureEffect | None] = ()
    ) -> list[Decision | None]:
        """Store decisions; return the stored one of each id, None where its customer changed meanwhile."""
        contacts = contacts or len(decisions) * (None,)
        for decision, contact in zip(decisions, contacts, strict=True):
            check_decision(decision, contact)
        if self._decisions + len(decisions) > self._decisions_max:
            raise Overloaded("the ledger in memory", self._limits.retry_after_s)
        self._commit(now)
        before = {decision.customer: self._customer(decision.customer).version for decision in decisions}
        return [
            self._record(decision, contact, before, now)
            for decision, contact in zip(decisions, contacts, strict=True)
        ]

    def _record(
        self,
        decision: Decision,
        contact: ExposureEffect | None,
        before: Mapping[CustomerKey, int],
        now: Now,
    ) -> Decision | None:
        earlier = self._of(decision.campaign).find(decision.decision_id)
        if earlier is not None:
            return earlier
        if contact is not None:
            customer = self._customer(decision.customer)
            version = customer.version if contact.counted else before[decision.customer]
            if customer.erased or contact.version != version:
                return None
        campaign = self._campaigns.setdefault(decision.campaign, Campaign())
        clocks = self._clocks(campaign, now)
        clock = clocks.waiting if decision.deferred else clocks.shown
        behind_us = now.service_us - clock.service_us
        entry = Entry(next(self._numbers), decision, Window.of(decision, behind_us))
        campaign.entries[decision.decision_id] = entry
        campaign.open += 1
        campaign.wait(entry)
        self._decisions += 1
        if contact is not None:
            self._expose(entry, contact, now)
        return decision

    def _expose(self, entry: Entry, contact: ExposureEffect, now: Now) -> None:
        """Remember what a decision means for its customer."""
        decision = entry.decision
        version = self._customer(decision.customer).version
        customer = entry.customer = self._customer_entry(decision.customer, now)
        customer.version = version + contact.counted
        self._see(customer, now)
        customer.entries[entry.number] = entry
        time_us = RESERVED_US if decision.deferred else now.steady_us
        customer.exposures |= {(entry.number, scope, 0): time_us for scope in contact.scopes}
        if contact.sticky and decision.drawn >= 0:
            customer.sticky[decision.campaign] = entry
            customer.remember(sticky_mark(decision.campaign), now.steady_us)

    async def repeat(self, repeats: Sequence[Repeat], now: Now) -> list[Decision | None]:
        """Let ids stand for earlier decisions; return what each stands for."""
        self._commit(now)
        return [self._repeat(repeat, now) for repeat in repeats]

    def _repeat(self, repeat: Repeat, now: Now) -> Decision | None:
        campaign = self._of(repeat.campaign)
        if repeat.decision_id and (answered := campaign.find(repeat.decision_id)) is not None:
            return answered
        entry = campaign.entry(repeat.stands_for)
        if entry is None or entry.window.state in (State.VOID, State.EXPIRED):
            return None
        customer, contact = entry.customer, repeat.contact
        if contact is not None:
            if customer is None or customer.erased_us is not None or customer.version != contact.version:
                return None
            customer.version += bool(contact.scopes)
            for scope in contact.scopes:
                customer.again(entry, scope, now)
        if repeat.decision_id:
            stands_for = entry.decision.decision_id
            campaign.repeats[repeat.decision_id] = replace(repeat, stands_for=stands_for)
        return repeat.answer(entry.decision)

    async def pause(self, pause: Pause, now: Now) -> None:
        """Pause an offer, or a campaign; pauses that are over go."""
        self._commit(now)
        self._pauses = {what: earlier for what, earlier in self._pauses.items() if earlier.holds(now.wall_us)}
        self._pauses[pause.campaign, pause.offer_id] = pause

    async def resume(self, campaign: str, offer_id: str, now: Now) -> bool:
        """End a pause; return whether there was one."""
        self._commit(now)
        pause = self._pauses.pop((campaign, offer_id), None)
        return pause is not None and pause.holds(now.wall_us)

    async def receive(self, outcomes: Sequence[Outcome], now: Now) -> list[ReceiveResult]:
        """Store outcomes; return what each met."""
        self._commit(now)
        return [self._receive(outcome, now) for outcome in outcomes]

    def _receive(self, outcome: Outcome, now: Now) -> ReceiveResult:
        campaign = self._of(outcome.campaign)
        entry = campaign.entry(outcome.decision_id)
        if entry is None or (entry.rules is None and outcome.weight is None):
            return UnknownDecision(outcome.campaign, outcome.decision_id)
        if entry.rules is not None:
            agreed = entry.rules.agreed(outcome)
            if isinstance(agreed, UndeclaredOutcome):
                return agreed
            outcome = agreed
        if outcome.key in entry.received:
            earlier, _ = entry.received[outcome.key]
            same = outcome.same_as(earlier.outcome, earlier.value)
            return OutcomeStatus.DUPLICATE if same else IdReused("event_id", outcome.event_id)
        if len(entry.received) >= self._limits.outcomes_max:
            return TooManyOutcomes(self._limits.outcomes_max)
        if entry.window.state is State.PENDING and (showed := self._show(entry, outcome, now)) is not None:
            return showed
        clocks = self._clocks(campaign, now)
        arrival = lifecycle.on_outcome(entry.window, outcome, clocks)
        weight = None if entry.rules is None else outcome.weight
        counted = CountedOutcome(outcome.outcome, outcome.value, arrival.time_us, outcome.key, weight)
        entry.received[outcome.key] = (counted, arrival.status)
        if arrival.ends:
            entry.window = replace(entry.window, due_service_us=clocks.shown.service_us)
            campaign.wait(entry)
        self._remember(entry, outcome, now)
        return arrival.status

    def _show(self, entry: Entry, outcome: Outcome, now: Now) -> Showed | None:
        """Activate a decision that waits, by a new outcome that tells so; None: it does not."""
        if entry.rules is None or outcome.outcome not in entry.rules.shows:
            return None
        activation = Activation(outcome.campaign, outcome.decision_id, "", entry.rules)
        activated = self._activate(activation, now)
        if not isinstance(activated, Activated):
            return None
        status = self._receive(outcome, now)
        assert isinstance(status, OutcomeStatus), "it is new, and there is room"
        return Showed(status, activated)

    def _remember(self, entry: Entry, outcome: Outcome, now: Now) -> None:
        """Keep when an outcome last happened, unless consent was taken back after its decision."""
        customer = entry.customer
        if customer is not None and entry.number > customer.forgotten:
            occurred_us = (
                now.steady_us if outcome.occurred_us is None else min(outcome.occurred_us, now.steady_us)
            )
            customer.remember(
                outcome_mark(outcome.campaign, entry.decision.offer_id, outcome.outcome), occurred_us
            )
            self._see(customer, now)

    async def activate(self, activations: Sequence[Activation], now: Now) -> list[ActivateResult]:
        """Open or void windows; return what to answer."""
        self._commit(now)
        return [self._activate(activation, now) for activation in activations]

    def _activate(self, activation: Activation, now: Now) -> ActivateResult:
        campaign = self._of(activation.campaign)
        entry = campaign.entry(activation.decision_id)
        rules = (entry and entry.rules) or activation.rules
        if entry is None or rules is None:
            return UnknownDecision(activation.campaign, activation.decision_id)
        held = entry.outcomes(OutcomeStatus.HELD)
        names = [outcome.outcome for outcome in held]
        activation = replace(activation, rules=rules)
        clocks = self._clocks(campaign, now)
        after, answer = lifecycle.on_activation(
            entry.window, entry.decision.offer_id, names, activation, clocks
        )
        if after is entry.window:
            return answer
        entry.window = after
        if after.state is State.VOID:
            campaign.end(entry, State.VOID)
            return answer
        if entry.customer is not None:
            entry.customer.activated(entry, now)
            self._see(entry.customer, now)
        for outcome in held:
            entry.received[outcome.key] = (outcome, OutcomeStatus.ACCEPTED)
        campaign.wait(entry)
        return answer

    async def lease(self, holder: str, until_us: int, now: Now) -> int:
        """Take or renew the lease to settle; return its token, 0 where another has it."""
        assert holder, "a lease without a holder"
        self._commit(now)
        return self._lease.take(holder, until_us, now)

    async def release(self, token: int, now: Now) -> None:
        """Give the lease up, if it is still this token's."""
        self._commit(now)
        self._lease.release(token)

    async def serve(self, campaigns: Collection[str], now: Now) -> None:
        """Let the clocks of these campaigns go, and those of all others stand."""
        self._commit(now)
        for name, campaign in self._campaigns.items():
            campaign.absence = campaign.absence.after(now, self._away_max_us, served=name in campaigns)

    async def settle(
        self, campaign: str, rules: RewardRules | None, limit: int, now: Now, token: int
    ) -> Settled:
        """End up to `limit` due decisions, in order; the active ones get their reward and sequence."""
        self._lease.check(token)
        self._commit(now)
        of = self._of(campaign)
        settled = expired = 0
        clocks = self._clocks(of, now)
        shown_us = clocks.shown.service_us
        while (entry := of.next_due()) is not None and entry.window.due_service_us <= shown_us:
            if settled + expired == limit:
                return Settled(settled, expired, more=True)
            if entry.window.state is State.PENDING:
                of.end(entry, State.EXPIRED)
                expired += 1
                continue
            agreed = entry.rules.rewards if entry.rules else rules
            if agreed is None:
                of.end(entry, State.VOID, shown=True)
                expired += 1
                continue
            of.open -= 1
            of.last_sequence += 1
            entry.window = replace(entry.window, state=State.SETTLED)
            entry.sequence = of.last_sequence
            of.settlements[of.last_sequence] = entry.settlement(agreed, of.last_sequence, now)
            settled += 1
        if clocks.waiting == clocks.shown:
            return Settled(settled, expired, more=False)
        waiting = of.waiting_until(clocks.waiting.service_us)
        left = limit - settled - expired
        for entry in waiting[:left]:
            of.end(entry, State.EXPIRED)
        return Settled(settled, expired + len(waiting[:left]), more=len(waiting) > left)

    async def under_other_rules(self, campaign: str, rules: InternedText) -> int:
        """Return how many open decisions were made with other rules."""
        return sum(
            entry.window.state in OPEN and entry.decision.rules not in (NO_RULES, rules)
            for entry in self._of(campaign).entries.values()
        )

    async def touch(self, now: Now) -> None:
        """Remember the service clock."""
        self._commit(now)

    async def purge(self, campaign: str, before_us: int, keep_after: int, limit: int, now: Now) -> int:
        """Remove the oldest ended decisions: settled ones in order of sequence, others as recorded."""
        self._commit(now)
        of = self._of(campaign)
        removed = 0
        for sequence, settlement in list(islice(of.settlements.items(), limit)):
            erased = not settlement.decision_id
            old = erased or is_old(of.entries[settlement.decision_id].decision, before_us, now)
            if sequence > keep_after or not old:
                break
            del of.settlements[sequence]
            if not erased:
                self._remove(of, settlement.decision_id)
            removed += 1
        unsettled = [
            entry for entry in of.entries.values() if entry.window.state in (State.VOID, State.EXPIRED)
        ]
        for entry in unsettled[: limit - removed]:
            if not is_old(entry.decision, before_us, now):
                break
            self._remove(of, entry.decision.decision_id)
            removed += 1
        return removed

    def _remove(self, campaign: Campaign, decision_id: str) -> None:
        campaign.remove(decision_id)
        self._decisions -= 1

    def reader(self) -> MemoryReader:
        """Return a reader of what is here."""
        return MemoryReader(self._campaigns, self._customers, self._key)

    def service_us(self) -> int:
        """Return the service clock, which goes on from the last commit before the start."""
        return max(self._info.served_service_us, self._monotonic_us() - self._behind_us)

    def _commit(self, now: Now) -> None:
        if not self._opened:
            raise LedgerUnavailable("the ledger is not open")
        served_service_us = max(self._info.served_service_us, now.service_us)
        self._info = replace(self._info, served_service_us=served_service_us)
