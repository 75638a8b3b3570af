"""How often a customer is contacted, and with one voice: caps, and the last decision served again.

What holds: an offer or channel at its cap is not shown again; what a decision counts under goes with it,
so that the ledger counts it in the same transaction. A decision served again is not learned or counted
twice: only where contact.yaml caps the channel, being contacted there once more counts there.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilbud.campaigns.served import ServedCampaign
from tilbud.deciding.request_context import RequestContext
from tilbud.domain.clock import Now
from tilbud.domain.decision.eligibility import Eligibility
from tilbud.domain.decision.facts import Facts
from tilbud.domain.decision.records import Decision, ExposureEffect, InternedText

_CLOCKS_APART_US = 60_000_000  # a decision that is dated later was dated by a clock that was wrong


@dataclass(frozen=True, slots=True)
class StickyAnswer:
    """An earlier decision that answers again, and what that means for the customer."""

    decision: Decision
    effect: ExposureEffect
    payload: InternedText  # of its offer, as the campaign has it by now


def apply_caps(
    served: ServedCampaign,
    context: RequestContext,
    eligibility: Eligibility,
    facts: Facts,
    now_us: int,
) -> Eligibility:
    """Return what is left when the customer has seen enough of some offers, or in the channel.

    `now_us` is the steady clock's.
    """
    if not (context.key and facts.exposures and eligibility.eligible):
        return eligibility
    return served.caps.without_capped(eligibility, facts.exposures, context.channel, now_us)


def sticky_answer(
    served: ServedCampaign,
    context: RequestContext,
    eligibility: Eligibility,
    facts: Facts,
    now: Now,
) -> StickyAnswer | None:
    """Return the customer's last decision, where the campaign serves it again and rules still allow it.

    Its offer's payload is today's, in the language they are asked in today. Caps of offers and groups are not
    asked: it was counted when it was made.
    """
    last, sticky_us = facts.sticky, served.campaign.sticky_us
    if last is None or not (sticky_us and context.key) or _age_us(last, now) >= sticky_us:
        return None
    if last.offer_id not in {served.offer_ids[index] for index in eligibility.eligible}:
        return None
    if served.caps.channel_is_full(facts.exposures, context.channel, now.steady_us):
        return None
    scopes = served.caps.channel_scopes(context.channel)
    payload = served.payload(served.offer_ids.index(last.offer_id), context.situation.context.language)
    return StickyAnswer(last, ExposureEffect(context.customer.version, scopes, sticky=True), payload)


def _age_us(decision: Decision, now: Now) -> int:
    """Return how long ago a decision was made, by the service clock where it was dated by a wrong one."""
    if decision.decided_us > now.steady_us + _CLOCKS_APART_US:
        return now.service_us - decision.decided_service_us
    return now.steady_us - decision.decided_us


def exposure_effect(
    served: ServedCampaign,
    context: RequestContext,
    eligibility: Eligibility,
    decision: Decision,
) -> ExposureEffect | None:
    """Return what a new decision means for the customer; None where it is nobody's."""
    if not context.key:
        return None
    counted = served.counts(context.channel)
    if decision.drawn < 0:
        return ExposureEffect(context.customer.version, (), sticky=False, counted=counted)
    scopes = served.caps.scopes(eligibility.eligible[decision.drawn], context.channel)
    return ExposureEffect(
        context.customer.version, scopes, sticky=bool(served.campaign.sticky_us), counted=counted
    )
