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
from tilbud.ledger.answers import Erased, EventResult
from tilbud.ledger.marks import EVENT, OFFER, RESERVED_US
from tilbud.ledger.memory.customer_export import exported
from tilbud.ledger.memory.entries import OPEN, Campaign, CustomerEntry


class MemoryCustomers:
    """Customers without a file, for the ledger that is built on it."""

    def __init__(self, *, limits: Limits) -> None:
        self._limits = limits
        self._key = secrets.token_bytes(32)  # the ledger's draw key
        self._campaigns: dict[str, Campaign] = {}
        self._customers: dict[CustomerKey, CustomerEntry] = {}
        self._numbers = count(1)  # of decisions, customers and events
        self._decisions = 0

    def _commit(self, now: Now) -> None:
        raise NotImplementedError

    # Reading

    async def customer(self, key: CustomerKey) -> Customer:
        """Return what is known; UNKNOWN_CUSTOMER where nothing is."""
        return self._customer(key)

    def _customer(self, key: CustomerKey) -> Customer:
        customer = self._customers.get(key)
        return customer.customer() if customer else UNKNOWN_CUSTOMER

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
        customer = self._customer_entry(key, now)
        if withdrawn:
            self._end_open(customer)
            customer.forgotten = next(self._numbers)
            for forgotten in (customer.events, customer.latest, customer.sticky):
                forgotten.clear()
        customer.version += 1
        customer.profile, customer.erased_us = after, None
        self._see(customer, now)
        return after

    def _customer_entry(self, key: CustomerKey, now: Now) -> CustomerEntry:
        """Return a customer, made known where they are not."""
        customer = self._customers.get(key)
        if customer is None:
            customer = self._customers[key] = CustomerEntry(next(self._numbers), key, now.steady_us)
        return customer

    def _see(self, customer: CustomerEntry, now: Now) -> None:
        """Remember that a customer was there."""
        customer.seen(now, int(self._limits.exposures_kept_s * 1e6))

    def _end_open(self, customer: CustomerEntry) -> None:
        """Void a customer's open decisions; what was shown goes on counting."""
        for entry in customer.entries.values():
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
        before = self._customer(event.customer)
        if before.erased:
            return CustomerErased()
        if resolve_consent(event.consent, before) is not Consent.GRANTED:
            return CustomerEventStatus.NO_CONSENT
        customer = self._customer_entry(event.customer, now)
        if event.event_id in customer.events:
            same = customer.events[event.event_id][1] == event.event
            return CustomerEventStatus.DUPLICATE if same else IdReused("event_id", event.event_id)
        mark = marks.event_mark(event.event)
        different = {what for what in customer.latest if what.startswith(EVENT)} | {mark}
        if mark not in customer.latest and len(different) > self._limits.customer_events_max:
            return marks.one_event_too_many(self._limits)
        customer.events[event.event_id] = (next(self._numbers), event.event, event.occurred_us)
        customer.remember(mark, event.occurred_us)
        self._see(customer, now)
        return CustomerEventStatus.ACCEPTED

    # Erasure

    async def erase(self, key: CustomerKey, now: Now) -> Erased:
        """Remove every row about a customer but a tombstone."""
        self._commit(now)
        stranger = key not in self._customers
        has_rows = not stranger and self._customers[key].erased_us is None
        customer = self._customer_entry(key, now)
        rows = sum(1 for _ in exported(customer, self._campaigns)) if has_rows else 0
        self._end_open(customer)
        learned = {
            marks.exposed_campaign(scope)
            for number, scope, _ in customer.exposures
            if scope.startswith(OFFER) and number not in customer.entries  # purged since
        }
        for entry in list(customer.entries.values()):
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
        self._customers[key] = CustomerEntry(
            customer.number, key, now.steady_us, version=customer.version + 1, erased_us=now.wall_us
        )
        return Erased(rows, tuple(sorted(learned)), stranger=stranger)

    # Retention

    async def purge_customers(
        self, events_before_us: int, exposures_before_us: int, limit: int, now: Now
    ) -> int:
        """Remove old events and exposures, as they came, then customers of whom nothing is left."""
        self._commit(now)
        events = sorted(
            (number, time_us, event_id, customer)
            for customer in self._customers.values()
            for event_id, (number, _, time_us) in customer.events.items()
            if time_us <= now.steady_us
        )
        old_events = list(takewhile(lambda event: event[1] < events_before_us, events[:limit]))
        for _, _, event_id, customer in old_events:
            del customer.events[event_id]
        limit -= len(old_events)
        exposures = sorted(
            (*place, customer.age_us(place), customer)
            for customer in self._customers.values()
            for place, time_us in customer.exposures.items()
            if time_us <= now.steady_us or time_us == RESERVED_US
        )
        old_exposures = list(takewhile(lambda exposure: exposure[3] < exposures_before_us, exposures[:limit]))
        for number, scope, again, _, customer in old_exposures:
            del customer.exposures[number, scope, again]
        limit -= len(old_exposures)
        empty = sorted(
            (customer for customer in self._customers.values() if _is_empty(customer)),
            key=lambda customer: customer.seen_us,
        )
        seen_before_us = min(events_before_us, exposures_before_us)
        removed = [customer for customer in empty if customer.seen_us < seen_before_us][:limit]
        for customer in removed:
            del self._customers[customer.key]
        return len(old_events) + len(old_exposures) + len(removed)


def _is_empty(customer: CustomerEntry) -> bool:
    """Say whether nothing of a customer is left."""
    return (
        customer.profile is None
        and customer.erased_us is None
        and not (customer.entries or customer.exposures or customer.events)
    )
