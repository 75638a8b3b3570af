"""Metrics of decisions, of the outcomes and activations reported of them, and of customers.

What holds: labels come from declared vocabularies only (campaigns, offers, outcomes, rules and the context
words of the campaign files, plus `other` and `unknown`); ids never label anything. Children are looked up
once and cached: the path of a decision only increments, and what it increments takes no lock (`fast.py`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.customer.customer import CustomerEventStatus
from tilbud.domain.decision.admission import REASONS as BAD_VALUES
from tilbud.domain.decision.eligibility import RULES
from tilbud.domain.decision.records import Decision, Reason
from tilbud.domain.decision.rewards import OutcomeStatus
from tilbud.telemetry import declared
from tilbud.telemetry.families import AT_USE, CONTEXT_LABELS, FAST_S, Families
from tilbud.telemetry.fast import FastCounter, FastHistogram

POLICY_EVERY = 8  # it tells a trend, and costs a logarithm for every offer
REASONS = {reason: reason.name.lower() for reason in Reason}
_SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0)
_SMALL_SHARES = (
    0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0,
)  # fmt: skip
_OUTCOMES = (*(status.name.lower() for status in OutcomeStatus), "orphan", "refused")
_ACTIVATIONS = ("activated", "void", "repeated", "refused")
_CUSTOMER_EVENTS = (*(status.name.lower() for status in CustomerEventStatus), "refused")


class _Turn:
    """Lets one decision in `POLICY_EVERY` of one campaign be observed, the first to begin with."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = 0

    def passes(self) -> bool:
        """Count a decision; return whether it is passed over."""
        passed_over = self._left > 0
        self._left = self._left - 1 if passed_over else POLICY_EVERY - 1
        return passed_over


@dataclass(slots=True)
class _Children:
    decisions: FastCounter
    context: FastCounter
    duration: FastHistogram
    drawn: FastHistogram
    entropy: FastHistogram
    smallest: FastHistogram
    turn: _Turn


class DecisionMetrics:
    """What is counted of decisions, and of what callers report."""

    def __init__(self, make: Families) -> None:
        self._decisions = make.fast_counters(
            "decisions",
            "Answered decisions, retries and dry runs left out",
            "campaign", "variant", "reason", "offer",
        )  # fmt: skip
        self._by_context = make.fast_counters(
            "context_decisions", f"Answered decisions by context; {AT_USE}", *CONTEXT_LABELS
        )
        self._excluded = make.fast_counters(
            "excluded_offers", "Offers a rule removed from a decision", "campaign", "rule"
        )
        self._dropped = make.fast_counters(
            "dropped_values",
            "Values of calls that a decision was made without, by why",
            "campaign", "field", "why",
        )  # fmt: skip
        self.sticky = make.fast_counters(
            "sticky_decisions", "Questions answered again with the customer's last decision", "campaign"
        )
        self.redecided = make.counter(
            "redecided_decisions", "Decisions made again since the customer changed meanwhile"
        )
        self._duration = make.fast_histograms(
            "decide_duration_seconds",
            "Seconds from question to recorded answer; in a batch, with its wait",
            FAST_S,
            "campaign",
        )
        self._make_probabilities(make)
        self._make_reports(make)
        self._children: dict[tuple[str, ...], _Children] = {}
        self._turns: defaultdict[str, _Turn] = defaultdict(_Turn)

    def _make_probabilities(self, make: Families) -> None:
        self._drawn = make.fast_histograms(
            "probability_drawn", "Probability of the drawn offer", _SHARES, "campaign", "variant"
        )
        self._entropy = make.fast_histograms(
            "policy_entropy_ratio",
            "Entropy of the probabilities over that of an even choice, of one decision in eight",
            (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), "campaign",
        )  # fmt: skip
        self._smallest = make.fast_histograms(
            "policy_probability_min",
            "Probability of the least likely eligible offer, of the same decisions",
            _SMALL_SHARES,
            "campaign",
        )

    def _make_reports(self, make: Families) -> None:
        self._outcomes = make.fast_counters(
            "outcomes",
            "Reported outcomes by status: accepted, duplicate, late, held, orphan, refused",
            "campaign", "outcome", "status",
        )  # fmt: skip
        self._released = make.fast_counters(
            "released_outcomes", "Held outcomes that began to count at activation", "campaign"
        )
        self._activations = make.fast_counters(
            "activations", "Activations: activated, void, repeated, refused", "campaign", "status"
        )
        self.customer_events = make.counter(
            "customer_events",
            "Reported customer events by status: accepted, duplicate, no_consent, refused",
            "status",
        )
        for status in _CUSTOMER_EVENTS:
            self.customer_events.labels(status)
        self.erasures = make.counter(
            "erasures", "Customers erased: known ones, and those of whom nothing was kept", "customer"
        )
        for customer in ("known", "unknown"):
            self.erasures.labels(customer)

    def decided(self, decision: Decision, seconds: float) -> None:
        """Count one answered decision that took `seconds`."""
        key = (decision.campaign, decision.variant, REASONS[decision.reason], decision.offer_id,
               decision.channel, decision.device, decision.journey_stage)  # fmt: skip
        children = self._children.get(key)
        if children is None:
            children = self._children[key] = self._children_of(key)
        children.decisions.inc()
        children.context.inc()
        children.duration.observe(seconds)
        if decision.drawn >= 0:
            children.drawn.observe(decision.probability)
            if decision.reason is Reason.PERSONALIZED and not children.turn.passes():
                children.entropy.observe(entropy_ratio(decision.probabilities))
                children.smallest.observe(min(decision.probabilities))

    def _children_of(self, key: tuple[str, ...]) -> _Children:
        campaign, variant = key[:2]
        return _Children(
            decisions=self._decisions.labels(*key[:4]),
            context=self._by_context.labels(campaign, variant, *key[4:]),
            duration=self._duration.labels(campaign),
            drawn=self._drawn.labels(campaign, variant),
            entropy=self._entropy.labels(campaign),
            smallest=self._smallest.labels(campaign),
            turn=self._turns[campaign],
        )

    def excluded(self, campaign: str, rule: str, offers: int) -> None:
        """Count offers that a rule removed from one decision."""
        self._excluded.labels(campaign, rule).inc(offers)

    def dropped(self, campaign: str, dropped: Mapping[str, str]) -> None:
        """Count what one decision was made without since it was sent wrongly; its fields are declared."""
        for name, why in dropped.items():
            if why in BAD_VALUES:
                self._dropped.labels(campaign, name, why).inc()

    def outcome(self, campaign: str, outcome: str, status: str) -> None:
        """Count one reported outcome; both names must be declared ones."""
        self._outcomes.labels(campaign, outcome, status).inc()

    def released(self, campaign: str, outcomes: int) -> None:
        """Count held outcomes that began to count."""
        self._released.labels(campaign).inc(outcomes)

    def activated(self, campaign: str, status: str) -> None:
        """Count one activation."""
        self._activations.labels(campaign, status).inc()

    def served(self, campaign: Campaign, contexts_max: int) -> None:
        """Begin at 0 all that a campaign may count; by context only where that is at most so many series."""
        name = campaign.campaign
        for variant, reason, offer in declared.answers(campaign):
            self._decisions.labels(name, variant, REASONS[reason], offer)
        for words in declared.contexts(campaign, contexts_max):
            self._by_context.labels(name, *words)
        for variant in declared.variants(campaign):
            self._drawn.labels(name, variant)
        for field_why in declared.dropped(campaign):
            self._dropped.labels(name, *field_why)
        for outcome, status in product(campaign.reward.outcomes, _OUTCOMES):
            self._outcomes.labels(name, outcome, status)
        self._outcomes.labels(name, "unknown", "refused")
        for rule in RULES:
            self._excluded.labels(name, rule)
        for status in _ACTIVATIONS:
            self._activations.labels(name, status)
        for counter in (self._released, self.sticky):
            counter.labels(name)
        for histogram in (self._duration, self._entropy, self._smallest):
            histogram.labels(name)

    def keep_offers(self, campaign: str, offers: Collection[str]) -> None:
        """Drop the series of a campaign's other offers."""
        self._decisions.keep_offers(campaign, offers)
        for key in [key for key in self._children if key[0] == campaign and key[3] not in offers]:
            del self._children[key]

    def forget(self, campaign: str) -> None:
        """Drop the series of a campaign that is served no more."""
        for family in (
            self._decisions, self._by_context, self._excluded, self._dropped, self._outcomes,
            self._activations, self._released, self.sticky,
        ):  # fmt: skip
            family.remove("campaign", campaign)
        for histogram in (self._duration, self._drawn, self._entropy, self._smallest):
            histogram.remove("campaign", campaign)
        for key in [key for key in self._children if key[0] == campaign]:
            del self._children[key]
        self._turns.pop(campaign, None)


def entropy_ratio(probabilities: Sequence[float]) -> float:
    """Return the entropy of `probabilities` over the logarithm of their number: 1 is an even choice."""
    if len(probabilities) < 2:  # noqa: PLR2004 - one offer leaves no choice
        return 1.0
    entropy = -math.fsum([p * math.log(p) for p in probabilities if p > 0.0])
    return entropy / math.log(len(probabilities))
