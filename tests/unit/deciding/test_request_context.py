"""Who asks, and what their side of the story does to a decision, without a network."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.wiring import DRAW_KEY, Wired

from tilbud.campaigns.served import ServedCampaign
from tilbud.campaigns.source import parse_campaign
from tilbud.deciding.pipeline import Answer
from tilbud.domain.campaign.contact_policy import ContactPolicy
from tilbud.domain.context import Consent, ContextInput
from tilbud.domain.customer.customer import ANONYMOUS
from tilbud.domain.customer.profile_update import ProfileUpdate, TraitUpdate
from tilbud.domain.decision.facts import Facts, LookUp
from tilbud.domain.decision.records import DecideRequest, Decision, ExposureEffect, Reason
from tilbud.domain.errors import LedgerUnavailable, Overloaded
from tilbud.domain.pauses import Pause
from tilbud.service.customers import EventReport

CAMPAIGN = """
campaign: c
context:
  features: {tier: category}
  traits: {value: {kind: number, max_age: 30d}}
  events: [add_to_cart]
offers:
  - {id: rare, caps: [{times: 3, per: 7d}]}
  - {id: basket, requires: {add_to_cart: 2h}}
  - {id: school, sensitive_topic: family}
fallback: {id: none}
reward: {outcomes: {click: 1}, window: 1h}
consent: not_required
"""
PUSH = ContextInput(channel="push")


@pytest.fixture
async def wired(tmp_path: Path) -> Wired:
    """The campaign above, served from memory."""
    return await Wired(CAMPAIGN, tmp_path).start()


async def sticky(tmp_path: Path) -> Wired:
    """The same, one voice for a day, offers that are always there."""
    offers = "  - {id: a, channels: [web, push]}\n  - {id: b}\n"
    start, rest = CAMPAIGN.split("  - {id: rare")
    return await Wired(
        start + offers + "fallback" + rest.split("fallback", 1)[1] + "sticky: 24h\n", tmp_path
    ).start()


def ask(customer_id: str = "anna", **said: Any) -> DecideRequest:
    """A question by a customer who agreed."""
    return DecideRequest("c", customer_id=customer_id, **{"consent": Consent.GRANTED, **said})


async def decided(wired: Wired, request: DecideRequest) -> Decision:
    """Ask, and return the decision."""
    return (await wired.decide.decide(request)).decision


async def test_a_cap_holds_in_one_batch_too(wired: Wired) -> None:
    """Of 64 questions of one customer in one batch, exactly the capped number shows the offer."""
    answers = await wired.decide.decide_many([ask()] * 64, [None] * 64)
    shown = Counter(answer.decision.offer_id for answer in answers if isinstance(answer, Answer))
    assert shown == {"rare": 3, "none": 61}
    assert wired.metric("excluded_offers_total", rule="caps") == 61
    others = await wired.decide.decide_many([ask("bo"), ask("cy"), ask("")], [None] * 3)
    assert all(isinstance(each, Answer) and each.decision.offer_id == "rare" for each in others)


async def test_a_cap_holds_among_concurrent_callers(wired: Wired) -> None:
    """64 callers at once, each a batch of its own: exactly the capped number of them see the offer."""
    answers = await asyncio.gather(*(wired.decide.decide(ask()) for _ in range(64)))
    assert Counter(answer.decision.offer_id for answer in answers) == {"rare": 3, "none": 61}


async def test_a_customer_who_changed_meanwhile_is_decided_again(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the ledger says that the customer changed, the whole decision is made again."""
    record = wired.ledger.record
    contacts: list[ExposureEffect | None] = []

    async def overtaken(decisions: Any, now: Any, contacts_of: Any = ()) -> Any:
        contacts.extend(contacts_of)
        if len(contacts) == 1:
            await wired.customers.update("anna", ProfileUpdate(consent=Consent.DENIED))
        return await record(decisions, now, contacts_of)

    monkeypatch.setattr(wired.ledger, "record", overtaken)
    request = ask(context=ContextInput(place="clinic"))
    decision = await decided(wired, request)
    assert decision.customer == ANONYMOUS, "consent was taken back before it was recorded"
    assert "clinic" not in decision.context
    assert wired.metric("redecided_decisions_total") == 1


async def test_a_customer_who_never_stands_still_is_shed(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decision is not made again for ever: after a bounded number of tries the call is refused."""

    async def always_changed(decisions: Any, *_: Any) -> list[None]:
        return [None] * len(decisions)

    monkeypatch.setattr(wired.ledger, "record", always_changed)
    with pytest.raises(Overloaded):
        await wired.decide.decide(ask())
    assert wired.metric("redecided_decisions_total") == wired.limits.decide_tries_max


async def test_an_event_opens_an_offer_in_every_channel(wired: Wired) -> None:
    """An abandoned basket changes the next offer, wherever it is asked for, and only for two hours."""
    assert "basket" not in dict((await decided(wired, ask())).ranking())
    await wired.customers.report_event(EventReport("anna", "add_to_cart", "e1", consent=Consent.GRANTED))
    for channel in ("web", "push"):
        decision = await decided(wired, ask(context=ContextInput(channel=channel)))
        assert "basket" in decision.offers.ids
        assert json.loads(decision.context)["last_event"] == "add_to_cart"
    assert "basket" not in (await decided(wired, ask("bo"))).offers.ids
    wired.clock.pass_s(7_201)
    assert "basket" not in (await decided(wired, ask())).offers.ids


async def test_a_wall_clock_that_jumps_makes_nothing_old(wired: Wired) -> None:
    """What happened a moment ago, and what is known since then, counts while the clock is days ahead."""
    await wired.customers.update(
        "anna", ProfileUpdate(consent=Consent.GRANTED, traits={"value": TraitUpdate(9.0)})
    )
    await wired.customers.report_event(EventReport("anna", "add_to_cart", "e1"))
    wired.clock.wrong_us = 1_000 * 86_400_000_000
    decision = await decided(wired, ask())
    assert "basket" in decision.offers.ids
    context = json.loads(decision.context)
    assert (context["value"], context["last_event_recency"]) == (9.0, "within_an_hour")


async def test_what_was_told_while_the_clock_was_wrong_grows_old_in_time(wired: Wired) -> None:
    """A trait that came while the wall clock was days ahead is too old when its time is over."""
    wired.clock.wrong_us = 1_000 * 86_400_000_000
    await wired.customers.update(
        "anna", ProfileUpdate(consent=Consent.GRANTED, traits={"value": TraitUpdate(9.0)})
    )
    wired.clock.wrong_us = 0
    wired.clock.pass_s(31 * 86_400)
    assert json.loads((await decided(wired, ask())).dropped.body) == {"value": "too_old"}


async def test_one_voice_while_the_wall_clock_is_ahead_and_after(tmp_path: Path) -> None:
    """A decision that was dated days ahead is served again, then and later, for its time."""
    wired = await sticky(tmp_path)
    wired.clock.wrong_us = 1_000 * 86_400_000_000
    first = await decided(wired, ask())
    wired.clock.pass_s(60)
    assert (await decided(wired, ask())).decision_id == first.decision_id
    wired.clock.wrong_us = 0
    assert (await decided(wired, ask())).decision_id == first.decision_id
    wired.clock.pass_s(86_400)
    assert (await decided(wired, ask())).decision_id != first.decision_id


async def test_without_consent_what_was_forbidden_still_holds(wired: Wired) -> None:
    """Preferences are heeded whatever the consent says; nothing else of a customer is used without it."""
    await wired.customers.update(
        "anna",
        ProfileUpdate(
            consent=Consent.GRANTED,
            traits={"value": TraitUpdate(9.0)},
            preference_lists={"opted_in_topics": ("family",), "blocked_offers": ("rare",)},
        ),
    )
    granted = await decided(wired, ask())
    assert granted.offers.ids == ("school",)
    assert json.loads(granted.context)["value"] == 9.0
    denied = await decided(wired, ask(consent=Consent.DENIED))
    assert denied.reason is Reason.FALLBACK_NO_ELIGIBLE_OFFER
    assert denied.customer == ANONYMOUS
    assert json.loads(denied.removed.body) == {
        "rare": "blocked_offers", "basket": "requires", "school": "sensitive_topic",
    }  # fmt: skip
    assert json.loads(denied.dropped.body) == {"customer_id": "no_consent"}, "nothing of the profile"


async def test_one_voice_across_channels(tmp_path: Path) -> None:
    """A sticky decision is served again: same id, same probability, counted once; asking ids stand for it."""
    wired = await sticky(tmp_path)
    first = await decided(wired, ask(decision_id="one"))
    again = await decided(wired, ask(decision_id="two", context=PUSH))
    without_id = await decided(wired, ask(context=PUSH))
    assert {each.decision_id for each in (first, again, without_id)} == {"one"}
    assert {each.probability for each in (first, again, without_id)} == {first.probability}
    assert wired.metric("decisions_total") == 1
    assert wired.metric("sticky_decisions_total") == 2
    assert (await decided(wired, ask(decision_id="two", context=PUSH))).decision_id == "one", "its retry"
    assert (await decided(wired, ask("bo"))).decision_id != "one"
    wired.clock.pass_s(86_401)
    assert (await decided(wired, ask())).decision_id != "one"
    assert (await decided(wired, ask(decision_id="two", context=PUSH))).decision_id == "one", (
        "its retry, later"
    )


async def test_what_was_recorded_is_counted_though_a_repeat_beside_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger fails between two commits of a batch: each decision it has is counted once."""
    wired = await sticky(tmp_path)
    await decided(wired, ask(decision_id="one"))
    batch = [ask(decision_id="two"), ask("bo", decision_id="three"), ask("cy", decision_id="four")]

    async def locked(*_: object) -> None:
        raise LedgerUnavailable("locked")

    with monkeypatch.context() as failing:
        failing.setattr(wired.ledger, "repeat", locked)
        with pytest.raises(LedgerUnavailable):
            await wired.decide.decide_many(batch, [None] * 3)
    assert await wired.ledger.find("c", "three") is not None
    assert wired.metric("decisions_total") == 3
    assert wired.metric("sticky_decisions_total") == 0
    await wired.decide.decide_many(batch, [None] * 3)
    assert wired.metric("decisions_total") == 3
    assert wired.metric("sticky_decisions_total") == 1


async def test_a_retry_of_a_repeat_that_another_process_is_at_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find its id unknown, and record it: one is the repeat, the other its retry."""
    wired = await sticky(tmp_path)
    await decided(wired, ask(decision_id="one"))
    await decided(wired, ask(decision_id="two"))
    real = wired.ledger.look_up

    async def too_early(looks: Sequence[LookUp]) -> list[Facts]:
        return [facts._replace(earlier=None) for facts in await real(looks)]

    monkeypatch.setattr(wired.ledger, "look_up", too_early)
    assert (await decided(wired, ask(decision_id="two"))).decision_id == "one"
    assert wired.metric("sticky_decisions_total") == 1


async def test_nothing_is_counted_that_is_not_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What needs no ledger falls with a batch that the ledger fails, and counts when repeated."""
    wired = await sticky(tmp_path)
    await decided(wired, ask())
    odd = ContextInput(time_zone="Nowhere/None")
    batch = [ask(context=odd), ask("bo", context=odd), ask("cy")]
    hurry = [None, 0.0, None]  # the second has no time left

    async def locked(*_: object) -> None:
        raise LedgerUnavailable("locked")

    with monkeypatch.context() as failing:
        failing.setattr(wired.ledger, "record", locked)
        with pytest.raises(LedgerUnavailable):
            await wired.decide.decide_many(batch, hurry)
    for counted, before in (("decisions", 1), ("sticky_decisions", 0), ("dropped_values", 0)):
        assert wired.metric(f"{counted}_total") == before
    await wired.decide.decide_many(batch, hurry)
    for counted, after in (("decisions", 3), ("sticky_decisions", 1), ("dropped_values", 2)):
        assert wired.metric(f"{counted}_total") == after


async def test_a_sticky_offer_that_may_not_be_shown_any_more_is_not(tmp_path: Path) -> None:
    """Rules are asked again before a decision is served again; blocked, it is another decision."""
    wired = await sticky(tmp_path)
    first = await decided(wired, ask())
    await wired.customers.update(
        "anna", ProfileUpdate(preference_lists={"blocked_offers": (first.offer_id,)})
    )
    second = await decided(wired, ask())
    assert second.decision_id != first.decision_id
    assert second.offer_id != first.offer_id
    await wired.pauses.pause_campaign("c", "bad news", None)
    assert (await decided(wired, ask())).reason is Reason.FALLBACK_CAMPAIGN_PAUSED


async def test_pauses_act_on_the_next_decision(wired: Wired) -> None:
    """A pause counts from the next decision on, until it is resumed or its time is over."""
    await wired.pauses.pause_offer("c", "rare", "sold out", None)
    paused = await decided(wired, ask(""))
    assert json.loads(paused.removed.body)["rare"] == "paused"
    await wired.pauses.resume_offer("c", "rare")
    assert (await decided(wired, ask(""))).offer_id == "rare"
    await wired.pauses.pause_campaign("c", "bad news", wired.clock.wall_us + 60_000_000)
    off = await decided(wired, ask(""))
    assert (off.reason, off.offer_id) == (Reason.FALLBACK_CAMPAIGN_PAUSED, "none")
    assert json.loads(off.removed.body)["rare"] == "campaign_paused"
    wired.clock.pass_s(61)
    assert (await decided(wired, ask(""))).offer_id == "rare"


async def test_a_dry_run_of_a_customer_leaves_no_trace(wired: Wired) -> None:
    """A dry run neither counts as an exposure nor makes the customer known."""
    for _ in range(5):
        assert not (await wired.decide.decide(ask(dry_run=True))).recorded
    assert [(await decided(wired, ask())).offer_id for _ in range(4)] == ["rare", "rare", "rare", "none"]


async def test_erasure_relearns_and_keeps_nobody(wired: Wired) -> None:
    """After an erasure the customer is as one who denied; the models were asked to forget."""
    await decided(wired, ask(decision_id="d1"))
    assert await wired.customers.erase("anna") > 0
    assert wired.relearned == 1
    assert await wired.ledger.find("c", "d1") is None
    assert (await decided(wired, ask())).customer == ANONYMOUS
    await wired.customers.update("anna", ProfileUpdate(consent=Consent.GRANTED))
    assert (await decided(wired, ask())).customer != ANONYMOUS


async def test_a_repeat_is_a_contact_where_the_channel_has_caps(tmp_path: Path) -> None:
    """One voice, and still no more contacts than contact.yaml allows in the channel; elsewhere freely."""
    wired = await sticky(tmp_path)
    policy = ContactPolicy.model_validate({"channels": {"push": {"caps": [{"times": 2, "per": "1d"}]}}})
    file = replace(wired.served.file, contact=policy)
    wired.catalog.replace([ServedCampaign(file, wired.served.models, wired.limits)])
    answers = [await decided(wired, ask(context=PUSH)) for _ in range(4)]
    assert [each.reason for each in answers] == [
        Reason.PERSONALIZED, Reason.PERSONALIZED,
        Reason.FALLBACK_NO_ELIGIBLE_OFFER, Reason.FALLBACK_NO_ELIGIBLE_OFFER,
    ]  # fmt: skip
    assert answers[0].decision_id == answers[1].decision_id
    web = [await decided(wired, ask(context=ContextInput(channel="web"))) for _ in range(4)]
    assert {each.decision_id for each in web} == {answers[0].decision_id}
    rivals = [
        wired.decide.decide(ask("bo", context=PUSH, decision_id=f"bo-{number}")) for number in range(32)
    ]
    met = [(await each).decision for each in asyncio.as_completed(rivals)]
    assert sum(each.drawn >= 0 for each in met) == 2
    assert wired.metric("excluded_offers_total", rule="contact_policy") > 0


ANYBODY = """
campaign: c
context: {channels: [web, push]}
time_zone: UTC
offers:
  - {id: late, hours: "00:00-23:30", channels: [web]}
  - {id: always}
fallback: {id: none}
reward: {outcomes: {click: 1}, window: 1h}
consent: not_required
"""


async def eligible(wired: Wired, **said: Any) -> tuple[str, ...]:
    """Ask as nobody in particular, twice, and return the offers that were eligible both times."""
    asked = DecideRequest("c", context=ContextInput(channel="web"))._replace(**said)
    first, again = [(await decided(wired, asked)).offers.ids for _ in range(2)]
    assert first == again, "an equal question of the same minute"
    return first


async def test_questions_that_name_nobody_are_kept_apart_by_all_they_say(tmp_path: Path) -> None:
    """What another anonymous question found is used for an equal one only."""
    wired = await Wired(ANYBODY, tmp_path).start()
    assert await eligible(wired) == ("late", "always")
    assert await eligible(wired, context=ContextInput(channel="push")) == ("always",)
    assert await eligible(wired, exclude_offers=("always",)) == ("late",)
    assert await eligible(wired, context=ContextInput(channel="web", time_us=86_399_000_000)) == ("always",)
    denied = DecideRequest("c", context=ContextInput(channel="web", place="clinic"))
    assert "clinic" in (await decided(wired, denied)).context
    assert "clinic" not in (await decided(wired, denied._replace(consent=Consent.DENIED))).context
    assert "clinic" in (await decided(wired, denied)).context


async def test_what_an_anonymous_question_found_holds_for_its_minute(tmp_path: Path) -> None:
    """Hours end, pauses act and campaigns are replaced, whatever was found just before."""
    wired = await Wired(ANYBODY, tmp_path).start()
    to_half_past_us = -wired.clock.wall_us % 86_400_000_000 - 1_800_000_000
    wired.clock.pass_s(to_half_past_us / 1e6 - 1)
    assert await eligible(wired) == ("late", "always")
    wired.clock.pass_s(1)
    assert await eligible(wired) == ("always",)
    pause = Pause("c", "always", "", wired.clock.wall_us, None)
    await wired.ledger.pause(pause, wired.clock.now())
    assert await eligible(wired) == ()
    await wired.ledger.resume("c", "always", wired.clock.now())
    wired.campaign = parse_campaign(ANYBODY.replace("id: always", "id: new").encode(), "test.yaml")
    await wired.serve()
    assert await eligible(wired) == ("new",)


SAID: dict[str, Any] = {
    "device": "mobile", "channel": "push", "journey_stage": "retention", "time_us": 0,
    "time_zone": "Europe/Rome", "language": "da", "country": "DK", "place": "shop",
}  # fmt: skip
OTHERWISE: dict[str, list[Any]] = {
    "context": [ContextInput()._replace(**{name: said}) for name, said in SAID.items()],
    "consent": [Consent.GRANTED, Consent.DENIED],
    "defer_activation": [True],
    "include_ranking": [True],
    "include_offers": [("late",)],
    "exclude_offers": [("late",)],
    "customer_id": ["anna"],
}  # fmt: skip


async def test_no_two_questions_are_taken_for_one(tmp_path: Path) -> None:
    """Whatever two questions differ in, neither answers the other's id; equal ones were looked into once."""
    assert {*OTHERWISE, "campaign", "decision_id", "dry_run"} == set(DecideRequest._fields)
    assert {*SAID, "features"} == set(ContextInput._fields)
    wired = await Wired(ANYBODY, tmp_path).start()
    plain = DecideRequest("c")
    asked = [plain, *(plain._replace(**{name: said}) for name, every in OTHERWISE.items() for said in every)]
    decisions = [await decided(wired, each) for each in (*asked, *asked)]
    assert len({decision.fingerprint for decision in decisions}) == 2 * len(asked)
    for number, decision in enumerate(decisions):
        retries = [each.asked_before(decision.decision_id, decision, DRAW_KEY) for each in asked]
        assert retries == [place == number % len(asked) for place in range(len(asked))]
    alike = [each for each in asked if not each.customer_id and each.context.time_us is None]
    assert len(wired.served.questions) == len(alike) - 2, "what narrows the offers is a question of its own"
    wired.clock.pass_s(60)
    await decided(wired, plain)
    assert len(wired.served.questions) == 1, "a minute later nothing of it holds"
