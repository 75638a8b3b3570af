"""ReportOutcome and Activate: what happened after a decision.

What holds: an outcome is checked against the rules its decision was made with, which the ledger keeps, or
today's file where they do not know it; so it is taken also while its campaign is not served. Repeating a
call changes nothing; every outcome of a served campaign, or of a known decision, is counted under exactly one
status, so sent = accepted + duplicate + late + held + orphan + refused. What outcomes are worth together is
decided when their decision settles.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tilbud.campaigns.served import Catalog, ServedCampaign
from tilbud.domain.clock import Clock
from tilbud.domain.context import TIME_US_MAX, check_number
from tilbud.domain.decision.activation import Activated, Activation
from tilbud.domain.decision.records import check_id
from tilbud.domain.decision.rewards import Outcome, OutcomeStatus
from tilbud.domain.errors import (
    IdReused,
    InvalidField,
    TilbudError,
    TooManyOutcomes,
    UndeclaredOutcome,
    UnknownCampaign,
    UnknownDecision,
)
from tilbud.domain.limits import Limits
from tilbud.ledger.answers import ActivateResult, ReceiveResult, Showed, or_later
from tilbud.ledger.ports import Outcomes
from tilbud.telemetry.decisions import DecisionMetrics

_STATUS = {status: status.name.lower() for status in OutcomeStatus}


@dataclass(frozen=True, slots=True)
class OutcomeReport:
    """One outcome, as the caller put it."""

    campaign: str
    decision_id: str
    outcome: str
    value: float = 1.0
    event_id: str = ""
    time_us: int | None = None


class ReportService:
    """Takes outcomes and activations. `wake` tells the learner that something may be due at once."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        outcomes: Outcomes,
        clock: Clock,
        metrics: DecisionMetrics,
        limits: Limits,
        wake: Callable[[], None],
    ) -> None:
        self._catalog = catalog
        self._outcomes = outcomes
        self._clock = clock
        self._metrics = metrics
        self._limits = limits
        self._wake = wake

    async def report(self, report: OutcomeReport) -> OutcomeStatus:
        """Store one outcome.

        Raises InvalidField, UnknownCampaign, UnknownDecision, IdReused, Overloaded, LedgerUnavailable.
        """
        (result,) = await self.report_many([report])
        if isinstance(result, Exception):
            raise result
        return result

    async def report_many(
        self, reports: Sequence[OutcomeReport | Exception]
    ) -> list[OutcomeStatus | Exception]:
        """Store many outcomes in one ledger transaction; a bad one gets its error in its place.

        A report that could not even be read stands as its error already. Not to be cancelled: what is
        handed to the ledger happens all the same, and would not be counted.
        """
        checked = [self._checked(report) for report in reports]
        outcomes = [outcome for outcome in checked if isinstance(outcome, Outcome)]
        results: Sequence[OutcomeStatus | TilbudError] = ()
        if outcomes:
            receiving = self._outcomes.receive(outcomes, self._clock.now())
            received = await or_later(receiving, lambda later: self._counted_all(outcomes, later))
            results = self._counted_all(outcomes, received)
        answers = iter(results)
        return [next(answers) if isinstance(item, Outcome) else item for item in checked]

    def _counted_all(
        self, outcomes: Sequence[Outcome], received: Sequence[ReceiveResult]
    ) -> list[OutcomeStatus | TilbudError]:
        if any(outcome.ends_now for outcome in outcomes):
            self._wake()
        return [
            self._counted(outcome, self._answer(outcome, result))
            for outcome, result in zip(outcomes, received, strict=True)
        ]

    async def activate(self, campaign: str, decision_id: str, shown_offer_id: str) -> int | None:
        """Open a deferred decision's reward window; return its end (wall clock, µs), None: void.

        Raises InvalidField, UnknownCampaign, UnknownDecision, DecisionExpired, Overloaded,
        LedgerUnavailable.
        """
        served = self._catalog.find(check_id("campaign", campaign, self._limits, required=True))
        try:
            check_id("decision_id", decision_id, self._limits, required=True)
            await self._check_shown(served, campaign, decision_id, shown_offer_id)
        except InvalidField:
            if served is not None:
                self._metrics.activated(campaign, "refused")
            raise
        rules = served.decision_rules if served else None
        activation = Activation(campaign, decision_id, shown_offer_id, rules)
        activating = self._outcomes.activate([activation], self._clock.now())
        (result,) = await or_later(activating, lambda later: self._count_activations(served, campaign, later))
        self._count_activations(served, campaign, [result])
        if isinstance(result, UnknownDecision) and served is None:
            raise UnknownCampaign(campaign)
        if not isinstance(result, Activated):
            raise result
        return result.deadline_us

    def _count_activations(
        self, served: ServedCampaign | None, campaign: str, results: Sequence[ActivateResult]
    ) -> None:
        for result in results:
            if isinstance(result, Activated):
                self._count_activation(campaign, result)
            elif served is not None or not isinstance(result, UnknownDecision):
                self._metrics.activated(campaign, "refused")

    async def _check_shown(
        self, served: ServedCampaign | None, campaign: str, decision_id: str, shown_offer_id: str
    ) -> None:
        """Refuse a slip of the pen: it would void the decision. An offer of an earlier file is none."""
        check_id("shown_offer_id", shown_offer_id, self._limits)
        if not shown_offer_id:
            return
        if served is not None and shown_offer_id in (served.campaign.fallback.id, *served.offer_ids):
            return
        decision = await self._outcomes.find(campaign, decision_id)
        if decision is None or shown_offer_id in (decision.offer_id, *decision.offers.ids):
            return
        if shown_offer_id not in json.loads(decision.removed.body):
            raise InvalidField("shown_offer_id", "is neither an offer of the campaign nor its fallback")

    def _count_activation(self, campaign: str, result: Activated) -> None:
        status = "repeated" if result.repeated else "activated" if result.deadline_us else "void"
        self._metrics.activated(campaign, status)
        if result.held:
            self._metrics.released(campaign, result.held)
            self._wake()

    def _checked(self, report: OutcomeReport | Exception) -> Outcome | Exception:
        if isinstance(report, Exception):
            return report
        try:
            return self._check(report)
        except Exception as error:  # noqa: BLE001 - told in its place: the others may be other callers'
            return error

    def _check(self, report: OutcomeReport) -> Outcome:
        limits = self._limits
        served = self._catalog.find(check_id("campaign", report.campaign, limits, required=True))
        today = served.campaign.reward.outcomes.get(report.outcome) if served else None
        try:
            check_id("decision_id", report.decision_id, limits, required=True)
            check_id("event_id", report.event_id, limits)
            check_number("value", report.value)
            if report.time_us is not None and not 0 <= report.time_us < TIME_US_MAX:
                raise InvalidField("time", "must lie in the years 1970 to 9998")
        except InvalidField:
            if served is not None:
                self._metrics.outcome(served.id, report.outcome if today else "unknown", "refused")
            raise
        return Outcome(
            campaign=report.campaign,
            decision_id=report.decision_id,
            outcome=report.outcome,
            value=report.value,
            event_id=report.event_id,
            occurred_us=report.time_us,
            ends_now=served is not None and report.outcome in served.ends_now,
            weight=today.weight if today else None,
        )

    def _answer(self, outcome: Outcome, result: ReceiveResult) -> OutcomeStatus | Showed | TilbudError:
        """Return what to tell the caller of an outcome; of none that is declared, all that would be."""
        served = self._catalog.find(outcome.campaign)
        today = served.campaign.reward.outcomes if served else ()
        if isinstance(result, UndeclaredOutcome):
            return UndeclaredOutcome(today, then=result.declared) if served else result
        if not isinstance(result, UnknownDecision) or outcome.weight is not None:
            return result
        return UndeclaredOutcome(today) if served else UnknownCampaign(outcome.campaign)

    def _counted(
        self, outcome: Outcome, result: OutcomeStatus | Showed | TilbudError
    ) -> OutcomeStatus | TilbudError:
        if isinstance(result, UnknownCampaign):
            return result
        if isinstance(result, Showed):
            self._count_activation(outcome.campaign, result.activated)
            result = result.status
        name = "unknown" if isinstance(result, InvalidField) else outcome.outcome
        status = (
            "orphan" if isinstance(result, UnknownDecision)
            else "refused" if isinstance(result, IdReused | InvalidField | TooManyOutcomes)
            else _STATUS[result]  # type: ignore[index]
        )  # fmt: skip
        self._metrics.outcome(outcome.campaign, name, status)
        return result
