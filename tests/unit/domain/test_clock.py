"""The steady clock is the wall clock, but for its jumps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilbud.domain.clock import Now, SteadyClock

S = 1_000_000
DAY = 86_400 * S
WALL = 1_800_000_000 * S


def steady(last_us: int | None = None) -> SteadyClock:
    """Return a clock as a service has it."""
    return SteadyClock(tolerance_us=60 * S, accepted_after_us=DAY, away_max_us=DAY, last_us=last_us)


def test_it_follows_the_wall_clock() -> None:
    """Also where that is slewed by less than the tolerance between two readings."""
    clock = steady()
    for second in range(0, 10_000, 10):
        wall_us = WALL + second * S + second * 1_000  # 0.1 % fast
        assert clock.read(wall_us, second * S) == wall_us


@given(jump_s=st.integers(61, 10**9) | st.integers(-(10**9), -61), for_s=st.integers(1, 86_399))
def test_a_jump_that_is_taken_back_moves_nothing(jump_s: int, for_s: int) -> None:
    """While the wall clock is wrong it goes on as before, and afterwards it is the wall clock again."""
    clock = steady()
    clock.read(WALL, 0)
    for second in (1, for_s):
        assert clock.read(WALL + (second + jump_s) * S, second * S) == WALL + second * S
    after = for_s + 1
    assert clock.read(WALL + after * S, after * S) == WALL + after * S


def test_a_time_that_the_wall_clock_keeps_to_is_accepted() -> None:
    """After a day at one new time; a second jump meanwhile begins the day anew."""
    clock, ahead = steady(), 3_600 * S
    clock.read(WALL, 0)
    assert clock.read(WALL + ahead, 0) == WALL
    assert clock.read(WALL + 2 * ahead + DAY // 2, DAY // 2) == WALL + DAY // 2
    assert clock.read(WALL + 2 * ahead + DAY, DAY) == WALL + DAY
    assert clock.read(WALL + 2 * ahead + 3 * DAY // 2, 3 * DAY // 2) == WALL + 2 * ahead + 3 * DAY // 2


@pytest.mark.parametrize(
    ("away_us", "believed"),
    [(0, True), (5 * S, True), (DAY, True), (DAY + S, False), (1_000 * DAY, False), (-DAY, False)],
)
def test_a_start_far_from_the_stop_is_a_jump(away_us: int, believed: bool) -> None:
    """Up to a day away is as it is; what lies further off, or before, is held until it was kept to."""
    clock = steady(last_us=WALL)
    assert clock.read(WALL + away_us, 7) == (WALL + away_us if believed else WALL)
    assert clock.read(WALL + away_us + DAY, DAY + 7) == WALL + away_us + DAY


def test_a_reading_tells_how_far_the_wall_clock_jumped() -> None:
    """Nothing where nobody says otherwise."""
    assert Now(10, 1).jumped_us == 0
    assert Now(10, 1, steady_us=4).jumped_us == 6
