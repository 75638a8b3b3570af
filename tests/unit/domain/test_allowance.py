"""An allowance is kept over any span of time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tilbud.domain.allowance import Allowance


@given(gaps_us=st.lists(st.integers(0, 3_000_000), max_size=60), at_once=st.integers(1, 5))
def test_no_span_sees_more_than_it_may(gaps_us: list[int], at_once: int) -> None:
    """In any span at most `at_once`, and two a second of it."""
    allowance, now_us, taken = Allowance(at_once=at_once, per_s=2.0), 0, []
    for gap_us in gaps_us:
        now_us += gap_us
        if allowance.take(now_us):
            taken.append(now_us)
    for first, start_us in enumerate(taken):
        for last, end_us in enumerate(taken[first:], 1):
            assert last <= at_once + (end_us - start_us) * 2e-6 + 1e-6


def test_what_was_used_up_comes_back() -> None:
    """All at once at first, then as fast as it may, and never more than all at once."""
    allowance = Allowance(at_once=2, per_s=1.0)
    assert [allowance.take(second * 1_000_000) for second in (0, 0, 0, 1, 1, 60, 60, 60)] == [
        True, True, False, True, False, True, True, False
    ]  # fmt: skip
