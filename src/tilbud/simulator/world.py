"""A world with known truth for any campaign: visitors invented over what its file declares.

The truth is logistic, as the shop's (shop.py). Everything that a campaign's model may read is an axis: the
declared words of device, channel and journey stage, the places, languages and countries that its rules name,
the part of day, and every feature and trait with a few typical values, on both sides of what rules compare
them with. With strength = 2 × taste_strength / √axes, so that many axes differ no more than few,

    logit P(good end | visitor, offer) = intercept + popularity[offer]
        + Σ over axes: taste[axis][offer, the visitor's value]

A visit ends well or not. A good end is an outcome worth more than none at all, the more seldom the more it is
worth; of the others one in thirty ends in an outcome worth less than none, where the campaign has such. Where
rewards are so wide that one outcome cannot fill a third of them they are taken for amounts, and the outcome
of the greatest weight comes with different values.

What always holds:
 * Pure: facts, seed and number give the same visitor, customer and end, whatever was shown to others.
 * What rules forbid is no mistake of the model: uniform and best are those of the offers it might have shown.
 * Every customer consents; one in two opted in to all sensitive topics; one visit in three is preceded by an
   event that the campaign knows.
 * All visits happen within minutes on the service's clock: caps and `sticky` see one window.

What it does not do: read campaign files, speak gRPC, or model tastes that depend on two axes together.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
from google.protobuf.field_mask_pb2 import FieldMask

from tilbud.client.questions import Feature, feature_values
from tilbud.simulator.shop import (
    BASE_RATE,
    PARTS_OF_DAY,
    TASTE_STRENGTH,
    Floats,
    interactions,
    logistic,
    sample_contexts,
    solve_intercept,
)
from tilbud.simulator.sources import Outcome, Telling, Worth
from tilbud.v1 import customers_pb2, decisions_pb2

PART_OF_DAY = "part_of_day"
VISITS_A_CUSTOMER = 3
_POPULARITY_SPREAD = 0.2
_BAD_SHARE = 1 / 30
_EVENT_SHARE = 1 / 3
_SEEN_SHARE = 0.5
_AMOUNTS = (0.25, 0.5, 1.0, 2.25)
"""Parts of the mean amount; their mean is 1."""
_FULL_PARTS = 3
_MEAN_PARTS = 4
_VISITORS_KEPT = 4_096
_DAYS = 7


@dataclass(frozen=True, slots=True)
class OutcomeFact:
    """An outcome that a campaign takes."""

    name: str
    weight: float
    final: bool = False
    shows: bool = False
    """It tells that the offer was seen."""


@dataclass(frozen=True, slots=True)
class CampaignFacts:
    """What a campaign file declares, as far as visitors are invented from it."""

    campaign: str
    offers: tuple[str, ...]
    outcomes: tuple[OutcomeFact, ...]
    words: Mapping[str, tuple[str, ...]]
    """Values by field of the contract's Context, such as `device`; a field without is not sent."""
    features: Mapping[str, tuple[Feature, ...]]
    """Typical values by name; those of an ordered feature are in order."""
    ordered: frozenset[str] = frozenset()
    """Features whose values have an order: numbers and versions."""
    default: float = 0.0
    range: tuple[float, float] = (0.0, 1.0)
    takes_largest: bool = False
    """Of several outcomes the largest counts; else their sum."""
    reads_time: bool = True
    first_day: date = date(2026, 1, 5)
    """Visits fall anywhere in the week that begins with it."""
    time_zone: str = "UTC"
    events: tuple[str, ...] = ()
    sensitive_topics: tuple[str, ...] = ()
    deferred: bool = False

    def reward(self, reports: Sequence[tuple[str, float]]) -> float:
        """Return what these outcomes are worth together."""
        if not reports:
            return self.default
        weights = {outcome.name: outcome.weight for outcome in self.outcomes}
        worths = [weights[name] * value for name, value in reports]
        low, high = self.range
        return min(max(max(worths) if self.takes_largest else sum(worths), low), high)


@dataclass(frozen=True, slots=True)
class WorldConfig:
    """How a world is drawn from a campaign's facts."""

    visits: int
    """About so many come, VISITS_A_CUSTOMER of each customer."""
    base_rate: float = BASE_RATE
    """How many visits end well where offers are shown uniformly."""
    taste_strength: float = TASTE_STRENGTH
    delay_decisions: int = 0
    taste_change_at: int | None = None
    """From this visit on, every taste is drawn anew."""


@dataclass(frozen=True, slots=True)
class _Visit:
    values: tuple[int, ...]
    """Index of the value on each axis."""
    time: datetime
    customer: str
    luck: float
    """In [0, 1): it ends well where it is below the probability."""
    end: float
    """In [0, 1): which of the good, or of the other, ends."""
    seen: bool
    event: str
    opted_in: bool


@dataclass(frozen=True, slots=True)
class _Tastes:
    intercept: float
    popularity: Floats
    weights: tuple[Floats, ...]
    ranking: tuple[int, ...]
    """The offers, the best for everyone together first."""


class CampaignWorld:
    """The truth over one campaign, and the visits it holds for."""

    def __init__(self, facts: CampaignFacts, config: WorldConfig, seed: int) -> None:
        self.facts = facts
        self._config = config
        self._seed = seed
        self._index = {offer: index for index, offer in enumerate(facts.offers)}
        self._axes: dict[str, Sequence[Feature]] = {
            **facts.words,
            **facts.features,
            **({PART_OF_DAY: PARTS_OF_DAY} if facts.reads_time else {}),
        }
        self._good, self._other = _ends(facts)
        popularity = np.random.default_rng([seed, 0]).normal(0, _POPULARITY_SPREAD, len(facts.offers))
        self._tastes = tuple(self._draw_tastes(popularity, era) for era in (0, 1))
        self._visit = lru_cache(maxsize=_VISITORS_KEPT)(self._visit_uncached)
        self._chances = lru_cache(maxsize=_VISITORS_KEPT)(self._chances_uncached)

    @property
    def size(self) -> int | None:
        return None

    @property
    def deferred(self) -> bool:
        return self.facts.deferred

    @property
    def delay_decisions(self) -> int:
        return self._config.delay_decisions

    @property
    def settles_unreported(self) -> bool:
        return True

    @property
    def invents_amounts(self) -> bool:
        """Whether outcomes come with values."""
        return any(value != 1 for end in self._good for _, value in end.reports)

    def question(self, number: int) -> decisions_pb2.DecideRequest:
        visit = self._visit(number)
        named = {
            name: values[index]
            for (name, values), index in zip(self._axes.items(), visit.values, strict=True)
        }
        context = decisions_pb2.Context(
            features=feature_values({name: named[name] for name in self.facts.features}),
        )
        for name in self.facts.words:
            setattr(context, name, named[name])
        context.time.FromDatetime(visit.time)
        return decisions_pb2.DecideRequest(
            context=context,
            customer_id=visit.customer,
            consent=decisions_pb2.CONSENT_GRANTED,
            include_ranking=True,
        )

    def before(self, number: int) -> Sequence[Telling]:
        visit = self._visit(number)
        tellings: list[Telling] = []
        if visit.opted_in:
            preferences = customers_pb2.Preferences(opted_in_topics=self.facts.sensitive_topics)
            customer = customers_pb2.Customer(
                id=visit.customer, consent=decisions_pb2.CONSENT_GRANTED, preferences=preferences
            )
            mask = FieldMask(paths=["consent", "preferences.opted_in_topics"])
            tellings.append(customers_pb2.UpdateCustomerRequest(customer=customer, update_mask=mask))
        if visit.event:
            tellings.append(
                customers_pb2.ReportCustomerEventRequest(
                    customer_id=visit.customer,
                    event=visit.event,
                    event_id=f"visit-{number}",
                    consent=decisions_pb2.CONSENT_GRANTED,
                )
            )
        return tellings

    def outcome(self, number: int, offer: str) -> Outcome | None:
        if offer not in self._index:
            return None
        visit = self._visit(number)
        if not visit.seen:
            return Outcome(0.0, shown=False)
        ends = self._good if visit.luck < self._chances(number)[self._index[offer]] else self._other
        below = 0.0
        for end in ends:
            below += end.share
            if visit.end < below:
                break
        return Outcome(end.reward, end.reports, tells_shown=bool(_shows(self.facts)))

    def worth(self, number: int, offer: str, eligible: Sequence[str]) -> Worth:
        """What answers that showed no offer earn is taken for 0."""
        indexes = [self._index[one] for one in eligible if one in self._index]
        if not indexes:
            return Worth(0.0, 0.0, 0.0, 0.0)
        chances = self._chances(number)
        those = [chances[index] for index in indexes]
        single = next(index for index in self._tastes[self._era(number)].ranking if index in indexes)
        return Worth(
            self._expected(sum(those) / len(those)),
            self._expected(chances[self._index[offer]]) if offer in self._index else 0.0,
            self._expected(max(those)),
            self._expected(chances[single]),
        )

    def _expected(self, chance: float) -> float:
        good, other = (sum(end.share * end.reward for end in ends) for ends in (self._good, self._other))
        return chance * good + (1 - chance) * other

    def _era(self, number: int) -> int:
        change = self._config.taste_change_at
        return int(change is not None and number >= change)

    def _chances_uncached(self, number: int) -> tuple[float, ...]:
        tastes = self._tastes[self._era(number)]
        logits = tastes.intercept + tastes.popularity
        if self._axes:
            logits = logits + interactions(tastes.weights, [self._visit(number).values])[0]
        return tuple(float(chance) for chance in logistic(logits))

    def _draw_tastes(self, popularity: Floats, era: int) -> _Tastes:
        generator = np.random.default_rng([self._seed, 1 + era])
        strength = 2 * self._config.taste_strength / max(len(self._axes), 1) ** 0.5
        weights = tuple(self._draw_weights(generator, name, strength) for name in self._axes)
        logits = popularity[None, :]
        if self._axes:
            sizes = [len(values) for values in self._axes.values()]
            logits = logits + interactions(weights, sample_contexts(sizes, generator))
        intercept = solve_intercept(logits, self._config.base_rate)
        means = logistic(logits + intercept).mean(axis=0)
        return _Tastes(intercept, popularity, weights, tuple(int(index) for index in np.argsort(-means)))

    def _draw_weights(self, generator: np.random.Generator, name: str, strength: float) -> Floats:
        """(values, offers): of an ordered feature a straight line for each offer, else free."""
        values, offers = len(self._axes[name]), len(self.facts.offers)
        if name not in self.facts.ordered or values == 1:
            return generator.normal(0, strength, (values, offers))
        ranks = np.arange(values) - (values - 1) / 2
        return np.outer(ranks / ranks.std(), generator.normal(0, strength, offers))

    def _visit_uncached(self, number: int) -> _Visit:
        chance = random.Random(f"{self._seed}:{number}")
        customer = chance.randrange(max(self._config.visits // VISITS_A_CUSTOMER, 1))
        minute = chance.randrange(24 * 60)
        day = self.facts.first_day + timedelta(days=chance.randrange(_DAYS))
        clock = time(minute // 60, minute % 60, tzinfo=ZoneInfo(self.facts.time_zone))
        indexes = {name: chance.randrange(len(values)) for name, values in self._axes.items()}
        if PART_OF_DAY in indexes:
            indexes[PART_OF_DAY] = minute // (24 * 60 // len(PARTS_OF_DAY))
        return _Visit(
            values=tuple(indexes.values()),
            time=datetime.combine(day, clock),
            customer=f"customer-{self._seed}-{customer}",
            luck=chance.random(),
            end=chance.random(),
            seen=chance.random() < _SEEN_SHARE or not _shows(self.facts),
            event=chance.choice(self.facts.events)
            if self.facts.events and chance.random() < _EVENT_SHARE
            else "",
            opted_in=bool(self.facts.sensitive_topics) and customer % 2 == 0,
        )


@dataclass(frozen=True, slots=True)
class _End:
    """How a visit may end."""

    share: float
    reward: float
    reports: tuple[tuple[str, float], ...]


Shares = list[tuple[float, tuple[tuple[str, float], ...]]]
"""(share, reports) of each end."""


def _shows(facts: CampaignFacts) -> tuple[tuple[str, float], ...]:
    """Return what is reported of every offer that was seen."""
    if not facts.deferred:
        return ()
    return tuple((outcome.name, 1.0) for outcome in facts.outcomes if outcome.shows)[:1]


def _ends(facts: CampaignFacts) -> tuple[tuple[_End, ...], tuple[_End, ...]]:
    """Return the good ends and the others, each with shares that sum to 1."""
    shows = _shows(facts)
    nothing = facts.reward(shows)
    gains = {
        outcome: facts.reward((*shows, (outcome.name, 1.0))) - nothing
        for outcome in facts.outcomes
        if (outcome.name, 1.0) not in shows
    }
    better = [outcome for outcome, gain in gains.items() if gain > 0]
    worse = [outcome for outcome, gain in gains.items() if gain < 0]
    same = [outcome for outcome, gain in gains.items() if not gain and outcome.final]
    quiet: Shares = [(1.0, ((same[0].name, 1.0),) if same else ())]
    good: Shares = []
    for outcome in better:
        values = _values(outcome, better, facts)
        good += [(1 / gains[outcome] / len(values), ((outcome.name, value),)) for value in values]
    bad: Shares = [(1.0 / len(worse), ((outcome.name, 1.0),)) for outcome in worse]
    if not good:
        good, other = quiet, bad or quiet
    else:
        other = [(share * _BAD_SHARE, reports) for share, reports in bad]
        other += [(1.0 - _BAD_SHARE * bool(bad), reports) for _, reports in quiet]
    return _shared(facts, shows, good), _shared(facts, shows, other)


def _values(outcome: OutcomeFact, better: Sequence[OutcomeFact], facts: CampaignFacts) -> tuple[float, ...]:
    """Return the values an outcome comes with: amounts, where it is the one that rewards are wide for."""
    widest, high = max(better, key=lambda one: one.weight), facts.range[1]
    if outcome is not widest or outcome.weight <= 0 or outcome.weight * _FULL_PARTS >= high:
        return (1.0,)
    return tuple(round(part * high / _MEAN_PARTS / outcome.weight, 2) for part in _AMOUNTS)


def _shared(
    facts: CampaignFacts,
    shows: tuple[tuple[str, float], ...],
    ends: Shares,
) -> tuple[_End, ...]:
    total = sum(share for share, _ in ends)
    return tuple(
        _End(share / total, facts.reward((*shows, *reports)), (*shows, *reports)) for share, reports in ends
    )
