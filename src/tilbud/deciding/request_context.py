"""Who asks, what may be used of what is known of them, and which offers the rules leave.

What holds: consent is resolved before anything else of a customer is read but their own word (consent
and preferences); without it nothing of them reaches the model or the record. Reads only; each costs
the same whatever a customer's history. Questions that name nobody are looked into once a minute: rules and
situations know no shorter time. Caps are `frequency.py`'s business.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

from tilbud.campaigns.served import EncodedContext, ServedCampaign
from tilbud.deciding.person import kept_under
from tilbud.domain.clock import Now
from tilbud.domain.context import Consent
from tilbud.domain.customer.customer import (
    ANONYMOUS,
    NOTHING_HAPPENED,
    UNKNOWN_CUSTOMER,
    Customer,
    CustomerKey,
    Happened,
    resolve_consent,
)
from tilbud.domain.decision.admission import OFFER_LISTS, UNKNOWN_OFFER
from tilbud.domain.decision.admission import REASONS as BAD_VALUES
from tilbud.domain.decision.eligibility import NOBODY, CustomerFacts, Eligibility
from tilbud.domain.decision.records import DecideRequest, Question
from tilbud.domain.decision.situation import Situation
from tilbud.domain.limits import Limits
from tilbud.ledger.ports import CustomersReading

_MINUTE_US = 60_000_000


class Asking(NamedTuple):
    """The one who asks, as far as it may be known, and the situation they are in."""

    key: CustomerKey  # ANONYMOUS without consent
    customer: Customer
    refused: bool  # the campaign requires consent, and there is none
    consented: bool  # what was said of them may be used, and kept
    situation: Situation
    facts: CustomerFacts


class Asked(NamedTuple):
    """A question with all that is known before caps and the draw."""

    asking: Asking
    eligibility: Eligibility
    encoded: EncodedContext
    question: Question  # as it may be kept


class Askers:
    """Finds out who asks, and what they may see."""

    def __init__(self, *, customers: CustomersReading, ledger_key: bytes, limits: Limits) -> None:
        self._customers = customers
        self._key = ledger_key
        self._limits = limits

    def known(
        self, request: DecideRequest, served: ServedCampaign, now_us: int, off: frozenset[str]
    ) -> Asked | None:
        """Return what was found when somebody asked the same in the same minute, None where nobody did.

        `now_us` is the server's wall clock.
        """
        if _is_own(request):
            return None
        return _within_the_minute(served, now_us).get(_question(request, off))

    def ask(
        self,
        request: DecideRequest,
        served: ServedCampaign,
        now: Now,
        off: frozenset[str],
    ) -> Asked:
        """Return who asks and what the rules leave them; `off` are the switches that are off.

        Raises InvalidField.
        """
        asking = _noting(request, served, self.read(request, served, now))
        context = asking.situation.context
        eligibility = served.rules.check(
            context, request.include_offers, request.exclude_offers, off, asking.facts
        )
        question = request.question(self._key, consented=asking.consented)
        asked = Asked(asking, eligibility, served.encode(context), question)
        if not _is_own(request) and BAD_VALUES.isdisjoint(asking.situation.dropped.values()):
            known = _within_the_minute(served, now.wall_us)
            if len(known) < self._limits.context_cache_entries_max:
                known[_question(request, off)] = asked
        return asked

    def read(self, request: DecideRequest, served: ServedCampaign, now: Now) -> Asking:
        """Return who asks; raises InvalidField. How long ago things were is judged by the steady clock."""
        key = kept_under(request.customer_id, self._key, self._customers)
        customer = self._customers.customer(key) if key else UNKNOWN_CUSTOMER
        consent = resolve_consent(request.consent, customer)
        refused = served.campaign.consent == "required" and consent is not Consent.GRANTED
        consented = not refused and consent is not Consent.DENIED
        happened = self._happened(customer, served) if consented else NOTHING_HAPPENED
        situation = served.situations.read(
            request.context,
            customer,
            happened,
            now,
            self._limits,
            consented=consented,
            customer_said=bool(key),
        )
        facts = NOBODY
        if key and not refused:  # the fallback is answered: what they forbade would be kept, and not heeded
            preferences = customer.profile.preferences
            channel = request.context.channel
            facts = CustomerFacts(preferences, situation.quiet, consented, happened, now.steady_us, channel)
        return Asking(key if consented else ANONYMOUS, customer, refused, consented, situation, facts)

    def _happened(self, customer: Customer, served: ServedCampaign) -> Happened:
        if not customer.number or not served.situations.needs_history:
            return NOTHING_HAPPENED
        return self._customers.happened(customer.number, served.id)


def _noting(request: DecideRequest, served: ServedCampaign, asking: Asking) -> Asking:
    """Return the asking with a note of lists that name an offer the campaign does not have."""
    lists = zip(OFFER_LISTS, (request.include_offers, request.exclude_offers), strict=True)
    unknown = {name: UNKNOWN_OFFER for name, ids in lists if ids and not served.rules.has(ids)}
    if not unknown:
        return asking
    dropped = dict(sorted({**asking.situation.dropped, **unknown}.items()))
    return asking._replace(situation=asking.situation._replace(dropped=dropped))


def _within_the_minute(served: ServedCampaign, now_us: int) -> dict[Hashable, Any]:
    """Return what was found for questions of this minute."""
    minute = now_us // _MINUTE_US
    if served.minute != minute:
        served.minute, served.asked = minute, {}
    return served.asked


def _is_own(request: DecideRequest) -> bool:
    """Say whether nobody else is likely to ask the same within the minute."""
    said = request.context
    return bool(
        request.customer_id
        or said.features
        or said.time_us is not None
        or request.include_offers
        or request.exclude_offers
    )


def _question(request: DecideRequest, off: frozenset[str]) -> tuple[object, ...]:
    """Return all that a question says which is not its own: its id and that it is a dry run are left out."""
    return (*request.context[:8], request.consent, request.defer_activation, request.include_ranking, off)
