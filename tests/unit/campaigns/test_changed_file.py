"""Callers go on when a campaign file loses what they still say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.wiring import Wired

from tilbud.campaigns.served import ServedCampaign
from tilbud.campaigns.source import CampaignFile, parse_campaign
from tilbud.domain.context import Consent, ContextInput
from tilbud.domain.decision.records import DecideRequest
from tilbud.domain.errors import InvalidField

BEFORE = """
campaign: c
context: {features: {tier: category, basket: number}}
offers: [{id: a}, {id: b}, {id: gone}]
reward: {outcomes: {click: 1}}
consent: not_required
"""
AFTER = BEFORE.replace("tier: category, ", "").replace(", {id: gone}", "")
ASKED = DecideRequest(
    "c",
    context=ContextInput(features={"tier": "gold", "basket": 3.0, "anna@example.com": True}),
    exclude_offers=("gone", "a"),
)


def change(wired: Wired, yaml: str) -> None:
    """Serve the campaign as another file says it."""
    file = CampaignFile(parse_campaign(yaml.encode(), "c.yaml"), "c.yaml", "other")
    wired.catalog.replace([ServedCampaign(file, wired.served.models, wired.limits)])


@pytest.mark.parametrize("consent", [Consent.UNSPECIFIED, Consent.GRANTED, Consent.DENIED])
async def test_a_call_outlives_what_its_file_lost(tmp_path: Path, consent: Consent) -> None:
    """A feature and an excluded offer that are gone are counted and told of, and the call is answered.

    A retry from before the change is the same decision. Names that nobody declared are kept nowhere.
    """
    wired = await Wired(BEFORE, tmp_path).start()
    asked = ASKED._replace(decision_id="before", customer_id="anna", consent=consent)
    before = await wired.decide.decide(asked)
    assert before.decision.offer_id == "b"
    change(wired, AFTER)
    assert (await wired.decide.decide(asked)).decision == before.decision
    after = (await wired.decide.decide(asked._replace(decision_id="after"))).decision
    assert after.offer_id == "b"
    dropped = json.loads(after.dropped.body)
    assert dropped["features"] == "undeclared"
    assert dropped["exclude_offers"] == "unknown_offer"
    assert not {"tier", "anna@example.com"} & dropped.keys()
    for field, why in (("features", "undeclared"), ("exclude_offers", "unknown_offer")):
        assert wired.metric("dropped_values_total", campaign="c", field=field, why=why) >= 1
    assert "anna" not in after.dropped.body


async def test_a_strict_campaign_refuses_what_its_file_lost(tmp_path: Path) -> None:
    """`strict: true` keeps the error, and a retry is answered all the same."""
    wired = await Wired(BEFORE, tmp_path).start()
    asked = ASKED._replace(decision_id="before", context=ContextInput(features={"tier": "gold"}))
    before = await wired.decide.decide(asked)
    change(wired, f"{AFTER}strict: true\n")
    assert (await wired.decide.decide(asked)).decision == before.decision
    with pytest.raises(InvalidField, match=r"context.features\[tier\]: is not declared"):
        await wired.decide.decide(asked._replace(decision_id="after"))
    with pytest.raises(InvalidField, match="exclude_offers: the campaign has no offer 'gone'"):
        await wired.decide.decide(asked._replace(decision_id="after", context=ContextInput()))


async def test_long_texts_are_not_remembered(tmp_path: Path) -> None:
    """What was dropped does not fill the memory of the minute, and a dry run counts nothing."""
    wired = await Wired(BEFORE, tmp_path).start()
    for number in range(20):
        said = ContextInput(place=f"{number}" * 100_000)
        await wired.decide.decide(DecideRequest("c", context=said, dry_run=True))
    assert not wired.served.questions
    assert wired.metric("dropped_values_total", field="place") == 0
    await wired.decide.decide(DecideRequest("c", context=ContextInput(place="x" * 129)))
    assert wired.metric("dropped_values_total", campaign="c", field="place", why="too_long") == 1
