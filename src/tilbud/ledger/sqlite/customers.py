"""What is done about customers themselves within the writer's transaction: profiles, events, erasure.

What holds: every change of a profile, and an erasure, changes the customer's version, so that a
decision that was made on what was before is made again. Without consent nothing of what happened is
stored, and taking it back removes it.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from tilbud.domain.clock import Now
from tilbud.domain.context import Consent
from tilbud.domain.customer.customer import (
    NO_PROFILE,
    Customer,
    CustomerEvent,
    CustomerEventStatus,
    CustomerKey,
    Profile,
    resolve_consent,
    withdraws,
    without_personal,
)
from tilbud.domain.decision.records import State
from tilbud.domain.errors import CustomerErased, IdReused, TilbudError
from tilbud.domain.limits import Limits
from tilbud.ledger.answers import Erased, EventResult
from tilbud.ledger.marks import EVENT, OFFER, event_mark, exposed_campaign, one_event_too_many, span
from tilbud.ledger.profile_json import profile_text
from tilbud.ledger.sqlite.customers_reader import CUSTOMER, customer_of
from tilbud.ledger.sqlite.exposures import Exposures
from tilbud.ledger.sqlite.retention import remove_decisions

OPEN_DECISIONS = (
    "SELECT d.no, d.campaign_no, w.state FROM decisions d JOIN windows w ON w.decision_no = d.no "  # noqa: S608
    f"WHERE d.customer_no = ? AND w.state IN ({State.PENDING}, {State.ACTIVE})"
)
LEARNED = (
    "SELECT s.campaign_no, s.sequence FROM decisions d JOIN settlements s ON s.decision_no = d.no "
    "WHERE d.customer_no = ?"
)
# Of decisions that were purged. They had settled, but for those that were void when consent was taken back:
# for them a model may learn anew without need, never keep what it must not.
LEARNED_BEFORE = (
    "SELECT DISTINCT scope FROM exposures e WHERE customer_no = ? AND scope >= ? AND scope < ? "
    "AND NOT EXISTS (SELECT 1 FROM decisions d WHERE d.no = e.decision_no)"
)
_EMPTY_SETTLEMENT = (
    "UPDATE settlements SET decision_no = 0, reward = 0.0, clipped = 0, due_service_us = 0, settled_us = 0 "
    "WHERE campaign_no = ? AND sequence = ?"
)
_LAST_NO = "(SELECT coalesce(max(no), 0) FROM decisions)"


class CustomerStatements:
    """The calls about customers on one connection; for one thread."""

    def __init__(self, connection: sqlite3.Connection, contacts: Exposures, limits: Limits) -> None:
        self._connection = connection
        self._exposures = contacts
        self._limits = limits

    # Profiles

    def update(
        self, key: CustomerKey, change: Callable[[Customer], Profile], now: Now
    ) -> Profile | TilbudError:
        """Replace a profile by `change` of it; return what is stored, or what `change` said against it."""
        before = self._customer(key)
        try:
            after = change(before)
        except TilbudError as error:
            return error
        if before.erased and after.consent is not Consent.GRANTED:
            return CustomerErased()
        withdrawn = withdraws(before.profile.consent, after.consent)
        if withdrawn:
            after = without_personal(after)
        after = replace(after, updated_us=now.wall_us, changes=before.profile.changes + 1)
        number = before.number or self._new(key, now)
        if withdrawn:
            self._withdraw(number)
        self._connection.execute(
            "UPDATE customers SET version = version + 1, profile = ?, erased_us = NULL WHERE no = ?",
            (profile_text(after), number),
        )
        self._exposures.seen(number, now)
        return after

    def _withdraw(self, number: int) -> None:
        """Void what is open, and forget what happened, also what will yet be told of earlier decisions.

        What was shown was shown, and goes on counting: a change of mind resets no cap.
        """
        self._exposures.release(self._end_open(number))
        self._connection.execute(
            f"UPDATE customers SET forgotten_no = {_LAST_NO} WHERE no = ?",  # noqa: S608
            (number,),
        )
        for table in ("events", "latest"):
            self._remove(table, number)

    def _end_open(self, number: int) -> list[int]:
        """Void a customer's open decisions; return those that were not shown yet."""
        still_open = self._connection.execute(OPEN_DECISIONS, (number,)).fetchall()
        nos = [no for no, _, _ in still_open]
        self._connection.execute(
            f"UPDATE windows SET state = {State.VOID}, due_service_us = NULL "  # noqa: S608
            "WHERE decision_no IN (SELECT value FROM json_each(?))",
            (json.dumps(nos),),
        )
        for campaign_no, ended in Counter(campaign_no for _, campaign_no, _ in still_open).items():
            self._connection.execute(
                "UPDATE campaigns SET open = open - ? WHERE no = ?", (ended, campaign_no)
            )
        return [no for no, _, state in still_open if state == State.PENDING]

    # Events

    def receive_events(self, events: Sequence[CustomerEvent], now: Now) -> list[EventResult]:
        """Store events; return what each met."""
        return [self._receive(event, now) for event in events]

    def _receive(self, event: CustomerEvent, now: Now) -> EventResult:
        customer = self._customer(event.customer)
        if customer.erased:
            return CustomerErased()
        if resolve_consent(event.consent, customer) is not Consent.GRANTED:
            return CustomerEventStatus.NO_CONSENT
        number = customer.number or self._new(event.customer, now)
        row = self._connection.execute(
            "SELECT event FROM events WHERE customer_no = ? AND event_id = ?", (number, event.event_id)
        ).fetchone()
        if row is not None:
            same = row[0] == event.event
            return CustomerEventStatus.DUPLICATE if same else IdReused("event_id", event.event_id)
        if self._one_too_many(number, event.event):
            return one_event_too_many(self._limits)
        self._connection.execute(
            "INSERT INTO events (customer_no, event_id, event, time_us) VALUES (?, ?, ?, ?)",
            (number, event.event_id, event.event, event.occurred_us),
        )
        self._exposures.remember(number, event_mark(event.event), event.occurred_us)
        self._exposures.seen(number, now)
        return CustomerEventStatus.ACCEPTED

    def _one_too_many(self, number: int, event: str) -> bool:
        of_events = (number, *span(EVENT))
        [same, different] = self._connection.execute(
            "SELECT coalesce(sum(what = ?), 0), count(*) FROM latest "
            "WHERE customer_no = ? AND what >= ? AND what < ?",
            (event_mark(event), *of_events),
        ).fetchone()
        return not same and different >= self._limits.customer_events_max

    # Erasure

    def erase(self, key: CustomerKey, now: Now) -> Erased:
        """Remove every row about a customer but a tombstone, also of one unknown."""
        customer = self._customer(key)
        number = customer.number or self._new(key, now)
        self._end_open(number)
        rows = self._empty_settlements(number)
        nos = [
            no
            for (no,) in self._connection.execute("SELECT no FROM decisions WHERE customer_no = ?", (number,))
        ]
        learned = rows.keys() | self._learned_before(number)
        self._connection.execute(
            "UPDATE campaigns SET erasures = erasures + 1 WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(sorted(learned)),),
        )
        removed = remove_decisions(self._connection, nos)
        removed_rows = sum(rows.values()) + removed.total() - removed["windows"]
        removed_rows += sum(self._remove(table, number) for table in ("exposures", "latest", "events"))
        self._connection.execute(
            "UPDATE customers SET version = version + 1, profile = NULL, erased_us = ?, seen_us = ? "
            "WHERE no = ?",
            (now.wall_us, now.steady_us, number),
        )
        removed_rows += bool(customer.number and not customer.erased)
        return Erased(removed_rows, tuple(sorted(learned)), stranger=not customer.number)

    def _empty_settlements(self, number: int) -> Counter[str]:
        """Leave nothing of a customer's settlements but their places; return how many, by campaign."""
        places = self._connection.execute(LEARNED, (number,)).fetchall()
        self._connection.executemany(_EMPTY_SETTLEMENT, places)
        emptied: Counter[str] = Counter()
        for campaign_no, count in Counter(campaign_no for campaign_no, _ in places).items():
            [campaign] = self._connection.execute(
                "SELECT id FROM campaigns WHERE no = ?", (campaign_no,)
            ).fetchone()
            emptied[campaign] = count
        return emptied

    def _learned_before(self, number: int) -> set[str]:
        """Return the campaigns that learned of a customer what is purged by now; their exposures tell."""
        scopes = self._connection.execute(LEARNED_BEFORE, (number, *span(OFFER)))
        return {exposed_campaign(scope) for (scope,) in scopes}

    # What they share

    def _customer(self, key: CustomerKey) -> Customer:
        customer = customer_of(self._connection.execute(CUSTOMER, (key,)).fetchone())
        return replace(customer, profile=NO_PROFILE) if customer.erased else customer

    def _new(self, key: CustomerKey, now: Now) -> int:
        """Make a customer known; return their number."""
        made = self._connection.execute(
            "INSERT INTO customers (key, version, seen_us) VALUES (?, 1, ?)", (key, now.steady_us)
        ).lastrowid
        assert made is not None
        return made

    def _remove(self, table: str, number: int) -> int:
        """Remove a customer's rows of a table; return how many."""
        return self._connection.execute(f"DELETE FROM {table} WHERE customer_no = ?", (number,)).rowcount  # noqa: S608
