"""The Ledger in memory: the same promises but for one, since all of it is gone when the process ends.

What holds: each call happens at once and whole. It is for tests, demonstrations and whoever wants to
read what a ledger does; it holds a bounded number of decisions and is full beyond it.
"""

from __future__ import annotations

import heapq
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from tilbud.domain.clock import Now
from tilbud.domain.decisions import Decision, Reason, Settlement, State
from tilbud.domain.errors import IdReused, LedgerUnavailable, Overloaded, UnknownDecision
from tilbud.domain.limits import Limits
from tilbud.domain.rewards import CountedOutcome, Outcome, OutcomeStatus, RewardRules
from tilbud.ledger import window as windows
from tilbud.ledger.port import ActivateResult, Activation, LedgerInfo, ReceiveResult, Settled
from tilbud.ledger.window import Window, check_decision

_ENDED = (State.SETTLED, State.VOID, State.EXPIRED)


@dataclass(slots=True)
class _Entry:
    """A decision and all that happened to it."""

    decision: Decision
    window: Window
    received: dict[str, tuple[CountedOutcome, OutcomeStatus]] = field(default_factory=dict)

    def outcomes(self, status: OutcomeStatus) -> list[CountedOutcome]:
        """Return the outcomes of that status."""
        return [outcome for outcome, became in self.received.values() if became is status]


@dataclass(slots=True)
class _Campaign:
    """The decisions of one campaign, in the order they were recorded."""

    entries: dict[str, _Entry] = field(default_factory=dict)
    settlements: dict[int, Settlement] = field(default_factory=dict)
    last_sequence: int = 0
    recorded: int = 0
    open: int = 0
    # (due, recorded, id) as once true of each; what is true no more is dropped when it comes up
    due: list[tuple[int, int, str]] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)

    def wait(self, entry: _Entry) -> None:
        """Put an entry in line for settling, for the due time it has now."""
        decision_id = entry.decision.decision_id
        heapq.heappush(self.due, (entry.window.due_service_us, self.numbers[decision_id], decision_id))

    def next_due(self) -> _Entry | None:
        """Return the open entry that is due first."""
        while self.due:
            due_service_us, number, decision_id = self.due[0]
            entry = self.entries.get(decision_id)
            if (
                entry is not None
                and self.numbers[decision_id] == number
                and entry.window.state not in _ENDED
                and entry.window.due_service_us == due_service_us
            ):
                return entry
            heapq.heappop(self.due)
        return None


class MemoryLedger:
    """The Ledger without a file."""

    def __init__(self, *, limits: Limits, decisions_max: int = 1_000_000) -> None:
        self._limits = limits
        self._decisions_max = decisions_max
        self._decisions = 0
        self._campaigns: dict[str, _Campaign] = {}
        self._info = LedgerInfo(secrets.token_bytes(32), 0)
        self._opened = False

    async def start(self, observe_commit: Callable[[float, int], None]) -> LedgerInfo:  # noqa: ARG002 - the port's
        """Begin; there are no commits to observe."""
        self._opened = True
        return self._info

    async def close(self) -> None:
        """End; reads find what was there until the object is gone."""
        self._opened = False

    async def record(self, decisions: Sequence[Decision], now: Now) -> list[Decision]:
        """Store decisions; return the stored one of each id."""
        for decision in decisions:
            check_decision(decision)
        if self._decisions + len(decisions) > self._decisions_max:
            raise Overloaded("the ledger in memory", self._limits.retry_after_s)
        self._commit(now)
        return [self._record(decision) for decision in decisions]

    def _record(self, decision: Decision) -> Decision:
        campaign = self._campaigns.setdefault(decision.campaign, _Campaign())
        known = campaign.entries.get(decision.decision_id)
        if known is not None:
            return known.decision
        entry = campaign.entries[decision.decision_id] = _Entry(decision, Window.of(decision))
        campaign.recorded += 1
        campaign.numbers[decision.decision_id] = campaign.recorded
        campaign.open += 1
        campaign.wait(entry)
        self._decisions += 1
        return decision

    async def receive(self, outcomes: Sequence[Outcome], now: Now) -> list[ReceiveResult]:
        """Store outcomes; return what each met."""
        self._commit(now)
        return [self._receive(outcome, now) for outcome in outcomes]

    def _receive(self, outcome: Outcome, now: Now) -> ReceiveResult:
        campaign = self._of(outcome.campaign)
        entry = campaign.entries.get(outcome.decision_id)
        if entry is None:
            return UnknownDecision(outcome.campaign, outcome.decision_id)
        if outcome.key in entry.received:
            known, _ = entry.received[outcome.key]
            same = outcome.same_as(known.outcome, known.value)
            return OutcomeStatus.DUPLICATE if same else IdReused("event_id", outcome.event_id)
        arrival = windows.arrive(entry.window, outcome, now)
        counted = CountedOutcome(outcome.outcome, outcome.value, arrival.time_us, outcome.key)
        entry.received[outcome.key] = (counted, arrival.status)
        if arrival.ends:
            entry.window = replace(entry.window, due_service_us=now.service_us)
            campaign.wait(entry)
        return arrival.status

    async def activate(self, activations: Sequence[Activation], now: Now) -> list[ActivateResult]:
        """Open or void windows; return what to answer."""
        self._commit(now)
        return [self._activate(activation, now) for activation in activations]

    def _activate(self, activation: Activation, now: Now) -> ActivateResult:
        campaign = self._of(activation.campaign)
        entry = campaign.entries.get(activation.decision_id)
        if entry is None:
            return UnknownDecision(activation.campaign, activation.decision_id)
        held = entry.outcomes(OutcomeStatus.HELD)
        names = [outcome.outcome for outcome in held]
        after, answer = windows.activate(entry.window, entry.decision.offer_id, names, activation, now)
        if after is entry.window:
            return answer
        entry.window = after
        if after.state is State.VOID:
            campaign.open -= 1
            return answer
        for outcome in held:
            entry.received[outcome.key] = (outcome, OutcomeStatus.ACCEPTED)
        campaign.wait(entry)
        return answer

    async def settle(self, campaign: str, rules: RewardRules, limit: int, now: Now) -> Settled:
        """End up to `limit` due decisions, in order; the active ones get their reward and sequence."""
        self._commit(now)
        of = self._of(campaign)
        settled = expired = 0
        while (entry := of.next_due()) is not None and entry.window.due_service_us <= now.service_us:
            if settled + expired == limit:
                return Settled(settled, expired, more=True)
            of.open -= 1
            if entry.window.state is State.PENDING:
                entry.window = replace(entry.window, state=State.EXPIRED)
                expired += 1
                continue
            entry.window = replace(entry.window, state=State.SETTLED)
            of.last_sequence += 1
            of.settlements[of.last_sequence] = _settlement(entry, rules, of.last_sequence, now)
            settled += 1
        return Settled(settled, expired, more=False)

    async def touch(self, now: Now) -> None:
        """Remember the service clock."""
        self._commit(now)

    async def purge(self, campaign: str, before_us: int, keep_after: int, limit: int, now: Now) -> int:
        """Remove the oldest ended decisions: settled ones in order of sequence, others as recorded."""
        self._commit(now)
        of = self._of(campaign)
        gone = 0
        for sequence, settlement in list(islice(of.settlements.items(), limit)):
            old = of.entries[settlement.decision_id].decision.decided_us < before_us
            if sequence > keep_after or not old:
                break
            del of.settlements[sequence]
            self._remove(of, settlement.decision_id)
            gone += 1
        unsettled = [each for each in of.entries.values() if each.window.state in (State.VOID, State.EXPIRED)]
        for entry in unsettled[: limit - gone]:
            if entry.decision.decided_us >= before_us:
                break
            self._remove(of, entry.decision.decision_id)
            gone += 1
        return gone

    def _remove(self, campaign: _Campaign, decision_id: str) -> None:
        del campaign.entries[decision_id], campaign.numbers[decision_id]
        self._decisions -= 1

    def find(self, campaign: str, decision_id: str) -> Decision | None:
        """Return the recorded decision."""
        entry = self._of(campaign).entries.get(decision_id)
        return entry.decision if entry else None

    def settlements(self, campaign: str, after: int, limit: int) -> list[Settlement]:
        """Return settlements with sequence > `after`, in order."""
        first, last = self.sequences(campaign)
        settlements = self._of(campaign).settlements
        return [settlements[each] for each in islice(range(max(first, after + 1), last + 1), limit)]

    def sequences(self, campaign: str) -> tuple[int, int]:
        """Return the first and the last retained sequence."""
        of = self._of(campaign)
        if not of.last_sequence:
            return 0, 0
        return next(iter(of.settlements), of.last_sequence + 1), of.last_sequence

    def drawn(self, campaign: str, lineage: str, after: int, limit: int) -> list[tuple[int, Decision]]:
        """Return decisions the bandit drew, each with its place in the order of recording."""
        kept = self._of(campaign)
        found = (
            (kept.numbers[entry.decision.decision_id], entry.decision)
            for entry in kept.entries.values()
            if entry.decision.reason is Reason.PERSONALIZED and entry.decision.lineage == lineage
        )
        return list(islice(((place, decision) for place, decision in found if place > after), limit))

    def campaigns(self) -> list[str]:
        """Return every campaign the ledger has rows of."""
        return sorted(self._campaigns)

    def pending(self, campaign: str) -> int:
        """Return how many decisions wait for activation or settlement."""
        return self._of(campaign).open

    def oldest_due_service_us(self, campaign: str) -> int | None:
        """Return when the next decision settles or expires."""
        entry = self._of(campaign).next_due()
        return entry.window.due_service_us if entry else None

    def _of(self, campaign: str) -> _Campaign:
        return self._campaigns.get(campaign) or _Campaign()

    def _commit(self, now: Now) -> None:
        if not self._opened:
            raise LedgerUnavailable("the ledger is not open")
        served_service_us = max(self._info.served_service_us, now.service_us)
        self._info = replace(self._info, served_service_us=served_service_us)


def _settlement(entry: _Entry, rules: RewardRules, sequence: int, now: Now) -> Settlement:
    decision = entry.decision
    reward = rules.reward(entry.outcomes(OutcomeStatus.ACCEPTED))
    return Settlement(
        campaign=decision.campaign,
        sequence=sequence,
        decision_id=decision.decision_id,
        variant=decision.variant,
        offer_id=decision.offer_id,
        device=decision.device,
        channel=decision.channel,
        journey_stage=decision.journey_stage,
        offers=decision.offers,
        drawn=decision.drawn,
        probability=decision.probability,
        features=decision.features,
        reward=reward.value,
        clipped=reward.clipped,
        due_service_us=entry.window.due_service_us,
        settled_us=now.wall_us,
    )
