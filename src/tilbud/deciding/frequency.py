"""How often a customer is met, and with one voice: caps, and the last decision served again.

What holds: an offer or channel at its cap is not shown again; what a decision counts under is told with it,
so that the ledger counts it in the same transaction. A decision served again is not learned or counted
twice: only where contact.yaml caps the channel, being met there once more counts there.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilbud.campaigns.served import ServedCampaign
from tilbud.deciding.request_context import Asking
from tilbud.domain.clock import Now
from tilbud.domain.decision.eligibility import Eligibility
from tilbud.domain.decision.records import Decision, ExposureEffect, InternedText
from tilbud.ledger.ports import CustomersReading

_CLOCKS_APART_US = 60_000_000  # a decision that is dated later was dated by a clock that was wrong


@dataclass(frozen=True, slots=True)
class Kept:
    """An earlier decision that answers again, and what that means for the customer."""

    decision: Decision
    contact: ExposureEffect
    payload: InternedText  # of its offer, as the campaign has it by now


class Contacting:
    """Asks the ledger how often a customer was met; `channel` is the call's own word throughout."""

    def __init__(self, *, customers: CustomersReading) -> None:
        self._customers = customers

    def capped(
        self, served: ServedCampaign, asking: Asking, eligibility: Eligibility, channel: str, now_us: int
    ) -> Eligibility:
        """Return what is left when the customer has seen enough of some offers, or in the channel.

        `now_us` is the steady clock's.
        """
        if not (asking.key and asking.customer.number and eligibility.eligible):
            return eligibility
        lookups = served.caps.lookups(eligibility, channel, now_us)
        if not lookups:
            return eligibility
        return served.caps.apply(
            eligibility, self._customers.exposures(asking.customer.number, lookups), channel
        )

    def kept(
        self,
        served: ServedCampaign,
        asking: Asking,
        eligibility: Eligibility,
        channel: str,
        now: Now,
        *,
        pending: bool,
    ) -> Kept | None:
        """Return the customer's last decision, where the campaign serves it again and rules still allow it.

        Its offer's payload is today's, in the language they are asked in today. One that waits for its
        activation only to a call that will activate it (`pending`). Caps of offers and groups are not asked:
        it was counted when it was made.
        """
        sticky_us, number = served.campaign.sticky_us, asking.customer.number
        if not (sticky_us and asking.key and number):
            return None
        last = self._customers.last_sticky(number, served.id, pending=pending)
        if last is None or _age_us(last, now) >= sticky_us:
            return None
        if last.offer_id not in {served.offer_ids[index] for index in eligibility.eligible}:
            return None
        contacts = served.caps.contacts(channel, now.steady_us)
        if contacts and served.caps.enough(self._customers.exposures(number, contacts), channel):
            return None
        scopes = tuple({contact.scope for contact in contacts})
        payload = served.payload(served.offer_ids.index(last.offer_id), asking.situation.context.language)
        return Kept(last, ExposureEffect(asking.customer.version, scopes, sticky=True), payload)


def _age_us(decision: Decision, now: Now) -> int:
    """Return how long ago a decision was made, by the service clock where it was dated by a wrong one."""
    if decision.decided_us > now.steady_us + _CLOCKS_APART_US:
        return now.service_us - decision.decided_service_us
    return now.steady_us - decision.decided_us


def contact_of(
    served: ServedCampaign, asking: Asking, eligibility: Eligibility, decision: Decision, channel: str
) -> ExposureEffect | None:
    """Return what a new decision means for the customer; None where it is nobody's."""
    if not asking.key:
        return None
    if decision.drawn < 0:
        return ExposureEffect(asking.customer.version, (), sticky=False)
    scopes = served.caps.scopes(eligibility.eligible[decision.drawn], channel)
    return ExposureEffect(asking.customer.version, scopes, sticky=bool(served.campaign.sticky_us))
