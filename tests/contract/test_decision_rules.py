"""What every ledger promises of the rules a decision was made with."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.builders import (
    ACTIVATION_WINDOW_US,
    CAMPAIGN,
    GRACE_US,
    RULES,
    WINDOW_US,
    activation,
    at,
    decision,
    outcome,
    rules,
    settle_due,
)

from tilbud.domain.decision.activation import Activated
from tilbud.domain.decision.decision_rules import DecisionRules
from tilbud.domain.decision.records import NO_RULES
from tilbud.domain.decision.rewards import CountedOutcome, OutcomeStatus, RewardRules
from tilbud.domain.errors import IdReused, InvalidField, UnknownDecision
from tilbud.ledger.answers import Settled, Showed
from tilbud.ledger.ports import Ledger

ACCEPTED, DUPLICATE, LATE, HELD = OutcomeStatus
DUE_S = (WINDOW_US + GRACE_US) / 1e6
OWN = rules(RewardRules({"click": 2.0, "leave": -3.0}, "sum", 0.5, -5.0, 5.0))


async def _record(
    ledger: Ledger, decision_id: str = "d1", own: DecisionRules = OWN, *, deferred: bool = False
) -> None:
    await ledger.record([decision(decision_id, rules=own.text(), deferred=deferred)], at())


async def _rewards(ledger: Ledger, seconds: float = DUE_S) -> list[float]:
    """Settle under other rules than the decisions', and return what they earned."""
    await settle_due(ledger, CAMPAIGN, RULES, 100, at(seconds))
    return [each.reward for each in await ledger.settlements(CAMPAIGN, 0, 100)]


async def test_decisions_settle_under_the_rules_they_were_made_with(ledger):
    """Weights, default and range are the decision's own, in one turn with others and those without any."""
    await _record(ledger, "mine")
    await _record(ledger, "silent")
    await _record(ledger, "other", rules(RewardRules({"click": 0.25}, "max", 0.0, 0.0, 1.0)))
    await ledger.record([decision("before", rules=NO_RULES)], at())
    for each in ("mine", "other", "before"):
        assert await ledger.receive([outcome(each)], at(1)) == [ACCEPTED]
    assert await _rewards(ledger) == [2.0, 0.5, 0.25, 0.1]


async def test_an_outcome_that_only_todays_file_declares_counts_as_that_says(ledger):
    """It counts with the weight it was accepted with, beside those of the decision's own rules."""
    await _record(ledger)
    assert await ledger.receive([outcome("d1", "purchase", weight=0.75)], at(1)) == [ACCEPTED]
    assert await ledger.receive([outcome("d1", "click", weight=9.0)], at(1)) == [ACCEPTED]
    assert await _rewards(ledger) == [2.75]


async def test_an_outcome_that_nothing_declares_is_refused_and_not_stored(ledger):
    """The error names those its decision was made with; an event id is not taken by it."""
    await _record(ledger)
    [refused] = await ledger.receive([outcome("d1", "clicked", weight=None, event_id="e")], at(1))
    assert isinstance(refused, InvalidField)
    assert "click, leave" in str(refused)
    assert await ledger.receive([outcome("d1", "click", weight=None, event_id="e")], at(1)) == [ACCEPTED]


async def test_an_activation_opens_the_window_of_the_decisions_own_rules(ledger):
    """Window, grace and what ends it at once are those it was made with, and not today's."""
    await _record(ledger, "d1", rules(window_us=60_000_000, grace_us=2_000_000), deferred=True)
    [opened] = await ledger.activate([activation("d1")], at(10))
    assert opened == Activated(at(70).wall_us, repeated=False, held=0)
    assert await ledger.oldest_due_service_us(CAMPAIGN) == at(72).service_us
    await _record(ledger, "d2", rules(ends_now=frozenset({"click"})), deferred=True)
    assert await ledger.receive([outcome("d2", "click")], at(10)) == [HELD]
    await ledger.activate([activation("d2", rules=None)], at(11))
    assert await ledger.oldest_due_service_us(CAMPAIGN) == at(11).service_us


@pytest.mark.parametrize("ends", [True, False])
async def test_what_ends_a_decision_is_what_its_rules_say(ledger, ends):
    """A file that became `on_settlement`, or is so no more, changes nothing for open decisions."""
    await _record(ledger, "d1", rules(ends_now=frozenset({"click"} if ends else ())))
    await ledger.receive([outcome("d1", "click", ends_now=not ends)], at(1))
    assert await ledger.oldest_due_service_us(CAMPAIGN) == at(1 if ends else DUE_S).service_us


async def test_a_campaign_that_is_not_served_takes_what_its_decisions_rules_take(ledger):
    """Nothing of today is asked for: outcomes, activations and settling go by what was stored."""
    await _record(ledger, "d1", deferred=True)
    assert await ledger.receive([outcome("d1", "leave", weight=None)], at(1)) == [HELD]
    assert isinstance((await ledger.activate([activation("d1", rules=None)], at(2)))[0], Activated)
    assert await settle_due(ledger, CAMPAIGN, None, 10, at(2 + DUE_S)) == Settled(1, 0, more=False)
    assert [each.reward for each in await ledger.settlements(CAMPAIGN, 0, 10)] == [-3.0]


async def test_without_any_rules_nothing_is_taken_and_nothing_is_learned(ledger):
    """One recorded before rules were kept, whose campaign is gone, ends void and without a sequence."""
    await ledger.record([decision("d1"), decision("p1", deferred=True)], at())
    [received] = await ledger.receive([outcome("d1", weight=None)], at(1))
    [activated] = await ledger.activate([activation("p1", rules=None)], at(1))
    assert isinstance(received, UnknownDecision)
    assert isinstance(activated, UnknownDecision)
    assert await settle_due(ledger, CAMPAIGN, None, 10, at(9_999)) == Settled(0, 2, more=False)
    assert await ledger.sequences(CAMPAIGN) == (0, 0)
    assert await ledger.pending(CAMPAIGN) == 0
    assert await ledger.receive([outcome("d1")], at(9_999)) == [LATE]
    assert await ledger.purge(CAMPAIGN, at(9_999).wall_us, 1 << 62, 10, at(9_999)) == 2


async def test_open_decisions_under_other_rules_are_counted(ledger):
    """Those that ended, those of the same rules, and those without any, are left out."""
    await _record(ledger, "same")
    for each, deferred in (("other", False), ("waiting", True), ("void", True)):
        await _record(ledger, each, rules(), deferred=deferred)
    await ledger.record([decision("before")], at())
    await ledger.activate([activation("void", shown_offer_id="bundle")], at(1))
    assert await ledger.under_other_rules(CAMPAIGN, OWN.text()) == 2
    assert await ledger.under_other_rules("unknown", OWN.text()) == 0


async def test_rules_are_found_word_for_word(ledger):
    """The record of a decision carries them, also when it is found again."""
    await _record(ledger)
    found = await ledger.find(CAMPAIGN, "d1")
    assert found is not None
    assert found.rules == OWN.text()


SHOWING = replace(OWN, shows=frozenset({"click"}))


async def test_an_outcome_that_shows_activates_a_decision_that_waits(ledger):
    """A click whose activation was lost opens the window now, counts, and so does what was held before it."""
    await _record(ledger, "d1", SHOWING, deferred=True)
    assert await ledger.receive([outcome("d1", "leave")], at(1)) == [HELD]
    [showed] = await ledger.receive([outcome("d1", "click")], at(10))
    opened = Activated(at(10).wall_us + SHOWING.window_us, repeated=False, held=1)
    assert showed == Showed(ACCEPTED, opened)
    assert (
        await ledger.oldest_due_service_us(CAMPAIGN)
        == at(10).service_us + SHOWING.window_us + SHOWING.grace_us
    )
    [again] = await ledger.activate([activation("d1")], at(11))
    assert again == replace(opened, repeated=True, held=0)
    rewards = SHOWING.rewards
    counted = [CountedOutcome(name, 1.0, 0, name) for name in ("leave", "click")]
    assert await _rewards(ledger, 10 + DUE_S) == [rewards.reward(counted).value]


async def test_a_decision_is_shown_once_and_by_what_is_new(ledger):
    """A repeat is a duplicate; one under a taken event id, or of what does not show, activates nothing."""
    await _record(ledger, "d1", SHOWING, deferred=True)
    assert await ledger.receive([outcome("d1", "leave", event_id="e")], at(1)) == [HELD]
    [refused] = await ledger.receive([outcome("d1", "click", event_id="e")], at(2))
    assert isinstance(refused, IdReused)
    assert await ledger.receive([outcome("d1", "leave")], at(3)) == [HELD]
    [showed] = await ledger.receive([outcome("d1", "click")], at(4))
    assert isinstance(showed, Showed)
    assert await ledger.receive([outcome("d1", "click")], at(5)) == [DUPLICATE]


async def test_an_outcome_shows_nothing_that_was_void_or_is_too_late(ledger):
    """What was shown instead, or not in time, stays as it is."""
    await _record(ledger, "void", SHOWING, deferred=True)
    await ledger.activate([activation("void", shown_offer_id="bundle")], at(1))
    await _record(ledger, "late", SHOWING, deferred=True)
    late_s = (ACTIVATION_WINDOW_US + GRACE_US) / 1e6
    assert await ledger.receive([outcome("void"), outcome("late")], at(late_s)) == [LATE, LATE]


async def test_an_outcome_that_ends_and_shows_is_due_at_once(ledger):
    """It activates, counts and settles."""
    ends = rules(ends_now=frozenset({"click"}), shows=frozenset({"click"}))
    await _record(ledger, "d1", ends, deferred=True)
    await ledger.receive([outcome("d1", "click")], at(10))
    assert await ledger.oldest_due_service_us(CAMPAIGN) == at(10).service_us
