"""Durations and times of day as people write them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilbud.domain.durations import Hours, duration_text, parse_duration_us, parse_hours


@pytest.mark.parametrize(
    ("text", "expected_us"),
    [
        ("500ms", 500_000),
        ("10s", 10_000_000),
        ("30m", 1_800_000_000),
        ("12h", 43_200_000_000),
        ("7d", 604_800_000_000),
        ("0s", 0),
        (" 5s ", 5_000_000),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text, expected_us):
    """A whole number and a unit give microseconds."""
    assert parse_duration_us(text) == expected_us


@pytest.mark.parametrize(
    "text",
    ["", "30", "m", "1.5h", "-1s", "30 m", "1h30m", "1w", "1M", "٣m", "9999999999s", "5s\n5s", 30, None],
)
def test_what_is_no_duration_is_refused(text):
    """Anything else is a ValueError that shows how to write one."""
    with pytest.raises(ValueError, match="30m"):
        parse_duration_us(text)


@given(st.text())
def test_any_text_is_a_duration_or_a_value_error(text):
    """No text makes the parser fail otherwise than with ValueError."""
    with contextlib.suppress(ValueError):
        assert parse_duration_us(text) >= 0


@given(st.integers(0, 10**9), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_a_duration_is_told_as_it_can_be_written(number, unit):
    """What is told of a duration reads as the same duration."""
    duration_us = parse_duration_us(f"{min(number, 999_999_999)}{unit}")
    assert parse_duration_us(duration_text(duration_us)) == duration_us


@pytest.mark.parametrize(("text", "told"), [("24h", "1d"), ("90m", "90m"), ("1000ms", "1s"), ("0s", "0s")])
def test_a_duration_is_told_in_its_largest_unit(text, told):
    """A day is a day, however it was written."""
    assert duration_text(parse_duration_us(text)) == told


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("08:00-21:00", (480, 1259), (0, 479, 1260, 1439)),
        ("22:00-06:00", (1320, 1439, 0, 359), (360, 1319)),
        ("20:00-24:00", (1200, 1439), (0, 1199)),
        ("00:00-00:01", (0,), (1, 1439)),
        ("23:59-00:00", (1439,), (0, 1438)),
    ],
)
def test_hours_include_their_first_minute_and_not_their_last(text, inside, outside):
    """Hours hold from their first minute until before their last, also across midnight."""
    hours = parse_hours(text)
    assert all(hours.contains(minute) for minute in inside)
    assert not any(hours.contains(minute) for minute in outside)


@pytest.mark.parametrize(
    "text",
    ["", "8-21", "8:00-21:00", "08:00", "24:00-06:00", "08:00-24:30", "08:60-09:00", "08:00-25:00",
     "08:00-08:00", "00:00-24:00", "00:00-00:00", "08:00 - 21:00", "٠٨:00-21:00", 480, None],
)  # fmt: skip
def test_what_is_no_hours_is_refused(text):
    """Anything else, also hours that are empty or the whole day, is a ValueError."""
    with pytest.raises(ValueError, match=r"HH:MM|00:00"):
        parse_hours(text)


@given(st.integers(0, 1439), st.integers(0, 1439))
def test_hours_and_their_complement_share_the_day(start, end):
    """Every minute lies in exactly one of the hours from a to b and those from b to a."""
    if start == end:
        return
    hours, rest = Hours(start, end), Hours(end, start)
    assert all(hours.contains(minute) != rest.contains(minute) for minute in range(1440))
