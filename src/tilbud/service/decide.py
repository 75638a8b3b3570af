"""Decide: which offer should this customer see, here and now?

The way of a decision: check → retry? → who asks → eligibility → sticky? → caps → variant → time left? →
paused? → consent → predict → draw → ledger. Everything up to the ledger is synchronous, so one state of
the model and of the customer answers it whole. Where the customer changed before the ledger has it,
the whole decision is made again: redrawing only a capped offer would make its probability wrong.

What holds: the probability answered is the one the draw used, and nothing overrides the offer
afterwards; one (campaign, decision_id) has one answer; a valid call gets an answer while the ledger
commits; a dry run leaves no trace. gRPC is not known here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

from tilbud.domain.clock import Clock, Now
from tilbud.domain.context import check_text
from tilbud.domain.decisions import Contact, DecideRequest, Decision, Question, Reason, Repeat, check_id
from tilbud.domain.eligibility import Eligibility
from tilbud.domain.errors import IdReused, InvalidField, Overloaded, TilbudError
from tilbud.domain.limits import Limits
from tilbud.domain.switches import WHOLE_CAMPAIGN, paused
from tilbud.ledger.port import CustomersReading, Ledger
from tilbud.service.answer_space import AnswerSpace
from tilbud.service.asking import Askers
from tilbud.service.catalog import Catalog
from tilbud.service.choosing import Chooser
from tilbud.service.contacting import Contacting, Kept, contact_of
from tilbud.service.lines import Lines
from tilbud.service.record import Record
from tilbud.service.slices import Slices
from tilbud.telemetry.metrics import Metrics

Off = dict[str, frozenset[str]]  # by campaign: the offers that are off now, as a round found them


class Answer(NamedTuple):
    """A decision as it is answered."""

    decision: Decision
    recorded: bool
    include_ranking: bool


class _Drawn(NamedTuple):
    """A decision on its way to the ledger, with the moment it was asked."""

    request: DecideRequest
    decision: Decision
    contact: Contact | None
    eligibility: Eligibility | None
    dropped: Mapping[str, str]
    asked: float


@dataclass(frozen=True, slots=True)
class _Repeated:
    """A question that an earlier decision of the same customer answers, which the ledger is to know."""

    request: DecideRequest
    repeat: Repeat
    decision: Decision


_Prepared = Answer | Exception | _Drawn | _Repeated


def _fitting(
    prepared: Mapping[int, _Prepared],
    space: AnswerSpace[Answer | Exception],
    waiting: Iterable[int],
    *,
    first: bool,
) -> Mapping[int, _Prepared]:
    """Return what fits, and an error for what does not; raises AnswersTooLarge in the first round."""
    replies = {number: _expected(each) for number, each in prepared.items()}
    if first:
        space.begin(replies, (number for number in waiting if number not in prepared))
        return prepared
    return {
        number: each if space.take(number, replies[number]) else space.too_large()
        for number, each in prepared.items()
    }


def _expected(prepared: _Prepared) -> Answer | Exception:
    if isinstance(prepared, _Drawn | _Repeated):
        return Answer(prepared.decision, recorded=True, include_ranking=prepared.request.include_ranking)
    return prepared


class DecideService:
    """Answers decisions, one at a time or many at once."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        ledger: Ledger,
        customers: CustomersReading,
        clock: Clock,
        draw_key: bytes,
        ledger_key: bytes,
        metrics: Metrics,
        limits: Limits,
        new_id: Callable[[int], str],
    ) -> None:
        self._catalog = catalog
        self._ledger = ledger
        self._contacting = Contacting(customers=customers)
        self._askers = Askers(customers=customers, ledger_key=ledger_key, limits=limits)
        self._chooser = Chooser(draw_key=draw_key, limits=limits)
        self.lines = Lines()
        self._clock = clock
        self._ledger_key = ledger_key
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
        self,
        requests: Sequence[DecideRequest | Exception],
        deadlines_s: Sequence[float | None],
        *,
        in_line: bool = False,
        space: AnswerSpace[Answer | Exception] | None = None,
    ) -> list[Answer | Exception]:
        """Answer many questions; each round is one ledger transaction. A bad one gets its error in its place.

        Questions of one customer are answered one after the other, a round each, so that each sees what the
        one before showed; `in_line` says that the callers are in their customers' `lines` already. A request
        that could not even be read stands as its error already. An unexpected error is told in its place
        too: the other questions may be other callers'. `deadlines_s` says until when each caller waits, on
        `perf_counter`'s clock; None: for ever. `space` bounds what the answers take, if they are one message.
        Not to be cancelled: what is handed to the ledger is recorded all the same, and would not be counted.
        Raises Overloaded, LedgerUnavailable, and AnswersTooLarge before anything is recorded.
        """
        slices = Slices(self._limits.loop_slice_s)
        answers: dict[int, Answer | Exception] = {}
        tries: Counter[int] = Counter()
        waiting: list[int] = list(range(len(requests)))
        while waiting:
            entered = {} if in_line else await self._enter(waiting, requests)
            asked = [number for number in waiting if in_line or number in entered]
            try:
                prepared: Mapping[int, _Prepared]
                prepared = await self._prepare_all(asked, requests, deadlines_s, slices)
                if space is not None:
                    prepared = _fitting(prepared, space, waiting, first=not answers and not tries)
                finished = await self._finish(prepared, slices)
            finally:
                for customer_id in filter(None, entered.values()):
                    self.lines.leave(customer_id)
            for number, found in finished.items():
                if found is not None:
                    fits = space is None or space.take(number, found)  # an earlier answer may be larger
                    answers[number] = found if fits or space is None else space.too_large()
                    continue
                self._metrics.redecided.inc()
                tries[number] += 1
                if tries[number] >= self._limits.decide_tries_max:
                    answers[number] = Overloaded("the line for this customer", self._limits.retry_after_s)
            waiting = [number for number in waiting if number not in answers]
        return [answers[number] for number in range(len(requests))]

    async def _enter(
        self, waiting: Sequence[int], requests: Sequence[DecideRequest | Exception]
    ) -> dict[int, str]:
        """Return the questions of a round with the customers whose lines were entered for them ("": none).

        Those are all whose line is free. Where none is: the first, when its turn has come.
        """
        customers = {
            number: request.customer_id if isinstance(request, DecideRequest) else ""
            for number in waiting
            for request in (requests[number],)
        }
        entered = {
            number: customer_id
            for number, customer_id in customers.items()
            if not customer_id or self.lines.try_enter(customer_id)
        }
        if not entered:
            await self.lines.enter(customers[waiting[0]])
            entered[waiting[0]] = customers[waiting[0]]
        return entered

    async def _prepare_all(
        self,
        asked: Sequence[int],
        requests: Sequence[DecideRequest | Exception],
        deadlines_s: Sequence[float | None],
        slices: Slices,
    ) -> dict[int, _Prepared]:
        off: Off = {}
        prepared: dict[int, _Prepared] = {}
        now = self._clock.now()
        for number in asked:
            if slices.over():
                await slices.give_way()
                now = self._clock.now()
            prepared[number] = self._try_prepare(requests[number], now, deadlines_s[number], off)
        return prepared

    async def _finish(
        self, prepared: Mapping[int, _Prepared], slices: Slices
    ) -> dict[int, Answer | Exception | None]:
        """Record what was drawn; return the answers, None where the customer changed meanwhile."""
        drawn = [each for each in prepared.values() if isinstance(each, _Drawn)]
        repeats = [each.repeat for each in prepared.values() if isinstance(each, _Repeated)]
        now = self._clock.now()
        stored = iter(
            await self._ledger.record(
                [each.decision for each in drawn],
                now,
                [each.contact for each in drawn] if any(each.contact for each in drawn) else (),
            )
            if drawn
            else ()
        )
        stands_for = iter(await self._ledger.repeat(repeats, now) if repeats else ())
        finished: dict[int, Answer | Exception | None] = {}
        for number, each in prepared.items():
            if slices.over():
                await slices.give_way()
            if isinstance(each, _Drawn):
                finished[number] = self._try_answer(each, next(stored))
            elif isinstance(each, _Repeated):
                finished[number] = self._repeated(each, next(stands_for))
            else:
                finished[number] = each
        return finished

    def _try_prepare(
        self, request: DecideRequest | Exception, now: Now, deadline_s: float | None, known_off: Off
    ) -> _Prepared:
        if isinstance(request, Exception):
            return request
        try:
            return self._prepare(request, now, deadline_s, known_off)
        except Exception as error:  # noqa: BLE001 - told in its place, see decide_many
            return error

    def _try_answer(self, drawn: _Drawn, stored: Decision | None) -> Answer | TilbudError | None:
        """Answer from the ledger's row: this decision, or the earlier one of the same id."""
        if stored is None:
            return None
        if stored is drawn.decision:
            self._count(drawn)
        elif not drawn.request.asked_before(drawn.decision.decision_id, stored, self._ledger_key):
            return IdReused("decision_id", drawn.decision.decision_id)
        return Answer(stored, recorded=True, include_ranking=drawn.request.include_ranking)

    def _repeated(self, repeated: _Repeated, stored: Decision | None) -> Answer | TilbudError | None:
        if stored is None:
            return None
        if not repeated.request.asked_before(repeated.repeat.decision_id, stored, self._ledger_key):
            return IdReused("decision_id", repeated.repeat.decision_id)
        self._metrics.sticky.labels(stored.campaign).inc()
        return Answer(stored, recorded=True, include_ranking=repeated.request.include_ranking)

    def _count(self, drawn: _Drawn) -> None:
        self._metrics.decided(drawn.decision, perf_counter() - drawn.asked)
        if drawn.dropped:
            self._metrics.dropped(drawn.decision.campaign, drawn.dropped)
        if drawn.eligibility and drawn.eligibility.removed:
            rules = [rule for _, rule in drawn.eligibility.removed]
            for rule in set(rules):
                self._metrics.excluded(drawn.decision.campaign, rule, rules.count(rule))

    def _prepare(
        self, request: DecideRequest, now: Now, deadline_s: float | None, known_off: Off
    ) -> Answer | _Drawn | _Repeated:
        asked = perf_counter()
        campaign = self._check(request)
        if request.decision_id and not request.dry_run:
            # Before anything a changed campaign file, or one that is gone, could refuse: a retry is answered
            # word for word.
            earlier = self._ledger.find(request.campaign, request.decision_id)
            if earlier is not None:
                if not request.asked_before(request.decision_id, earlier, self._ledger_key):
                    raise IdReused("decision_id", request.decision_id)
                return Answer(earlier, recorded=True, include_ranking=request.include_ranking)
        served = self._catalog.get(campaign)
        off = known_off.get(served.id)
        if off is None:
            off = known_off[served.id] = paused(self._ledger.pauses(served.id), now.wall_us)
        known = self._askers.known(request, served, now.wall_us, off)
        asking, eligibility, encoded, question = known or self._askers.ask(request, served, now, off)
        channel = request.context.channel
        left_s = None if deadline_s is None else deadline_s - asked
        if WHOLE_CAMPAIGN not in off and (left_s is None or left_s >= self._limits.decide_time_left_min_s):
            kept = self._contacting.kept(
                served, asking, eligibility, channel, now, pending=request.defer_activation
            )
            if kept is not None:
                if not request.dry_run:
                    self._metrics.dropped(served.id, asking.situation.dropped)
                return self._again(kept, request, question)
        eligibility = self._contacting.capped(served, asking, eligibility, channel, now.steady_us)
        record = Record(
            served,
            request,
            situation=asking.situation,
            encoded=encoded,
            eligibility=eligibility,
            customer=asking.key,
            now=now,
            question=question,
            new_id=self._new_id,
        )
        decision = self._chooser.choose(
            served, record, eligibility, left_s=left_s, paused=WHOLE_CAMPAIGN in off, refused=asking.refused
        )
        if decision.reason is Reason.FALLBACK_NO_TIME and not request.dry_run:
            self._metrics.decided(decision, perf_counter() - asked)
            self._metrics.dropped(served.id, asking.situation.dropped)
        if request.dry_run or decision.reason is Reason.FALLBACK_NO_TIME:
            return Answer(decision, recorded=False, include_ranking=request.include_ranking)
        contact = contact_of(served, asking, eligibility, decision, channel)
        shown = None if asking.refused else eligibility
        return _Drawn(request, decision, contact, shown, asking.situation.dropped, asked)

    def _again(self, kept: Kept, request: DecideRequest, question: Question) -> Answer | _Repeated:
        changed = None if kept.payload == kept.decision.payload else kept.payload
        decision = kept.decision._replace(payload=kept.payload)
        if request.dry_run:
            return Answer(decision, recorded=False, include_ranking=request.include_ranking)
        if request.decision_id or kept.contact.scopes:
            fingerprint = question.fingerprint(request.decision_id)
            repeat = Repeat(
                decision.campaign,
                request.decision_id,
                fingerprint,
                decision.decision_id,
                kept.contact,
                changed,
            )
            return _Repeated(request, repeat, decision)
        self._metrics.sticky.labels(decision.campaign).inc()
        return Answer(decision, recorded=True, include_ranking=request.include_ranking)

    def _check(self, request: DecideRequest) -> str:
        """Check all that does not depend on the campaign; return the campaign's id."""
        limits = self._limits
        check_id("decision_id", request.decision_id, limits)
        check_text("customer_id", request.customer_id, limits)
        if request.include_offers or request.exclude_offers:
            for field in ("include_offers", "exclude_offers"):
                if (count := len(getattr(request, field))) > limits.offer_list_max:
                    raise InvalidField(field, f"at most {limits.offer_list_max} offers, got {count}")
        return check_id("campaign", request.campaign, limits, required=True)
