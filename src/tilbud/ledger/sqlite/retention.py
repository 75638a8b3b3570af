"""What is removed once it is old, in bounded turns within the writer's transaction.

What holds: settlements go from the front, so that what is retained is a run up to the last; a decision
goes with all it had but the exposures and times that its customer is asked for longer. How old is old
enough is the caller's word.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile

from tilbud.domain.clock import Now
from tilbud.domain.decision.lifecycle import was_before
from tilbud.domain.errors import LedgerInvalid
from tilbud.ledger.marks import RESERVED_US
from tilbud.ledger.sqlite.rows import Row

_DAY_US = 86_400_000_000
# Texts are told to be in use once a day, so they go two days after the last decision that can use them.
_TEXT_MARGIN_US = 2 * _DAY_US

OLDEST_SETTLED = (
    "SELECT s.decision_no, d.decided_us, d.closes_service_us - d.deadline_us + d.decided_us "
    "FROM settlements s LEFT JOIN decisions d ON d.no = s.decision_no "
    "WHERE s.campaign_no = ? AND s.sequence <= ? ORDER BY s.sequence LIMIT ?"
)
OLDEST_UNSETTLED = (
    "SELECT w.decision_no, d.decided_us, d.closes_service_us - d.deadline_us + d.decided_us "
    "FROM windows w JOIN decisions d ON d.no = w.decision_no "
    "WHERE w.campaign_no = ? AND w.state IN (3, 4) ORDER BY w.decision_no LIMIT ?"
)
# What is dated later than now was dated by a clock that was wrong: it must not hold up what came after it.
OLDEST_EVENTS = "SELECT no, time_us FROM events WHERE time_us <= ? ORDER BY no LIMIT ?"
# One that waits for its activation is as old as its decision, or it would keep all that came after it.
OLDEST_EXPOSURES = (
    "SELECT e.decision_no, e.scope, e.again, coalesce(d.decided_us, e.time_us) FROM exposures e "  # noqa: S608
    f"LEFT JOIN decisions d ON e.time_us = {RESERVED_US} AND d.no = e.decision_no "
    f"WHERE e.time_us <= ? OR e.time_us = {RESERVED_US} "
    "ORDER BY e.decision_no, e.scope, e.again LIMIT ?"
)
LEFT_CUSTOMERS = (
    "SELECT no FROM customers c WHERE c.profile IS NULL AND c.erased_us IS NULL AND c.seen_us < ? "
    "AND NOT EXISTS (SELECT 1 FROM decisions d WHERE d.customer_no = c.no) "
    "AND NOT EXISTS (SELECT 1 FROM exposures e WHERE e.customer_no = c.no) "
    "AND NOT EXISTS (SELECT 1 FROM events e WHERE e.customer_no = c.no) ORDER BY c.seen_us LIMIT ?"
)
_OLDEST = "SELECT decided_us, closes_service_us - deadline_us + decided_us FROM decisions ORDER BY no LIMIT 1"
_LAST_NO = "(SELECT coalesce(max(no), 0) FROM decisions)"
# What one decision has of these is unbounded, or nearly so: they go a limited number at a time.
MANY_OF_DECISIONS = tuple(
    f"DELETE FROM {table} WHERE ({key}) IN "  # noqa: S608 - only constants
    f"(SELECT {key} FROM {table} WHERE decision_no IN (SELECT value FROM json_each(?)) LIMIT ?)"
    for table, key in (("repeats", "campaign_no, decision_id"), ("outcomes", "decision_no, key"))
)
_ROWS_A_DECISION = 8  # of these that a turn has room for
_OF_DECISIONS = (("outcomes", "decision_no"), ("repeats", "decision_no"), ("windows", "decision_no"))


def remove_decisions(connection: sqlite3.Connection, nos: Sequence[int]) -> Counter[str]:
    """Remove decisions with their windows, outcomes and repeats; return how many rows of each table.

    Their settlements are the caller's; exposures stay.
    """
    connection.execute(
        f"UPDATE meta SET value = {_LAST_NO} WHERE key = 'removed_decision_no' AND value < {_LAST_NO}"  # noqa: S608
    )
    return Counter(
        {
            table: connection.execute(
                f"DELETE FROM {table} WHERE {key} IN (SELECT value FROM json_each(?))",  # noqa: S608
                (json.dumps(nos),),
            ).rowcount
            for table, key in (*_OF_DECISIONS, ("decisions", "no"))
        }
    )


class RetentionStatements:
    """Removes what is old on one connection; for one thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def purge(self, campaign: str, before_us: int, keep_after: int, limit: int, now: Now) -> int:
        """Remove the oldest ended decisions: settled ones in order of sequence, others as recorded.

        Where they have more outcomes and repeats than a turn has room for, it is some of those alone.
        """
        row = self._connection.execute("SELECT no FROM campaigns WHERE id = ?", (campaign,)).fetchone()
        campaign_no = row[0] if row else 0
        nos = self._before(before_us, now, OLDEST_SETTLED, (campaign_no, keep_after, limit))
        settled = len(nos)
        if settled < limit:
            nos += self._before(before_us, now, OLDEST_UNSETTLED, (campaign_no, limit - settled))
        room = _ROWS_A_DECISION * limit
        if self._remove_many(nos, room) == room:
            return room
        if settled:
            self._connection.execute(
                "DELETE FROM settlements WHERE campaign_no = ? AND sequence IN (SELECT sequence FROM "
                "settlements WHERE campaign_no = ? ORDER BY sequence LIMIT ?)",
                (campaign_no, campaign_no, settled),
            )
        if nos:
            remove_decisions(self._connection, nos)
        self._purge_texts(limit, now)
        return len(nos)

    def _remove_many(self, nos: Sequence[int], limit: int) -> int:
        """Remove up to `limit` repeats and outcomes of decisions; return how many."""
        left = limit
        for statement in MANY_OF_DECISIONS if nos else ():
            left -= self._connection.execute(statement, (json.dumps(nos), left)).rowcount
        return limit - left

    def _before(self, before_us: int, now: Now, oldest: str, arguments: Row) -> list[int]:
        """Return the decisions at the front of a query that were decided before a time; 0: erased."""
        nos = []
        for no, decided_us, decided_service_us in self._connection.execute(oldest, arguments):
            if no and decided_us is None:
                raise LedgerInvalid("a settlement has lost its decision: restore a backup")
            if no and not was_before(decided_us, decided_service_us, before_us, now):
                break
            nos.append(no)
        return nos

    def _purge_texts(self, limit: int, now: Now) -> None:
        """Remove up to `limit` texts that no remaining decision can use.

        The greater of the oldest decision's two ages counts: a wrong wall clock may have dated it later.
        """
        age_us = 0
        for decided_us, decided_service_us in self._connection.execute(_OLDEST):
            age_us = max(now.steady_us - decided_us, now.service_us - decided_service_us, 0)
        unused_us = now.steady_us - age_us - _TEXT_MARGIN_US
        self._connection.execute(
            "DELETE FROM texts WHERE digest IN (SELECT digest FROM texts WHERE used_us < ? LIMIT ?)",
            (unused_us, limit),
        )

    def purge_customers(self, events_before_us: int, exposures_before_us: int, limit: int, now: Now) -> int:
        """Remove old events and exposures, as they came, then customers of whom nothing is left.

        One that is young keeps those that came after it, which are not much older. Customers are looked for
        only where their decisions, kept as long as events, are gone too: else each turn would look at all.
        """
        events = self._front(OLDEST_EVENTS, limit, events_before_us, now)
        self._connection.executemany("DELETE FROM events WHERE no = ?", events)
        exposures = self._front(OLDEST_EXPOSURES, limit - len(events), exposures_before_us, now)
        self._connection.executemany(
            "DELETE FROM exposures WHERE decision_no = ? AND scope = ? AND again = ?", exposures
        )
        left = limit - len(events) - len(exposures)
        seen_before_us = min(events_before_us, exposures_before_us)
        customers = self._connection.execute(LEFT_CUSTOMERS, (seen_before_us, left)).fetchall()
        self._connection.executemany("DELETE FROM latest WHERE customer_no = ?", customers)
        self._connection.executemany("DELETE FROM customers WHERE no = ?", customers)
        return len(events) + len(exposures) + len(customers)

    def _front(self, oldest: str, limit: int, before_us: int, now: Now) -> list[Row]:
        """Return the keys at the front of a query whose time, its last column, is before one."""
        rows: list[Row] = self._connection.execute(oldest, (now.steady_us, limit)).fetchall()
        return [row[:-1] for row in takewhile(lambda row: row[-1] < before_us, rows)]
