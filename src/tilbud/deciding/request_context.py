"""Who asks, what may be used of what is known of them, and which offers the rules leave.

What holds: consent is resolved before anything of a customer is used but their own word (consent and
preferences); without it nothing of them reaches the model or the record. Nothing is read here: what the
ledger knew is an argument. Requests that name nobody are looked into once a minute: rules and situations
know no shorter time. Caps are `frequency.py`'s business.
"""

from __future__ import annotations

from typing import NamedTuple

from tilbud.campaigns.served import EncodedContext, ServedCampaign
from tilbud.domain.clock import Now
from tilbud.domain.context import Consent
from tilbud.domain.customer.customer import (
    ANONYMOUS,
    NOTHING_HAPPENED,
    Customer,
    CustomerKey,
    customer_keys,
    resolve_consent,
)
from tilbud.domain.decision.admission import OFFER_LISTS, UNKNOWN_OFFER
from tilbud.domain.decision.admission import REASONS as BAD_VALUES
from tilbud.domain.decision.eligibility import NOBODY, CustomerFacts, Eligibility
from tilbud.domain.decision.facts import Facts, LookUp
from tilbud.domain.decision.records import DecideRequest, Question
from tilbud.domain.decision.situation import Situation
from tilbud.domain.limits import Limits


class RequestContext(NamedTuple):
    """The one who asks, as far as it may be known, and the situation they are in."""

    key: CustomerKey  # ANONYMOUS without consent
    customer: Customer
    refused: bool  # the campaign requires consent, and there is none
    consented: bool  # what was sent of them may be used, and stored
    situation: Situation
    channel: str  # the call's own word: a contact policy may name one that the campaign does not declare
    rules_see: CustomerFacts


class Resolved(NamedTuple):
    """A request with all that is known before caps and the draw."""

    context: RequestContext
    eligibility: Eligibility
    encoded: EncodedContext
    question: Question  # as it may be kept


class ContextResolver:
    """Says what a request needs to know, and with that who asks, and what they may see."""

    def __init__(self, *, ledger_key: bytes, limits: Limits) -> None:
        self._key = ledger_key
        self._limits = limits

    def look_up(self, request: DecideRequest, served: ServedCampaign | None, now_us: int) -> LookUp:
        """Return what the ledger is asked; of a campaign that is not served only for an earlier decision.

        `now_us`, on the steady clock, is no later than when the answer is used.
        """
        decision_id = "" if request.dry_run else request.decision_id
        if served is None or not request.customer_id:
            return LookUp(request.campaign, decision_id)
        scopes = served.caps.counted(request.context.channel)
        return LookUp(
            request.campaign,
            decision_id,
            customer_keys(request.customer_id, self._key),
            served.situations.needs_history,
            scopes,
            now_us - scopes.per_us,
            bool(served.campaign.sticky_us),
            request.defer_activation,
        )

    def resolve(
        self, request: DecideRequest, served: ServedCampaign, facts: Facts, now: Now, off: frozenset[str]
    ) -> Resolved:
        """Return who asks and what the rules leave them; `off` are the offers that are paused.

        What somebody else asked in the same minute is known already. Raises InvalidField.
        """
        if _is_own(request):
            return self._resolve(request, served, facts, now, off)
        cached, asked = served.questions.at(now.wall_us), _question(request, off)
        resolved = cached.get(asked)
        if resolved is None:
            resolved = self._resolve(request, served, facts, now, off)
            if BAD_VALUES.isdisjoint(resolved.context.situation.dropped.values()) and (
                len(cached) < self._limits.context_cache_entries_max
            ):
                cached[asked] = resolved
        return resolved

    def _resolve(
        self, request: DecideRequest, served: ServedCampaign, facts: Facts, now: Now, off: frozenset[str]
    ) -> Resolved:
        context = _noting(request, served, self.context(request, served, facts, now))
        eligibility = served.rules.check(
            context.situation.context, request.include_offers, request.exclude_offers, off, context.rules_see
        )
        question = request.question(self._key, consented=context.consented)
        return Resolved(context, eligibility, served.encode(context.situation.context), question)

    def context(
        self, request: DecideRequest, served: ServedCampaign, facts: Facts, now: Now
    ) -> RequestContext:
        """Return who asks; raises InvalidField. How long ago things were is judged by the steady clock."""
        key, customer, channel = facts.key, facts.customer, request.context.channel
        consent = resolve_consent(request.consent, customer)
        refused = served.campaign.consent == "required" and consent is not Consent.GRANTED
        consented = not refused and consent is not Consent.DENIED
        happened = facts.happened if consented else NOTHING_HAPPENED
        situation = served.situations.read(
            request.context,
            customer,
            happened,
            now,
            self._limits,
            consented=consented,
            customer_named=bool(key),
        )
        rules_see = NOBODY
        if key and not refused:  # the fallback is answered: what they forbade would be kept, and not heeded
            preferences = customer.profile.preferences
            rules_see = CustomerFacts(
                preferences, situation.quiet, consented, happened, now.steady_us, channel
            )
        return RequestContext(
            key if consented else ANONYMOUS, customer, refused, consented, situation, channel, rules_see
        )


def _noting(request: DecideRequest, served: ServedCampaign, context: RequestContext) -> RequestContext:
    """Return the context with a note of lists that name an offer the campaign does not have."""
    lists = zip(OFFER_LISTS, (request.include_offers, request.exclude_offers), strict=True)
    unknown = {name: UNKNOWN_OFFER for name, ids in lists if ids and not served.rules.has(ids)}
    if not unknown:
        return context
    dropped = dict(sorted({**context.situation.dropped, **unknown}.items()))
    return context._replace(situation=context.situation._replace(dropped=dropped))


def _is_own(request: DecideRequest) -> bool:
    """Say whether nobody else is likely to ask the same within the minute."""
    context = request.context
    return bool(
        request.customer_id
        or context.features
        or context.time_us is not None
        or request.include_offers
        or request.exclude_offers
    )


def _question(request: DecideRequest, off: frozenset[str]) -> tuple[object, ...]:
    """Return all that a question says which is not its own: its id and that it is a dry run are left out."""
    return (*request.context[:8], request.consent, request.defer_activation, request.include_ranking, off)
