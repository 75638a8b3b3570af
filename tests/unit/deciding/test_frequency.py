"""How often a customer is met, asked of the whole service: contact caps, and one voice to its last moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.wiring import Wired

from tilbud.campaigns.served import ServedCampaign
from tilbud.deciding.pipeline import Answer
from tilbud.domain.campaign.contact_policy import ContactPolicy
from tilbud.domain.context import Consent, ContextInput
from tilbud.domain.decision.facts import Facts, LookUp
from tilbud.domain.decision.records import DecideRequest, Decision, Reason

CAMPAIGN = """
campaign: c
offers: [{id: a}, {id: b}]
fallback: {id: none}
reward: {outcomes: {click: 1}}
consent: not_required
"""
DAY_US = 86_400_000_000
FULL = Reason.FALLBACK_NO_ELIGIBLE_OFFER
UNDECLARED = "carrier_pigeon"  # the campaign reads it as `other`


async def _capped(tmp_path: Path, channels: dict[str, int], more: str = "") -> Wired:
    """The campaign above beside a contact policy that allows so many contacts a day in each channel."""
    wired = await Wired(CAMPAIGN + more, tmp_path).start()
    policy = ContactPolicy.model_validate(
        {"channels": {name: {"caps": [{"times": times, "per": "1d"}]} for name, times in channels.items()}}
    )
    file = replace(wired.served.file, contact=policy)
    wired.catalog.replace([ServedCampaign(file, wired.served.models, wired.limits)])
    return wired


async def _decided(wired: Wired, channel: str = "") -> Decision:
    request = DecideRequest(
        "c", customer_id="anna", context=ContextInput(channel=channel), consent=Consent.GRANTED
    )
    return (await wired.decide.decide(request)).decision


@pytest.mark.parametrize("more", ["", "sticky: 24h\n"])
async def test_a_contact_cap_holds_in_a_channel_that_the_campaign_does_not_declare(
    tmp_path: Path, more: str
) -> None:
    """The policy goes by the caller's own word, though the model and the record see `other`."""
    wired = await _capped(tmp_path, {UNDECLARED: 2}, more)
    decisions = [await _decided(wired, UNDECLARED) for _ in range(4)]
    assert decisions[0].channel == "other"
    assert [decision.reason is FULL for decision in decisions] == [False, False, True, True]
    assert (await _decided(wired, "smoke_signals")).reason is not FULL, "another word, not at its cap"
    assert (await _decided(wired, "web")).reason is not FULL


async def test_a_contact_cap_of_other_is_of_all_words_that_nobody_declares(tmp_path: Path) -> None:
    """They are one channel together; a word that the policy names is another, with caps of its own."""
    wired = await _capped(tmp_path, {"other": 1, UNDECLARED: 1})
    full = [
        (await _decided(wired, channel)).reason is FULL
        for channel in ("smoke_signals", "drums", "other", UNDECLARED, UNDECLARED)
    ]
    assert full == [False, True, True, False, True]


async def test_a_contact_cap_of_an_undeclared_channel_holds_in_one_batch(tmp_path: Path) -> None:
    """Asked at once, a customer is met there as often as the policy allows, and not once more."""
    wired = await _capped(tmp_path, {UNDECLARED: 2})
    request = DecideRequest(
        "c", customer_id="anna", context=ContextInput(channel=UNDECLARED), consent=Consent.GRANTED
    )
    answers = await wired.decide.decide_many([request] * 8, [None] * 8)
    reasons = [answer.decision.reason for answer in answers if isinstance(answer, Answer)]
    assert len(reasons) == 8
    assert reasons.count(FULL) == 6


async def test_one_voice_ends_at_the_very_microsecond(tmp_path: Path) -> None:
    """`sticky: 24h` is less than 24 hours: the last microsecond before is served again, the next is new."""
    wired = await Wired(f"{CAMPAIGN}sticky: 24h\n", tmp_path).start()
    first = await _decided(wired)
    wired.clock.wall_us += DAY_US - 1
    wired.clock.service_us += DAY_US - 1
    assert (await _decided(wired)).decision_id == first.decision_id
    wired.clock.wall_us += 1
    wired.clock.service_us += 1
    assert (await _decided(wired)).decision_id != first.decision_id


async def test_one_voice_of_a_wrong_clock_ends_at_the_very_microsecond(tmp_path: Path) -> None:
    """A decision dated days ahead lives by the service clock, and ends at the same edge."""
    wired = await Wired(f"{CAMPAIGN}sticky: 24h\n", tmp_path).start()
    wired.clock.wall_us += 10 * DAY_US
    first = await _decided(wired)
    wired.clock.wall_us -= 10 * DAY_US
    wired.clock.service_us += DAY_US - 1
    assert (await _decided(wired)).decision_id == first.decision_id
    wired.clock.service_us += 1
    assert (await _decided(wired)).decision_id != first.decision_id


async def test_a_cap_that_is_loaded_while_a_decision_looks_up_is_not_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was looked up for other campaign files says nothing of these caps: it is looked up anew."""
    wired = await _capped(tmp_path, {})
    await _decided(wired, "web")
    policy = ContactPolicy.model_validate({"channels": {"web": {"caps": [{"times": 1, "per": "1d"}]}}})
    capped = ServedCampaign(replace(wired.served.file, contact=policy), wired.served.models, wired.limits)
    look_up = wired.ledger.look_up

    async def loaded_meanwhile(looks: Sequence[LookUp]) -> Sequence[Facts]:
        facts = await look_up(looks)
        if wired.served is not capped:
            wired.catalog.replace([capped])
        return facts

    monkeypatch.setattr(wired.ledger, "look_up", loaded_meanwhile)
    assert (await _decided(wired, "web")).reason is FULL
