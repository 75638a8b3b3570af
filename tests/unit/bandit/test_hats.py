"""Numbers as a regression reads them."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.bandit.samples import LIMITS

from tilbud.bandit.hats import HOUR_KNOTS, KNOTS, Feature, Hats, hour_of_day, octaves

ANY = st.floats(-LIMITS.number_abs_max, LIMITS.number_abs_max)
ENOUGH = LIMITS.knots_of_values


def taught(values: list[float]) -> Hats:
    """What is known when these were seen, of number 7."""
    hats = Hats()
    for value in values:
        hats.see([(7, value)])
    return hats


@given(value=ANY, seen=st.lists(ANY, min_size=1, max_size=20))
def test_a_number_has_one_or_two_features_that_sum_to_one(value, seen):
    """Whatever was seen and whatever is read, values lie in (0, 1], sum to 1, and indexes have 48 bits."""
    for hats in (Hats(), taught(seen * ENOUGH)):
        features = hats.read(7, value)
        assert 1 <= len(features) <= 2
        assert sum(share for _, share in features) == pytest.approx(1.0, abs=1e-5)
        assert all(0.0 < share <= 1.0 and 0 <= index < 1 << 48 for index, share in features)


@given(value=ANY, name=st.integers(0, (1 << 48) - 2))
def test_equal_places_of_two_numbers_are_two_features(value, name):
    """A feature belongs to one number: another's of the same value is another."""
    assert not {index for index, _ in octaves(name, value)} & {index for index, _ in octaves(name + 1, value)}


@pytest.mark.parametrize(
    ("one", "other"), [(0.0, 3.0), (-3.0, 3.0), (10.0, 1000.0), (1e-9, 1e9), (-1e30, -1e3)]
)
def test_with_nothing_known_sizes_and_signs_are_told_apart(one, other):
    """Numbers that differ in sign or by a factor have no feature in common from the first on."""
    assert not {index for index, _ in octaves(7, one)} & {index for index, _ in octaves(7, other)}


@pytest.mark.parametrize(
    "two",
    [
        (1985.0, 2005.0),
        (55.6, 57.0),
        (1_790_000_000.0, 1_792_592_000.0),
        (-3.0, 3.0),
        (0.2, 0.3),
        (0.0, 1e-9),
    ],
)
def test_two_values_are_told_apart_once_they_were_seen(two):
    """However little two numbers differ, each is a knot of its own when enough were seen."""
    hats = taught([two[number % 2] for number in range(ENOUGH)])
    [[one, _]], [[other, _]] = hats.read(7, two[0]), hats.read(7, two[1])
    assert one != other


def alike(one: list[Feature], other: list[Feature]) -> float:
    """How much two places have in common: 1 where they are one."""
    shares = dict(other)
    return sum(min(share, shares.get(index, 0.0)) for index, share in one)


def test_midnight_divides_no_hours():
    """23:00 is as near to 01:00 as 02:00 to 04:00; what is six hours apart has nothing in common."""
    for one, other in ((23.0, 1.0), (2.0, 4.0), (20.0, 22.0)):
        assert alike(hour_of_day(7, one), hour_of_day(7, other)) == pytest.approx(2 / 3)
    assert all(alike(hour_of_day(7, hour), hour_of_day(7, (hour + 6.0) % 24)) == 0.0 for hour in range(24))


@given(hour=ANY)
@example(hour=-1e-300)
@example(hour=24.0)
def test_whatever_is_called_an_hour_has_a_place_on_the_clock(hour):
    """A number from a damaged ledger too lies between two of the day's knots, and its shares sum to 1."""
    knots = {index for each in range(24) for index, _ in hour_of_day(7, float(each))}
    assert len(knots) == HOUR_KNOTS
    features = hour_of_day(7, hour)
    assert {index for index, _ in features} <= knots
    assert sum(share for _, share in features) == pytest.approx(1.0, abs=1e-5)


def test_knots_are_quantiles_of_what_was_seen():
    """Of evenly spread years each eighth gets hats of its own; beyond the ends the last knot stands."""
    years = [1940.0 + 70 * number / ENOUGH for number in range(ENOUGH)]
    random.Random(1).shuffle(years)
    hats = taught(years)
    used = {index for year in range(1940, 2010) for index, _ in hats.read(7, float(year))}
    assert len(used) == KNOTS
    assert hats.read(7, 1900.0) == hats.read(7, 1940.0)
    assert hats.read(7, 1e30) == hats.read(7, max(years))


def test_equal_values_alone_are_one_knot():
    """A number that is always the same is one feature, and no division by 0."""
    hats = taught([5.0] * 3 * ENOUGH)
    assert hats.read(7, 5.0) == hats.read(7, 4.0) == hats.read(7, 6.0)


def test_knots_follow_a_number_that_runs_away():
    """Of a clock, whose values all come to lie beyond the knots, there are new knots; old values lie low."""
    now = 1_790_000_000.0
    hats = taught([now + second for second in range(ENOUGH)])
    first = hats.read(7, now + 50)
    later = [now + 1e6 + 60 * minute for minute in range(LIMITS.knots_judged_after)]
    for value in later:
        hats.see([(7, value)])
    assert hats.read(7, later[300]) != hats.read(7, later[900])
    assert hats.read(7, now + 50) != first


def test_knots_stay_where_most_values_lie_within():
    """One value in three beyond the knots moves none."""
    generator = random.Random(3)
    hats = taught([generator.uniform(0, 100) for _ in range(ENOUGH)])
    before = [hats.read(7, float(value)) for value in range(0, 200, 7)]
    for number in range(5 * LIMITS.knots_judged_after):
        hats.see([(7, 150.0 if number % 3 == 0 else generator.uniform(5, 95))])
    assert [hats.read(7, float(value)) for value in range(0, 200, 7)] == before


@given(seen=st.lists(ANY, max_size=30), more=st.lists(ANY, max_size=30), times=st.integers(1, 60))
def test_state_is_all_there_is(seen, more, times):
    """Taken down as JSON and taken up again, hats read and go on as if nothing had been."""
    straight = taught(seen * times)
    again = Hats.of(json.loads(json.dumps(straight.state())))
    for hats in (straight, again):
        hats.see([(7, value) for value in more] + [(8, 1.0)])
    assert again.state() == straight.state()
    assert [again.read(7, value) for value in seen + more] == [
        straight.read(7, value) for value in seen + more
    ]


def test_what_is_kept_is_bounded():
    """A million numbers under two hundred names are not kept: so many names by so many values."""
    hats = Hats()
    for number in range(100_000):
        hats.see([(number % 200, float(number))])
    state = hats.state()
    assert len(state) == LIMITS.features_max
    assert max(len(values) for values, *_ in state.values()) <= LIMITS.knots_judged_after
