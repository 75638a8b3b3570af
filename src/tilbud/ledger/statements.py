"""What each call of the ledger does within the writer's transaction.

What holds: every method runs inside a transaction that its caller commits. What a decision has met is
read from the file each time, never remembered, since another process may have written it; remembered
are only campaign numbers and which texts are stored, both of committed transactions alone.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence

from tilbud.domain.clock import Now
from tilbud.domain.decisions import Decision, State, Text
from tilbud.domain.errors import IdReused, UnknownDecision
from tilbud.domain.limits import Limits
from tilbud.domain.rewards import CountedOutcome, Outcome, OutcomeStatus, RewardRules
from tilbud.ledger import window as windows
from tilbud.ledger.port import ActivateResult, Activation, ReceiveResult, Settled
from tilbud.ledger.rows import DECISION_COLUMNS, Reading, Row, insert_decisions
from tilbud.ledger.window import Window

_DAY_US = 86_400_000_000
# Texts are told to be in use once a day, so they go two days after the last decision that can use them.
_TEXT_MARGIN_US = 2 * _DAY_US

_FIND_WINDOW = (
    "SELECT d.no, w.state, d.deferred, w.deadline_us, w.closes_service_us, w.due_service_us, d.offer_id "
    "FROM decisions d JOIN windows w ON w.decision_no = d.no WHERE d.campaign_no = ? AND d.decision_id = ?"
)
_DUE = (
    "SELECT decision_no, state, due_service_us FROM windows "
    "WHERE campaign_no = ? AND due_service_us IS NOT NULL AND due_service_us <= ? "
    "ORDER BY due_service_us, decision_no LIMIT ?"
)
_DUE_OUTCOMES = (
    "SELECT o.decision_no, o.outcome, o.value, o.time_us, o.key "  # noqa: S608 - only constants
    f"FROM ({_DUE}) due JOIN outcomes o ON o.decision_no = due.decision_no "
    f"WHERE due.state = {State.ACTIVE} AND o.status = {OutcomeStatus.ACCEPTED}"
)
_END_DUE = (
    f"UPDATE windows SET state = CASE state WHEN {State.ACTIVE} THEN {State.SETTLED} "  # noqa: S608
    f"ELSE {State.EXPIRED} END, due_service_us = NULL WHERE decision_no IN (SELECT decision_no FROM ({_DUE}))"
)
_OLDEST_SETTLED = (
    "SELECT s.decision_no, d.decided_us FROM settlements s JOIN decisions d ON d.no = s.decision_no "
    "WHERE s.campaign_no = ? AND s.sequence <= ? ORDER BY s.sequence LIMIT ?"
)
_OLDEST_UNSETTLED = (
    "SELECT w.decision_no, d.decided_us FROM windows w JOIN decisions d ON d.no = w.decision_no "
    "WHERE w.campaign_no = ? AND w.state IN (3, 4) ORDER BY w.decision_no LIMIT ?"
)


class Statements:
    """The calls of the ledger on one connection; for one thread."""

    def __init__(self, connection: sqlite3.Connection, limits: Limits) -> None:
        self._connection = connection
        self._limits = limits
        self._reading = Reading(connection, limits)
        self._campaigns: dict[str, int] = {}
        self._texts: dict[int, int] = {}  # digest: day of the last use that is stored
        self._new_texts: dict[int, int] = {}
        self._clock_due_us = 0  # when the service clock is to be written again
        self._clock_written_us: int | None = None  # by this transaction
        self._opened: Counter[int] = Counter()  # open decisions, by campaign, more or fewer than before

    # The transaction

    def finish(self, service_us: int) -> None:
        """Write what the calls of the transaction add up to; the last thing before the commit."""
        if service_us >= self._clock_due_us:
            self._connection.execute(
                "UPDATE meta SET value = max(value, ?) WHERE key = 'served_service_us'", (service_us,)
            )
            self._clock_written_us = service_us
        for campaign_no, opened in self._opened.items():
            if opened:
                self._connection.execute(
                    "UPDATE campaigns SET open = open + ? WHERE no = ?", (opened, campaign_no)
                )

    def keep(self) -> None:
        """Remember what the transaction made known: it was committed."""
        self._opened.clear()
        if self._clock_written_us is not None:
            self._clock_due_us = self._clock_written_us + int(
                self._limits.service_clock_written_every_s * 1e6
            )
            self._clock_written_us = None
        if self._new_texts:
            if len(self._texts) + len(self._new_texts) > self._limits.interned_texts_max:
                self._texts.clear()
            self._texts.update(self._new_texts)
            self._new_texts = {}

    def forget(self) -> None:
        """Forget what the transaction made known: it was rolled back."""
        self._clock_written_us = None
        self.back_to((Counter(), {}))

    def mark(self) -> tuple[Counter[int], dict[int, int]]:
        """Return what the transaction made known so far, for `back_to`."""
        return Counter(self._opened), dict(self._new_texts)

    def back_to(self, mark: tuple[Counter[int], dict[int, int]]) -> None:
        """Forget what the transaction made known since the mark."""
        self._opened, self._new_texts = mark
        self._campaigns.clear()

    # The calls

    def record(self, decisions: Sequence[Decision], rows: Sequence[Row], now: Now) -> list[Decision]:
        """Store decisions, given with their rows; return the stored one of each id."""
        self._store_texts(decisions, now)
        [last] = self._connection.execute("SELECT coalesce(max(no), 0) FROM decisions").fetchone()
        numbered = [
            (no, self._new_campaign(decision.campaign), *row)
            for no, (decision, row) in enumerate(zip(decisions, rows, strict=True), last + 1)
        ]
        if insert_decisions(self._connection, numbered) == len(numbered):
            for row in numbered:
                self._opened[row[1]] += 1
            return list(decisions)
        return [
            self._stored(decision, row[0], row[1]) for decision, row in zip(decisions, numbered, strict=True)
        ]

    def _stored(self, decision: Decision, no: int, campaign_no: int) -> Decision:
        """Return the decision if it was stored as `no`, or the one that was there before."""
        found = self._connection.execute(
            f"SELECT no, {DECISION_COLUMNS} FROM decisions WHERE campaign_no = ? AND decision_id = ?",  # noqa: S608
            (campaign_no, decision.decision_id),
        ).fetchone()
        if found[0] != no:
            return self._reading.decision(decision.campaign, found[1:])
        self._opened[campaign_no] += 1
        return decision

    def receive(self, outcomes: Sequence[Outcome], now: Now) -> list[ReceiveResult]:
        """Store outcomes; return what each met."""
        return [self._receive(outcome, now) for outcome in outcomes]

    def _receive(self, outcome: Outcome, now: Now) -> ReceiveResult:
        found = self._window(outcome.campaign, outcome.decision_id)
        if found is None:
            return UnknownDecision(outcome.campaign, outcome.decision_id)
        no, window, _ = found
        arrival = windows.arrive(window, outcome, now)
        new = self._connection.execute(
            "INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (no, outcome.key, outcome.outcome, outcome.value, arrival.time_us, int(arrival.status)),
        ).rowcount
        if not new:
            known = self._connection.execute(
                "SELECT outcome, value FROM outcomes WHERE decision_no = ? AND key = ?", (no, outcome.key)
            ).fetchone()
            if outcome.same_as(*known):
                return OutcomeStatus.DUPLICATE
            return IdReused("event_id", outcome.event_id)
        if arrival.ends:
            self._connection.execute(
                "UPDATE windows SET due_service_us = ? WHERE decision_no = ?", (now.service_us, no)
            )
        return arrival.status

    def activate(self, activations: Sequence[Activation], now: Now) -> list[ActivateResult]:
        """Open or void windows; return what to answer."""
        return [self._activate(activation, now) for activation in activations]

    def _activate(self, activation: Activation, now: Now) -> ActivateResult:
        found = self._window(activation.campaign, activation.decision_id)
        if found is None:
            return UnknownDecision(activation.campaign, activation.decision_id)
        no, window, offer_id = found
        waiting = (no, int(OutcomeStatus.HELD))
        held = self._connection.execute(
            "SELECT outcome FROM outcomes WHERE decision_no = ? AND status = ?", waiting
        ).fetchall()
        after, answer = windows.activate(window, offer_id, [name for (name,) in held], activation, now)
        if after is window:
            return answer
        ended = after.state is State.VOID
        self._connection.execute(
            "UPDATE windows SET state = ?, deadline_us = ?, closes_service_us = ?, due_service_us = ? "
            "WHERE decision_no = ?",
            (
                int(after.state),
                after.deadline_us,
                after.closes_service_us,
                None if ended else after.due_service_us,
                no,
            ),
        )
        if ended:
            self._opened[self._campaign(activation.campaign)] -= 1
        elif held:
            self._connection.execute(
                "UPDATE outcomes SET status = ? WHERE decision_no = ? AND status = ?",
                (int(OutcomeStatus.ACCEPTED), *waiting),
            )
        return answer

    def settle(self, campaign: str, rules: RewardRules, limit: int, now: Now) -> Settled:
        """End up to `limit` due decisions, in order; the active ones get their reward and sequence."""
        campaign_no = self._campaign(campaign)
        due = self._connection.execute(_DUE, (campaign_no, now.service_us, limit + 1)).fetchall()
        more = len(due) > limit
        due = due[:limit]
        if not due:
            return Settled(0, 0, more)
        these = (campaign_no, now.service_us, limit)
        outcomes: dict[int, list[CountedOutcome]] = {}
        for no, *counted in self._connection.execute(_DUE_OUTCOMES, these):
            outcomes.setdefault(no, []).append(CountedOutcome(*counted))
        self._connection.execute(_END_DUE, these)
        active = [(no, due_service_us) for no, state, due_service_us in due if state == State.ACTIVE]
        [last] = self._connection.execute(
            "SELECT last_sequence FROM campaigns WHERE no = ?", (campaign_no,)
        ).fetchone()
        settlements = []
        for sequence, (no, due_service_us) in enumerate(active, last + 1):
            reward = rules.reward(outcomes.get(no, ()))
            settlements.append(
                (campaign_no, sequence, no, reward.value, int(reward.clipped), due_service_us, now.wall_us)
            )
        self._connection.executemany("INSERT INTO settlements VALUES (?, ?, ?, ?, ?, ?, ?)", settlements)
        self._connection.execute(
            "UPDATE campaigns SET last_sequence = ? WHERE no = ?", (last + len(active), campaign_no)
        )
        self._opened[campaign_no] -= len(due)
        return Settled(len(active), len(due) - len(active), more)

    def purge(self, campaign: str, before_us: int, keep_after: int, limit: int, now: Now) -> int:
        """Remove the oldest ended decisions: settled ones in order of sequence, others as recorded."""
        campaign_no = self._campaign(campaign)
        gone = self._before(before_us, _OLDEST_SETTLED, (campaign_no, keep_after, limit))
        settled = len(gone)
        if settled < limit:
            gone += self._before(before_us, _OLDEST_UNSETTLED, (campaign_no, limit - settled))
        if gone:
            these = (json.dumps(gone),)
            if settled:
                self._connection.execute(
                    "DELETE FROM settlements WHERE campaign_no = ? AND sequence IN (SELECT sequence FROM "
                    "settlements WHERE campaign_no = ? ORDER BY sequence LIMIT ?)",
                    (campaign_no, campaign_no, settled),
                )
            for table, key in (("outcomes", "decision_no"), ("windows", "decision_no"), ("decisions", "no")):
                self._connection.execute(
                    f"DELETE FROM {table} WHERE {key} IN (SELECT value FROM json_each(?))",  # noqa: S608
                    these,
                )
        self._purge_texts(limit, now)
        return len(gone)

    def _before(self, before_us: int, oldest: str, arguments: Row) -> list[int]:
        """Return the decisions at the front of a query that were decided before a time."""
        gone = []
        for no, decided_us in self._connection.execute(oldest, arguments):
            if decided_us >= before_us:
                break
            gone.append(no)
        return gone

    def _purge_texts(self, limit: int, now: Now) -> None:
        """Remove up to `limit` texts that no remaining decision can use."""
        oldest = self._connection.execute("SELECT decided_us FROM decisions ORDER BY no LIMIT 1").fetchone()
        unused_us = min(oldest[0] if oldest else now.wall_us, now.wall_us) - _TEXT_MARGIN_US
        self._connection.execute(
            "DELETE FROM texts WHERE digest IN (SELECT digest FROM texts WHERE used_us < ? LIMIT ?)",
            (unused_us, limit),
        )

    # What they share

    def _campaign(self, campaign: str) -> int:
        """Return the campaign's number; 0, which no row has, where nothing of it was recorded."""
        no = self._campaigns.get(campaign)
        if no is None:
            found = self._connection.execute("SELECT no FROM campaigns WHERE id = ?", (campaign,)).fetchone()
            if found is None:
                return 0
            no = self._campaigns[campaign] = int(found[0])
        return no

    def _new_campaign(self, campaign: str) -> int:
        """Return the campaign's number, a new one where it has none."""
        if not self._campaign(campaign):
            self._connection.execute("INSERT INTO campaigns (id) VALUES (?)", (campaign,))
        return self._campaign(campaign)

    def _window(self, campaign: str, decision_id: str) -> tuple[int, Window, str] | None:
        """Return a decision's number, its window and the offer it drew."""
        found = self._connection.execute(_FIND_WINDOW, (self._campaign(campaign), decision_id)).fetchone()
        if found is None:
            return None
        no, state, deferred, deadline_us, closes_service_us, due_service_us, offer_id = found
        window = Window(State(state), bool(deferred), deadline_us, closes_service_us, due_service_us or 0)
        return no, window, offer_id

    def _store_texts(self, decisions: Sequence[Decision], now: Now) -> None:
        """Store texts that are new, or were not used yet today."""
        today = now.wall_us // _DAY_US
        missing: dict[int, Text] = {}
        for decision in decisions:
            for text in (decision.payload, decision.offers.text):
                if self._texts.get(text.digest) != today:
                    missing[text.digest] = text
        for digest, text in missing.items():
            self._connection.execute(
                "INSERT INTO texts VALUES (?, ?, ?) ON CONFLICT (digest) DO UPDATE "
                "SET used_us = max(used_us, excluded.used_us)",
                (digest, text.body, now.wall_us),
            )
            self._new_texts[digest] = today
