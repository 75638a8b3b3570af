"""Numbers as people write them."""

from __future__ import annotations


def exact_text(number: float) -> str:
    """Return a number with the digits that every float keeps, fifteen, and none that mean nothing: 0.1."""
    return f"{number:.15g}"
