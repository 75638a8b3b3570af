"""What who pauses is promised of every ledger."""

from __future__ import annotations

from tests.builders import (
    CAMPAIGN,
    at,
    pause,
)


async def test_a_pause_is_seen_until_it_is_resumed(ledger):
    """By campaign, before anything of it was recorded; resuming tells whether it was off."""
    assert await ledger.every_pause() == await ledger.pauses(CAMPAIGN) == ()
    whole, offer = pause(offer_id=""), pause(until_us=at(60).wall_us)
    elsewhere = pause(campaign="other", reason="søen 🚲 is closed")
    for each in (offer, whole, elsewhere):
        await ledger.pause(each, at())
    assert await ledger.every_pause() == (whole, offer, elsewhere)
    assert await ledger.pauses(CAMPAIGN) == (whole, offer)
    assert await ledger.pauses("other") == (elsewhere,)
    assert await ledger.pauses("unknown") == ()
    assert await ledger.resume(CAMPAIGN, "", at(1)) is True
    assert await ledger.resume(CAMPAIGN, "", at(1)) is False
    assert await ledger.resume("unknown", "", at(1)) is False
    assert await ledger.every_pause() == (offer, elsewhere)
    assert await ledger.pauses(CAMPAIGN) == (offer,)


async def test_a_pause_replaces_the_one_before(ledger):
    """Reason, start and end are the last ones said."""
    await ledger.pause(pause(until_us=at(60).wall_us), at())
    again = pause(reason="still", since_us=at(5).wall_us)
    await ledger.pause(again, at(5))
    assert await ledger.pauses(CAMPAIGN) == (again,)


async def test_a_pause_that_is_over_is_no_longer_off(ledger):
    """It is still told until someone resumes it, and resuming it then changed nothing."""
    over = pause(until_us=at(60).wall_us)
    await ledger.pause(over, at())
    assert await ledger.pauses(CAMPAIGN) == (over,)
    assert await ledger.resume(CAMPAIGN, over.offer_id, at(60)) is False
    assert await ledger.pauses(CAMPAIGN) == ()


async def test_pauses_that_are_over_go_with_the_next_one(ledger):
    """Of every campaign; one that ends this moment is over, and what still holds stays."""
    over = [pause(offer_id="a", until_us=at(59).wall_us), pause(campaign="other", until_us=at(60).wall_us)]
    holding = [pause(offer_id="b", until_us=at(61).wall_us), pause(offer_id="c")]
    for each in (*over, *holding):
        await ledger.pause(each, at())
    said = pause(offer_id="d", since_us=at(60).wall_us)
    await ledger.pause(said, at(60))
    assert await ledger.every_pause() == (*holding, said)
