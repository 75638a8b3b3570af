"""What became of every decision asked for and every outcome sent.

What always holds once a run has ended: asked = answered + refused, and
sent = accepted + duplicate + late + held + refused. `balanced` says so; an unbalanced run lost something.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

STATUSES = ("accepted", "duplicate", "late", "held", "refused")
"""The five ends an outcome can have."""


@dataclass(slots=True)
class Counts:
    """Filled by the driver while it runs."""

    decisions_asked: int = 0
    decisions_answered: int = 0
    decisions_refused: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """Answered decisions by reason."""
    shown: int = 0
    """Answered decisions whose offer was shown, with what came of it known."""
    unseen: int = 0
    """Deferred decisions whose offer nobody saw: never activated."""
    activations_asked: int = 0
    activations_refused: int = 0
    outcomes_sent: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """Sent outcomes by status."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Everything refused, by gRPC code."""
    first_refusal: str = ""
    """The first refusal in full, for the person who has to find out why."""
    retries: int = 0
    """Calls repeated, each with the same ids."""
    learner_followed: bool = True
    """False: the run waited for the model to learn what was reported, and gave up."""

    @property
    def fallbacks(self) -> int:
        """Decisions that were answered with a fallback."""
        return sum(count for reason, count in self.reasons.items() if reason.startswith("fallback"))

    @property
    def balanced(self) -> bool:
        """Every decision and every outcome has exactly one end."""
        decisions_ended = self.decisions_answered + self.decisions_refused
        outcomes_ended = sum(self.outcomes[status] for status in STATUSES)
        return (decisions_ended, outcomes_ended) == (self.decisions_asked, self.outcomes_sent)

    def refuse(self, code: str, message: str) -> None:
        """Count one refusal."""
        self.refusals[code] += 1
        self.first_refusal = self.first_refusal or message
