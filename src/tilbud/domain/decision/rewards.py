"""Outcomes become a reward: which outcomes count, and what they are worth together.

The life of a decision, and what an outcome meets in it:

    PENDING ──activate──▶ ACTIVE ──due──▶ SETTLED        PENDING: HELD until it is activated
       │  └─another offer shown─▶ VOID ◀─┘               ACTIVE: ACCEPTED, or LATE after its window
       └──due──▶ EXPIRED                                 SETTLED, VOID, EXPIRED: LATE

What holds: each outcome counts at most once; the same outcomes give the same reward in whatever
order they came, and on whatever Python, since sums are rounded once; a reward lies within the
campaign's range. Who stores all this is `ledger/`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from tilbud.domain.campaign.campaign import RewardSection
from tilbud.domain.decision.records import State

_TINY = 2.0**-64  # no decision has as many outcomes


class OutcomeStatus(IntEnum):
    """What became of an outcome. The numbers are the contract's, and the ledger's."""

    ACCEPTED = 1
    DUPLICATE = 2
    LATE = 3
    HELD = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """Something that happened after a decision, checked against its campaign."""

    campaign: str
    decision_id: str
    outcome: str
    value: float
    event_id: str  # "": this outcome counts once
    occurred_us: int | None  # wall clock; None: the caller did not say
    ends_now: bool  # a final outcome of a campaign that learns on settlement
    weight: float | None  # in today's campaign file; None: it does not declare it

    @property
    def key(self) -> str:
        """What makes it the same outcome again: its event id, or its name where it has none."""
        return f"e:{self.event_id}" if self.event_id else f"o:{self.outcome}"

    def same_as(self, outcome: str, value: float) -> bool:
        """Say whether a stored outcome under the same key is this one (an unkeyed one always is)."""
        return not self.event_id or (outcome == self.outcome and value == self.value)


def receive(
    state: State,
    closes_service_us: int,
    due_service_us: int,
    occurred_service_us: int | None,
    now_service_us: int,
) -> OutcomeStatus:
    """Return what an outcome meets that comes at `now_service_us` (never DUPLICATE: the store says that).

    An outcome without a time counts while it arrives before the decision is due.
    """
    if state in (State.SETTLED, State.VOID, State.EXPIRED) or now_service_us >= due_service_us:
        return OutcomeStatus.LATE
    if state is State.PENDING:
        return OutcomeStatus.HELD
    if occurred_service_us is not None and occurred_service_us > closes_service_us:
        return OutcomeStatus.LATE
    return OutcomeStatus.ACCEPTED


@dataclass(frozen=True, slots=True)
class CountedOutcome:
    """An accepted outcome as the ledger gives it back."""

    outcome: str
    value: float
    time_us: int
    key: str
    weight: float | None = None  # where its decision's rules do not name it: what it was accepted with


@dataclass(frozen=True, slots=True)
class Reward:
    """A final reward; `clipped` says that the outcomes were worth more, or less, than the range."""

    value: float
    clipped: bool


@dataclass(frozen=True, slots=True)
class RewardRules:
    """What outcomes are worth together."""

    weights: Mapping[str, float]
    aggregate: str
    default: float
    low: float
    high: float

    @classmethod
    def of(cls, section: RewardSection) -> RewardRules:
        """Return the rules a campaign file declares."""
        weights = {name: rule.weight for name, rule in section.outcomes.items()}
        return cls(weights, section.aggregate, section.default, *section.range)

    def reward(self, outcomes: Iterable[CountedOutcome]) -> Reward:
        """Return weight × value, aggregated in order of (time, key) and clipped to the range.

        No outcome, or none that has a weight: the default. `max` over negative contributions is the largest
        of them, not the default.
        """
        contributions = [
            weight * outcome.value
            for outcome in sorted(outcomes, key=lambda outcome: (outcome.time_us, outcome.key))
            if (weight := self.weights.get(outcome.outcome, outcome.weight)) is not None
        ]
        if not contributions:
            return Reward(self.default, clipped=False)
        total = _exact_sum(contributions) if self.aggregate == "sum" else max(contributions)
        if total != total:  # noqa: PLR0124 - opposite infinities of overflowing products
            return Reward(self.default, clipped=True)
        value = min(max(total, self.low), self.high)
        return Reward(value, clipped=value != total)

    def cost(self, reward: float) -> float:
        """Return the cost VW learns, in [0, 1] whatever the campaign's unit: (high − r) / (high − low)."""
        return (self.high - min(max(reward, self.low), self.high)) / (self.high - self.low)


def _exact_sum(contributions: Sequence[float]) -> float:
    """Return the sum, rounded once as `sum` is on no Python before 3.12; NaN for opposite infinities."""
    try:
        return math.fsum(contributions)
    except OverflowError:  # on the way, or in the end: halved so often that it is neither
        return math.fsum(value * _TINY for value in contributions) / _TINY
    except ValueError:
        return math.nan
