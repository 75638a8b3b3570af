"""The Customers port in memory, beside the decisions it shares them with.

What holds: the same promises as of the file, each call at once and whole. It is the plainest way to read
what each call means.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count, takewhile

from tilbud.domain.clock import Now
from tilbud.domain.context import Consent
from tilbud.domain.customer.customer import (
    UNKNOWN_CUSTOMER,
    Customer,
    CustomerEvent,
    CustomerEventStatus,
    CustomerKey,
    Profile,
    resolve_consent,
    withdraws,
    without_personal,
)
from tilbud.domain.decision.records import Settlement, State
from tilbud.domain.errors import CustomerErased, IdReused
from tilbud.domain.limits import Limits
from tilbud.ledger import marks
from tilbud.ledger.marks import EVENT, OFFER, RESERVED_US
from tilbud.ledger.memory.customer_export import exported
from tilbud.ledger.memory.entries import OPEN, Campaign, Kept
from tilbud.ledger.ports import Erased, EventResult


class MemoryCustomers:
    """Customers without a file, for the ledger that is built on it."""

    def __init__(self, *, limits: Limits) -> None:
        self._limits = limits
        self._key = secrets.token_bytes(32)  # the ledger's draw key
        self._campaigns: dict[str, Campaign] = {}
        self._kept: dict[CustomerKey, Kept] = {}
        self._numbers = count(1)  # of decisions, customers and events
        self._decisions = 0

    def _commit(self, now: Now) -> None:
        raise NotImplementedError

    # Reading

    async def customer(self, key: CustomerKey) -> Customer:
        """Return what is known; UNKNOWN_CUSTOMER where nothing is."""
        return self._customer(key)

    def _customer(self, key: CustomerKey) -> Customer:
        kept = self._kept.get(key)
        return kept.customer() if kept else UNKNOWN_CUSTOMER

    # Profiles

    async def update_customer(
        self, key: CustomerKey, change: Callable[[Customer], Profile], now: Now
    ) -> Profile:
        """Replace a profile by `change` of it."""
        self._commit(now)
        before = self._customer(key)
        after = change(before)
        if before.erased and after.consent is not Consent.GRANTED:
            raise CustomerErased
        withdrawn = withdraws(before.profile.consent, after.consent)
        if withdrawn:
            after = without_personal(after)
        after = replace(after, updated_us=now.wall_us, changes=before.profile.changes + 1)
        kept = self._known(key, now)
        if withdrawn:
            self._end_open(kept)
            kept.forgotten = next(self._numbers)
            for forgotten in (kept.events, kept.latest, kept.sticky):
                forgotten.clear()
        kept.version += 1
        kept.profile, kept.erased_us = after, None
        self._see(kept, now)
        return after

    def _known(self, key: CustomerKey, now: Now) -> Kept:
        """Return a customer, made known where they are not."""
        kept = self._kept.get(key)
        if kept is None:
            kept = self._kept[key] = Kept(next(self._numbers), key, now.steady_us)
        return kept

    def _see(self, kept: Kept, now: Now) -> None:
        """Remember that a customer was there."""
        kept.seen(now, int(self._limits.exposures_kept_s * 1e6))

    def _end_open(self, kept: Kept) -> None:
        """Void a customer's open decisions; what was shown goes on counting."""
        for entry in kept.entries.values():
            state = entry.window.state
            if state in OPEN:
                campaign = self._campaigns[entry.decision.campaign]
                campaign.end(entry, State.VOID, shown=state is State.ACTIVE)

    # Events

    async def receive_events(self, events: Sequence[CustomerEvent], now: Now) -> list[EventResult]:
        """Store events; return what each met."""
        self._commit(now)
        return [self._receive_event(event, now) for event in events]

    def _receive_event(self, event: CustomerEvent, now: Now) -> EventResult:
        customer = self._customer(event.customer)
        if customer.erased:
            return CustomerErased()
        if resolve_consent(event.consent, customer) is not Consent.GRANTED:
            return CustomerEventStatus.NO_CONSENT
        kept = self._known(event.customer, now)
        if event.event_id in kept.events:
            same = kept.events[event.event_id][1] == event.event
            return CustomerEventStatus.DUPLICATE if same else IdReused("event_id", event.event_id)
        mark = marks.event_mark(event.event)
        different = {each for each in kept.latest if each.startswith(EVENT)} | {mark}
        if mark not in kept.latest and len(different) > self._limits.customer_events_max:
            return marks.one_event_too_many(self._limits)
        kept.events[event.event_id] = (next(self._numbers), event.event, event.occurred_us)
        kept.remember(mark, event.occurred_us)
        self._see(kept, now)
        return CustomerEventStatus.ACCEPTED

    # Erasure

    async def erase(self, key: CustomerKey, now: Now) -> Erased:
        """Remove every row about a customer but a tombstone."""
        self._commit(now)
        stranger = key not in self._kept
        known = not stranger and self._kept[key].erased_us is None
        kept = self._known(key, now)
        gone = sum(1 for _ in exported(kept, self._campaigns)) if known else 0
        self._end_open(kept)
        learned = {
            marks.exposed_campaign(scope)
            for number, scope, _ in kept.exposures
            if scope.startswith(OFFER) and number not in kept.entries  # purged since
        }
        for entry in list(kept.entries.values()):
            campaign = self._campaigns[entry.decision.campaign]
            if entry.sequence:
                campaign.settlements[entry.sequence] = Settlement.erased(
                    entry.decision.campaign, entry.sequence
                )
                learned.add(entry.decision.campaign)
            campaign.remove(entry.decision.decision_id)
            self._decisions -= 1
        for name in learned:
            self._campaigns[name].erasures += 1
        self._kept[key] = Kept(
            kept.number, key, now.steady_us, version=kept.version + 1, erased_us=now.wall_us
        )
        return Erased(gone, tuple(sorted(learned)), stranger=stranger)

    # Keeping

    async def purge_customers(
        self, events_before_us: int, exposures_before_us: int, limit: int, now: Now
    ) -> int:
        """Remove old events and exposures, as they came, then customers of whom nothing is left."""
        self._commit(now)
        events = sorted(
            (number, time_us, event_id, kept)
            for kept in self._kept.values()
            for event_id, (number, _, time_us) in kept.events.items()
            if time_us <= now.steady_us
        )
        old_events = list(takewhile(lambda each: each[1] < events_before_us, events[:limit]))
        for _, _, event_id, kept in old_events:
            del kept.events[event_id]
        limit -= len(old_events)
        exposures = sorted(
            (*place, kept.age_us(place), kept)
            for kept in self._kept.values()
            for place, time_us in kept.exposures.items()
            if time_us <= now.steady_us or time_us == RESERVED_US
        )
        old_exposures = list(takewhile(lambda each: each[3] < exposures_before_us, exposures[:limit]))
        for number, scope, again, _, kept in old_exposures:
            del kept.exposures[number, scope, again]
        limit -= len(old_exposures)
        left = sorted((each for each in self._kept.values() if _left(each)), key=lambda each: each.seen_us)
        seen_before_us = min(events_before_us, exposures_before_us)
        gone = [each for each in left if each.seen_us < seen_before_us][:limit]
        for each in gone:
            del self._kept[each.key]
        return len(old_events) + len(old_exposures) + len(gone)


def _left(kept: Kept) -> bool:
    """Say whether nothing of a customer is left."""
    return (
        kept.profile is None
        and kept.erased_us is None
        and not (kept.entries or kept.exposures or kept.events)
    )
