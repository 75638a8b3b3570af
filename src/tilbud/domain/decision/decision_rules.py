"""The reward rules a decision was made with, as they are kept beside it.

What holds: what may be reported of a decision, how long, and what it is worth, is settled when it is made: a
campaign file that changes afterwards changes nothing of it. An outcome the rules do not name, and today's
file does, counts as today's file says. Rules have one text, whatever the order of the file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache

from tilbud.domain.campaign.sections import RewardSection
from tilbud.domain.decision.records import NO_RULES, InternedText
from tilbud.domain.decision.rewards import Outcome, RewardRules
from tilbud.domain.errors import LedgerInvalid, UndeclaredOutcome
from tilbud.domain.limits import Limits


@dataclass(frozen=True, slots=True)
class DecisionRules:
    """What outcomes of a decision are worth, what they bring about, and how long it waits for them."""

    rewards: RewardRules
    final: frozenset[str]
    learn: str  # at_deadline | on_settlement
    window_us: int
    activation_window_us: int
    grace_us: int
    shows: frozenset[str] = frozenset()  # outcomes that activate a decision

    @classmethod
    def of(cls, section: RewardSection) -> DecisionRules:
        """Return the rules a campaign file declares."""
        return cls(
            rewards=RewardRules.of(section),
            final=frozenset(name for name, rule in section.outcomes.items() if rule.final),
            learn=section.learn,
            window_us=section.window_us,
            activation_window_us=section.activation_window_us,
            grace_us=section.grace_us,
            shows=frozenset(name for name, rule in section.outcomes.items() if rule.shows),
        )

    @property
    def ends_now(self) -> frozenset[str]:
        """The outcomes that settle a decision at once."""
        return self.final if self.learn == "on_settlement" else frozenset()

    def text(self) -> InternedText:
        """Return the rules as they are kept."""
        rewards = self.rewards
        return InternedText.of(
            json.dumps(
                {
                    "weights": dict(rewards.weights),
                    "aggregate": rewards.aggregate,
                    "default": rewards.default,
                    "range": [rewards.low, rewards.high],
                    "final": sorted(self.final),
                    "learn": self.learn,
                    "window_us": self.window_us,
                    "activation_window_us": self.activation_window_us,
                    "grace_us": self.grace_us,
                    **({"shows": sorted(self.shows)} if self.shows else {}),
                },
                separators=(",", ":"),
                sort_keys=True,
                ensure_ascii=False,
                allow_nan=False,
            )
        )

    def agreed(self, outcome: Outcome) -> Outcome | UndeclaredOutcome:
        """Return an outcome as these rules take it; an error where nothing declares it."""
        if outcome.outcome in self.rewards.weights:
            return replace(outcome, weight=None, ends_now=outcome.outcome in self.ends_now)
        return outcome if outcome.weight is not None else UndeclaredOutcome(self.rewards.weights)


@lru_cache(maxsize=Limits.decision_rules_cached_max)
def parse_rules(text: InternedText) -> DecisionRules | None:
    """Return the rules of a text that `DecisionRules.text` made, None of NO_RULES; raises LedgerInvalid."""
    if text == NO_RULES:
        return None
    try:
        fields = json.loads(text.body)
        low, high = fields["range"]
        weights = {str(name): float(weight) for name, weight in fields["weights"].items()}
        return DecisionRules(
            rewards=RewardRules(weights, str(fields["aggregate"]), float(fields["default"]), low, high),
            final=frozenset(fields["final"]),
            learn=str(fields["learn"]),
            window_us=int(fields["window_us"]),
            activation_window_us=int(fields["activation_window_us"]),
            grace_us=int(fields["grace_us"]),
            shows=frozenset(fields.get("shows", ())),
        )
    except (ValueError, TypeError, LookupError, AttributeError):
        raise LedgerInvalid("the reward rules of a recorded decision are damaged: restore a backup") from None
