"""The life of one recorded decision, as pure rules that every adapter of the ledger shares.

What holds: nothing here stores, waits or reads a clock. A report that another offer was shown voids
a deferred decision until it settles, in whatever order the reports come: what may not have been
shown is not learned. What an outcome meets is `domain.decision.rewards.receive`'s word.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

from tilbud.domain.clock import Clocks, Now
from tilbud.domain.decision.activation import Activated, Activation
from tilbud.domain.decision.decision_rules import DecisionRules
from tilbud.domain.decision.records import Decision, ExposureEffect, State
from tilbud.domain.decision.rewards import Outcome, OutcomeStatus, receive
from tilbud.domain.errors import DecisionExpired


@dataclass(frozen=True, slots=True)
class Window:
    """Where a decision stands, and until when."""

    state: State
    deferred: bool
    deadline_us: int  # wall time, as last answered
    closes_service_us: int  # these on its campaign's clocks, see domain.clock.Absence
    due_service_us: int  # means nothing once the decision has ended

    @classmethod
    def of(cls, decision: Decision, behind_us: int = 0) -> Window:
        """Return the window a decision is recorded with, on a clock that is behind the service clock."""
        return cls(
            State.PENDING if decision.deferred else State.ACTIVE,
            decision.deferred,
            decision.deadline_us,
            decision.closes_service_us - behind_us,
            decision.due_service_us - behind_us,
        )


@dataclass(frozen=True, slots=True)
class OutcomeEffect:
    """What an outcome meets that the ledger did not know; `ends` makes its decision due now."""

    status: OutcomeStatus
    time_us: int  # wall time, for the order of aggregation
    ends: bool


def on_outcome(window: Window, outcome: Outcome, clocks: Clocks) -> OutcomeEffect:
    """Return what a new outcome meets.

    Its time is when it occurred, or else now, but never after now, since a caller's clock may be ahead of
    ours, nor after its window's end.
    """
    now = clocks.waiting if window.state is State.PENDING else clocks.shown
    ahead_us = now.wall_us - now.service_us
    said_us = outcome.occurred_us
    occurred_us = None if said_us is None else min(said_us, now.wall_us)
    status = receive(
        window.state,
        window.closes_service_us,
        window.due_service_us,
        None if occurred_us is None else occurred_us - ahead_us,
        now.service_us,
    )
    time_us = now.wall_us if occurred_us is None else occurred_us
    time_us = min(time_us, window.closes_service_us + ahead_us)
    return OutcomeEffect(status, time_us, outcome.ends_now and status is OutcomeStatus.ACCEPTED)


def on_activation(
    window: Window,
    offer_id: str,
    held: Collection[str],
    activation: Activation,
    clocks: Clocks,
) -> tuple[Window, Activated | DecisionExpired]:
    """Return the window after an activation, whose rules are the decision's, and what to answer.

    `offer_id` is what the decision drew, `held` the names of the outcomes that wait for it. The
    window is returned unchanged (the same object) where the activation changes nothing.
    """
    another = activation.shown_offer_id not in ("", offer_id)
    pending = window.state is State.PENDING
    if window.state is State.EXPIRED or (pending and clocks.waiting.service_us > window.closes_service_us):
        return window, DecisionExpired(activation.decision_id)
    if another and window.state in (State.PENDING, State.ACTIVE):
        return replace(window, state=State.VOID), Activated(None, repeated=False, held=0)
    if pending:
        assert activation.rules is not None, "a window of no length"
        return _open(window, held, activation.rules, clocks.shown)
    deadline_us = None if window.state is State.VOID else window.deadline_us
    return window, Activated(deadline_us, repeated=True, held=0)


def _open(window: Window, held: Collection[str], rules: DecisionRules, now: Now) -> tuple[Window, Activated]:
    closes_service_us = now.service_us + rules.window_us
    ends_now = not rules.ends_now.isdisjoint(held)
    opened = replace(
        window,
        state=State.ACTIVE,
        deadline_us=now.wall_us + rules.window_us,
        closes_service_us=closes_service_us,
        due_service_us=now.service_us if ends_now else closes_service_us + rules.grace_us,
    )
    return opened, Activated(opened.deadline_us, repeated=False, held=len(held))


def is_old(decision: Decision, before_us: int, now: Now) -> bool:
    """Say whether a decision was made before a time on the steady clock, by the younger of its two ages.

    One that is dated later than now was dated by a clock that was wrong: only its age on the service clock
    counts.
    """
    return was_before(decision.decided_us, decision.decided_service_us, before_us, now)


def was_before(made_us: int, made_service_us: int, before_us: int, now: Now) -> bool:
    """As `is_old`, of when something was made."""
    age_us = now.steady_us - before_us
    if now.service_us - made_service_us <= age_us:
        return False
    return made_us < before_us or made_us > now.steady_us


def check_decision(decision: Decision, contact: ExposureEffect | None) -> None:
    """Assert that a record does not contradict itself, before it is kept for good."""
    assert (contact is None) == (not decision.customer), "a customer without a contact, or one with nobody"
    probabilities = decision.probabilities
    assert len(decision.offers.ids) == len(probabilities), "an offer without a probability"
    assert 0.0 < decision.probability <= 1.0, "a decision without a propensity"
    assert math.isfinite(math.fsum(probabilities)), "a probability that is no number"
    if decision.drawn < 0:
        assert decision.drawn == -1, "an index below the first offer"
        assert not probabilities, "a fallback with offers to draw from"
    else:
        assert decision.offer_id == decision.offers.ids[decision.drawn], "another offer than the one drawn"
        assert decision.probability == probabilities[decision.drawn], (
            "another propensity than the one drawn with"
        )
