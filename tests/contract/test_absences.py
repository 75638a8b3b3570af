"""What every ledger promises while a campaign's file is away: deadlines stand, and nothing stays for ever."""

from __future__ import annotations

import pytest
from tests.builders import (
    CAMPAIGN,
    CUSTOMER,
    DAY_US,
    GRACE_US,
    RULES,
    WINDOW_US,
    activation,
    at,
    contact,
    decision,
    outcome,
    rules,
    settle_due,
)
from tests.contract import reads
from tests.contract.adapters import ADAPTERS, ignore_commit, make

from tilbud.domain.customer.customer import channel_scope
from tilbud.domain.decision.activation import Activated
from tilbud.domain.decision.rewards import OutcomeStatus
from tilbud.domain.errors import DecisionExpired
from tilbud.ledger.answers import Settled
from tilbud.ledger.ports import Ledger

ACCEPTED, DUPLICATE, LATE, HELD = OutcomeStatus
CLOSED_S = WINDOW_US / 1e6
DUE_S = (WINDOW_US + GRACE_US) / 1e6
WAITS_S = 3_610
DAY_S = DAY_US / 1e6
GONE, BACK = (), (CAMPAIGN,)
OWN = rules().text()
NOTHING = Settled(0, 0, more=False)


async def _settle(ledger: Ledger, seconds: float, limit: int = 100, *, served: bool = True) -> Settled:
    return await settle_due(ledger, CAMPAIGN, RULES if served else None, limit, at(seconds))


async def test_deadlines_of_what_was_shown_stand_while_the_campaign_is_away(ledger):
    """What was left of a window when the file went is left of it when it comes back."""
    await ledger.record([decision("d1", rules=OWN)], at())
    await ledger.serve(GONE, at(100))
    assert await _settle(ledger, 100 + DUE_S, served=False) == NOTHING
    await ledger.serve(BACK, at(10_100))
    assert await _settle(ledger, 10_000 + DUE_S - 1) == NOTHING
    assert await ledger.receive([outcome("d1")], at(10_000 + DUE_S - 1)) == [ACCEPTED]
    assert await _settle(ledger, 10_000 + DUE_S) == Settled(1, 0, more=False)
    [row] = await ledger.settlements(CAMPAIGN, 0, 10)
    assert (row.reward, row.due_service_us) == (0.1, at(DUE_S).service_us)


async def test_a_standing_says_the_service_time_at_which_something_is_due(ledger):
    """Who goes by it looks at a campaign that was away not before there is anything to do, now or later."""
    await ledger.record([decision("d1", rules=OWN)], at())
    await ledger.serve(GONE, at(100))
    await ledger.serve(BACK, at(10_100))
    await ledger.record([decision("d2", at(10_200), rules=OWN)], at(10_200))
    for due_s in (10_000 + DUE_S, 10_200 + DUE_S):
        assert (await ledger.standings())[CAMPAIGN].due_service_us == at(due_s).service_us
        assert await _settle(ledger, due_s - 1) == NOTHING
        assert await _settle(ledger, due_s) == Settled(1, 0, more=False)


async def test_outcomes_are_taken_while_the_campaign_is_away(ledger):
    """Also after the time at which the window would have closed; said to have occurred then, too."""
    await ledger.record([decision("d1", rules=OWN), decision("d2", rules=OWN)], at())
    await ledger.serve(GONE, at(1))
    late = at(CLOSED_S + 500)
    told = [outcome("d1", weight=None), outcome("d2", weight=None, occurred_us=late.wall_us)]
    assert await ledger.receive(told, late) == [ACCEPTED, ACCEPTED]
    await ledger.serve(BACK, at(CLOSED_S + 501))
    assert await _settle(ledger, 2 * DUE_S + 501) == Settled(2, 0, more=False)
    assert [each.reward for each in await ledger.settlements(CAMPAIGN, 0, 10)] == [0.1, 0.1]


async def test_absences_add_up_and_later_decisions_are_not_moved_by_them(ledger):
    """Each decision's window is as long as its campaign promised, whatever came before it."""
    await ledger.record([decision("d1", rules=OWN)], at())
    for start in (10, 200, 300):
        await ledger.serve(GONE, at(start))
        await ledger.serve(GONE, at(start + 20))
        await ledger.serve(BACK, at(start + 50))
        await ledger.serve(BACK, at(start + 60))
    await ledger.record([decision("d2", at(400), rules=OWN)], at(400))
    assert await _settle(ledger, 149 + DUE_S) == NOTHING
    assert await _settle(ledger, 150 + DUE_S) == Settled(1, 0, more=False)
    assert await ledger.receive([outcome("d2")], at(399 + DUE_S)) == [ACCEPTED]
    assert await ledger.receive([outcome("d2", "purchase")], at(400 + DUE_S)) == [LATE]
    assert await _settle(ledger, 400 + DUE_S) == Settled(1, 0, more=False)


async def test_what_is_recorded_while_away_has_its_whole_window(ledger):
    """A process that still serves the campaign decides as ever; the window is not eaten by the absence."""
    await ledger.record([decision("d0", rules=OWN)], at())
    await ledger.serve(GONE, at(100))
    await ledger.record([decision("d1", at(5_000), rules=OWN)], at(5_000))
    await ledger.serve(BACK, at(9_000))
    assert await _settle(ledger, 8_900 + DUE_S) == Settled(1, 0, more=False)
    assert await _settle(ledger, 8_999 + DUE_S) == NOTHING
    assert await _settle(ledger, 9_000 + DUE_S) == Settled(1, 0, more=False)


async def test_what_waits_for_its_activation_expires_in_time(ledger):
    """A reservation of a customer's does not outlive its deadline, whether the file comes back or not."""
    asked = [(channel_scope("web"), at(-1).wall_us)]
    await ledger.record([decision("p1", deferred=True, customer=CUSTOMER, rules=OWN)], at(), [contact()])
    before = await reads.exposures(ledger, CUSTOMER, asked)
    await ledger.serve(GONE, at(10))
    assert await _settle(ledger, WAITS_S - 1, served=False) == NOTHING
    assert await _settle(ledger, WAITS_S, served=False) == Settled(0, 1, more=False)
    assert (await ledger.standings())[CAMPAIGN].open == 0
    assert (before, await reads.exposures(ledger, CUSTOMER, asked)) == ([1], [0])
    [refused] = await ledger.activate([activation("p1")], at(WAITS_S))
    assert isinstance(refused, DecisionExpired)


async def test_expiring_keeps_to_its_limit(ledger):
    """Many that wait are ended in bounded turns, with what settles among them."""
    await ledger.record([decision(f"p{no}", deferred=True, rules=OWN) for no in range(5)], at())
    await ledger.serve(GONE, at(10))
    turns = [await _settle(ledger, WAITS_S, 2, served=False) for _ in range(3)]
    assert turns == [Settled(0, 2, more=True), Settled(0, 2, more=True), Settled(0, 1, more=False)]


async def test_an_activation_while_away_opens_a_window_that_stands(ledger):
    """The window begins to run when the campaign is back."""
    await ledger.record([decision("p1", deferred=True, rules=OWN)], at())
    await ledger.serve(GONE, at(100))
    [opened] = await ledger.activate([activation("p1", rules=None)], at(1_000))
    assert opened == Activated(at(1_000 + CLOSED_S).wall_us, repeated=False, held=0)
    await ledger.serve(BACK, at(8_000))
    assert await _settle(ledger, 7_999 + DUE_S) == NOTHING
    assert await _settle(ledger, 8_000 + DUE_S) == Settled(1, 0, more=False)


async def test_a_campaign_that_is_away_too_long_counts_as_gone(ledger):
    """After a day its clock goes on, and what was shown settles by its own rules."""
    await ledger.record([decision("d1", rules=OWN)], at())
    await ledger.receive([outcome("d1")], at(1))
    await ledger.serve(GONE, at(100))
    assert await _settle(ledger, DAY_S + DUE_S - 1, served=False) == NOTHING
    assert await _settle(ledger, DAY_S + DUE_S, served=False) == Settled(1, 0, more=False)
    assert [each.reward for each in await ledger.settlements(CAMPAIGN, 0, 10)] == [0.1]


async def test_a_campaign_that_comes_back_late_has_moved_by_a_day(ledger):
    """It is never moved by more, and a decision made then has its whole window."""
    await ledger.record([decision("d1", rules=OWN)], at())
    await ledger.serve(GONE, at(100))
    later = 3 * DAY_S
    await ledger.serve(BACK, at(later))
    assert await _settle(ledger, later) == Settled(1, 0, more=False)
    await ledger.record([decision("d2", at(later), rules=OWN)], at(later))
    assert await _settle(ledger, later + DUE_S - 1) == NOTHING
    assert await _settle(ledger, later + DUE_S) == Settled(1, 0, more=False)


async def test_other_campaigns_go_on(ledger):
    """Only the clock of the one that is away stands."""
    await ledger.record([decision("d1", rules=OWN), decision("d1", campaign="other", rules=OWN)], at())
    await ledger.serve(("other",), at(1))
    assert await settle_due(ledger, "other", RULES, 10, at(DUE_S)) == Settled(1, 0, more=False)
    assert (await ledger.standings())[CAMPAIGN].open == 1
    clocks = await ledger.clocks(CAMPAIGN, at(DUE_S))
    assert (clocks.waiting, clocks.shown.service_us) == (at(DUE_S), at(1).service_us)
    assert (await ledger.clocks("other", at(9))).shown == at(9)
    assert (await ledger.clocks("unknown", at(9))).shown == at(9)


@pytest.mark.parametrize("adapter", [each for each in ADAPTERS if each != "memory"])
async def test_a_stop_while_away_loses_nothing(adapter, tmp_path):
    """The absence is in the ledger: the service may stop and start in it."""
    before = make(adapter, tmp_path)
    await before.start(ignore_commit)
    await before.record([decision("d1", rules=OWN)], at())
    await before.serve(GONE, at(100))
    await before.close()
    after = make(adapter, tmp_path)
    await after.start(ignore_commit)
    await after.serve(GONE, at(200))
    assert await _settle(after, DUE_S + 500, served=False) == NOTHING
    await after.serve(BACK, at(1_100))
    assert await _settle(after, 999 + DUE_S) == NOTHING
    assert await _settle(after, 1_000 + DUE_S) == Settled(1, 0, more=False)
    await after.close()
