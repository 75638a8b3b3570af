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
from time import perf_counter
from typing import NamedTuple

from tilbud.campaigns.served import Catalog
from tilbud.concurrency.keyed_lock import KeyedLock
from tilbud.concurrency.time_slice import TimeSlice
from tilbud.deciding.answer_space import AnswerSpace
from tilbud.deciding.builder import DecisionBuilder
from tilbud.deciding.frequency import Contacting, Kept, contact_of
from tilbud.deciding.policies import Chooser
from tilbud.deciding.request_context import Askers
from tilbud.domain.clock import Clock, Now
from tilbud.domain.context import check_text
from tilbud.domain.decision.eligibility import Eligibility
from tilbud.domain.decision.records import (
    DecideRequest,
    Decision,
    ExposureEffect,
    Question,
    Reason,
    Repeat,
    check_id,
)
from tilbud.domain.errors import IdReused, InvalidField, Overloaded, TilbudError
from tilbud.domain.limits import Limits
from tilbud.domain.pauses import WHOLE_CAMPAIGN, paused
from tilbud.ledger.ports import CustomersReading, Ledger, or_later
from tilbud.telemetry.metrics import Metrics

Off = dict[str, frozenset[str]]  # by campaign: the offers that are off now, as a round found them


class Answer(NamedTuple):
    """A decision as it is answered."""

    decision: Decision
    recorded: bool
    include_ranking: bool


class _Drawn(NamedTuple):
    """A new decision, with the moment it was asked; on its way to the ledger, if it is to be recorded."""

    request: DecideRequest
    decision: Decision
    contact: ExposureEffect | None
    eligibility: Eligibility | None
    dropped: Mapping[str, str]
    asked: float
    recorded: bool = True


class _Repeated(NamedTuple):
    """A question that an earlier decision of the same customer answers, which the ledger may have to know."""

    request: DecideRequest
    repeat: Repeat | None
    decision: Decision
    dropped: Mapping[str, str]


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
    if isinstance(prepared, _Drawn):
        return _answer(prepared.request, prepared.decision, recorded=prepared.recorded)
    if isinstance(prepared, _Repeated):
        return _answer(prepared.request, prepared.decision)
    return prepared


def _answer(request: DecideRequest, decision: Decision, *, recorded: bool = True) -> Answer:
    return Answer(decision, recorded=recorded, include_ranking=request.include_ranking)


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
        self.locks = KeyedLock()
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
        time_slice = TimeSlice(self._limits.loop_slice_s)
        answers: dict[int, Answer | Exception] = {}
        tries: Counter[int] = Counter()
        waiting: list[int] = list(range(len(requests)))
        while waiting:
            entered = {} if in_line else await self._enter(waiting, requests)
            asked = [number for number in waiting if in_line or number in entered]
            try:
                prepared: Mapping[int, _Prepared]
                prepared = await self._prepare_all(asked, requests, deadlines_s, time_slice)
                if space is not None:
                    prepared = _fitting(prepared, space, waiting, first=not answers and not tries)
                finished = await self._finish(prepared, time_slice)
            finally:
                for customer_id in filter(None, entered.values()):
                    self.locks.release(customer_id)
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
            if not customer_id or self.locks.try_acquire(customer_id)
        }
        if not entered:
            await self.locks.acquire(customers[waiting[0]])
            entered[waiting[0]] = customers[waiting[0]]
        return entered

    async def _prepare_all(
        self,
        asked: Sequence[int],
        requests: Sequence[DecideRequest | Exception],
        deadlines_s: Sequence[float | None],
        time_slice: TimeSlice,
    ) -> dict[int, _Prepared]:
        off: Off = {}
        prepared: dict[int, _Prepared] = {}
        now = self._clock.now()
        for number in asked:
            if time_slice.expired():
                await time_slice.yield_to_loop()
                now = self._clock.now()
            prepared[number] = self._try_prepare(requests[number], now, deadlines_s[number], off)
        return prepared

    async def _finish(
        self, prepared: Mapping[int, _Prepared], time_slice: TimeSlice
    ) -> dict[int, Answer | Exception | None]:
        """Record what was drawn; return the answers, None where the customer changed meanwhile.

        What was recorded is counted before anything else is asked of the ledger, which may fail.
        """
        now = self._clock.now()
        finished: dict[int, Answer | Exception | None] = {
            number: each for number, each in prepared.items() if isinstance(each, Answer | Exception)
        }
        drawn = {number: each for number, each in prepared.items() if isinstance(each, _Drawn)}
        stored = iter(await self._record([each for each in drawn.values() if each.recorded], now))
        for number, new in drawn.items():
            if time_slice.expired():
                await time_slice.yield_to_loop()
            finished[number] = self._try_answer(new, next(stored) if new.recorded else new.decision)
        repeated = {number: each for number, each in prepared.items() if isinstance(each, _Repeated)}
        stands_for = iter(await self._repeat([each for each in repeated.values() if each.repeat], now))
        for number, again in repeated.items():
            if time_slice.expired():
                await time_slice.yield_to_loop()
            finished[number] = self._repeated(again, next(stands_for)) if again.repeat else self._kept(again)
        return finished

    async def _record(self, drawn: Sequence[_Drawn], now: Now) -> list[Decision | None]:
        if not drawn:
            return []
        contacts = [each.contact for each in drawn] if any(each.contact for each in drawn) else ()
        recording = self._ledger.record([each.decision for each in drawn], now, contacts)
        return await or_later(recording, lambda stored: list(map(self._try_answer, drawn, stored)))

    async def _repeat(self, repeated: Sequence[_Repeated], now: Now) -> list[Decision | None]:
        if not repeated:
            return []
        repeating = self._ledger.repeat([each.repeat for each in repeated if each.repeat], now)
        return await or_later(repeating, lambda stored: list(map(self._repeated, repeated, stored)))

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
        return _answer(drawn.request, stored, recorded=drawn.recorded)

    def _repeated(self, repeated: _Repeated, stored: Decision | None) -> Answer | TilbudError | None:
        decision_id = repeated.request.decision_id
        if stored is None:
            return None
        if not repeated.request.asked_before(decision_id, stored, self._ledger_key):
            return IdReused("decision_id", decision_id)
        if repeated.repeat is not None and stored.fingerprint is not repeated.repeat.fingerprint:
            return _answer(repeated.request, stored)  # to the same question, asked elsewhere meanwhile
        return self._kept(repeated._replace(decision=stored))

    def _kept(self, repeated: _Repeated) -> Answer:
        self._metrics.sticky.labels(repeated.decision.campaign).inc()
        self._metrics.dropped(repeated.decision.campaign, repeated.dropped)
        return _answer(repeated.request, repeated.decision)

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
                return _answer(request, earlier)
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
                return self._again(kept, request, question, asking.situation.dropped)
        eligibility = self._contacting.capped(served, asking, eligibility, channel, now.steady_us)
        builder = DecisionBuilder(
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
            served, builder, eligibility, left_s=left_s, paused=WHOLE_CAMPAIGN in off, refused=asking.refused
        )
        if request.dry_run:
            return _answer(request, decision, recorded=False)
        recorded = decision.reason is not Reason.FALLBACK_NO_TIME
        contact = contact_of(served, asking, eligibility, decision, channel) if recorded else None
        shown = None if asking.refused or not recorded else eligibility
        return _Drawn(request, decision, contact, shown, asking.situation.dropped, asked, recorded)

    def _again(
        self, kept: Kept, request: DecideRequest, question: Question, dropped: Mapping[str, str]
    ) -> Answer | _Repeated:
        changed = None if kept.payload == kept.decision.payload else kept.payload
        decision = kept.decision._replace(payload=kept.payload)
        if request.dry_run:
            return _answer(request, decision, recorded=False)
        if not (request.decision_id or kept.contact.scopes):
            return _Repeated(request, None, decision, dropped)
        fingerprint = question.fingerprint(request.decision_id)
        repeat = Repeat(
            decision.campaign, request.decision_id, fingerprint, decision.decision_id, kept.contact, changed
        )
        return _Repeated(request, repeat, decision, dropped)

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
