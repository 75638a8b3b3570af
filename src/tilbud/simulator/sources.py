"""Where visitors and what they do come from: an invented world, or logged randomised data.

The driver knows only `Source`. A source is asked for question n, and later what came of showing an offer
there. `None` means that nobody knows: a world has no truth about a fallback, the log none about an offer
that was not the one given. Such a decision is not activated and nothing is reported. Of a `World` it is
known besides what every answer is worth.

What always holds: all methods are pure, so a repeated question is the same request, byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tilbud.client.questions import feature_values
from tilbud.simulator.logged import LoggedData
from tilbud.simulator.shop import Shop
from tilbud.v1 import customers_pb2, decisions_pb2

PURCHASE = "purchase"
LEAVE = "leave"

Telling = customers_pb2.ReportCustomerEventRequest | customers_pb2.UpdateCustomerRequest


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened after an offer was shown."""

    reward: float
    """What it is worth to us, in the source's own unit."""
    reports: tuple[tuple[str, float], ...] = ()
    """(outcome, value) of each, as the campaign declares them; none: nothing that it wants to hear of."""
    shown: bool = True
    """False: the decision was deferred, and the offer never seen."""
    tells_shown: bool = False
    """The first report says that the offer was seen; nothing else has to."""


@dataclass(frozen=True, slots=True)
class Worth:
    """Expected rewards of one question."""

    uniform: float
    """Of showing any offer with equal chance."""
    shown: float
    """Of the offer that was shown."""
    best: float
    best_single: float
    """Of the offer that is best for everyone together."""


class Source(Protocol):
    """Questions, and what came of the answers."""

    @property
    def size(self) -> int | None:
        """How many questions there are; None: as many as wanted."""

    @property
    def deferred(self) -> bool:
        """Decisions are activated only once it is known that their offer was seen."""

    @property
    def delay_decisions(self) -> int:
        """An outcome is reported after so many further decisions."""

    @property
    def settles_unreported(self) -> bool:
        """Every shown decision is learned soon, also where no outcome is reported."""

    def question(self, number: int) -> decisions_pb2.DecideRequest:
        """Question `number`, but for campaign, id and deferral."""

    def before(self, number: int) -> Sequence[Telling]:
        """What is told of the customer before question `number`."""

    def outcome(self, number: int, offer: str) -> Outcome | None:
        """What came of showing the offer there; None: nobody knows."""


class World(Source, Protocol):
    """A source of which the truth is known."""

    def worth(self, number: int, offer: str, eligible: Sequence[str]) -> Worth:
        """What `offer` is worth there, beside others; `eligible` are those that might be shown, if known."""


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

    @property
    def settles_unreported(self) -> bool:
        return False

    def question(self, number: int) -> decisions_pb2.DecideRequest:
        visitor = self.shop.visitor(number)
        context = decisions_pb2.Context(
            device=visitor.device,
            channel=visitor.channel,
            journey_stage=visitor.journey_stage,
            time_zone="UTC",  # the shop's parts of day, whatever the campaign's own zone is
        )
        context.time.FromDatetime(visitor.time)
        return decisions_pb2.DecideRequest(context=context)

    def before(self, number: int) -> Sequence[Telling]:  # noqa: ARG002 - nobody is known
        return ()

    def outcome(self, number: int, offer: str) -> Outcome | None:
        if not self.shop.knows(offer):
            return None
        buys = self.shop.buys(self.shop.visitor(number), offer)
        return Outcome(float(buys), ((PURCHASE if buys else LEAVE, 1.0),))

    def worth(self, number: int, offer: str, eligible: Sequence[str]) -> Worth:  # noqa: ARG002 - all are
        shop, visitor = self.shop, self.shop.visitor(number)
        return Worth(
            shop.uniform(visitor),
            shop.probability(visitor, offer) if shop.knows(offer) else 0.0,
            shop.best(visitor),
            shop.best_single(visitor),
        )


@dataclass(frozen=True, slots=True)
class LoggedSource:
    """Rows of a randomised log; only the offer that was given has a known outcome.

    Keeping only rows where the drawn offer is the given one is rejection sampling (Li, Chu, Langford and
    Wang, 2011, "Unbiased offline evaluation of contextual-bandit-based news article recommendation
    algorithms", WSDM): unbiased where every offer was given with equal chance, whatever the row, or where
    rows are weighted by their propensities.
    """

    data: LoggedData
    channel: str
    """Sent where a row has none; empty: none."""
    consent: bool
    """The customers of the log consented."""
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

    @property
    def settles_unreported(self) -> bool:
        return False

    def question(self, number: int) -> decisions_pb2.DecideRequest:
        row = self.data.rows[number]
        context = decisions_pb2.Context(channel=self.channel, features=feature_values(row.features))
        for name, word in row.words.items():
            if word:
                setattr(context, name, word)
        if row.time is not None:
            context.time.FromDatetime(row.time)
        return decisions_pb2.DecideRequest(
            context=context,
            customer_id=row.customer,
            consent=decisions_pb2.CONSENT_GRANTED if self.consent else decisions_pb2.CONSENT_UNSPECIFIED,
            include_ranking=True,
        )

    def before(self, number: int) -> Sequence[Telling]:  # noqa: ARG002 - the log tells of decisions alone
        return ()

    def outcome(self, number: int, offer: str) -> Outcome | None:
        row = self.data.rows[number]
        if offer != row.offer:
            return None
        if row.outcome:
            return Outcome(row.outcome, ((self.positive, row.outcome),))
        return Outcome(0.0, ((self.negative, 1.0),) if self.negative else ())
