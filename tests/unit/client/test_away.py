"""A service that is away is not waited for by every call."""

from __future__ import annotations

import pytest

from tilbud.client.away import Away
from tilbud.client.refusals import Refusal

GONE = Refusal("DEADLINE_EXCEEDED", ["no answer"])


def _asks(away: Away, now_s: float) -> bool:
    try:
        away.check(now_s)
    except Refusal as rests:
        assert rests.later
        return False
    return True


@pytest.fixture
def away() -> Away:
    """Five calls in a row were not answered, at 10 s."""
    made = Away()
    for _ in range(5):
        assert _asks(made, 10.0)
        made.refused(GONE, 10.0)
    return made


def test_calls_rest_and_one_at_a_time_asks_again(away: Away) -> None:
    """Half a second; then one call asks for all, and the others rest on."""
    assert not _asks(away, 10.4)
    assert _asks(away, 10.6)
    assert not _asks(away, 10.7)
    away.refused(GONE, 10.8)
    assert _asks(away, 11.2)


def test_the_first_answer_ends_the_rest(away: Away) -> None:
    """All calls ask again."""
    assert _asks(away, 10.6)
    away.answered()
    assert _asks(away, 10.6)
    assert _asks(away, 10.6)


def test_who_refuses_a_wrong_question_is_there(away: Away) -> None:
    """A caller's mistake says nothing against the service."""
    away.refused(Refusal("NOT_FOUND", ["no such campaign"]), 10.1)
    assert _asks(away, 10.2)


def test_failures_between_answers_are_no_outage() -> None:
    """Only those in a row count."""
    away = Away()
    for _ in range(20):
        away.refused(GONE, 0.0)
        away.answered()
    assert _asks(away, 0.0)
