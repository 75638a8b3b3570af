"""How a recorded decision stands, for what happens to it, within the writer's transaction.

What holds: it is read from the file each time, through an index, also under the id of a repeat. What becomes
of it is `domain/decision/lifecycle.py`'s.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from tilbud.domain.decision.decision_rules import DecisionRules
from tilbud.domain.decision.lifecycle import Window
from tilbud.domain.decision.records import State
from tilbud.ledger.sqlite.rows import Reading

_WINDOW = (
    "SELECT d.no, w.state, d.deferred, w.deadline_us, w.closes_service_us, w.due_service_us, d.offer_id, "
    "d.customer_no, d.rules"
)
FIND_WINDOW = (
    f"{_WINDOW} FROM decisions d JOIN windows w ON w.decision_no = d.no "
    "WHERE d.campaign_no = ? AND d.decision_id = ?"
)
FIND_REPEATED = (
    f"{_WINDOW} FROM repeats r JOIN decisions d ON d.no = r.decision_no "
    "JOIN windows w ON w.decision_no = d.no WHERE r.campaign_no = ? AND r.decision_id = ?"
)


class StoredWindow(NamedTuple):
    """A decision that something happens to, and how it stands."""

    no: int
    window: Window
    offer_id: str  # that it drew
    customer_no: int | None
    rules: DecisionRules | None


def find_window(
    connection: sqlite3.Connection, reading: Reading, campaign_no: int, decision_id: str
) -> StoredWindow | None:
    """Return how a decision stands; of a repeat, the decision it stands for."""
    place = (campaign_no, decision_id)
    row = connection.execute(FIND_WINDOW, place).fetchone()
    if row is None:
        row = connection.execute(FIND_REPEATED, place).fetchone()
    if row is None:
        return None
    no, state, deferred, deadline_us, closes_service_us, due_service_us, offer_id, customer_no, rules = row
    window = Window(State(state), bool(deferred), deadline_us, closes_service_us, due_service_us or 0)
    return StoredWindow(no, window, offer_id, customer_no, reading.rules(rules))
