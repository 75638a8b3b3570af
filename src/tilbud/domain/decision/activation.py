"""A deferred decision's offer was shown: what is reported, and what comes of it. Plain values."""

from __future__ import annotations

from dataclasses import dataclass

from tilbud.domain.decision.decision_rules import DecisionRules


@dataclass(frozen=True, slots=True)
class Activation:
    """A deferred decision's offer was shown."""

    campaign: str
    decision_id: str
    shown_offer_id: str  # "": the decision's own
    rules: DecisionRules | None  # the served campaign's, for a decision without its own; None: not served


@dataclass(frozen=True, slots=True)
class Activated:
    """The decision's window; `deadline_us` is wall time, None where the decision is void.

    `held` is how many held outcomes count from now on; 0 when the activation was a repeat.
    """

    deadline_us: int | None
    repeated: bool
    held: int
