"""Pauses and resumes: what they refuse, and from when to when they hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.wiring import Wired

from tilbud.domain.errors import InvalidField, UnknownCampaign
from tilbud.domain.pauses import WHOLE_CAMPAIGN

CAMPAIGN = """
campaign: c
offers: [{id: a}, {id: b}]
reward: {outcomes: {click: 1}}
consent: not_required
"""
MINUTE_US = 60_000_000


@pytest.fixture
async def wired(tmp_path: Path) -> Wired:
    """The campaign above, served from memory."""
    return await Wired(CAMPAIGN, tmp_path).start()


async def _off(wired: Wired) -> list[str]:
    return [pause.offer_id for pause in await wired.pauses.pauses("c")]


@pytest.mark.parametrize("reason", ["", "   ", "\n", "line\nbreak", "bell\x07", "{too long}"])
async def test_a_pause_needs_a_reason_that_can_be_read(wired: Wired, reason: str) -> None:
    """Empty, blank, with control characters or too long: refused by its field, and nothing is paused."""
    reason = reason.replace("{too long}", "x" * (wired.limits.pause_reason_chars_max + 1))
    for pausing in (
        wired.pauses.pause_campaign("c", reason, None),
        wired.pauses.pause_offer("c", "a", reason, None),
    ):
        with pytest.raises(InvalidField) as refused:
            await pausing
        assert refused.value.field == "reason"
    assert await _off(wired) == []


async def test_the_longest_reason_is_taken_word_for_word(wired: Wired) -> None:
    """As many characters as are allowed, counted in the composed form in which they are kept."""
    length = wired.limits.pause_reason_chars_max
    await wired.pauses.pause_offer("c", "a", "e\u0301" * length, None)
    [pause] = await wired.pauses.pauses("c")
    assert pause.reason == "é" * length


@pytest.mark.parametrize("from_now_us", [-1, 0])
async def test_a_pause_cannot_end_before_it_begins(wired: Wired, from_now_us: int) -> None:
    """An end that is past, or this very moment, is refused."""
    with pytest.raises(InvalidField) as refused:
        await wired.pauses.pause_campaign("c", "why", wired.clock.wall_us + from_now_us)
    assert refused.value.field == "end_time"
    assert await _off(wired) == []


async def test_a_pause_ends_at_its_very_microsecond(wired: Wired) -> None:
    """It holds up to its end, and not at it."""
    await wired.pauses.pause_offer("c", "a", "why", wired.clock.wall_us + MINUTE_US)
    wired.clock.wall_us += MINUTE_US - 1
    assert await _off(wired) == ["a"]
    wired.clock.wall_us += 1
    assert await _off(wired) == []


async def test_pauses_are_told_the_campaign_first_then_offers_by_id(wired: Wired) -> None:
    """Whatever the order in which they were made."""
    await wired.pauses.pause_offer("c", "b", "why", None)
    await wired.pauses.pause_campaign("c", "why", None)
    await wired.pauses.pause_offer("c", "a", "why", None)
    assert await _off(wired) == [WHOLE_CAMPAIGN, "a", "b"]


async def test_a_later_pause_replaces_the_earlier(wired: Wired) -> None:
    """One pause an offer: its last reason, its last end."""
    await wired.pauses.pause_offer("c", "a", "for a minute", wired.clock.wall_us + MINUTE_US)
    await wired.pauses.pause_offer("c", "a", "for good", None)
    [pause] = await wired.pauses.pauses("c")
    assert (pause.reason, pause.until_us) == ("for good", None)


async def test_only_what_is_served_is_paused(wired: Wired) -> None:
    """An unknown campaign or offer is refused, and so is an id that none could have."""
    with pytest.raises(UnknownCampaign):
        await wired.pauses.pause_campaign("elsewhere", "why", None)
    with pytest.raises(UnknownCampaign):
        await wired.pauses.resume_offer("elsewhere", "a")
    for offer_id in ("nobody", "", "x" * 10_000):
        with pytest.raises(InvalidField) as refused:
            await wired.pauses.pause_offer("c", offer_id, "why", None)
        assert refused.value.field == "offer_id"
        with pytest.raises(InvalidField):
            await wired.pauses.resume_offer("c", offer_id)
    assert await _off(wired) == []


async def test_resuming_what_is_not_paused_changes_nothing(wired: Wired) -> None:
    """It succeeds, as a retry must, and the log does not tell of it."""
    with capture_logs() as logged:
        await wired.pauses.resume_campaign("c")
        await wired.pauses.resume_offer("c", "a")
    assert logged == []


async def test_resuming_a_campaign_leaves_its_offers_paused(wired: Wired) -> None:
    """Each pause has its own end."""
    await wired.pauses.pause_campaign("c", "why", None)
    await wired.pauses.pause_offer("c", "a", "why", None)
    await wired.pauses.resume_campaign("c")
    assert await _off(wired) == ["a"]


async def test_an_offer_that_a_changed_file_dropped_can_be_resumed(tmp_path: Path) -> None:
    """Once: its pause is gone then, and the campaign has no such offer."""
    before = await Wired(CAMPAIGN, tmp_path).start()
    await before.pauses.pause_offer("c", "b", "why", None)
    after = Wired(CAMPAIGN.replace(", {id: b}", ", {id: d}"), tmp_path, before.ledger, clock=before.clock)
    await after.serve()
    await after.pauses.resume_offer("c", "b")
    assert await _off(after) == []
    with pytest.raises(InvalidField):
        await after.pauses.resume_offer("c", "b")


async def test_the_log_tells_what_was_paused_and_not_why(wired: Wired) -> None:
    """The reason is people's own words: it stays in the ledger."""
    with capture_logs() as logged:
        await wired.pauses.pause_offer("c", "a", "Anna complained", None)
        await wired.pauses.resume_offer("c", "a")
    assert [(line["event"], line["campaign"], line["offer"]) for line in logged] == [
        ("paused", "c", "a"),
        ("resumed", "c", "a"),
    ]
    assert "Anna" not in str(logged)
