"""Decide: which offer should this customer see, here and now?

The way of a decision: look up, decide, record. To decide is: retry? → who asks → eligibility → sticky, while
there is time and the campaign is on? → caps → variant → time left? → paused? → consent? → an offer left? →
scores → draw; it reads nothing but what was looked up and waits for nothing, so one state of the model and of
the customer answers it whole. Where the customer changed before the ledger has it, the whole decision is made
again: redrawing only a capped offer would make its probability wrong.

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
from tilbud.deciding.frequency import StickyAnswer, apply_caps, exposure_effect, sticky_answer
from tilbud.deciding.policies import Chooser
from tilbud.deciding.request_context import ContextResolver
from tilbud.domain.clock import Clock, Now
from tilbud.domain.context import check_text
from tilbud.domain.decision.eligibility import Eligibility
from tilbud.domain.decision.facts import Facts, LookUp
from tilbud.domain.decision.records import (
    DecideRequest,
    Decision,
    ExposureEffect,
    Question,
    Reason,
    Repeat,
    check_id,
)
from tilbud.domain.errors import IdReused, InvalidField, LedgerUnavailable, Overloaded, TilbudError
from tilbud.domain.limits import Limits
from tilbud.domain.pauses import WHOLE_CAMPAIGN, paused
from tilbud.ledger.answers import or_later
from tilbud.ledger.ports import Decisions
from tilbud.telemetry.decisions import DecisionMetrics

_NOTHING_OFF: frozenset[str] = frozenset()


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
    replies = {number: _expected(result) for number, result in prepared.items()}
    if first:
        space.begin(replies, (number for number in waiting if number not in prepared))
        return prepared
    return {
        number: result if space.take(number, replies[number]) else space.too_large()
        for number, result in prepared.items()
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
        decisions: Decisions,
        clock: Clock,
        draw_key: bytes,
        ledger_key: bytes,
        metrics: DecisionMetrics,
        limits: Limits,
        new_id: Callable[[int], str],
    ) -> None:
        self._catalog = catalog
        self._decisions = decisions
        self._contexts = ContextResolver(ledger_key=ledger_key, limits=limits)
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

        Where a rule counts, questions of one customer are answered one after the other, a round each, so that
        each sees what the one before showed; `in_line` says that the callers hold their customers' `locks`
        already. A request that could not even be read stands as its error already. An unexpected error stands
        in its place too: the other questions may be other callers'. `deadlines_s` says until when each
        caller waits, on `perf_counter`'s clock; None: for ever. `space` bounds what the answers take, if they
        are one message.
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
                prepared = await self._decide_all(asked, requests, deadlines_s, time_slice)
                if space is not None:
                    prepared = _fitting(prepared, space, waiting, first=not answers and not tries)
                finished = await self._finish(prepared, time_slice)
            finally:
                for customer_id in filter(None, entered.values()):
                    self.locks.release(customer_id)
            for number, answer in finished.items():
                if answer is not None:
                    fits = space is None or space.take(number, answer)  # an earlier answer may be larger
                    answers[number] = answer if fits or space is None else space.too_large()
                    continue
                self._metrics.redecided.inc()
                tries[number] += 1
                if tries[number] >= self._limits.decide_tries_max:
                    answers[number] = Overloaded("the line for this customer", self._limits.retry_after_s)
            waiting = [number for number in waiting if number not in answers]
        return [answers[number] for number in range(len(requests))]

    def counts(self, campaign: str, channel: str) -> bool:
        """Say whether decisions of a customer there must follow each other, since a rule counts them."""
        served = self._catalog.find(campaign)
        return served is not None and served.counts(channel)

    async def _enter(
        self, waiting: Sequence[int], requests: Sequence[DecideRequest | Exception]
    ) -> dict[int, str]:
        """Return the questions of a round with the customers whose locks were acquired for them ("": none).

        Those are all whose lock is free. Where none is: the first, when its turn has come.
        """
        customers = {
            number: request.customer_id
            if isinstance(request, DecideRequest) and self.counts(request.campaign, request.context.channel)
            else ""
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

    async def _decide_all(
        self,
        asked: Sequence[int],
        requests: Sequence[DecideRequest | Exception],
        deadlines_s: Sequence[float | None],
        time_slice: TimeSlice,
    ) -> dict[int, _Prepared]:
        """Look up and decide, as many at once as the loop can do without others waiting.

        Those are left out for whose campaigns others were loaded meanwhile: they must be looked up anew.
        """
        prepared: dict[int, _Prepared] = {}
        for start in range(0, len(asked), self._limits.look_up_at_once):
            looks: dict[int, LookUp] = {}
            some = asked[start : start + self._limits.look_up_at_once]
            campaigns = self._catalog.all()
            asked_at_us = self._clock.now().steady_us
            for number in some:
                look = self._try_look_up(requests[number], asked_at_us)
                if isinstance(look, LookUp):
                    looks[number] = look
                else:
                    prepared[number] = look
            facts = await self._look_up(list(looks.values()))
            now = self._clock.now()
            for number, its_facts in zip(looks, facts, strict=True):
                if time_slice.expired():
                    await time_slice.yield_to_loop()
                    now = self._clock.now()
                if self._catalog.all() is not campaigns:
                    break  # the rules of now count what nobody looked up
                prepared[number] = self._try_decide(requests[number], its_facts, now, deadlines_s[number])
        return {number: prepared[number] for number in asked if number in prepared}

    async def _finish(
        self, prepared: Mapping[int, _Prepared], time_slice: TimeSlice
    ) -> dict[int, Answer | Exception | None]:
        """Record what was drawn; return the answers, None where the customer changed meanwhile.

        What was recorded is counted before anything else is asked of the ledger, which may fail.
        """
        now = self._clock.now()
        finished: dict[int, Answer | Exception | None] = {
            number: result for number, result in prepared.items() if isinstance(result, Answer | Exception)
        }
        drawn = {number: result for number, result in prepared.items() if isinstance(result, _Drawn)}
        stored = iter(await self._record([result for result in drawn.values() if result.recorded], now))
        for number, new in drawn.items():
            if time_slice.expired():
                await time_slice.yield_to_loop()
            finished[number] = self._try_answer(new, next(stored) if new.recorded else new.decision)
        repeated = {number: result for number, result in prepared.items() if isinstance(result, _Repeated)}
        stands_for = iter(await self._repeat([result for result in repeated.values() if result.repeat], now))
        for number, repetition in repeated.items():
            if time_slice.expired():
                await time_slice.yield_to_loop()
            finished[number] = (
                self._repeated(repetition, next(stands_for))
                if repetition.repeat
                else self._answer_sticky(repetition)
            )
        return finished

    async def _record(self, drawn: Sequence[_Drawn], now: Now) -> list[Decision | None]:
        if not drawn:
            return []
        contacts = [result.contact for result in drawn] if any(result.contact for result in drawn) else ()
        recording = self._decisions.record([result.decision for result in drawn], now, contacts)
        return await or_later(recording, lambda stored: list(map(self._try_answer, drawn, stored)))

    async def _repeat(self, repeated: Sequence[_Repeated], now: Now) -> list[Decision | None]:
        if not repeated:
            return []
        repeating = self._decisions.repeat(
            [repetition.repeat for repetition in repeated if repetition.repeat], now
        )
        return await or_later(repeating, lambda stored: list(map(self._repeated, repeated, stored)))

    async def _look_up(self, looks: Sequence[LookUp]) -> Sequence[Facts | Exception]:
        """Return what the ledger knows; where a row of it is at fault, an error in that place alone."""
        try:
            return await self._decisions.look_up(looks)
        except LedgerUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - returned in its place, see decide_many
            if len(looks) == 1:
                return [error]
        return [facts for look in looks for facts in await self._look_up([look])]

    def _try_look_up(self, request: DecideRequest | Exception, now_us: int) -> LookUp | Exception:
        if isinstance(request, Exception):
            return request
        try:
            self._check(request)
            return self._contexts.look_up(request, self._catalog.find(request.campaign), now_us)
        except Exception as error:  # noqa: BLE001 - returned in its place, see decide_many
            return error

    def _try_decide(
        self, request: DecideRequest | Exception, facts: Facts | Exception, now: Now, deadline_s: float | None
    ) -> _Prepared:
        if isinstance(request, Exception):
            return request
        if isinstance(facts, Exception):
            return facts
        try:
            return self._decide(request, facts, now, deadline_s)
        except Exception as error:  # noqa: BLE001 - returned in its place, see decide_many
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
        return self._answer_sticky(repeated._replace(decision=stored))

    def _answer_sticky(self, repeated: _Repeated) -> Answer:
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

    def _decide(
        self, request: DecideRequest, facts: Facts, now: Now, deadline_s: float | None
    ) -> Answer | _Drawn | _Repeated:
        """Decide by what the ledger knew; pure, but for the model's prediction and ids of our own."""
        asked = perf_counter()
        if facts.earlier is not None:
            # Before anything that a changed or removed campaign file could refuse: a retry is answered word
            # for word.
            if not request.asked_before(request.decision_id, facts.earlier, self._ledger_key):
                raise IdReused("decision_id", request.decision_id)
            return _answer(request, facts.earlier)
        served = self._catalog.get(request.campaign)
        off = paused(facts.pauses, now.wall_us) if facts.pauses else _NOTHING_OFF
        context, eligibility, encoded, question = self._contexts.resolve(request, served, facts, now, off)
        left_s = None if deadline_s is None else deadline_s - asked
        if WHOLE_CAMPAIGN not in off and (left_s is None or left_s >= self._limits.decide_time_left_min_s):
            sticky = sticky_answer(served, context, eligibility, facts, now)
            if sticky is not None:
                return self._repeat_of(sticky, request, question, context.situation.dropped)
        eligibility = apply_caps(served, context, eligibility, facts, now.steady_us)
        builder = DecisionBuilder(
            served,
            request,
            situation=context.situation,
            encoded=encoded,
            eligibility=eligibility,
            customer=context.key,
            now=now,
            question=question,
            new_id=self._new_id,
        )
        decision = self._chooser.choose(
            served, builder, eligibility, left_s=left_s, paused=WHOLE_CAMPAIGN in off, refused=context.refused
        )
        if request.dry_run:
            return _answer(request, decision, recorded=False)
        recorded = decision.reason is not Reason.FALLBACK_NO_TIME
        effect = exposure_effect(served, context, eligibility, decision) if recorded else None
        shown = None if context.refused or not recorded else eligibility
        return _Drawn(request, decision, effect, shown, context.situation.dropped, asked, recorded)

    def _repeat_of(
        self, sticky: StickyAnswer, request: DecideRequest, question: Question, dropped: Mapping[str, str]
    ) -> Answer | _Repeated:
        changed = None if sticky.payload == sticky.decision.payload else sticky.payload
        decision = sticky.decision._replace(payload=sticky.payload)
        if request.dry_run:
            return _answer(request, decision, recorded=False)
        if not (request.decision_id or sticky.effect.scopes):
            return _Repeated(request, None, decision, dropped)
        fingerprint = question.fingerprint(request.decision_id)
        repeat = Repeat(
            decision.campaign, request.decision_id, fingerprint, decision.decision_id, sticky.effect, changed
        )
        return _Repeated(request, repeat, decision, dropped)

    def _check(self, request: DecideRequest) -> None:
        """Check all that does not depend on the campaign."""
        limits = self._limits
        check_id("decision_id", request.decision_id, limits)
        check_text("customer_id", request.customer_id, limits)
        if request.include_offers or request.exclude_offers:
            for field in ("include_offers", "exclude_offers"):
                if (count := len(getattr(request, field))) > limits.offer_list_max:
                    raise InvalidField(field, f"at most {limits.offer_list_max} offers, got {count}")
        check_id("campaign", request.campaign, limits, required=True)
