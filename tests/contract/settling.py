"""When decisions of these suites fall due, and settling them."""

from __future__ import annotations

from tests.builders import (
    ACTIVATION_WINDOW_US,
    CAMPAIGN,
    GRACE_US,
    RULES,
    WINDOW_US,
    at,
    settle_due,
)

from tilbud.ledger.answers import Settled
from tilbud.ledger.ports import Ledger

CLOSED_S = WINDOW_US / 1e6
DUE_S = (WINDOW_US + GRACE_US) / 1e6
EXPIRED_S = (ACTIVATION_WINDOW_US + GRACE_US) / 1e6


async def settle(
    ledger: Ledger, seconds: float = DUE_S, limit: int = 1_000, campaign: str = CAMPAIGN
) -> Settled:
    """Settle what is due some seconds after the start."""
    return await settle_due(ledger, campaign, RULES, limit, at(seconds))


async def settled_ids(ledger: Ledger, campaign: str = CAMPAIGN) -> list[str]:
    """Return the ids of settled decisions, in order of sequence."""
    return [each.decision_id for each in await ledger.settlements(campaign, 0, 10_000)]
