"""A commit that nobody waits for any longer and that comes about all the same: its work is counted once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.wiring import Wired

from tilbud.domain.context import Consent
from tilbud.domain.decision.records import DecideRequest
from tilbud.domain.errors import LedgerUnavailable
from tilbud.ledger.answers import StillCommitting
from tilbud.service.customers import EventReport
from tilbud.service.outcomes import OutcomeReport

CAMPAIGN = """
campaign: c
offers: [{id: a}, {id: b}]
reward: {window: 30m, grace: 0s, outcomes: {click: 1}}
variants: {control: {share: 0}}
consent: not_required
sticky: 24h
"""


def ask(decision_id: str, customer_id: str = "", **said: Any) -> DecideRequest:
    """A question by a customer who agreed."""
    return DecideRequest(
        "c", decision_id=decision_id, customer_id=customer_id, consent=Consent.GRANTED, **said
    )


@pytest.fixture
async def wired(tmp_path: Path) -> Wired:
    """The campaign above, served from memory."""
    return await Wired(CAMPAIGN, tmp_path).start()


async def late(
    monkeypatch: pytest.MonkeyPatch, wired: Wired, name: str, call: Callable[[], Awaitable[object]]
) -> None:
    """Make a call that the ledger gives up on, and let what it asked for come about afterwards."""
    commit = getattr(wired.ledger, name)
    later: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    asked: list[tuple[Any, ...]] = []

    async def hang(*said: Any) -> None:
        asked.append(said)
        raise StillCommitting("hangs", later)

    with monkeypatch.context() as hanging:
        hanging.setattr(wired.ledger, name, hang)
        with pytest.raises(LedgerUnavailable):
            await call()
    later.set_result(await commit(*asked[0]))
    await asyncio.sleep(0)


async def test_decisions_are_counted(wired: Wired, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one when it comes about, and not again when the caller repeats it."""
    await late(monkeypatch, wired, "record", lambda: wired.decide.decide(ask("one")))
    assert await wired.ledger.find("c", "one") is not None
    assert wired.metric("decisions_total") == 1
    await wired.decide.decide(ask("one"))
    assert wired.metric("decisions_total") == 1


async def test_repeats_are_counted(wired: Wired, monkeypatch: pytest.MonkeyPatch) -> None:
    """Likewise: what answers the customer again is one repeat."""
    await wired.decide.decide(ask("one", "anna"))
    await late(monkeypatch, wired, "repeat", lambda: wired.decide.decide(ask("two", "anna")))
    assert wired.metric("sticky_decisions_total") == 1
    await wired.decide.decide(ask("two", "anna"))
    assert wired.metric("sticky_decisions_total") == 1


async def test_outcomes_are_counted(wired: Wired, monkeypatch: pytest.MonkeyPatch) -> None:
    """As accepted when it comes about; the caller's repeat is its duplicate."""
    await wired.decide.decide(ask("one"))
    report = OutcomeReport("c", "one", "click", event_id="e")
    await late(monkeypatch, wired, "receive", lambda: wired.report.report(report))
    assert wired.metric("outcomes_total", status="accepted") == 1
    await wired.report.report(report)
    assert wired.metric("outcomes_total", status="duplicate") == 1
    assert wired.metric("outcomes_total") == 2


async def test_activations_are_counted(wired: Wired, monkeypatch: pytest.MonkeyPatch) -> None:
    """As activated, with the outcomes it let count; the caller's repeat is repeated."""
    await wired.decide.decide(ask("one", defer_activation=True))
    await wired.report.report(OutcomeReport("c", "one", "click"))
    await late(monkeypatch, wired, "activate", lambda: wired.report.activate("c", "one", ""))
    assert wired.metric("activations_total", status="activated") == 1
    assert wired.metric("released_outcomes_total") == 1
    await wired.report.activate("c", "one", "")
    assert wired.metric("activations_total", status="repeated") == 1


async def test_customer_events_are_counted(wired: Wired, monkeypatch: pytest.MonkeyPatch) -> None:
    """As accepted when it comes about; the caller's repeat is its duplicate."""
    event = EventReport("anna", "add_to_cart", "e", consent=Consent.GRANTED)
    await late(monkeypatch, wired, "receive_events", lambda: wired.customers.report_event(event))
    assert wired.metric("customer_events_total", status="accepted") == 1
    await wired.customers.report_event(event)
    assert wired.metric("customer_events_total", status="duplicate") == 1


async def test_settlements_are_counted(wired: Wired, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settled while nobody waited, it is learned and counted in the next turn, as what settles then."""
    await wired.learner.turn()  # takes the lease
    await wired.decide.decide(ask("one"))
    wired.clock.pass_s(1_801)
    await late(monkeypatch, wired, "settle", lambda: wired.learner.settle(wired.served))
    await wired.decide.decide(ask("two"))
    wired.clock.pass_s(1_801)
    await wired.learner.turn()
    await wired.learner.turn()
    assert wired.served.model.sequence == 2
    assert wired.metric("settlements_total") == 2
