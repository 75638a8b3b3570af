"""What the ledger in memory keeps of each decision, campaign and customer.

What holds: these are plain values that `adapter.py` and `customers.py` change; only rules about
one of them alone are here.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from tilbud.domain.clock import SERVED, Absence, Now
from tilbud.domain.customer.customer import NO_PROFILE, Customer, CustomerKey, Happened, Profile
from tilbud.domain.decision.decision_rules import DecisionRules, parse_rules
from tilbud.domain.decision.lifecycle import Window
from tilbud.domain.decision.records import Decision, Repeat, Settlement, State
from tilbud.domain.decision.rewards import CountedOutcome, OutcomeStatus, RewardRules
from tilbud.domain.errors import LeaseLost
from tilbud.ledger.marks import EVENT, OUTCOME, RESERVED_US, STICKY

OPEN = (State.PENDING, State.ACTIVE)
SEEN_EVERY_US = 86_400_000_000


@dataclass(slots=True)
class Lease:
    """The lease to settle: of the last holder, or of nobody ("")."""

    token: int = 0
    holder: str = ""
    until_us: int = 0  # service clock

    def take(self, holder: str, until_us: int, now: Now) -> int:
        """Take or renew it; return its token, 0 where another has it."""
        if self.holder not in (holder, "") and self.until_us > now.service_us:
            return 0
        self.token += self.holder != holder
        self.holder, self.until_us = holder, until_us
        return self.token

    def release(self, token: int) -> None:
        """Give it up, if it is still this token's."""
        if token == self.token:
            self.holder, self.until_us = "", 0

    def check(self, token: int) -> None:
        """Raise LeaseLost where the token is not the current one."""
        if not self.holder or token != self.token:
            raise LeaseLost(token)


@dataclass(slots=True, eq=False)
class Entry:
    """A decision and all that happened to it."""

    number: int  # in the order of recording, over all campaigns
    decision: Decision
    window: Window
    customer: CustomerEntry | None = None
    received: dict[str, tuple[CountedOutcome, OutcomeStatus]] = field(default_factory=dict)
    sequence: int = 0  # of its settlement

    @property
    def rules(self) -> DecisionRules | None:
        """The rules it was made with, where they were kept."""
        return parse_rules(self.decision.rules)

    def outcomes(self, status: OutcomeStatus) -> list[CountedOutcome]:
        """Return the outcomes of that status."""
        return [outcome for outcome, became in self.received.values() if became is status]

    def settlement(self, rules: RewardRules, sequence: int, now: Now) -> Settlement:
        """Return its settlement."""
        decision = self.decision
        reward = rules.reward(self.outcomes(OutcomeStatus.ACCEPTED))
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
            due_service_us=self.window.due_service_us,
            settled_us=now.wall_us,
        )


@dataclass(slots=True)
class Campaign:
    """The decisions of one campaign, in the order they were recorded."""

    entries: dict[str, Entry] = field(default_factory=dict)
    repeats: dict[str, Repeat] = field(default_factory=dict)
    settlements: dict[int, Settlement] = field(default_factory=dict)
    last_sequence: int = 0
    open: int = 0
    erasures: int = 0
    absence: Absence = SERVED
    # (due, number, id) as once true of each; what is true no more is dropped when it comes up
    due: list[tuple[int, int, str]] = field(default_factory=list)

    def entry(self, decision_id: str) -> Entry | None:
        """Return the entry of an id, or the one that a repeat stands for."""
        repeat = self.repeats.get(decision_id)
        return self.entries.get(decision_id if repeat is None else repeat.stands_for)

    def find(self, decision_id: str) -> Decision | None:
        """Return the decision, or the earlier one that a repeat stands for."""
        if decision_id in self.entries:
            return self.entries[decision_id].decision
        repeat = self.repeats.get(decision_id)
        if repeat is None:
            return None
        return repeat.answer(self.entries[repeat.stands_for].decision)

    def sequences(self) -> tuple[int, int]:
        """Return the first and the last retained sequence; (0, 0) where nothing settled yet."""
        if not self.last_sequence:
            return 0, 0
        return next(iter(self.settlements), self.last_sequence + 1), self.last_sequence

    def wait(self, entry: Entry) -> None:
        """Put an entry in line for settling, for the due time it has now."""
        heapq.heappush(self.due, (entry.window.due_service_us, entry.number, entry.decision.decision_id))

    def next_due(self) -> Entry | None:
        """Return the open entry that is due first."""
        while self.due:
            due_service_us, number, decision_id = self.due[0]
            entry = self.entries.get(decision_id)
            if (
                entry is not None
                and entry.number == number
                and entry.window.state in OPEN
                and entry.window.due_service_us == due_service_us
            ):
                return entry
            heapq.heappop(self.due)
        return None

    def waiting_until(self, service_us: int) -> list[Entry]:
        """Return the entries that wait for an activation which can come no more, in order."""
        waiting = [
            entry
            for entry in self.entries.values()
            if entry.window.state is State.PENDING and entry.window.due_service_us <= service_us
        ]
        return sorted(waiting, key=lambda entry: (entry.window.due_service_us, entry.number))

    def end(self, entry: Entry, state: State, *, shown: bool = False) -> None:
        """End an open entry without a settlement; where its offer was not shown, it counts no more."""
        entry.window = replace(entry.window, state=state)
        self.open -= 1
        if entry.customer is not None and not shown:
            entry.customer.release(entry)

    def remove(self, decision_id: str) -> None:
        """Remove a decision with its outcomes and repeats."""
        entry = self.entries.pop(decision_id)
        repeats = [repeat for repeat in self.repeats.values() if repeat.stands_for == decision_id]
        for repeat in repeats:
            del self.repeats[repeat.decision_id]
        if entry.customer is not None:
            del entry.customer.entries[entry.number]


Exposure = tuple[int, str, int]  # decision, scope, and 0, or which time it was answered again


@dataclass(slots=True, eq=False)
class CustomerEntry:
    """A customer, and all that happened to them."""

    number: int
    key: CustomerKey
    seen_us: int
    version: int = 1
    forgotten: int = 0  # outcomes of decisions up to this number are not remembered
    erased_us: int | None = None
    profile: Profile | None = None
    entries: dict[int, Entry] = field(default_factory=dict)
    exposures: dict[Exposure, int] = field(default_factory=dict)  # when, RESERVED_US until activation
    events: dict[str, tuple[int, str, int]] = field(default_factory=dict)  # (number, event, when) by id
    latest: dict[str, int] = field(default_factory=dict)
    sticky: dict[str, Entry] = field(default_factory=dict)  # by campaign

    def customer(self) -> Customer:
        """Return them as they are known."""
        return Customer(self.number, self.version, self.erased_us is not None, self.profile or NO_PROFILE)

    def seen(self, now: Now, latest_kept_us: int) -> None:
        """Remember that they were there, once a day; what happened too long ago goes then."""
        if self.seen_us > now.steady_us - SEEN_EVERY_US:
            return
        self.seen_us = now.steady_us
        oldest_us = now.steady_us - latest_kept_us
        for mark in [mark for mark, time_us in self.latest.items() if time_us < oldest_us]:
            del self.latest[mark]
            if mark.startswith(STICKY):
                del self.sticky[mark.removeprefix(STICKY)]

    def remember(self, what: str, time_us: int) -> None:
        """Keep the newest time of something."""
        self.latest[what] = max(time_us, self.latest.get(what, time_us))

    def activated(self, entry: Entry, now: Now) -> None:
        """Count what a deferred decision reserved from now."""
        for place in self._of(entry):
            if not place[2]:
                self.exposures[place] = now.steady_us
        self.version += 1

    def age_us(self, exposure: Exposure) -> int:
        """Return the time an exposure is as old as: one that is reserved, its decision's."""
        time_us = self.exposures[exposure]
        return self.entries[exposure[0]].decision.decided_us if time_us == RESERVED_US else time_us

    def happened(self, campaign: str) -> Happened:
        """Return when each event last happened, and each outcome of an offer of the campaign."""
        of_campaign = f"{OUTCOME}{campaign}:"
        events: dict[str, int] = {}
        outcomes: dict[tuple[str, str], int] = {}
        for what, time_us in self.latest.items():
            if what.startswith(EVENT):
                events[what.removeprefix(EVENT)] = time_us
            elif what.startswith(of_campaign):
                offer_id, _, outcome = what.removeprefix(of_campaign).partition(":")
                outcomes[offer_id, outcome] = time_us
        return Happened(events, outcomes)

    def last_sticky(self, campaign: str, *, pending: bool) -> Decision | None:
        """Return their last sticky decision in the campaign that is neither void nor expired, nor purged."""
        entry = self.sticky.get(campaign)
        if entry is None or entry.number not in self.entries:
            return None
        unseen = {State.VOID, State.EXPIRED} if pending else {State.VOID, State.EXPIRED, State.PENDING}
        return None if entry.window.state in unseen else entry.decision

    def times(self, scopes: Collection[str], after_us: int) -> dict[str, list[int]]:
        """Return when they were exposed under these scopes, after some time."""
        times: dict[str, list[int]] = {}
        for (_, scope, _), time_us in self.exposures.items():
            if scope in scopes and time_us > after_us:
                times.setdefault(scope, []).append(time_us)
        return times

    def again(self, entry: Entry, scope: str, now: Now) -> None:
        """Count a decision once more under a scope."""
        times = [again for number, of, again in self.exposures if (number, of) == (entry.number, scope)]
        self.exposures[entry.number, scope, max(times, default=0) + 1] = now.steady_us

    def release(self, entry: Entry) -> None:
        """Count the exposures to a decision no more."""
        for place in self._of(entry):
            del self.exposures[place]

    def _of(self, entry: Entry) -> list[Exposure]:
        return [place for place in self.exposures if place[0] == entry.number]
