"""Campaigns and contexts for the tests of the domain; a test says only what its promise is about."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.context import Context, ContextInput, read_context
from tilbud.domain.limits import Limits

LIMITS = Limits()
NOON_US = 1_793_534_400_000_000  # Sunday 2026-11-01, 12:00 UTC


def campaign(*offers: dict[str, Any], **said: Any) -> Campaign:
    """Return a campaign with these offers, or with two that have no rules."""
    written: dict[str, Any] = {
        "campaign": "c",
        "context": {"features": {"tier": "category", "basket": "number", "returning": "flag"}},
        "offers": list(offers) or [{"id": "a"}, {"id": "b"}],
        "reward": {"outcomes": {"click": 1}},
        "consent": "not_required",
    }
    return Campaign.model_validate({**written, **said})


def context(home: Campaign | None = None, *, consented: bool = True, **said: Any) -> Context:
    """Read what a caller said, at noon UTC unless they said when, for a campaign."""
    vocabulary = (home or campaign()).vocabulary()
    return read_context(ContextInput(**said), vocabulary, NOON_US, LIMITS, consented=consented)


def utc(text: str) -> int:
    """Return the microseconds of an ISO time without a zone, read as UTC."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1e6)
