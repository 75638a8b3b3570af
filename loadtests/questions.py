"""Who asks in the benchmarks: strangers, customers who come by Zipf's law, and one whom many calls name.

What holds: the same kind, count and turn give the same questions, drawn with the benchmarks' seed. It knows
of no server. The campaign that takes them is `everyday_campaign`; no rule of it counts anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arriving import Message, Seconds
from serving import CAMPAIGN, DECIDE, QUESTION, REPORT_OUTCOME, SEED, offers_campaign
from tilbud.v1 import decisions_pb2 as pb

CUSTOMERS = 10_000
GUEST = "guest"
"""A word that many callers send for customers whom they do not know."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Shares of who asks, and whether each call has two declared features; the rest are other customers."""

    name: str
    strangers: float = 0.0
    guests: float = 0.0
    customers: int = CUSTOMERS
    features: bool = True


STRANGERS = Kind("strangers", strangers=1.0, features=False)
FEATURES = Kind("strangers, two features", strangers=1.0)
EVERYDAY = Kind("the everyday mix", strangers=0.2, guests=0.05)
FEW = Kind("32 customers", customers=32)
ONE = Kind("one customer", guests=1.0)
KINDS = (STRANGERS, FEATURES, EVERYDAY, FEW, ONE)
HALF = Kind("half of them known", strangers=0.5)


def everyday_campaign(offers: int, window: str = "1d") -> str:
    """Return `offers_campaign` with two declared features."""
    features = "context: {features: {basket_value: number, returning: flag}}\n"
    return offers_campaign(offers, window=window) + features


def questions(kind: Kind, count: int, turn: int = 0) -> list[pb.DecideRequest]:
    """Return so many questions of a kind, others in each turn."""
    generator = np.random.default_rng((SEED, turn))
    weights = 1 / np.arange(1, kind.customers + 1)
    ranks = generator.choice(kind.customers, count, p=weights / weights.sum())
    who = generator.random(count)
    baskets = generator.integers(1, 500, count)
    asked = []
    for rank, share, basket in zip(ranks, who, baskets, strict=True):
        question = pb.DecideRequest()
        question.CopyFrom(QUESTION)
        if kind.features:
            question.context.features["basket_value"].number = float(basket)
            question.context.features["returning"].flag = bool(basket % 2)
        if share >= kind.strangers:
            question.customer_id = GUEST if share < kind.strangers + kind.guests else f"customer-{rank}"
            question.consent = pb.CONSENT_GRANTED
        asked.append(question)
    return asked


def decisions(kind: Kind, count: int, turn: int = 0) -> list[Message]:
    """Return so many calls of Decide."""
    return [(DECIDE, question.SerializeToString()) for question in questions(kind, count, turn)]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Calls in the order in which they are due, and which of them decide."""

    messages: list[Message]
    due_s: Seconds
    decides: np.ndarray[tuple[int], np.dtype[np.bool_]]

    @property
    def outcomes(self) -> int:
        """Return how many calls report one."""
        return int(len(self.decides) - self.decides.sum())


def with_outcomes(
    kind: Kind, due_s: Seconds, turn: int, *, share: float = 0.5, after_s: float = 0.3
) -> Traffic:
    """Return decisions due at these times, and an outcome for a share of them, so long after each."""
    asked = questions(kind, len(due_s), turn)
    reported = np.random.default_rng((SEED, turn, 1)).random(len(due_s)) < share
    messages: list[Message] = []
    for number, question in enumerate(asked):
        question.decision_id = f"d-{turn}-{number}"
        messages.append((DECIDE, question.SerializeToString()))
    for number in np.flatnonzero(reported).tolist():
        outcome = pb.ReportOutcomeRequest(
            campaign=CAMPAIGN, decision_id=f"d-{turn}-{number}", outcome="click"
        )
        messages.append((REPORT_OUTCOME, outcome.SerializeToString()))
    every_s = np.concatenate([due_s, due_s[reported] + after_s])
    order = np.argsort(every_s, kind="stable")
    decides = order < len(due_s)
    return Traffic([messages[place] for place in order], every_s[order], decides)


def batches(asked: Sequence[pb.DecideRequest], size: int) -> list[bytes]:
    """Return questions as messages of BatchDecide, so many in each."""
    return [
        pb.BatchDecideRequest(requests=asked[first : first + size]).SerializeToString()
        for first in range(0, len(asked), size)
    ]
