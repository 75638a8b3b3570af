"""Decide: which offer should this customer see, here and now?

The way of a decision: check → retry? → time left? → consent → variant → eligibility → predict → draw
→ ledger. Everything up to the ledger is synchronous, so one model state answers it whole.

What holds: the probability answered is the one the draw used, and nothing overrides the offer
afterwards; one (campaign, decision_id) has one answer; a valid call gets an answer while the ledger
commits; a dry run leaves no trace. gRPC is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

from tilbud.domain.campaign import CONTROL, PERSONALIZED
from tilbud.domain.choice import NO_CHOICE, Choice, choose, choose_always, choose_evenly, keyed_uniform
from tilbud.domain.clock import Clock, Now
from tilbud.domain.context import Consent, Context, check_text, read_context
from tilbud.domain.decisions import NO_OFFERS, DecideRequest, Decision, OfferSet, Reason, Text, check_id
from tilbud.domain.eligibility import Eligibility
from tilbud.domain.errors import IdReused, InvalidField, ModelUnavailable, TilbudError
from tilbud.domain.limits import Limits
from tilbud.domain.variants import DRAW, variant_of
from tilbud.ledger.port import Ledger
from tilbud.service.catalog import Catalog, ServedCampaign
from tilbud.service.slices import Slices
from tilbud.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Answer:
    """A decision as it is answered."""

    decision: Decision
    recorded: bool
    include_ranking: bool


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A decision on its way to the ledger, with the moment it was asked."""

    request: DecideRequest
    decision: Decision
    eligibility: Eligibility | None
    asked: float


class DecideService:
    """Answers decisions, one at a time or many at once."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        ledger: Ledger,
        clock: Clock,
        draw_key: bytes,
        fingerprint_key: bytes,
        metrics: Metrics,
        limits: Limits,
        new_id: Callable[[int], str],
    ) -> None:
        self._catalog = catalog
        self._ledger = ledger
        self._clock = clock
        self._key = draw_key
        self._fingerprint_key = fingerprint_key
        self._metrics = metrics
        self._limits = limits
        self._new_id = new_id

    async def decide(self, request: DecideRequest, deadline_s: float | None = None) -> Answer:
        """Answer one question; see `decide_many`.

        Raises InvalidField, UnknownCampaign, IdReused, Overloaded, LedgerUnavailable.
        """
        (answer,) = await self.decide_many([request], [deadline_s])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def decide_many(
        self, requests: Sequence[DecideRequest | Exception], deadlines_s: Sequence[float | None]
    ) -> list[Answer | Exception]:
        """Answer many questions in one ledger transaction; a bad one gets its error in its place.

        A request that could not even be read stands as its error already. An unexpected error is told in
        its place too: the other questions may be other callers'. `deadlines_s` says until when
        each caller waits, on `perf_counter`'s clock; None: for ever. Not to be cancelled: what is handed
        to the ledger is recorded all the same, and would not be counted. Raises Overloaded and
        LedgerUnavailable.
        """
        slices = Slices(self._limits.loop_slice_s)
        prepared: list[Answer | Exception | _Drawn] = []
        for request, deadline_s in zip(requests, deadlines_s, strict=True):
            if slices.over():
                await slices.give_way()
            prepared.append(self._try_prepare(request, deadline_s))
        drawn = [each.decision for each in prepared if isinstance(each, _Drawn)]
        stored = iter(await self._ledger.record(drawn, self._clock.now()) if drawn else ())
        answers: list[Answer | Exception] = []
        for each in prepared:
            if slices.over():
                await slices.give_way()
            answers.append(self._try_answer(each, next(stored)) if isinstance(each, _Drawn) else each)
        return answers

    def _try_prepare(
        self, request: DecideRequest | Exception, deadline_s: float | None
    ) -> Answer | _Drawn | Exception:
        if isinstance(request, Exception):
            return request
        try:
            return self._prepare(request, self._clock.now(), deadline_s)
        except Exception as error:  # noqa: BLE001 - told in its place, see decide_many
            return error

    def _try_answer(self, drawn: _Drawn, stored: Decision) -> Answer | TilbudError:
        try:
            return self._answer(drawn, stored)
        except IdReused as error:
            return error

    def _answer(self, drawn: _Drawn, stored: Decision) -> Answer:
        """Answer from the ledger's row: this decision, or the earlier one of the same id."""
        if stored is drawn.decision:
            self._count(drawn)
        elif stored.fingerprint != drawn.decision.fingerprint:
            raise IdReused("decision_id", stored.decision_id)
        return Answer(stored, recorded=True, include_ranking=drawn.request.include_ranking)

    def _count(self, drawn: _Drawn) -> None:
        self._metrics.decided(drawn.decision, perf_counter() - drawn.asked)
        if drawn.eligibility and drawn.eligibility.removed:
            rules = [rule for _, rule in drawn.eligibility.removed]
            for rule in set(rules):
                self._metrics.excluded(drawn.decision.campaign, rule, rules.count(rule))

    def _prepare(self, request: DecideRequest, now: Now, deadline_s: float | None) -> Answer | _Drawn:
        asked = perf_counter()
        served = self._catalog.get(self._check(request))
        fingerprint = request.fingerprint(self._fingerprint_key)
        if request.decision_id and not request.dry_run:
            # Before anything a changed campaign file could refuse: a retry is answered word for word.
            earlier = self._ledger.find(request.campaign, request.decision_id)
            if earlier is not None:
                if earlier.fingerprint != fingerprint:
                    raise IdReused("decision_id", request.decision_id)
                return Answer(earlier, recorded=True, include_ranking=request.include_ranking)
        refused = served.campaign.consent == "required" and request.consent is not Consent.GRANTED
        consented = not refused and request.consent is not Consent.DENIED
        context = read_context(
            request.context, served.vocabulary, now.wall_us, self._limits, consented=consented
        )
        eligibility = served.rules.check(context, request.include_offers, request.exclude_offers)
        record = _Record(
            served, request, context=context, now=now, fingerprint=fingerprint, new_id=self._new_id
        )
        no_time = deadline_s is not None and deadline_s - asked < self._limits.decide_time_left_min_s
        if no_time:
            decision = record.fallback(Reason.FALLBACK_NO_TIME, PERSONALIZED)
            if not request.dry_run:
                self._metrics.decided(decision, perf_counter() - asked)
        elif refused:
            decision = record.fallback(Reason.FALLBACK_NO_CONSENT, self._variant(served, record))
        elif not eligibility.eligible:
            decision = record.fallback(Reason.FALLBACK_NO_ELIGIBLE_OFFER, self._variant(served, record))
        elif self._variant(served, record) == CONTROL:
            decision = self._control(served, record, eligibility)
        else:
            decision = self._personalized(served, record, eligibility)
        if request.dry_run or no_time:
            return Answer(decision, recorded=False, include_ranking=request.include_ranking)
        return _Drawn(request, decision, None if refused else eligibility, asked)

    def _check(self, request: DecideRequest) -> str:
        """Check all that does not depend on the campaign; return the campaign's id."""
        limits = self._limits
        check_id("decision_id", request.decision_id, limits)
        check_text("customer_id", request.customer_id, limits)
        for field, ids in (
            ("include_offers", request.include_offers),
            ("exclude_offers", request.exclude_offers),
        ):
            if len(ids) > limits.offer_list_max:
                raise InvalidField(field, f"at most {limits.offer_list_max} offers, got {len(ids)}")
        return check_id("campaign", request.campaign, limits, required=True)

    def _variant(self, served: ServedCampaign, record: _Record) -> str:
        return variant_of(served.campaign.variants, self._key, served.id, record.decision_id)

    def _u(self, served: ServedCampaign, record: _Record) -> float:
        return keyed_uniform(self._key, DRAW, served.id, record.decision_id)

    def _personalized(self, served: ServedCampaign, record: _Record, eligibility: Eligibility) -> Decision:
        offers = served.offer_set(eligibility.eligible)
        try:
            scores = served.model.predict(record.encoded.features, offers)
            discovery = served.campaign.exploration.discovery
            choice = choose(scores, len(offers.ids), discovery, self._u(served, record))
        except ModelUnavailable:
            return record.fallback(Reason.FALLBACK_MODEL_UNAVAILABLE, PERSONALIZED)
        return record.drawn(Reason.PERSONALIZED, PERSONALIZED, eligibility, offers, choice)

    def _control(self, served: ServedCampaign, record: _Record, eligibility: Eligibility) -> Decision:
        control = served.campaign.variants.control
        serves = control.serves if control else "uniform"
        if serves == "fallback":
            return record.fallback(Reason.CONTROL, CONTROL)
        offers = served.offer_set(eligibility.eligible)
        if serves == "uniform":
            choice = choose_evenly(len(offers.ids), self._u(served, record))
        elif serves in offers.ids:
            choice = choose_always(offers.ids.index(serves), len(offers.ids))
        else:
            return record.fallback(Reason.FALLBACK_NO_ELIGIBLE_OFFER, CONTROL)
        return record.drawn(Reason.CONTROL, CONTROL, eligibility, offers, choice)


class _Record:
    """What every way to answer one question has in common; turns a choice into its record."""

    __slots__ = ("_context", "_fingerprint", "_now", "_request", "_served", "decision_id", "encoded")

    def __init__(
        self,
        served: ServedCampaign,
        request: DecideRequest,
        *,
        context: Context,
        now: Now,
        fingerprint: bytes,
        new_id: Callable[[int], str],
    ) -> None:
        self._served = served
        self._request = request
        self._context = context
        self._now = now
        self._fingerprint = fingerprint
        self.decision_id = request.decision_id or new_id(now.wall_us)
        self.encoded = served.encode(context)

    def drawn(
        self, reason: Reason, variant: str, eligibility: Eligibility, offers: OfferSet, choice: Choice
    ) -> Decision:
        """Return the record of an offer that was drawn."""
        payload = self._served.payloads[eligibility.eligible[choice.drawn]]
        return self._decision(reason, variant, offers.ids[choice.drawn], payload, offers, choice)

    def fallback(self, reason: Reason, variant: str) -> Decision:
        """Return the record of the fallback."""
        served = self._served
        return self._decision(
            reason, variant, served.campaign.fallback.id, served.fallback_payload, NO_OFFERS, NO_CHOICE
        )

    def _decision(  # noqa: PLR0917 - in the order of the record
        self, reason: Reason, variant: str, offer_id: str, payload: Text, offers: OfferSet, choice: Choice
    ) -> Decision:
        served, context, now = self._served, self._context, self._now
        deferred = self._request.defer_activation
        reward = served.campaign.reward
        window_us = reward.activation_window_us if deferred else reward.window_us
        closes_service_us = now.service_us + window_us
        return Decision(
            campaign=served.id,
            decision_id=self.decision_id,
            fingerprint=self._fingerprint,
            decided_us=now.wall_us,
            variant=variant,
            reason=reason,
            offer_id=offer_id,
            payload=payload,
            probability=choice.probability,
            offers=offers,
            probabilities=choice.probabilities,
            drawn=choice.drawn,
            discovery=served.campaign.exploration.discovery,
            lineage=served.model.lineage,
            sequence=served.model.sequence,
            features=self.encoded.features,
            context=self.encoded.json,
            device=context.device,
            channel=context.channel,
            journey_stage=context.journey_stage,
            deferred=deferred,
            deadline_us=now.wall_us + window_us,
            closes_service_us=closes_service_us,
            due_service_us=closes_service_us if deferred else closes_service_us + reward.grace_us,
        )
