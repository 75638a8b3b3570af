"""What a customer's last times and exposures are stored under, alike in every adapter.

What holds: a mark is a kind and names, with ":" between: all marks of a campaign, or of an offer,
lie side by side; no id has ":" in it.
"""

from __future__ import annotations

from tilbud.domain.errors import InvalidField
from tilbud.domain.limits import Limits

EVENT, OUTCOME, STICKY = "e:", "s:", "d:"  # what `latest` has the time of
OFFER = "o:"  # what begins as an `offer_scope` does
RESERVED_US = 2**62  # the time of an exposure that waits for its activation: after any
_END = ";"  # follows ":", which neither a campaign's nor an offer's id has


def event_mark(event: str) -> str:
    """Return what the last time of an event is stored under."""
    return f"{EVENT}{event}"


def outcome_mark(campaign: str, offer_id: str, outcome: str) -> str:
    """Return what the last time of an outcome of an offer is stored under."""
    return f"{OUTCOME}{campaign}:{offer_id}:{outcome}"


def sticky_mark(campaign: str) -> str:
    """Return what a customer's last sticky decision in a campaign is stored under."""
    return f"{STICKY}{campaign}"


def span(prefix: str) -> tuple[str, str]:
    """Return from where, and until before where, all that begins with `prefix` (it ends in ":") lies."""
    return prefix, prefix[:-1] + _END


def exposed_campaign(scope: str) -> str:
    """Return the campaign of an offer's scope."""
    return scope.split(":")[1]


def one_event_too_many(limits: Limits) -> InvalidField:
    """Return the error for an event that would make too many different ones of a customer."""
    return InvalidField("event", f"at most {limits.customer_events_max} different ones of one customer")
