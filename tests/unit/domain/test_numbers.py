"""Numbers are shown as people write them."""

from __future__ import annotations

import pytest

from tilbud.domain.numbers import exact_text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.1, "0.1"), (0.1 + 0.2, "0.3"), (1_250_000.0, "1250000"), (1_234_567.89, "1234567.89"), (-2.0, "-2")],
)
def test_a_number_is_shown_as_it_was_written(number: float, text: str) -> None:
    """No digit that was written is lost, and none is added by what floats are."""
    assert exact_text(number) == text
