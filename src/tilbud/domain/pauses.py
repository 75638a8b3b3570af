"""Pauses: of an offer or a campaign, why, and until when.

What holds: a pause counts from the moment it is acknowledged, in every process, also after a restart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

WHOLE_CAMPAIGN = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """An offer that is paused, or the whole campaign (offer_id ""); wall clock, µs."""

    campaign: str
    offer_id: str
    reason: str
    since_us: int
    until_us: int | None  # None: until it is resumed

    def holds(self, now_us: int) -> bool:
        """Say whether it holds at this time."""
        return self.until_us is None or now_us < self.until_us


def paused(pauses: Iterable[Pause], now_us: int) -> frozenset[str]:
    """Return the offers that are paused now; WHOLE_CAMPAIGN among them where all is."""
    return frozenset([pause.offer_id for pause in pauses if pause.holds(now_us)])
