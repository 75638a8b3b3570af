"""Where visitors and what they do come from: the synthetic shop, or logged randomised data.

The driver knows only `Source`. A source is asked for the context of question n, and later what came of
showing an offer there. `None` means that nobody knows: the shop has no truth about a fallback, the log
none about an offer that was not the one given. Such a decision is not activated and nothing is reported.

What always holds: both methods are pure, so a repeated question is the same request, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from tilbud.simulator.logged import Feature, LoggedData
from tilbud.simulator.shop import Shop
from tilbud.v1 import decisions_pb2

PURCHASE = "purchase"
LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened after an offer was shown."""

    name: str
    """As the campaign declares it; empty: nothing that the campaign wants to hear of."""
    reward: float
    """What it is worth to us, in the source's own unit."""
    value: float = 1.0
    """Reported with it."""


class Source(Protocol):
    """Questions, and what came of the answers."""

    @property
    def size(self) -> int | None:
        """How many questions there are; None: as many as wanted."""

    @property
    def deferred(self) -> bool:
        """Decisions are activated only once it is known what came of them."""

    @property
    def delay_decisions(self) -> int:
        """An outcome is reported after so many further decisions."""

    def context(self, number: int) -> decisions_pb2.Context:
        """The situation of question `number`."""

    def outcome(self, number: int, offer: str) -> Outcome | None:
        """What came of showing the offer there; None: nobody knows."""


@dataclass(frozen=True, slots=True)
class ShopSource:
    """Visitors of a synthetic shop; each visit ends in a purchase or a leave."""

    shop: Shop

    @property
    def size(self) -> int | None:
        return None

    @property
    def deferred(self) -> bool:
        return False

    @property
    def delay_decisions(self) -> int:
        return self.shop.config.delay_decisions

    def context(self, number: int) -> decisions_pb2.Context:
        visitor = self.shop.visitor(number)
        context = decisions_pb2.Context(
            device=visitor.device,
            channel=visitor.channel,
            journey_stage=visitor.journey_stage,
            time_zone="UTC",  # the shop's parts of day, whatever the campaign's own zone is
        )
        context.time.FromDatetime(visitor.time)
        return context

    def outcome(self, number: int, offer: str) -> Outcome | None:
        if not self.shop.knows(offer):
            return None
        buys = self.shop.buys(self.shop.visitor(number), offer)
        return Outcome(PURCHASE if buys else LEAVE, reward=float(buys))


@dataclass(frozen=True, slots=True)
class LoggedSource:
    """Rows of a randomised log; only the offer that was given has a known outcome.

    Keeping only rows where the drawn offer is the given one is rejection sampling (Li, Chu, Langford and
    Wang, 2011, "Unbiased offline evaluation of contextual-bandit-based news article recommendation
    algorithms", WSDM): unbiased because every offer was given with equal chance, whatever the row.
    """

    data: LoggedData
    channel: str
    """Sent with every question; empty: none."""
    positive: str
    """The outcome reported where the logged number is not 0; the number is its value."""
    negative: str
    """The outcome reported where it is 0; empty: none is, and the default reward counts."""

    @property
    def size(self) -> int | None:
        return len(self.data.rows)

    @property
    def deferred(self) -> bool:
        return True

    @property
    def delay_decisions(self) -> int:
        return 0

    def context(self, number: int) -> decisions_pb2.Context:
        row = self.data.rows[number]
        return decisions_pb2.Context(channel=self.channel, features=_feature_values(row.features))

    def outcome(self, number: int, offer: str) -> Outcome | None:
        row = self.data.rows[number]
        if offer != row.offer:
            return None
        if not row.outcome:
            return Outcome(self.negative, reward=0.0)
        return Outcome(self.positive, reward=row.outcome, value=row.outcome)


def _feature_values(features: Mapping[str, Feature]) -> dict[str, decisions_pb2.FeatureValue]:
    return {name: _feature_value(value) for name, value in features.items()}


def _feature_value(value: Feature) -> decisions_pb2.FeatureValue:
    if isinstance(value, bool):
        return decisions_pb2.FeatureValue(flag=value)
    if isinstance(value, float):
        return decisions_pb2.FeatureValue(number=value)
    return decisions_pb2.FeatureValue(category=value)
