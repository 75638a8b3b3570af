"""How due decisions end, within the writer's transaction: they settle, expire, or are void.

What holds: settlements are numbered in order of (due, recorded), without gaps; a decision ends once, and what
it reserved and was not shown is released with it. Who may settle is lease.py's, what time it is for a
campaign absences.py's, what a reward is `domain/decision/rewards.py`'s; how many are open decisions.py keeps.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from tilbud.domain.clock import Clocks, Now
from tilbud.domain.decision.records import State
from tilbud.domain.decision.rewards import CountedOutcome, OutcomeStatus, RewardRules
from tilbud.ledger.answers import Settled
from tilbud.ledger.sqlite.exposures import Exposures
from tilbud.ledger.sqlite.rows import Reading, Row

DUE = (
    "SELECT decision_no, state, due_service_us FROM windows "
    "WHERE campaign_no = ? AND due_service_us IS NOT NULL AND due_service_us <= ? "
    "ORDER BY due_service_us, decision_no LIMIT ?"
)
_DUE_WITH_RULES = (
    f"SELECT due.*, d.rules FROM ({DUE}) due LEFT JOIN decisions d ON d.no = due.decision_no "  # noqa: S608
    "ORDER BY due.due_service_us, due.decision_no"
)
DUE_OUTCOMES = (
    "SELECT o.decision_no, o.outcome, o.value, o.time_us, o.key, o.weight "  # noqa: S608 - only constants
    f"FROM ({DUE}) due JOIN outcomes o ON o.decision_no = due.decision_no "
    f"WHERE due.state = {State.ACTIVE} AND o.status = {OutcomeStatus.ACCEPTED}"
)
END_DUE = (
    f"UPDATE windows SET state = CASE state WHEN {State.ACTIVE} THEN {State.SETTLED} "  # noqa: S608
    f"ELSE {State.EXPIRED} END, due_service_us = NULL WHERE decision_no IN (SELECT decision_no FROM ({DUE}))"
)
_VOID = f"UPDATE windows SET state = {State.VOID} WHERE decision_no IN (SELECT value FROM json_each(?))"  # noqa: S608
_WAITING_DUE = (
    "SELECT decision_no FROM windows WHERE campaign_no = ? AND state = 0 AND due_service_us <= ? "
    "ORDER BY due_service_us, decision_no LIMIT ?"
)
_EXPIRE = (
    f"UPDATE windows SET state = {State.EXPIRED}, due_service_us = NULL "  # noqa: S608 - only constants
    "WHERE decision_no IN (SELECT value FROM json_each(?))"
)


class Settling:
    """Ends decisions on one connection; for one thread."""

    def __init__(self, connection: sqlite3.Connection, reading: Reading, exposures: Exposures) -> None:
        self._connection = connection
        self._reading = reading
        self._exposures = exposures

    def settle(self, campaign_no: int, rules: RewardRules | None, limit: int, clocks: Clocks) -> Settled:
        """End up to `limit` due decisions, in order; the active ones get their reward and sequence."""
        settled = self._settle(campaign_no, rules, limit, clocks.shown)
        left = limit - settled.settled - settled.expired
        if settled.more or clocks.waiting == clocks.shown:
            return settled
        expired, more = self._expire(campaign_no, left, clocks.waiting)
        return Settled(settled.settled, settled.expired + expired, more)

    def _expire(self, campaign_no: int, limit: int, now: Now) -> tuple[int, bool]:
        """Expire decisions that wait too long for their activation; return how many, and whether all."""
        waiting = self._connection.execute(_WAITING_DUE, (campaign_no, now.service_us, limit + 1)).fetchall()
        nos = [no for (no,) in waiting[:limit]]
        self._connection.execute(_EXPIRE, (json.dumps(nos),))
        self._exposures.release(nos)
        return len(nos), len(waiting) > limit

    def _settle(self, campaign_no: int, rules: RewardRules | None, limit: int, now: Now) -> Settled:
        due = self._connection.execute(_DUE_WITH_RULES, (campaign_no, now.service_us, limit + 1)).fetchall()
        more = len(due) > limit
        due = due[:limit]
        if not due:
            return Settled(0, 0, more)
        these = (campaign_no, now.service_us, limit)
        outcomes: dict[int, list[CountedOutcome]] = {}
        for no, *counted in self._connection.execute(DUE_OUTCOMES, these):
            outcomes.setdefault(no, []).append(CountedOutcome(*counted))
        self._connection.execute(END_DUE, these)
        self._exposures.release([no for no, state, *_ in due if state == State.PENDING])
        active = self._with_rules(due, rules)
        [last] = self._connection.execute(
            "SELECT last_sequence FROM campaigns WHERE no = ?", (campaign_no,)
        ).fetchone()
        settlements = []
        for sequence, (no, due_service_us, agreed) in enumerate(active, last + 1):
            reward = agreed.reward(outcomes.get(no, ()))
            settlements.append(
                (campaign_no, sequence, no, reward.value, int(reward.clipped), due_service_us, now.wall_us)
            )
        self._connection.executemany("INSERT INTO settlements VALUES (?, ?, ?, ?, ?, ?, ?)", settlements)
        self._connection.execute(
            "UPDATE campaigns SET last_sequence = ? WHERE no = ?", (last + len(active), campaign_no)
        )
        return Settled(len(active), len(due) - len(active), more)

    def _with_rules(
        self, due: Sequence[Row], served: RewardRules | None
    ) -> list[tuple[int, int, RewardRules]]:
        """Return what settles, with what it is worth by; what nobody has rules for any more is void."""
        active = []
        without = []
        for no, state, due_service_us, digest in due:
            if state != State.ACTIVE:
                continue
            own = self._reading.rules(digest)
            rules = own.rewards if own else served
            if rules is None:
                without.append(no)
            else:
                active.append((no, due_service_us, rules))
        if without:
            self._connection.execute(_VOID, (json.dumps(without),))
        return active
