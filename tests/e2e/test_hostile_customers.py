"""No input can hurt what is known of customers, the pauses, or the model that learns from both."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.e2e.customers import (
    ACCEPTED,
    customer,
    decide,
    erase,
    explain,
    exported,
    grant,
    happens,
    known,
    question,
    ranked,
    rebuild,
    refused,
    report,
    rows_of,
    sequence,
    update,
    used,
    value,
)
from tests.e2e.nonsense import (
    ALLOWED,
    BAD_TIMES,
    FLOAT32_MAX,
    NUMBERS,
    TEXTS,
    answer_or_clear_error,
    composed,
    is_clean,
    is_id,
    refuses,
)
from tests.running import CALL_S, Service, served, until

from tilbud.v1 import campaigns_pb2, decisions_pb2
from tilbud.v1 import customers_pb2 as cpb

# Allowed, and all that Vowpal Wabbit's text format could trip over.
MOOD, STAGE, CHANNEL, TOPIC = "0:1:0.5 |o t=14:30", "|o 1 _label_cost", "shared |d 1:1e39", "| d:1"
LIVES = f"""
campaign: lives
context:
  channels: [web, app, "{CHANNEL}"]
  journey_stages: [new, "{STAGE}"]
  features: {{basket: number}}
  traits: {{mood: category, points: {{kind: number, max_age: 30d}}, member: flag}}
  events: [add_to_cart, complaint, shared]
journey: {{shared: "{STAGE}"}}
segments: {{keen: {{mood: {{in: ["{MOOD}", silver]}}}}}}
groups: {{loud: {{caps: [{{times: 3, per: 1d}}]}}}}
offers:
  - {{id: left}}
  - {{id: right, topics: ["{TOPIC}"]}}
  - {{id: app-only, channels: [app]}}
  - {{id: capped, caps: [{{times: 2, per: 1d}}]}}
  - {{id: loud, group: loud}}
  - {{id: basket, requires: {{add_to_cart: 1d}}}}
  - {{id: calm, suppress_after: {{complaint: 7d}}}}
  - {{id: for-keen, when: {{keen: {{eq: true}}}}}}
  - {{id: settled, journey_stages: ["{STAGE}"]}}
  - {{id: sharer, when: {{last_event: {{eq: shared}}}}}}
  - {{id: rich, when: {{points: {{ge: 100}}}}}}
  - {{id: crib, sensitive_topic: "{TOPIC} family"}}
fallback: {{id: welcome}}
explanations:
  en:
    sentence: Because of {{factors}}.
    otherwise: Now and then, for everyone.
    and: and
    factors: {{mood: your mood, points: your points}}
reward:
  window: 1h
  outcomes: {{bought: {{weight: 1, final: true}}, left: {{weight: 0, final: true}}}}
  learn: on_settlement
exploration: {{preset: balanced, discovery: 0.05}}
consent: not_required
fallback_language: en
"""
FILES = {
    "lives.yaml": LIVES,
    "spare.yaml": LIVES.replace("campaign: lives", "campaign: spare"),
    "mutants.yaml": LIVES.replace("campaign: lives", "campaign: mutants"),
    "contact.yaml": f'channels: {{"{CHANNEL}": {{caps: [{{times: 50, per: 1d}}]}}}}\nquiet_channels: [app]\n',
}
ANYONE = {"left", "right", "capped", "loud", "calm"}
LISTS = ("blocked_offers", "blocked_topics", "blocked_channels", "opted_in_topics")
WORDS = ("language", "journey_stage")
BAD_ZONES = ["../../etc/passwd", "/etc/passwd", "Europe", "Europe/", ".", "..", "zone.tab", "A/" * 64]
BAD_HOURS = ["99:99-00:00", "08:00", "08:00-08:00", "00:00-24:00", "24:00-08:00", "8-9", "-", "٠٨:٠٠-٠٩:٠٠"]
BAD_PATHS = [
    "*", "Traits", "traits[mood]", "customer.consent", "consent.value", "language.da", "preferences.",
    "preferences.nonsense", "preferences.quiet_hours.from", "id", "etag", "update_time",
]  # fmt: skip
BAD_TOKENS = [
    "customer:[0]", "event:[1", "event:[-1]", f"event:[{2**63}]", 'event:["x"]', "event:[true]",
    "event:[1.0]", "event:[NaN]", "event:[1e39]", f"event:[{'9' * 5_000}]", f"event:{'[' * 100_000}",
    'event:{"a":1}', "decision:[1,2]", "last:[null]", 'last:["\\ud800"]', 'outcome:["a",1]', "nonsense:[]",
    ":", "event:",
]  # fmt: skip
BAD_SIZES = [-1, -(2**31), 1_001, 2**31 - 1]
BUSY_S = 5.0


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Serves campaigns alike, with traits, events, a journey, segments, caps and a contact policy."""
    with served(tmp_path_factory.mktemp("hostile-customers"), FILES) as service:
        yield service


@pytest.fixture
def service(started: Service) -> Iterator[Service]:
    """The service, which meets nothing unexpected in any test here."""
    told = len(started.log.read_text())
    yield started
    assert started.process.poll() is None
    assert "unexpected_error" not in started.log.read_text()[told:]


def _lives(service: Service, customer_id: str) -> cpb.Customer:
    """Let a customer have something in every place there is, and return the profile."""
    grant(service, customer_id, traits={"mood": "gold", "points": 5.0, "member": True}, language="da")
    wishes = cpb.Preferences(blocked_offers=["nothing"], blocked_topics=["x"], quiet_hours="22:00-07:00")
    profile = customer(customer_id, time_zone="Asia/Tokyo", journey_stage="new", preferences=wishes)
    assert happens(service, customer_id, "add_to_cart", "the-first") == ACCEPTED
    decide(service, "lives", customer_id, include_offers=["capped"])
    return update(service, profile)


def _update(service: Service, profile: cpb.Customer, *mask: str) -> cpb.Customer:
    """Update a profile, which takes no more of the service's time than one call should."""
    request = cpb.UpdateCustomerRequest(customer=profile, update_mask=FieldMask(paths=mask))
    before_s = service.cpu_s()
    try:
        return service.customers.UpdateCustomer(request, timeout=CALL_S).customer
    finally:
        assert service.cpu_s() - before_s < BUSY_S


# Profiles


@dataclass(frozen=True, slots=True)
class _Change:
    """An update of one field; `read` finds in a profile what then should be `kept`."""

    field: str
    takes: bool
    asked: cpb.Customer
    mask: str
    read: Callable[[cpb.Customer], object]
    kept: object


def _changes(customer_id: str, text: str) -> Iterator[_Change]:
    """Yield an update for each field that can be sent this text."""
    clean = is_clean(text)
    some = clean and bool(text)
    form = composed(text)
    low = form.lower().strip()  # so is a language kept, and it must be short in small letters too

    def of(*, field: str, takes: bool, mask: str, read: Any, kept: object, **said: Any) -> _Change:
        return _Change(f"customer.{field}", takes, customer(customer_id, **said), mask, read, kept)

    def trait(name: str) -> Callable[[cpb.Customer], object]:
        return lambda profile: profile.traits[name].value if name in profile.traits else None

    def stage(profile: cpb.Customer) -> str:
        return profile.journey_stage

    mask = f"traits.{text}"
    new, word = {text: 1.0}, {"mood": text}
    yield of(
        field="journey_stage", takes=clean, mask="journey_stage", read=stage, kept=form, journey_stage=text
    )
    yield of(
        field="language", takes=clean and is_clean(low), mask="language", read=lambda each: each.language,
        kept=low, language=text,
    )  # fmt: skip
    yield of(
        field="time_zone", takes=not text, mask="time_zone", read=lambda each: each.time_zone, kept="",
        time_zone=text,
    )  # fmt: skip
    yield of(
        field="traits", takes=some, mask="traits.mood", read=trait("mood"), kept=value(form), traits=word
    )
    yield of(field="traits", takes=some, mask=mask, read=trait(form), kept=value(1.0), traits=new)
    yield of(field="traits", takes=some, mask=mask, read=trait(form), kept=None)
    for name in LISTS:
        yield of(
            field=f"preferences.{name}", takes=some, mask=f"preferences.{name}",
            read=lambda each, name=name: list(getattr(each.preferences, name)), kept=[form],
            preferences=cpb.Preferences(**{name: [text]}),
        )  # fmt: skip
    yield of(
        field="preferences.quiet_hours", takes=not text, mask="preferences.quiet_hours",
        read=lambda each: each.preferences.quiet_hours, kept="",
        preferences=cpb.Preferences(quiet_hours=text),
    )  # fmt: skip


def test_every_text_of_a_profile_is_kept_word_for_word_or_refused_by_name(service: Service) -> None:
    """What a field takes is read back in NFC; what it refuses leaves the profile as it was."""
    profile, rows = _lives(service, "texts"), exported(service, "texts")
    for text in TEXTS:
        for change in _changes("texts", text):
            if change.takes:
                profile = _update(service, change.asked, change.mask)
                assert change.read(profile) == change.kept, (change.field, text)
            else:
                refuses(partial(_update, service, change.asked, change.mask), change.field)
                assert known(service, "texts") == profile
    for zone in BAD_ZONES:
        refuses(partial(_update, service, customer("texts", time_zone=zone)), "customer.time_zone")
    for hours in BAD_HOURS:
        asked = customer("texts", preferences=cpb.Preferences(quiet_hours=hours))
        refuses(partial(_update, service, asked), "customer.preferences.quiet_hours")
    for text in filter(None, TEXTS):
        stale = customer("texts", language="sv", etag=text)
        refusal = refused(partial(_update, service, stale))
        assert refusal == (grpc.StatusCode.ABORTED, "CUSTOMER_CHANGED")
    assert known(service, "texts") == profile
    after = exported(service, "texts")
    assert after[1:] == rows[1:]
    assert set(after[0]["traits"]) == set(profile.traits)
    assert ranked(service, "lives", "texts") == ANYONE | {"basket"}


def test_every_number_and_time_of_a_profile_is_kept_or_refused_by_name(service: Service) -> None:
    """Of numbers those of a 32-bit float are kept, of times those of the years 1970 to 9998."""
    profile = _lives(service, "numbers")
    for number in NUMBERS:
        asked = customer("numbers", {"points": number})
        if abs(number) <= FLOAT32_MAX:
            profile = _update(service, asked)
            assert profile.traits["points"].value.number == number
            assert ("rich" in ranked(service, "lives", "numbers")) == (number >= 100)
        else:
            refuses(partial(_update, service, asked), "customer.traits[points]")
    for at in BAD_TIMES:
        asked = customer("numbers")
        asked.traits["points"].CopyFrom(cpb.Trait(value=value(1.0), update_time=at))
        refuses(partial(_update, service, asked), "customer.traits[points].update_time")
    asked = customer("numbers")
    asked.traits["points"].SetInParent()
    refuses(partial(_update, service, asked), "customer.traits[points].value")
    for number in (7, -1, 2**31 - 1):
        asked = customer("numbers", consent=number)
        refuses(partial(_update, service, asked), "customer.consent")
    assert known(service, "numbers") == profile


def test_more_than_a_profile_may_hold_is_refused_whole(service: Service) -> None:
    """101 traits, at once or one by one, and lists too long: refused by name, and nothing of it is kept."""
    hundred = {f"trait{number}": float(number) for number in range(100)}
    profile = grant(service, "full", traits=hundred)
    for traits in ({"one more": 1.0}, hundred | {"one more": 1.0}):
        asked = customer("full", traits)
        refuses(partial(_update, service, asked), "customer.traits")
    for name, most in zip(LISTS, (1_000, 100, 100, 100), strict=True):
        for words in ([str(number) for number in range(most + 1)], ["x"] * 100_000, ["fine", ""]):
            asked = customer("full", preferences=cpb.Preferences(**{name: words}))
            refuses(partial(_update, service, asked), f"customer.preferences.{name}")
    assert known(service, "full") == profile
    assert {name: trait.value.number for name, trait in profile.traits.items()} == hundred


def test_a_mask_of_any_paths_changes_what_it_names_or_is_refused(service: Service) -> None:
    """Unknown, nested, hostile paths and thousands of them: what is refused changes nothing."""
    profile = _lives(service, "masked")
    changed = customer("masked", {"mood": "silver"}, language="sv", consent=decisions_pb2.CONSENT_DENIED)
    for path in (*BAD_PATHS, *TEXTS):
        for mask in ([path], ["language", "traits.mood", path]):
            refuses(partial(_update, service, changed, *mask), "update_mask")
    for mask in ([f"x{number}" for number in range(10_000)], ["language"] * 10_000 + ["nonsense"]):
        refuses(partial(_update, service, changed, *mask), "update_mask")
    gone = [f"traits.{number}" for number in range(10_000)]
    assert answer_or_clear_error(partial(_update, service, changed, *gone)) is None
    assert known(service, "masked") == profile
    if answer_or_clear_error(partial(_update, service, changed, *["language"] * 10_000), "update_mask"):
        profile.language = "sv"
    after = known(service, "masked")
    assert (after.language, after.traits, after.consent) == (
        profile.language,
        profile.traits,
        profile.consent,
    )


def test_a_mask_that_repeats_itself_holds_nobody_up(service: Service) -> None:
    """Many paths times many values, in a few hundred kilobytes: answered or refused at once."""
    profile = _lives(service, "patient")
    many = customer("patient", {f"trait{number}": True for number in range(10_000)})
    many.preferences.blocked_offers.extend([str(number) for number in range(20_000)])
    for path in ("traits", "preferences"):
        mask = [path] * 1_000
        assert answer_or_clear_error(partial(_update, service, many, *mask)) is None
    assert known(service, "patient") == profile


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_profile_is_kept_or_refused_and_never_fails_a_decision(
    started: Service, data: st.DataObject
) -> None:
    """Whatever the fields and the mask hold, together: a refusal changes nothing, and decisions go on."""
    text = st.one_of(st.text(max_size=140), st.sampled_from([*TEXTS, MOOD, STAGE, "gold"]))
    kinds = st.one_of(text, st.floats(), st.booleans())
    names = st.one_of(st.sampled_from(["mood", "points", "member"]), text)
    consent = data.draw(st.sampled_from([0, 1, 1, 1, 2, 7]))
    profile = customer("any", data.draw(st.dictionaries(names, kinds, max_size=4)), consent=consent)
    for name in (*WORDS, "time_zone", "etag"):
        setattr(profile, name, data.draw(st.one_of(st.just(""), text)))
    for name in LISTS:
        getattr(profile.preferences, name).extend(data.draw(st.lists(text, max_size=2)))
    paths = st.sampled_from(["consent", "traits", "preferences", "traits.mood", "language", "journey_stage"])
    mask = data.draw(st.lists(st.one_of(paths, paths, paths, text), max_size=4))
    before = grant(started, "any", traits={"mood": MOOD})
    try:
        _update(started, profile, *mask)
    except grpc.RpcError as error:
        assert error.code() in ALLOWED | {grpc.StatusCode.ABORTED}, error
        assert known(started, "any") == before
    answer = decide(started, "lives", "any", include_ranking=True, dry_run=True)
    _check(answer)


def _check(answer: decisions_pb2.DecideResponse) -> None:
    """Check that each offer was scored once, and that the probabilities are some."""
    offers = [each.offer_id for each in answer.ranking]
    assert len(set(offers)) == len(offers)
    if offers:
        assert math.fsum(each.probability for each in answer.ranking) == pytest.approx(1.0, abs=1e-9)


# Customer ids


def test_every_customer_id_is_somebody_or_is_refused_by_name(service: Service) -> None:
    """1 to 128 printable characters are a customer like any other; no other id gets anywhere."""
    before = _lives(service, "somebody-else"), exported(service, "somebody-else")
    wishes = cpb.Preferences(blocked_offers=["capped"])
    for text in TEXTS:
        change = partial(update, service, customer(text, preferences=wishes))
        calls = [partial(call, service, text) for call in (known, exported, erase)]
        calls.append(partial(happens, service, text, "add_to_cart"))
        if text and is_clean(text):
            assert change().id == text
            assert known(service, text).preferences == wishes
            assert "capped" not in ranked(service, "lives", text)
            assert erase(service, text) == 1
            assert refused(partial(known, service, text)) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_CUSTOMER")
        else:
            refuses(change, "customer.id")
            for call in calls:
                refuses(call, "customer_id")
    assert (known(service, "somebody-else"), exported(service, "somebody-else")) == before


# Events


def test_every_field_of_an_event_is_stored_or_refused_by_name(service: Service) -> None:
    """Names, ids, times and consents of every kind: what is refused is nowhere in the export."""
    _lives(service, "eventful")
    stored, before = 0, rows_of(service, "eventful", "event")
    for number, text in enumerate(TEXTS):
        named = partial(happens, service, "eventful", text, f"id-{number}")
        if re.fullmatch("[A-Za-z][A-Za-z0-9_]{0,63}", text):
            assert named() == ACCEPTED
            stored += 1
        else:
            refuses(named, "event")
        request = cpb.ReportCustomerEventRequest(customer_id="eventful", event="complaint", event_id=text)
        identified = partial(service.customers.ReportCustomerEvent, request)
        if is_id(text):
            assert identified().status == ACCEPTED
            stored += 1
        else:
            refuses(identified, "event_id")
    for field, bad in (("time", BAD_TIMES), ("consent", (7, -1, 2**31 - 1))):
        for each in bad:
            refuses(partial(happens, service, "eventful", "complaint", "bad", **{field: each}), field)
    after = rows_of(service, "eventful", "event")
    assert after[: len(before)] == before
    assert len(after) == len(before) + stored
    assert not {"", "bad"} & {row["event_id"] for row in after}
    assert ranked(service, "lives", "eventful") == (ANYONE | {"basket"}) - {"calm"}


def test_the_101st_different_event_is_refused_and_the_100_stay(service: Service) -> None:
    """A customer's different events are bounded; more of those that are known are welcome."""
    grant(service, "busy")
    for number in range(100):
        assert happens(service, "busy", f"event{number}") == ACCEPTED
    before = exported(service, "busy")
    refuses(partial(happens, service, "busy", "one_more"), "event")
    assert exported(service, "busy") == before
    assert happens(service, "busy", "event7", "again") == ACCEPTED
    assert len(rows_of(service, "busy", "event")) == 101


# Rights


def _page(service: Service, **fields: Any) -> list[str]:
    page = service.customers.ExportCustomer(cpb.ExportCustomerRequest(customer_id="exported", **fields))
    return page.json_lines.decode().splitlines()


def test_no_page_token_or_size_gets_anything_but_the_customers_own_rows(service: Service) -> None:
    """Made-up tokens and sizes are refused by name; a token that fits says only where to go on."""
    _lives(service, "exported")
    _lives(service, "neighbour")
    own = _page(service)
    assert len(own) > 5
    forged = ["customer:[]", "event:[0]", f"decision:[{2**63 - 1}]", 'last:["\\u0000"]', "settlement:[0]"]
    for token in (*BAD_TOKENS, *forged, *filter(None, TEXTS)):
        refuses(partial(_page, service, page_token=token), "page_token")
    for size in BAD_SIZES:
        refuses(partial(_page, service, page_size=size), "page_size")
    of_neighbour = cpb.ExportCustomerRequest(customer_id="neighbour", page_size=1)
    tokens = [service.customers.ExportCustomer(of_neighbour).next_page_token]
    while tokens[-1]:
        of_neighbour.page_token = tokens[-1]
        tokens.append(service.customers.ExportCustomer(of_neighbour).next_page_token)
    assert len(tokens) == len(own)
    for token in tokens:
        assert set(_page(service, page_token=token)) <= set(own)
    assert _page(service) == own


# Explanations


def test_every_field_of_an_explanation_takes_any_nonsense(service: Service) -> None:
    """A decision is explained in one of the campaign's sentences, or the error names the field."""
    _lives(service, "curious")
    answer = decide(service, "lives", "curious")
    told = explain(service, "lives", answer.decision_id)
    assert told.customer_explanation
    for text in TEXTS:
        for field, ids in (("campaign", (text, answer.decision_id)), ("decision_id", ("lives", text))):
            call = partial(explain, service, *ids)
            if is_id(text):
                assert refused(call)[0] is grpc.StatusCode.NOT_FOUND
            else:
                refuses(call, field)
        spoken = partial(explain, service, "lives", answer.decision_id, text)
        if is_clean(text):
            assert spoken() == told
        else:
            refuses(spoken, "language")


# Pauses


def _off(service: Service) -> list[tuple[str, str]]:
    campaign = service.campaigns.GetCampaign(campaigns_pb2.GetCampaignRequest(campaign="spare")).campaign
    return [(pause.offer_id, pause.reason) for pause in campaign.pauses]


def _switch(service: Service, method: str, campaign: str = "spare", **fields: Any) -> object:
    request = getattr(campaigns_pb2, f"{method}Request")(campaign=campaign, **fields)
    return getattr(service.campaigns, method)(request)


def test_every_field_of_a_switch_takes_any_nonsense(service: Service) -> None:
    """Unknown ids, reasons and ends of every kind: refused by name, and everything stays on."""
    offer, why = {"offer_id": "left"}, {"reason": "Recalled"}
    for text in TEXTS:
        for method, fields in (
            ("PauseOffer", offer | why),
            ("ResumeOffer", offer),
            ("PauseCampaign", why),
            ("ResumeCampaign", {}),
        ):
            call = partial(_switch, service, method, text, **fields)
            if is_id(text):
                assert refused(call) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_CAMPAIGN")
            else:
                refuses(call, "campaign")
        refuses(partial(_switch, service, "PauseOffer", **why, offer_id=text), "offer_id")
        refuses(partial(_switch, service, "ResumeOffer", offer_id=text), "offer_id")
        for method, fields in (("PauseOffer", offer), ("PauseCampaign", {})):
            call = partial(_switch, service, method, **fields, reason=text)
            if text.strip() and is_clean(text, 500):
                call()
                assert _off(service) == [(fields.get("offer_id", ""), composed(text))]
                _switch(service, method.replace("Pause", "Resume"), **fields)
            else:
                refuses(call, "reason")
    for end in (*BAD_TIMES, Timestamp(), Timestamp(seconds=1), Timestamp(seconds=int(time.time()) - 1)):
        for method, fields in (("PauseOffer", offer), ("PauseCampaign", {})):
            refuses(partial(_switch, service, method, **fields, **why, end_time=end), "end_time")
    assert _off(service) == []
    assert ranked(service, "spare") == ANYONE


# Everything together

MUTANT = {"customer_id": "mutant"}
LATER = Timestamp(seconds=2_000_000_000, nanos=5)
OFFER = {"campaign": "mutants", "offer_id": "left"}
GOOD: dict[str, Message] = {
    "CustomerService/UpdateCustomer": cpb.UpdateCustomerRequest(
        customer=customer(
            "mutant", {"mood": MOOD, "points": 1.0, "member": True}, language="da", time_zone="Asia/Tokyo",
            preferences=cpb.Preferences(blocked_offers=["left"], quiet_hours="22:00-07:00"), consent=1,
        ),
        update_mask=FieldMask(paths=["traits", "language", "preferences", "consent"]),
    ),
    "CustomerService/GetCustomer": cpb.GetCustomerRequest(**MUTANT),
    "CustomerService/ReportCustomerEvent": cpb.ReportCustomerEventRequest(
        **MUTANT, event="complaint", event_id="e", time=LATER, consent=1
    ),
    "CustomerService/ExportCustomer": cpb.ExportCustomerRequest(**MUTANT, page_size=2),
    "CustomerService/EraseCustomer": cpb.EraseCustomerRequest(**MUTANT),
    "CampaignService/PauseOffer": campaigns_pb2.PauseOfferRequest(**OFFER, reason="x", end_time=LATER),
    "CampaignService/ResumeOffer": campaigns_pb2.ResumeOfferRequest(**OFFER),
    "DecisionService/Decide": question("mutants", **MUTANT, include_ranking=True),
    "DecisionService/ExplainDecision": decisions_pb2.ExplainDecisionRequest(
        campaign="mutants", decision_id="d", language="da"
    ),
}  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(method=st.sampled_from(sorted(GOOD)), data=st.data())
def test_a_message_that_was_damaged_gets_an_answer_or_a_clear_error(
    started: Service, method: str, data: st.DataObject
) -> None:
    """A good message with bytes changed, cut or put in: never UNKNOWN, never INTERNAL."""
    content = bytearray(GOOD[method].SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        end = start + data.draw(st.integers(0, 4))
        content[start:end] = data.draw(st.binary(max_size=4))
    call = started.channel.unary_unary(f"/tilbud.v1.{method}")
    answer_or_clear_error(partial(call, bytes(content)))
    assert "unexpected_error" not in started.log.read_text()


def test_the_model_still_learns_from_customers_whose_words_are_hostile(service: Service) -> None:
    """300 good examples move the prediction, through a trait, a stage and an event full of VW's own signs."""
    likes = {"hostile": "left", "plain": "right"}
    for number in range(15):
        hostile, plain = (f"{kind}-{number}" for kind in likes)
        traits = {"mood": MOOD, "points": 3.4e38, "|o 1": "a:1e39", "member": True}
        grant(service, hostile, traits=traits, language="|l 1:t=14:30")
        assert happens(service, hostile, "shared") == ACCEPTED
        grant(service, plain, traits={"mood": "gold", "points": 1e-45})
    learned = sequence(service, "lives")
    context = decisions_pb2.Context(channel=CHANNEL)
    for number in range(300):
        kind = ("hostile", "plain")[number % 2]
        two = {"include_offers": [*likes.values()], "context": context}
        answer = decide(service, "lives", f"{kind}-{number // 2 % 15}", **two)
        outcome = "bought" if answer.offer_id == likes[kind] else "left"
        assert report(service, "lives", answer.decision_id, outcome) == decisions_pb2.OUTCOME_STATUS_ACCEPTED
    until(lambda: sequence(service, "lives") == learned + 300)
    for kind, best in likes.items():
        answer = decide(service, "lives", f"{kind}-0", **two, include_ranking=True)
        assert (answer.ranking[0].offer_id, len(answer.ranking)) == (best, 2)
        assert answer.ranking[0].probability > 0.75
        _check(answer)
    answer = decide(service, "lives", "hostile-0", context=context, include_ranking=True)
    assert {each.offer_id for each in answer.ranking} == ANYONE | {"for-keen", "settled", "sharer", "rich"}
    _check(answer)
    told = used(explain(service, "lives", answer.decision_id))
    words = ("mood", "journey_stage", "channel", "last_event", "keen", "points")
    assert [told[name] for name in words] == [MOOD, STAGE, CHANNEL, "shared", True, 3.4e38]
    rebuild(service)
