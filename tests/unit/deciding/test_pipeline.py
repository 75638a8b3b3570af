"""The way of a decision, without a network."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import pytest
from tests.wiring import Wired

from tilbud.deciding.pipeline import Answer
from tilbud.domain.context import Consent, ContextInput
from tilbud.domain.decision.records import DecideRequest, Reason
from tilbud.domain.errors import (
    IdReused,
    InvalidField,
    LedgerInvalid,
    ModelUnavailable,
    Overloaded,
    UnknownCampaign,
)

CAMPAIGN = """
campaign: c
context: {features: {tier: category}}
offers: [{id: a, payload: {n: 1}}, {id: b}, {id: app, channels: [app]}]
fallback: {id: none, payload: {n: 0}}
reward: {outcomes: {click: 1}}
consent: not_required
"""


@pytest.fixture
async def wired(tmp_path: Path) -> Wired:
    """The campaign above, served from memory."""
    return await Wired(CAMPAIGN, tmp_path).start()


async def _with(variants: str, tmp_path: Path) -> Wired:
    return await Wired(f"{CAMPAIGN}variants: {variants}\n", tmp_path).start()


async def test_too_little_time_gets_the_unrecorded_fallback(wired: Wired) -> None:
    """With too little time left: the fallback at once, unrecorded, its id still free."""
    answer = await wired.decide.decide(
        DecideRequest("c", decision_id="hurry"), deadline_s=perf_counter() + 0.001
    )
    assert not answer.recorded
    assert answer.decision.reason is Reason.FALLBACK_NO_TIME
    assert (answer.decision.offer_id, answer.decision.probability) == ("none", 1.0)
    assert await wired.ledger.find("c", "hurry") is None
    later = await wired.decide.decide(
        DecideRequest("c", decision_id="hurry"), deadline_s=perf_counter() + 60.0
    )
    assert later.recorded


async def test_a_retry_in_a_hurry_is_still_the_recorded_answer(wired: Wired) -> None:
    """A recorded decision is answered from the ledger however little time is left."""
    request = DecideRequest("c", decision_id="again")
    first = await wired.decide.decide(request)
    again = await wired.decide.decide(request, deadline_s=perf_counter())
    assert again.decision == first.decision


async def test_a_retry_is_answered_while_its_campaign_is_away(wired: Wired) -> None:
    """Word for word, as after a changed file; what was not asked before is of no campaign."""
    request = DecideRequest("c", decision_id="again")
    first = await wired.decide.decide(request)
    wired.catalog.replace([])
    assert (await wired.decide.decide(request)) == first
    with pytest.raises(IdReused):
        await wired.decide.decide(request._replace(context=ContextInput(device="mobile")))
    for unanswered in (DecideRequest("c", decision_id="new"), DecideRequest("c")):
        with pytest.raises(UnknownCampaign):
            await wired.decide.decide(unanswered)


async def test_without_a_usable_prediction_the_fallback_answers(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that cannot predict costs the offer, not the answer: recorded, with its reason."""

    def broken(*_: object) -> list[float]:
        raise ModelUnavailable("for the test")

    monkeypatch.setattr(wired.served.model, "predict", broken)
    answer = await wired.decide.decide(DecideRequest("c"))
    assert answer.recorded
    assert answer.decision.reason is Reason.FALLBACK_MODEL_UNAVAILABLE


async def test_control_can_serve_the_fallback(tmp_path: Path) -> None:
    """`serves: fallback`: the control group sees the fallback, by the reason CONTROL."""
    wired = await _with("{control: {share: 1, serves: fallback}}", tmp_path)
    decision = (await wired.decide.decide(DecideRequest("c"))).decision
    assert (decision.offer_id, decision.reason, decision.variant) == ("none", Reason.CONTROL, "control")


async def test_control_can_serve_one_offer(tmp_path: Path) -> None:
    """`serves: <offer>`: that offer for certain; where a rule removed it, the fallback."""
    wired = await _with("{control: {share: 1, serves: app}}", tmp_path)
    in_app = DecideRequest("c", context=ContextInput(channel="app"))
    shown = (await wired.decide.decide(in_app)).decision
    assert (shown.offer_id, shown.probability, sum(shown.probabilities)) == ("app", 1.0, 1.0)
    removed = (await wired.decide.decide(DecideRequest("c"))).decision
    assert removed.reason is Reason.FALLBACK_NO_ELIGIBLE_OFFER


@pytest.mark.parametrize(
    ("control", "discovery"),
    [("{share: 0}", 0.02), ("{share: 1}", 0.0), ("{share: 1, serves: fallback}", 0.0)],
)
async def test_a_record_has_the_discovery_of_its_own_draw(
    control: str, discovery: float, tmp_path: Path
) -> None:
    """Of control, and of a fallback, there was none, whatever the bandit of the campaign is given."""
    wired = await _with(f"{{control: {control}}}", tmp_path)
    assert (await wired.decide.decide(DecideRequest("c"))).decision.discovery == discovery


async def test_denied_consent_keeps_nothing_personal(wired: Wired) -> None:
    """DENIED: place, language, country and free features reach neither the model nor the record."""
    context = ContextInput(
        device="mobile", channel="web", place="clinic", language="da", country="DK", features={"tier": "gold"}
    )
    denied = (await wired.decide.decide(DecideRequest("c", context=context, consent=Consent.DENIED))).decision
    bare = ContextInput(device="mobile", channel="web")
    plain = (await wired.decide.decide(DecideRequest("c", context=bare))).decision
    assert denied.context == plain.context
    assert denied.features == plain.features
    granted = (await wired.decide.decide(DecideRequest("c", context=context))).decision
    assert "clinic" in granted.context


async def test_a_full_ledger_refuses_fast_and_counts_nothing(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the ledger is full the call fails with Overloaded, and no decision is counted."""

    async def full(*_: object) -> None:
        raise Overloaded("the ledger's queue", 0.25)

    monkeypatch.setattr(wired.ledger, "record", full)
    with pytest.raises(Overloaded):
        await wired.decide.decide(DecideRequest("c"))
    assert wired.metric("decisions_total") == 0


async def test_batches_answer_each_in_its_place(wired: Wired) -> None:
    """Good, bad, repeated and unreadable requests of one batch each get their own answer, in order."""
    unreadable = InvalidField("consent", "for the test")
    answers = await wired.decide.decide_many(
        [
            DecideRequest("c", decision_id="one"),
            DecideRequest("elsewhere"),
            unreadable,
            DecideRequest("c", decision_id="one"),
            DecideRequest("c", decision_id="one", customer_id="other"),
            DecideRequest("c", decision_id="dry", dry_run=True),
        ],
        [None] * 6,
    )
    first, unknown, refused, repeated, reused, dry = answers
    assert isinstance(first, Answer)
    assert isinstance(unknown, UnknownCampaign)
    assert refused is unreadable
    assert isinstance(repeated, Answer)
    assert repeated.decision == first.decision
    assert isinstance(reused, IdReused)
    assert isinstance(dry, Answer)
    assert not dry.recorded
    assert wired.metric("decisions_total") == 1


async def test_the_ranking_is_what_the_draw_used(wired: Wired) -> None:
    """Probabilities of the record sum to 1, the drawn one is answered, removed offers are absent."""
    decision = (await wired.decide.decide(DecideRequest("c"))).decision
    assert decision.offers.ids == ("a", "b")
    assert decision.probability == dict(decision.ranking())[decision.offer_id]
    assert sum(decision.probabilities) == pytest.approx(1.0)


async def test_a_customer_of_whom_no_rule_counts_anything_waits_for_nobody(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many ask at once for one customer, known or not: one record, nothing decided again."""
    recordings = []
    record = wired.ledger.record

    async def counting(decisions, now, contacts=()):
        recordings.append(len(decisions))
        return await record(decisions, now, contacts)

    monkeypatch.setattr(wired.ledger, "record", counting)
    guests = [DecideRequest("c", customer_id="guest", consent=Consent.GRANTED) for _ in range(40)]
    answers = await wired.decide.decide_many(guests, [None] * len(guests))
    assert {answer.recorded for answer in answers if isinstance(answer, Answer)} == {True}
    assert recordings == [len(guests)]


async def test_a_batch_looks_up_once(wired: Wired, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known customers, strangers and retries together are one question to the ledger, and one record."""
    looked_up = []
    look_up = wired.ledger.look_up

    async def counting(looks):
        looked_up.append(len(looks))
        return await look_up(looks)

    monkeypatch.setattr(wired.ledger, "look_up", counting)
    requests = [DecideRequest("c", f"d{n}", f"u{n % 7}" if n % 3 else "") for n in range(60)]
    first = await wired.decide.decide_many(requests, [None] * len(requests))
    assert await wired.decide.decide_many(requests, [None] * len(requests)) == first
    assert looked_up == [60, 60]


async def test_a_damaged_row_costs_its_own_question_alone(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others of a batch may be other callers': they are answered, and recorded."""
    look_up = wired.ledger.look_up

    async def damaged(looks):
        if any(look.decision_id == "damaged" for look in looks):
            raise LedgerInvalid("a recorded text is lost or damaged: restore a backup")
        return await look_up(looks)

    monkeypatch.setattr(wired.ledger, "look_up", damaged)
    requests = [DecideRequest("c", decision_id) for decision_id in ("before", "damaged", "after")]
    before, error, after = await wired.decide.decide_many(requests, [None] * len(requests))
    assert isinstance(error, LedgerInvalid)
    for answer in (before, after):
        assert isinstance(answer, Answer)
        assert answer.recorded
