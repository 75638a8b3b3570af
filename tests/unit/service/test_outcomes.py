"""Outcomes and activations: what they refuse, in whose place, and how each is counted once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.wiring import Wired

from tilbud.domain.context import TIME_US_MAX
from tilbud.domain.decision.records import DecideRequest
from tilbud.domain.decision.rewards import OutcomeStatus
from tilbud.domain.errors import (
    DecisionExpired,
    IdReused,
    InvalidField,
    LedgerUnavailable,
    UndeclaredOutcome,
    UnknownCampaign,
    UnknownDecision,
)
from tilbud.service.outcomes import OutcomeReport

CAMPAIGN = """
campaign: c
offers: [{id: a}, {id: b}]
fallback: {id: none}
reward: {window: 1h, activation_window: 1h, outcomes: {click: 1, view: 0.5}}
consent: not_required
"""
ACCEPTED, DUPLICATE, LATE, HELD = OutcomeStatus


@pytest.fixture
async def wired(tmp_path: Path) -> Wired:
    """The campaign above, served from memory, with the decision d1."""
    served = await Wired(CAMPAIGN, tmp_path).start()
    await served.decide.decide(DecideRequest("c", decision_id="d1"))
    return served


def _told(decision_id: str = "d1", outcome: str = "click", **said: object) -> OutcomeReport:
    return OutcomeReport("c", decision_id, outcome, **said)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "report"),
    [
        ("campaign", OutcomeReport("", "d1", "click")),
        ("campaign", OutcomeReport("x" * 1_000, "d1", "click")),
        ("decision_id", _told("")),
        ("decision_id", _told("x" * 1_000)),
        ("event_id", _told(event_id="x" * 1_000)),
        ("value", _told(value=float("nan"))),
        ("value", _told(value=float("inf"))),
        ("time", _told(time_us=-1)),
        ("time", _told(time_us=TIME_US_MAX)),
        ("outcome", _told(outcome="clack")),
    ],
)
async def test_a_malformed_outcome_is_refused_by_its_field(
    wired: Wired, field: str, report: OutcomeReport
) -> None:
    """And the decision is left as if nobody had said it: the good one after it is accepted."""
    with pytest.raises(InvalidField) as refused:
        await wired.report.report(report)
    assert refused.value.field == field
    assert await wired.report.report(_told()) is ACCEPTED


@pytest.mark.parametrize("time_us", [0, TIME_US_MAX - 1])
async def test_the_first_and_the_last_time_are_readable(wired: Wired, time_us: int) -> None:
    """Years 1970 to 9998 are taken, whatever becomes of the outcome."""
    assert await wired.report.report(_told(time_us=time_us)) in OutcomeStatus


async def test_each_outcome_of_a_batch_is_answered_in_its_place(wired: Wired) -> None:
    """Good, repeated, unknown, undeclared or unreadable: none costs another its answer."""
    unreadable = InvalidField("time", "for the test")
    results = await wired.report.report_many(
        [
            _told("nobody"),
            _told(),
            unreadable,
            _told(),
            _told(outcome="clack"),
            OutcomeReport("elsewhere", "d1", "click"),
            _told(outcome="view"),
        ]
    )
    unknown, accepted, same, repeated, undeclared, elsewhere, viewed = results
    assert isinstance(unknown, UnknownDecision)
    assert (accepted, repeated, viewed) == (ACCEPTED, DUPLICATE, ACCEPTED)
    assert same is unreadable
    assert isinstance(undeclared, UndeclaredOutcome)
    assert isinstance(elsewhere, UnknownCampaign)


async def test_each_outcome_is_counted_under_one_status(wired: Wired) -> None:
    """Sent = accepted + duplicate + late + held + orphan + refused; names nobody declared are `unknown`."""
    reports = [
        _told(),
        _told(),
        _told("nobody"),
        _told(""),
        _told(outcome="clack"),
        _told(value=float("nan")),
    ]
    await wired.report.report_many(reports)
    assert wired.metric("outcomes_total") == len(reports)
    for status, count in {"accepted": 1, "duplicate": 1, "orphan": 1, "refused": 3}.items():
        assert wired.metric("outcomes_total", status=status) == count, status
    assert wired.metric("outcomes_total", outcome="unknown") == 1
    assert wired.metric("outcomes_total", outcome="clack") == 0


async def test_an_event_id_said_again_for_another_outcome_is_refused(wired: Wired) -> None:
    """The same is a repeat; another one under its id is a mistake, and counted as refused."""
    assert await wired.report.report(_told(event_id="e")) is ACCEPTED
    assert await wired.report.report(_told(event_id="e")) is DUPLICATE
    with pytest.raises(IdReused):
        await wired.report.report(_told(outcome="view", event_id="e"))
    assert wired.metric("outcomes_total", status="refused") == 1


async def test_outcomes_are_taken_while_their_campaign_is_away(wired: Wired) -> None:
    """A known decision has its rules with it; of what is not known there is no campaign, and no count."""
    wired.catalog.replace([])
    assert await wired.report.report(_told()) is ACCEPTED
    assert wired.metric("outcomes_total", status="accepted") == 1
    with pytest.raises(UnknownCampaign):
        await wired.report.report(_told("nobody"))
    assert wired.metric("outcomes_total") == 1


async def test_a_failing_ledger_fails_the_call_and_counts_nothing(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller sends it again, and it is counted then."""

    async def locked(*_: object) -> None:
        raise LedgerUnavailable("locked")

    with monkeypatch.context() as failing:
        failing.setattr(wired.ledger, "receive", locked)
        with pytest.raises(LedgerUnavailable):
            await wired.report.report(_told())
    assert wired.metric("outcomes_total") == 0
    assert await wired.report.report(_told()) is ACCEPTED


async def test_a_batch_of_nothing_readable_does_not_ask_the_ledger(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All errors are told though the ledger is away."""
    monkeypatch.delattr(type(wired.ledger), "receive")
    assert await wired.report.report_many([]) == []
    [refused] = await wired.report.report_many([_told("")])
    assert isinstance(refused, InvalidField)


async def _pending(wired: Wired, decision_id: str = "p1") -> str:
    """A decision that waits for its activation; returns its offer."""
    request = DecideRequest("c", decision_id=decision_id, defer_activation=True)
    return (await wired.decide.decide(request)).decision.offer_id


async def test_an_activation_opens_the_window_once(wired: Wired) -> None:
    """The end is that of the first activation; a repeat is told the same, and counted as one."""
    shown = await _pending(wired)
    assert await wired.report.report(_told("p1")) is HELD
    end_us = await wired.report.activate("c", "p1", shown)
    assert end_us == wired.clock.wall_us + 3_600_000_000
    wired.clock.pass_s(60)
    assert await wired.report.activate("c", "p1", shown) == end_us
    for status in ("activated", "repeated"):
        assert wired.metric("activations_total", status=status) == 1
    assert await wired.report.report(_told("p1")) is DUPLICATE, "what was held counts"


async def test_another_offer_shown_voids_the_decision(wired: Wired) -> None:
    """No window opens, and what comes later is late."""
    shown = await _pending(wired)
    other = "b" if shown == "a" else "a"
    assert await wired.report.activate("c", "p1", other) is None
    assert wired.metric("activations_total", status="void") == 1
    assert await wired.report.report(_told("p1")) is LATE


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("campaign", ("", "p1", "a")),
        ("decision_id", ("c", "", "a")),
        ("shown_offer_id", ("c", "p1", "x" * 1_000)),
        ("shown_offer_id", ("c", "p1", "slip")),
    ],
)
async def test_a_slip_of_the_pen_does_not_void_a_decision(
    wired: Wired, field: str, words: tuple[str, str, str]
) -> None:
    """What cannot be is refused by its field; the right activation still opens the window."""
    shown = await _pending(wired)
    with pytest.raises(InvalidField) as refused:
        await wired.report.activate(*words)
    assert refused.value.field == field
    assert wired.metric("activations_total", status="refused") == (field != "campaign")
    assert await wired.report.activate("c", "p1", shown) is not None


async def test_an_activation_of_no_decision_says_what_is_unknown(wired: Wired) -> None:
    """The decision, where the campaign is served (counted as refused); else the campaign, counted nowhere."""
    with pytest.raises(UnknownDecision):
        await wired.report.activate("c", "nobody", "a")
    with pytest.raises(UnknownCampaign):
        await wired.report.activate("elsewhere", "nobody", "a")
    assert wired.metric("activations_total") == wired.metric("activations_total", status="refused") == 1


async def test_an_activation_comes_too_late(wired: Wired) -> None:
    """After its time the decision has expired; the call is refused and counted so."""
    shown = await _pending(wired)
    wired.clock.pass_s(3_600 + wired.limits.lease_s + 3_600)
    await wired.learner.turn()
    with pytest.raises(DecisionExpired):
        await wired.report.activate("c", "p1", shown)
    assert wired.metric("activations_total", status="refused") == 1


async def test_what_is_handed_over_at_once_is_accepted_once(wired: Wired) -> None:
    """Twenty callers report the same outcome together: one is accepted, the others repeat it."""
    statuses = await asyncio.gather(*(wired.report.report(_told()) for _ in range(20)))
    assert sorted(statuses) == [ACCEPTED, *[DUPLICATE] * 19]
