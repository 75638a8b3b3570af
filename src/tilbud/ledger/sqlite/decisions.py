"""What each call about decisions does within the writer's transaction.

What holds: every method runs inside a transaction that its caller commits. What a decision has met is
read from the file each time, never remembered, since another process may have written it; remembered
are only campaign numbers and which texts are stored, both of committed transactions alone. How decisions
end is in settling.py.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from tilbud.domain.clock import Now
from tilbud.domain.decision import lifecycle
from tilbud.domain.decision.activation import Activated, Activation
from tilbud.domain.decision.decision_rules import DecisionRules
from tilbud.domain.decision.records import Decision, ExposureEffect, Repeat, State
from tilbud.domain.decision.rewards import Outcome, OutcomeStatus, RewardRules
from tilbud.domain.errors import IdReused, TooManyOutcomes, UndeclaredOutcome, UnknownDecision
from tilbud.domain.limits import Limits
from tilbud.ledger.answers import ActivateResult, ReceiveResult, Settled, Showed
from tilbud.ledger.sqlite.absences import Absences
from tilbud.ledger.sqlite.customers import CustomerStatements
from tilbud.ledger.sqlite.exposures import Admission, Exposures
from tilbud.ledger.sqlite.interned import InternedTexts
from tilbud.ledger.sqlite.lease import Leases
from tilbud.ledger.sqlite.pauses import PauseStatements
from tilbud.ledger.sqlite.reader import FIND
from tilbud.ledger.sqlite.retention import RetentionStatements
from tilbud.ledger.sqlite.rows import STORED_DECISION, Reading, Row, insert_decisions, recorded_decision
from tilbud.ledger.sqlite.settling import Settling
from tilbud.ledger.sqlite.windows import StoredWindow, find_window

T = TypeVar("T")

_BY_NO = f"SELECT {STORED_DECISION} FROM decisions d WHERE d.no = ?"  # noqa: S608 - only constants
_RECEIVE = (
    "INSERT INTO outcomes (decision_no, key, outcome, value, time_us, status, weight) "
    "SELECT ?, ?, ?, ?, ?, ?, ? WHERE (SELECT count(*) FROM outcomes WHERE decision_no = ?) < ? "
    "ON CONFLICT DO NOTHING"
)
_STANDING_US = "iif(c.away_since_us IS NULL, 0, min(max(? - c.away_since_us, 0), ?))"
_BEHIND_US = f"(c.absences_us + (NOT d.deferred) * {_STANDING_US})"  # as domain.clock.Absence has it
_OPEN_WINDOWS = (
    "INSERT INTO windows SELECT d.no, d.campaign_no, NOT d.deferred, d.deadline_us, "  # noqa: S608
    f"d.closes_service_us - {_BEHIND_US}, d.due_service_us - {_BEHIND_US} "
    "FROM decisions d CROSS JOIN campaigns c ON c.no = d.campaign_no WHERE d.no >= ?"
)
_REPEATED = (
    "SELECT campaign_no, decision_id FROM json_each(?) JOIN repeats ON "
    "campaign_no = json_extract(value, '$[0]') AND decision_id = json_extract(value, '$[1]')"
)
LAST_NO = (
    "SELECT max(coalesce((SELECT max(no) FROM decisions), 0), value), (SELECT max(decision_no) FROM repeats) "
    "FROM meta WHERE key = 'removed_decision_no'"
)


class Statements:
    """The calls of the ledger on one connection; for one thread."""

    def __init__(self, connection: sqlite3.Connection, limits: Limits) -> None:
        self._connection = connection
        self._limits = limits
        self.absences = Absences(connection, limits)
        self._reading = Reading(connection, limits)
        self._exposures = Exposures(connection, limits)
        self.customers = CustomerStatements(connection, self._exposures, limits)
        self.retention = RetentionStatements(connection)
        self.leases = Leases(connection)
        self.pauses = PauseStatements(connection)
        self._settling = Settling(connection, self._reading, self._exposures)
        self._campaigns: dict[str, int] = {}
        self._texts = InternedTexts(connection, limits)
        self._opened: Counter[int] = Counter()  # open decisions, by campaign, more or fewer than before

    # The transaction

    def finish(self) -> None:
        """Write what the calls of the transaction add up to, when all of them are done."""
        for campaign_no, opened in self._opened.items():
            if opened:
                self._connection.execute(
                    "UPDATE campaigns SET open = open + ? WHERE no = ?", (opened, campaign_no)
                )

    def keep(self) -> None:
        """Remember what the transaction made known: it was committed."""
        self._opened.clear()
        self._texts.keep()

    def forget(self) -> None:
        """Forget what the transaction made known: it was rolled back."""
        self.back_to((Counter(), {}))

    def mark(self) -> tuple[Counter[int], dict[int, int]]:
        """Return what the transaction made known so far, for `back_to`."""
        return Counter(self._opened), self._texts.mark()

    def back_to(self, mark: tuple[Counter[int], dict[int, int]]) -> None:
        """Forget what the transaction made known since the mark."""
        self._opened, texts = mark
        self._texts.back_to(texts)
        self._campaigns.clear()

    # The calls

    def record(
        self,
        decisions: Sequence[Decision],
        rows: Sequence[Row],
        contacts: Sequence[ExposureEffect | None],
        now: Now,
    ) -> list[Decision | None]:
        """Store decisions, given with their rows; return the stored one of each id, None of a stale one."""
        if not any(contacts):
            first, repeats = self._next_no()
            return [*self._insert(first, decisions, rows, len(rows) * [None], now, repeats=repeats)]
        campaign_nos = [self._campaign(decision.campaign) for decision in decisions]
        admissions, customers = self._exposures.admit(decisions, contacts, campaign_nos, now)

        def admitted(values: Sequence[T]) -> list[T]:
            return [
                value
                for value, admission in zip(values, admissions, strict=True)
                if admission is Admission.NEW
            ]

        first, repeats = self._next_no()
        new = admitted(decisions)
        stored = iter(self._insert(first, new, admitted(rows), admitted(customers), now, repeats=repeats))
        self._exposures.store(first, new, admitted(contacts), admitted(customers), now)
        return [
            next(stored)
            if admission is Admission.NEW
            else self._find(decision.campaign, decision.decision_id)
            if admission is Admission.KNOWN
            else None
            for decision, admission in zip(decisions, admissions, strict=True)
        ]

    def _next_no(self) -> tuple[int, bool]:
        """Return a number that no decision ever had, nor one above it; and whether there are any repeats."""
        last, repeats = self._connection.execute(LAST_NO).fetchone()
        return int(last) + 1, repeats is not None

    def _insert(
        self,
        first: int,
        decisions: Sequence[Decision],
        rows: Sequence[Row],
        customers: Sequence[int | None],
        now: Now,
        *,
        repeats: bool,
    ) -> list[Decision]:
        """Store decisions as `first` and on; return the stored one of each id."""
        self._texts.store_all(decisions, now)
        numbered = [
            (no, self._new_campaign(decision.campaign), *row)
            for no, (decision, row) in enumerate(zip(decisions, rows, strict=True), first)
        ]
        free = numbered, decisions, customers
        stored = insert_decisions(self._connection, *(self._free(*free) if repeats else free))
        self._connection.execute(_OPEN_WINDOWS, (*2 * (now.service_us, self.absences.away_max_us), first))
        if stored == len(numbered):
            for row in numbered:
                self._opened[row[1]] += 1
            return list(decisions)
        return [
            self._stored(decision, row[0], row[1]) for decision, row in zip(decisions, numbered, strict=True)
        ]

    def _free(
        self, numbered: Sequence[Row], decisions: Sequence[Decision], customers: Sequence[int | None]
    ) -> tuple[Sequence[Row], Sequence[Decision], Sequence[int | None]]:
        """Return the arguments without the decisions whose ids stand for earlier ones."""
        ids = json.dumps([row[1:3] for row in numbered])
        taken = set(self._connection.execute(_REPEATED, (ids,)))
        free = [number for number, row in enumerate(numbered) if row[1:3] not in taken]
        return ([numbered[at] for at in free], [decisions[at] for at in free], [customers[at] for at in free])

    def _stored(self, decision: Decision, no: int, campaign_no: int) -> Decision:
        """Return the decision if it was stored as `no`, or the one that its id stood for before."""
        row = self._connection.execute(
            f"SELECT d.no, {STORED_DECISION} FROM decisions d WHERE d.campaign_no = ? AND d.decision_id = ?",  # noqa: S608
            (campaign_no, decision.decision_id),
        ).fetchone()
        if row is None:
            earlier = self._find(decision.campaign, decision.decision_id)
            assert earlier is not None, "an id that is neither free nor taken"
            return earlier
        if row[0] != no:
            return self._reading.decision(decision.campaign, row[1:])
        self._opened[campaign_no] += 1
        return decision

    def _find(self, campaign: str, decision_id: str) -> Decision | None:
        row = self._connection.execute(FIND, 2 * (campaign, decision_id)).fetchone()
        return recorded_decision(self._reading, campaign, row) if row else None

    def repeat(self, repeats: Sequence[Repeat], now: Now) -> list[Decision | None]:
        """Answer with earlier decisions again; return what each question is answered with."""
        return [self._repeat(repeat, now) for repeat in repeats]

    def _repeat(self, repeat: Repeat, now: Now) -> Decision | None:
        if repeat.decision_id and (answered := self._find(repeat.campaign, repeat.decision_id)) is not None:
            return answered
        record = self._window(repeat.campaign, repeat.stands_for)
        if record is None:
            return None
        no, window, _, customer_no, _ = record
        if window.state in (State.VOID, State.EXPIRED):
            return None
        contact = repeat.contact
        if contact is not None and not (
            customer_no is not None and self._exposures.again(no, customer_no, contact, now)
        ):
            return None
        if repeat.decision_id:
            self._keep_id(repeat, no, now)
        earlier = self._connection.execute(_BY_NO, (no,)).fetchone()
        return repeat.answer(self._reading.decision(repeat.campaign, earlier))

    def _keep_id(self, repeat: Repeat, decision_no: int, now: Now) -> None:
        """Let an id stand for a decision, with what is shown under it."""
        payload = repeat.payload
        if payload is not None:
            self._texts.store([payload], now)
        self._connection.execute(
            "INSERT INTO repeats (campaign_no, decision_id, fingerprint, decision_no, payload) "
            "VALUES (?, ?, ?, ?, ?)",
            (
                self._campaign(repeat.campaign),
                repeat.decision_id,
                repeat.fingerprint,
                decision_no,
                None if payload is None else payload.digest,
            ),
        )

    def receive(self, outcomes: Sequence[Outcome], now: Now) -> list[ReceiveResult]:
        """Store outcomes; return what each met."""
        return [self._receive(outcome, now) for outcome in outcomes]

    def _receive(self, outcome: Outcome, now: Now) -> ReceiveResult:
        record = self._window(outcome.campaign, outcome.decision_id)
        if record is None or (record.rules is None and outcome.weight is None):
            return UnknownDecision(outcome.campaign, outcome.decision_id)
        no, window, offer_id, customer_no, rules = record
        clocks = self.absences.clocks(self._campaign(outcome.campaign), now)
        if rules is not None:
            agreed = rules.agreed(outcome)
            if isinstance(agreed, UndeclaredOutcome):
                return agreed
            outcome = agreed
            if window.state is State.PENDING and (showed := self._show(no, outcome, rules, now)) is not None:
                return showed
        arrival = lifecycle.on_outcome(window, outcome, clocks)
        new = self._connection.execute(
            _RECEIVE,
            (
                no,
                outcome.key,
                outcome.outcome,
                outcome.value,
                arrival.time_us,
                int(arrival.status),
                None if rules is None else outcome.weight,
                no,
                self._limits.outcomes_max,
            ),
        ).rowcount
        if not new:
            return self._not_stored(no, outcome)
        if customer_no is not None:
            self._exposures.happened(customer_no, no, offer_id, outcome, now)
        if arrival.ends:
            self._connection.execute(
                "UPDATE windows SET due_service_us = ? WHERE decision_no = ?", (clocks.shown.service_us, no)
            )
        return arrival.status

    def _not_stored(self, decision_no: int, outcome: Outcome) -> ReceiveResult:
        """Return what an outcome met whose key is taken, or for which there is no room."""
        row = self._connection.execute(
            "SELECT outcome, value FROM outcomes WHERE decision_no = ? AND key = ?",
            (decision_no, outcome.key),
        ).fetchone()
        if row is None:
            return TooManyOutcomes(self._limits.outcomes_max)
        return OutcomeStatus.DUPLICATE if outcome.same_as(*row) else IdReused("event_id", outcome.event_id)

    def _show(self, decision_no: int, outcome: Outcome, rules: DecisionRules, now: Now) -> Showed | None:
        """Activate a decision that waits, by an outcome that tells so and will be stored; None: neither."""
        if outcome.outcome not in rules.shows:
            return None
        count, taken = self._connection.execute(
            "SELECT count(*), coalesce(max(key = ?), 0) FROM outcomes WHERE decision_no = ?",
            (outcome.key, decision_no),
        ).fetchone()
        if taken or count >= self._limits.outcomes_max:
            return None
        activated = self._activate(Activation(outcome.campaign, outcome.decision_id, "", rules), now)
        if not isinstance(activated, Activated):
            return None
        status = self._receive(outcome, now)
        assert isinstance(status, OutcomeStatus), "it is new, and there is room"
        return Showed(status, activated)

    def activate(self, activations: Sequence[Activation], now: Now) -> list[ActivateResult]:
        """Open or void windows; return what to answer."""
        return [self._activate(activation, now) for activation in activations]

    def _activate(self, activation: Activation, now: Now) -> ActivateResult:
        record = self._window(activation.campaign, activation.decision_id)
        rules = (record and record.rules) or activation.rules
        if record is None or rules is None:
            return UnknownDecision(activation.campaign, activation.decision_id)
        no, window, offer_id, customer_no, _ = record
        waiting = (no, int(OutcomeStatus.HELD))
        held = self._connection.execute(
            "SELECT outcome FROM outcomes WHERE decision_no = ? AND status = ?", waiting
        ).fetchall()
        names = [name for (name,) in held]
        activation = replace(activation, rules=rules)
        clocks = self.absences.clocks(self._campaign(activation.campaign), now)
        after, answer = lifecycle.on_activation(window, offer_id, names, activation, clocks)
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
            if customer_no is not None:
                self._exposures.release([no])
            return answer
        if customer_no is not None:
            self._exposures.activated(no, customer_no, now)
        if held:
            self._connection.execute(
                "UPDATE outcomes SET status = ? WHERE decision_no = ? AND status = ?",
                (int(OutcomeStatus.ACCEPTED), *waiting),
            )
        return answer

    def settle(self, campaign: str, rules: RewardRules | None, limit: int, now: Now, token: int) -> Settled:
        """End up to `limit` due decisions, in order; the active ones get their reward and sequence."""
        self.leases.check(token)
        campaign_no = self._campaign(campaign)
        settled = self._settling.settle(campaign_no, rules, limit, self.absences.clocks(campaign_no, now))
        self._opened[campaign_no] -= settled.settled + settled.expired
        return settled

    # What they share

    def _campaign(self, campaign: str) -> int:
        """Return the campaign's number; 0, which no row has, where nothing of it was recorded."""
        no = self._campaigns.get(campaign)
        if no is None:
            row = self._connection.execute("SELECT no FROM campaigns WHERE id = ?", (campaign,)).fetchone()
            if row is None:
                return 0
            no = self._campaigns[campaign] = int(row[0])
        return no

    def _new_campaign(self, campaign: str) -> int:
        """Return the campaign's number, a new one where it has none."""
        if not self._campaign(campaign):
            self._connection.execute("INSERT INTO campaigns (id) VALUES (?)", (campaign,))
        return self._campaign(campaign)

    def _window(self, campaign: str, decision_id: str) -> StoredWindow | None:
        """Return what stands of a decision; of a repeat that of the decision it stands for."""
        return find_window(self._connection, self._reading, self._campaign(campaign), decision_id)
