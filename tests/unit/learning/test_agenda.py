"""Which campaigns a turn looks at, by where they stand and what time it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilbud.learning.agenda import Agenda
from tilbud.ledger.answers import Standing


@dataclass(frozen=True)
class _Served:
    """A campaign of which nothing but the name is asked."""

    id: str
    models: Any = None
    reward_rules: Any = None


CAMPAIGNS = tuple(_Served(name) for name in "abc")
OPEN = Standing(open=1, due_service_us=100)


def _names(agenda: Agenda, standings: dict[str, Standing], now_us: int = 0) -> list[str]:
    return [campaign.id for campaign in agenda.look_at(standings, now_us)]


def _with_nothing_to_do(standings: dict[str, Standing]) -> Agenda:
    agenda = Agenda()
    agenda.serve(CAMPAIGNS)
    for name in _names(agenda, standings):
        agenda.done(name)
    return agenda


def test_every_campaign_is_looked_at_until_it_is_done() -> None:
    """At first all of them; who is not done comes again."""
    agenda = Agenda()
    assert set(agenda.serve(CAMPAIGNS)) == {"a", "b", "c"}
    assert _names(agenda, {}) == ["a", "b", "c"]
    agenda.done("b")
    assert _names(agenda, {}) == ["a", "c"]


def test_a_standing_that_changed_is_looked_at() -> None:
    """That campaign alone, and until it is done again."""
    agenda = _with_nothing_to_do({"a": OPEN, "b": OPEN})
    assert _names(agenda, {"a": OPEN, "b": OPEN}) == []
    for changed in (Standing(1), Standing(1, 1), OPEN):
        assert _names(agenda, {"a": OPEN, "b": changed}) == ["b"]
        agenda.done("b")
    assert _names(agenda, {"a": OPEN, "b": OPEN, "c": Standing(1)}) == ["c"]


def test_what_falls_due_is_looked_at_at_that_moment() -> None:
    """Where a standing says when, and though nobody committed; not a microsecond before."""
    agenda = _with_nothing_to_do({"a": OPEN, "b": Standing(5)})
    standings = {"a": OPEN, "b": Standing(5)}
    assert _names(agenda, standings, 99) == []
    assert _names(agenda, standings, 100) == ["a"]


def test_campaigns_that_are_not_served_are_not_looked_at() -> None:
    """Whatever changed or is due of them."""
    agenda = _with_nothing_to_do({"gone": OPEN})
    assert _names(agenda, {"gone": Standing(1, due_service_us=1)}, 100) == []


def test_others_that_are_served_are_all_looked_at() -> None:
    """A file that was loaded again has another model; so has one that is new."""
    agenda = _with_nothing_to_do({})
    agenda.serve(CAMPAIGNS)
    assert _names(agenda, {}) == []
    agenda.serve((_Served("a"), *CAMPAIGNS[1:], _Served("d")))
    assert _names(agenda, {}) == ["a", "b", "c", "d"]


def test_all_are_looked_at_where_nobody_can_say_where_they_stand() -> None:
    """And again afterwards, until they are done."""
    agenda = _with_nothing_to_do({})
    assert agenda.look_at_all() == CAMPAIGNS
    assert _names(agenda, {}) == ["a", "b", "c"]
