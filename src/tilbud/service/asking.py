"""Who asks, and what may be used of what is known of them.

What holds: consent is resolved before anything else of a customer is read but their own word (consent
and preferences); without it nothing of them reaches the model or the record. Reads only; each costs
the same whatever a customer's history.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilbud.domain.context import Consent
from tilbud.domain.customers import (
    ANONYMOUS,
    NOTHING_HAPPENED,
    UNKNOWN_CUSTOMER,
    Customer,
    CustomerKey,
    Happened,
    customer_key,
    resolve_consent,
)
from tilbud.domain.decisions import DecideRequest
from tilbud.domain.eligibility import NOBODY, CustomerFacts
from tilbud.domain.limits import Limits
from tilbud.domain.situation import Situation
from tilbud.ledger.port import CustomersReading
from tilbud.service.catalog import ServedCampaign


@dataclass(frozen=True, slots=True)
class Asking:
    """The one who asks, as far as it may be known, and the situation they are in."""

    key: CustomerKey  # ANONYMOUS without consent
    customer: Customer
    refused: bool  # the campaign requires consent, and there is none
    situation: Situation
    facts: CustomerFacts


class Askers:
    """Finds out who asks."""

    def __init__(self, *, customers: CustomersReading, ledger_key: bytes, limits: Limits) -> None:
        self._customers = customers
        self._key = ledger_key
        self._limits = limits

    def read(self, request: DecideRequest, served: ServedCampaign, now_us: int) -> Asking:
        """Return who asks; `now_us` is the server's wall clock. Raises InvalidField."""
        key = customer_key(request.customer_id, self._key)
        customer = self._customers.customer(key) if key else UNKNOWN_CUSTOMER
        consent = resolve_consent(request.consent, customer)
        refused = served.campaign.consent == "required" and consent is not Consent.GRANTED
        consented = not refused and consent is not Consent.DENIED
        happened = self._happened(customer, served) if consented else NOTHING_HAPPENED
        situation = served.situations.read(
            request.context,
            customer,
            happened,
            now_us,
            self._limits,
            consented=consented,
            customer_said=bool(key),
        )
        facts = NOBODY
        if key:
            preferences = customer.profile.preferences
            channel = request.context.channel
            facts = CustomerFacts(preferences, situation.quiet, consented, happened, now_us, channel)
        return Asking(key if consented else ANONYMOUS, customer, refused, situation, facts)

    def _happened(self, customer: Customer, served: ServedCampaign) -> Happened:
        if not customer.number or not served.situations.needs_history:
            return NOTHING_HAPPENED
        return self._customers.happened(customer.number, served.id)
