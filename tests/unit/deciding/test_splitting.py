"""Whose side of the experiment a decision is on, whatever becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from tests.wiring import Wired

from tilbud.deciding.pipeline import Answer
from tilbud.domain.context import Consent, ContextInput
from tilbud.domain.customer.profile_update import ProfileUpdate
from tilbud.domain.decision.records import DecideRequest, Decision, Reason
from tilbud.domain.errors import ModelUnavailable
from tilbud.domain.pauses import Pause

CAMPAIGN = """
campaign: c
context: {channels: [web, app]}
offers: [{id: a, channels: [web]}, {id: b, channels: [web]}]
fallback: {id: none}
reward: {outcomes: {click: 1}}
variants: {control: {share: 0.5}}
consent: %s
"""
WEB, APP = ContextInput(channel="web"), ContextInput(channel="app")
PEOPLE = [f"customer-{number}" for number in range(20)]


@pytest.fixture
async def wired(tmp_path: Path) -> Wired:
    """The campaign above, served from memory."""
    return await Wired(CAMPAIGN % "not_required", tmp_path).start()


async def decided(wired: Wired, customer_id: str, **said: Any) -> Decision:
    """Ask, and return the decision."""
    asked: dict[str, Any] = {"consent": Consent.GRANTED, "context": WEB, **said}
    return (await wired.decide.decide(DecideRequest("c", customer_id=customer_id, **asked))).decision


async def variants(wired: Wired, customer_id: str, times: int = 16, **said: Any) -> set[str]:
    """Return the variants of many decisions of one customer."""
    request = DecideRequest(
        "c", customer_id=customer_id, **{"consent": Consent.GRANTED, "context": WEB, **said}
    )
    answers = await wired.decide.decide_many([request] * times, [None] * times)
    return {each.decision.variant for each in answers if isinstance(each, Answer)}


async def test_customers_stay_on_their_side(wired: Wired) -> None:
    """Each is on one side in every channel, whether they repeat their consent, and both sides have some."""
    sides = {each: await variants(wired, each) for each in PEOPLE}
    assert all(len(side) == 1 for side in sides.values())
    assert set.union(*sides.values()) == {"control", "personalized"}
    for each, side in sides.items():
        assert await variants(wired, each, context=APP, consent=Consent.UNSPECIFIED) == side


@pytest.mark.parametrize(
    "said",
    [{"customer_id": ""}, {"customer_id": "anna", "consent": Consent.DENIED}],
    ids=["anonymous", "denied"],
)
async def test_who_may_not_be_known_is_split_by_decision(wired: Wired, said: dict[str, Any]) -> None:
    """Nothing of them says their side, so that it cannot tell which decisions are one person's."""
    assert await variants(wired, **said, times=64) == {"control", "personalized"}
    assert (await decided(wired, **said)).split == "decision"


async def test_who_was_erased_is_split_by_decision(wired: Wired) -> None:
    """An erased customer is as one who denied; who consents again is on the side they were on."""
    side = await variants(wired, "anna")
    await wired.customers.erase("anna")
    assert await variants(wired, "anna", times=64) == {"control", "personalized"}
    await wired.customers.update("anna", ProfileUpdate(consent=Consent.GRANTED))
    assert await variants(wired, "anna") == side


async def test_required_consent_that_is_missing_splits_by_decision(tmp_path: Path) -> None:
    """The fallback for want of consent is on either side, by the decision's id."""
    wired = await Wired(CAMPAIGN % "required", tmp_path).start()
    unsaid = {"consent": Consent.UNSPECIFIED}
    assert await variants(wired, "anna", times=64, **unsaid) == {"control", "personalized"}
    refused = await decided(wired, "anna", **unsaid)
    assert (refused.reason, refused.split) == (Reason.FALLBACK_NO_CONSENT, "decision")
    assert (await decided(wired, "anna")).split == "customer"


async def paused(wired: Wired) -> None:
    """Pause the campaign."""
    now = wired.clock.now()
    await wired.ledger.pause(Pause("c", "", "for the test", now.wall_us, None), now)


async def nothing(_: Wired) -> None:
    """Change nothing."""


@pytest.mark.parametrize(
    ("prepare", "said", "reason"),
    [
        (nothing, {"context": APP}, Reason.FALLBACK_NO_ELIGIBLE_OFFER),
        (paused, {}, Reason.FALLBACK_CAMPAIGN_PAUSED),
    ],
)
async def test_a_fallback_keeps_the_side_of_its_customer(
    wired: Wired, prepare: Callable[..., Any], said: dict[str, Any], reason: Reason
) -> None:
    """What keeps every offer back changes no side: rules are asked after the split."""
    sides = {each: (await decided(wired, each)).variant for each in PEOPLE}
    await prepare(wired)
    for each, side in sides.items():
        fallback = await decided(wired, each, **said)
        assert (fallback.variant, fallback.reason, fallback.variant_share) == (side, reason, 0.5)
    assert set(sides.values()) == {"control", "personalized"}


async def test_without_time_or_model_the_side_is_kept_too(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hurry and a broken model are on the side of their customer."""
    sides = {each: (await decided(wired, each)).variant for each in PEOPLE}

    def broken(*_: object) -> list[float]:
        raise ModelUnavailable("for the test")

    monkeypatch.setattr(wired.served.model, "predict", broken)
    for each, side in sides.items():
        request = DecideRequest("c", customer_id=each, consent=Consent.GRANTED, context=WEB)
        hurried = await wired.decide.decide(request, deadline_s=perf_counter())
        assert (hurried.decision.variant, hurried.decision.reason) == (side, Reason.FALLBACK_NO_TIME)
        assert (await decided(wired, each)).variant == side


async def test_the_share_is_recorded(wired: Wired) -> None:
    """What the ledger has of a decision tells the side's share and what was split."""
    made = await decided(wired, "anna", decision_id="one")
    stored = await wired.ledger.find("c", "one")
    assert stored is not None
    assert (stored.variant, stored.variant_share, stored.split) == (made.variant, 0.5, "customer")
