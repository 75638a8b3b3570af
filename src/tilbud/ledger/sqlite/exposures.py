"""What recording a decision means for its customer, within the writer's transaction.

What holds: a decision of a customer is stored only while the customer's version is the one it was decided
on, and where a rule counts it, changes it: of rivals one is stored. Others have no rivals but what changes a
profile. Exposures are there for stored decisions alone, and go with those that were never shown; those of a
decision that waits for its activation count whatever the time.
However many decisions a batch has, their contacts are a few statements. When things last happened is kept
as long as exposures are: what is older goes when the customer is seen.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from tilbud.domain.clock import Now
from tilbud.domain.customer.customer import CustomerKey
from tilbud.domain.decision.records import Decision, ExposureEffect
from tilbud.domain.decision.rewards import Outcome
from tilbud.domain.limits import Limits
from tilbud.ledger.marks import RESERVED_US, outcome_mark, sticky_mark
from tilbud.ledger.sqlite.rows import insert

SEEN_EVERY_US = 86_400_000_000  # how often it is told that a customer was seen
_KEYS_AT_ONCE_MAX = 64
_INTO_CUSTOMERS = "customers (no, key, version, seen_us)"
_INTO_EXPOSURES = "exposures (decision_no, scope, again, customer_no, time_us)"
_INTO_LATEST = "latest (customer_no, what, time_us, decision_no)"
_NEWEST = (
    "ON CONFLICT (customer_no, what) DO UPDATE SET time_us = max(time_us, excluded.time_us), "
    "decision_no = excluded.decision_no"
)
TAKEN = (
    "SELECT j.key FROM (SELECT key, json_extract(value, '$[0]') AS campaign_no, "
    "json_extract(value, '$[1]') AS id FROM json_each(?)) j "
    "WHERE EXISTS (SELECT 1 FROM decisions d WHERE d.campaign_no = j.campaign_no AND d.decision_id = j.id) "
    "OR EXISTS (SELECT 1 FROM repeats r WHERE r.campaign_no = j.campaign_no AND r.decision_id = j.id)"
)
_SET_VERSIONS = (
    "UPDATE customers SET version = json_extract(j.value, '$[1]') FROM json_each(?) j "
    "WHERE no = json_extract(j.value, '$[0]')"
)
_AGAIN = (
    f"INSERT INTO {_INTO_EXPOSURES} SELECT ?, ?, coalesce(max(again), 0) + 1, ?, ? "  # noqa: S608
    "FROM exposures WHERE decision_no = ? AND scope = ?"
)
_SET_SEEN = "UPDATE customers SET seen_us = ? WHERE no IN (SELECT value FROM json_each(?))"
FORGET = "DELETE FROM latest WHERE time_us < ? AND customer_no IN (SELECT value FROM json_each(?))"
RELEASE = "DELETE FROM exposures WHERE decision_no IN (SELECT value FROM json_each(?))"


class Admission(Enum):
    """What becomes of a decision that is to be recorded; of an anonymous one its id decides, as ever."""

    NEW = auto()
    KNOWN = auto()  # its id is taken
    STALE = auto()  # its customer is no longer as it was decided on, or erased


@dataclass(slots=True)
class _CustomerState:
    """A customer as the transaction found them, and what it makes of them."""

    key: CustomerKey
    no: int = 0  # 0: not there yet
    found_version: int = 0
    version: int = 0
    seen_us: int = 0
    erased: bool = False
    exposed: bool = False  # by a decision that is stored


class Exposures:
    """What decisions mean for customers, on one connection; for one thread."""

    def __init__(self, connection: sqlite3.Connection, limits: Limits) -> None:
        self._connection = connection
        self._latest_kept_us = int(limits.exposures_kept_s * 1e6)

    # Recording

    def admit(
        self,
        decisions: Sequence[Decision],
        contacts: Sequence[ExposureEffect | None],
        campaign_nos: Sequence[int],
        now: Now,
    ) -> tuple[list[Admission], list[int | None]]:
        """Return what becomes of each decision, and the number of its customer, whom this changes."""
        taken = self._taken(decisions, contacts, campaign_nos)
        keys = dict.fromkeys(decision.customer for decision in decisions if decision.customer)
        customers = self._customers(list(keys))
        ids: set[tuple[str, str]] = set()
        admissions: list[Admission] = []
        customers_of: list[_CustomerState | None] = []
        for place, (decision, contact) in enumerate(zip(decisions, contacts, strict=True)):
            identity = (decision.campaign, decision.decision_id)
            customer = None
            admission = Admission.NEW
            if contact is not None:
                customer = customers[decision.customer]
                if place in taken or identity in ids:
                    admission = Admission.KNOWN
                elif customer.erased or contact.version != (
                    customer.version if contact.counted else customer.found_version
                ):
                    admission = Admission.STALE
                else:
                    customer.version += contact.counted
                    customer.exposed = True
            if admission is Admission.NEW:
                ids.add(identity)
            admissions.append(admission)
            customers_of.append(customer)
        self._write([customer for customer in customers.values() if customer.exposed], now)
        return admissions, [None if customer is None else customer.no for customer in customers_of]

    def store(
        self,
        first_no: int,
        decisions: Sequence[Decision],
        contacts: Sequence[ExposureEffect | None],
        numbers: Sequence[int | None],
        now: Now,
    ) -> None:
        """Store the exposures of decisions that were stored as `first_no` and on, and which is sticky."""
        exposures = []
        sticky = []
        for no, (decision, contact, customer_no) in enumerate(
            zip(decisions, contacts, numbers, strict=True), first_no
        ):
            if contact is not None:
                scopes = dict.fromkeys(contact.scopes)
                time_us = RESERVED_US if decision.deferred else now.steady_us
                exposures += [(no, scope, 0, customer_no, time_us) for scope in scopes]
                if contact.sticky and decision.drawn >= 0:
                    sticky.append((customer_no, sticky_mark(decision.campaign), now.steady_us, no))
        insert(self._connection, _INTO_EXPOSURES, exposures)
        insert(self._connection, _INTO_LATEST, sticky, _NEWEST)

    def _taken(
        self,
        decisions: Sequence[Decision],
        contacts: Sequence[ExposureEffect | None],
        campaign_nos: Sequence[int],
    ) -> set[int]:
        """Return the places of the decisions of customers whose id is taken."""
        asked = {
            place: (campaign_nos[place], decisions[place].decision_id)
            for place, contact in enumerate(contacts)
            if contact is not None
        }
        return {int(place) for (place,) in self._connection.execute(TAKEN, (json.dumps(asked),))}

    def _customers(self, keys: list[CustomerKey]) -> dict[CustomerKey, _CustomerState]:
        """Return customers, also those that are not there yet."""
        customers = {key: _CustomerState(key) for key in keys}
        for start in range(0, len(keys), _KEYS_AT_ONCE_MAX):
            some = keys[start : start + _KEYS_AT_ONCE_MAX]
            padding = (1 << (len(some) - 1).bit_length()) - len(some)
            for key, *row in self._connection.execute(
                by_keys(len(some) + padding), some + padding * some[:1]
            ):
                no, version, seen_us, erased_us = row
                customers[key] = _CustomerState(key, no, version, version, seen_us, erased_us is not None)
        return customers

    def _write(self, customers: Sequence[_CustomerState], now: Now) -> None:
        """Store customers with their new version; those that are not there yet get their number."""
        new = [customer for customer in customers if not customer.no]
        stored = [customer for customer in customers if customer.no]
        if new:
            [last] = self._connection.execute("SELECT coalesce(max(no), 0) FROM customers").fetchone()
            for no, customer in enumerate(new, last + 1):
                customer.no = no
        insert(
            self._connection,
            _INTO_CUSTOMERS,
            [(customer.no, customer.key, customer.version, now.steady_us) for customer in new],
        )
        versions = [
            (customer.no, customer.version)
            for customer in stored
            if customer.version != customer.found_version
        ]
        if versions:
            self._connection.execute(_SET_VERSIONS, (json.dumps(versions),))
        long_ago = [customer.no for customer in stored if now.steady_us - customer.seen_us >= SEEN_EVERY_US]
        if long_ago:
            self._connection.execute(_SET_SEEN, (now.steady_us, json.dumps(long_ago)))
            self._forget(long_ago, now)

    def again(self, decision_no: int, customer_no: int, contact: ExposureEffect, now: Now) -> bool:
        """Count that a decision is answered again, where that counts, which changes the customer's version.

        False, and nothing is counted, where its customer is not as they were asked of.
        """
        rows = self._connection.execute(
            "UPDATE customers SET version = version + ? WHERE no = ? AND version = ? AND erased_us IS NULL",
            (bool(contact.scopes), customer_no, contact.version),
        ).rowcount
        if not rows:
            return False
        self._connection.executemany(
            _AGAIN,
            [
                (decision_no, scope, customer_no, now.steady_us, decision_no, scope)
                for scope in contact.scopes
            ],
        )
        return True

    # Later

    def activated(self, decision_no: int, customer_no: int, now: Now) -> None:
        """Count what a deferred decision reserved from now."""
        self._connection.execute(
            "UPDATE exposures SET time_us = ? WHERE decision_no = ? AND again = 0",
            (now.steady_us, decision_no),
        )
        self._connection.execute("UPDATE customers SET version = version + 1 WHERE no = ?", (customer_no,))
        self.seen(customer_no, now)

    def release(self, decision_nos: Sequence[int]) -> None:
        """Count exposures to decisions no more: their offers were not shown."""
        if decision_nos:
            self._connection.execute(RELEASE, (json.dumps(decision_nos),))

    def happened(self, customer_no: int, decision_no: int, offer_id: str, outcome: Outcome, now: Now) -> None:
        """Remember when an outcome last happened, unless consent was taken back after its decision."""
        occurred_us = (
            now.steady_us if outcome.occurred_us is None else min(outcome.occurred_us, now.steady_us)
        )
        [forgotten_no] = self._connection.execute(
            "SELECT forgotten_no FROM customers WHERE no = ?", (customer_no,)
        ).fetchone()
        if decision_no > forgotten_no:
            self.remember(customer_no, outcome_mark(outcome.campaign, offer_id, outcome.outcome), occurred_us)
            self.seen(customer_no, now)

    def remember(self, customer_no: int, what: str, time_us: int) -> None:
        """Keep the newest time of something that happened to a customer."""
        insert(self._connection, _INTO_LATEST, [(customer_no, what, time_us, None)], _NEWEST)

    def seen(self, customer_no: int, now: Now) -> None:
        """Remember that the customer was there, once a day; what happened too long ago goes then."""
        long_ago = self._connection.execute(
            "UPDATE customers SET seen_us = ? WHERE no = ? AND seen_us <= ?",
            (now.steady_us, customer_no, now.steady_us - SEEN_EVERY_US),
        ).rowcount
        if long_ago:
            self._forget([customer_no], now)

    def _forget(self, customer_nos: Sequence[int], now: Now) -> None:
        """Remove when things last happened to customers, where that is too long ago for any rule."""
        self._connection.execute(FORGET, (now.steady_us - self._latest_kept_us, json.dumps(customer_nos)))


@lru_cache(maxsize=Limits.key_texts_cached_max)
def by_keys(count: int) -> str:
    """Return the statement that reads so many customers by their keys."""
    keys = ", ".join(count * "?")
    return f"SELECT key, no, version, seen_us, erased_us FROM customers WHERE key IN ({keys})"  # noqa: S608
