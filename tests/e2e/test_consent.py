"""Nothing personal without consent: what is used, stored, logged and labelled, and what withdrawal undoes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from hashlib import blake2b

import grpc
import pytest
from tests.e2e.customers import (
    ACCEPTED,
    customer,
    decide,
    deny,
    dropped,
    explain,
    exported,
    found,
    grant,
    happens,
    known,
    question,
    refused,
    report,
    rows_of,
    sequence,
    situation,
    update,
    used,
)
from tests.running import Service, served, until

from tilbud.v1 import customers_pb2 as cpb
from tilbud.v1 import decisions_pb2 as pb

REQUIRED = """
campaign: required
context:
  features: {note: category}
  traits: {tier: category}
  events: [cart]
offers: [{id: one}, {id: two, suppress_after: {cart: 1d}}]
reward:
  window: 1h
  activation_window: 1h
  outcomes: {bought: {weight: 1, final: true}}
  learn: on_settlement
consent: required
"""
FILES = {
    "required.yaml": REQUIRED,
    "free.yaml": REQUIRED.replace(": required", ": free", 1).replace(
        "consent: required", "consent: not_required"
    ),
}
UNSAID, GRANTED, DENIED = pb.CONSENT_UNSPECIFIED, pb.CONSENT_GRANTED, pb.CONSENT_DENIED
NO_CONSENT = pb.DECISION_REASON_FALLBACK_NO_CONSENT
OFFERED = pb.DECISION_REASON_PERSONALIZED
PERSONAL = {"place": "ThePlaceWhereTheySat", "language": "xx-secretly", "country": "QZ"}
NOTE, TIER = "TheNoteTheyLeft", "TheTierTheyAreIn"
NEVER_DROPPED = {"device", "channel", "journey_stage", "hour", "weekday", "part_of_day", "weekend"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Serves one campaign that requires consent and one that does not."""
    with served(tmp_path_factory.mktemp("consent"), FILES) as started:
        yield started


def _personal(**fields: object) -> pb.Context:
    return situation({"note": NOTE}, device="mobile", channel="app", **PERSONAL, **fields)


def _with_profile(service: Service, consent: int, customer_id: str) -> None:
    """Make a customer whose profile says this of consent; with consent they have a trait too."""
    if consent == GRANTED:
        grant(service, customer_id, traits={"tier": TIER})
    elif consent == DENIED:
        grant(service, customer_id, traits={"tier": TIER})
        deny(service, customer_id)
    else:
        update(service, customer(customer_id, time_zone="Asia/Tokyo"))


@pytest.mark.parametrize("campaign", ["required", "free"])
@pytest.mark.parametrize("profile", [UNSAID, GRANTED, DENIED])
@pytest.mark.parametrize("said", [UNSAID, GRANTED, DENIED])
def test_consent_decides_what_is_used_and_whose_decision_it_is(
    service: Service, campaign: str, profile: int, said: int
) -> None:
    """DENIED wins wherever it was said; required and not granted: the fallback; the rest is linked."""
    customer_id = f"customer-{campaign}-{profile}-{said}"
    _with_profile(service, profile, customer_id)
    answer = decide(service, campaign, customer_id, context=_personal(), consent=said)
    denied = DENIED in (profile, said)
    granted = not denied and GRANTED in (profile, said)
    consented = granted if campaign == "required" else not denied
    assert answer.reason == (NO_CONSENT if campaign == "required" and not granted else OFFERED)
    explained = explain(service, campaign, answer.decision_id)
    known_then = used(explained)
    assert (known_then["device"], known_then["channel"]) == ("mobile", "app")
    expected = {"note": NOTE, "place": PERSONAL["place"], "language": "xx-secretly", "country": "QZ"}
    if profile == GRANTED:
        expected["tier"] = TIER
    if consented:
        assert known_then.items() >= expected.items()
        assert "tier" in known_then or profile != GRANTED
        assert dropped(explained) == {}
    else:
        assert known_then.keys() <= NEVER_DROPPED
        why = dropped(explained)
        assert {"note", "place", "language", "country"} <= why.keys()
        assert set(why.values()) == {"no_consent"}
    linked = [row["decision_id"] for row in rows_of(service, customer_id, "decision")]
    assert linked == ([answer.decision_id] if consented else [])


def test_without_consent_nothing_personal_is_stored_logged_or_labelled(service: Service) -> None:
    """Denied: neither the ledger's bytes, nor the metrics, nor the log hold what a full request said.

    With consent the context is stored, and the clear id never.
    """
    customer_id = "CustomerWhoSaidNo"
    deny(service, customer_id)
    for campaign in ("required", "free"):
        asked = question(
            campaign, customer_id, consent=DENIED,
            context=situation({"note": "DeniedNote"}, place="DeniedPlace", language="deniedtongue"),
        )  # fmt: skip
        decided = service.decisions.Decide(asked)
        batch = service.decisions.BatchDecide(pb.BatchDecideRequest(requests=[asked] * 3)).results
        assert all(each.decision.recorded for each in batch)
        report(service, campaign, decided.decision_id, "bought")
        explain(service, campaign, decided.decision_id)
        asked.context.features["undeclared"].category = "DeniedNote"
        asked.context.features["DeniedName"].flag = True
        explain(service, campaign, service.decisions.Decide(asked).decision_id)
    said = [
        customer(customer_id, traits={"tier": "DeniedTier"}),
        customer(customer_id, language="deniedtongue"),
        customer(customer_id, journey_stage="DeniedStage"),
    ]
    for profile in said:
        refusal = refused(lambda profile=profile: update(service, profile))
        assert refusal == (grpc.StatusCode.FAILED_PRECONDITION, "CONSENT_MISSING")
    no_consent = cpb.CUSTOMER_EVENT_STATUS_NO_CONSENT
    assert happens(service, customer_id, "DeniedEvent", "DeniedEventId") == no_consent
    assert happens(service, customer_id, "DeniedEvent", "DeniedEventId", consent=GRANTED) == no_consent
    consenting = "CustomerWhoSaidYes"
    decide(service, "free", consenting, context=situation(place="GrantedPlace"), consent=GRANTED)
    assert happens(service, consenting, "cart", "GrantedEvent", consent=GRANTED) == ACCEPTED
    words = [
        customer_id, consenting, "DeniedNote", "DeniedPlace", "deniedtongue", "DeniedTier", "DeniedStage",
        "DeniedEvent", "DeniedEventId", "DeniedName",
    ]  # fmt: skip
    assert found(words, service.data, service.log) == {}
    assert found(["GrantedPlace", "GrantedEvent"], service.data).keys() == {"GrantedPlace", "GrantedEvent"}
    _, metrics = service.get("/metrics")
    assert [word for word in [*words, "GrantedPlace"] if word in metrics] == []
    service.stop()
    assert found(words, service.data, service.log) == {}
    service.start()


def _rows(service: Service) -> dict[str, dict[str, object]]:
    """Return the decisions in the ledger's file, by id, with every column."""
    with closing(sqlite3.connect(service.data / "ledger.sqlite3")) as file:
        file.row_factory = sqlite3.Row
        return {row["decision_id"]: dict(row) for row in file.execute("SELECT * FROM decisions")}


def _hashes(service: Service, guesses: Iterable[str]) -> set[bytes]:
    """Return what the key in the data directory makes of guesses, at every length that is kept."""
    with closing(sqlite3.connect(service.data / "ledger.sqlite3")) as file:
        [[key]] = file.execute("SELECT value FROM meta WHERE key = 'draw_key'").fetchall()
    made = set()
    for text in guesses:
        for person in (b"", b"tilbud customer", b"\1", b"\2"):
            for size in (8, 16, 32):
                for keyed in (key, b""):
                    made.add(blake2b(text.encode(), digest_size=size, key=keyed, person=person).digest())
    return made


@pytest.mark.parametrize("campaign", ["required", "free"])
def test_refusals_of_one_person_are_tied_by_nothing_that_can_be_computed(
    service: Service, campaign: str
) -> None:
    """Equal refusals are told apart by each value of the ledger or share it with everybody's.

    Who has the data directory, with its key, and guesses the person finds the guess in no column: neither
    their customer's hash, nor that of their whole question, by itself or under each decision's id.
    """
    refusals, others = [f"{campaign}-anna-{n}" for n in range(3)], [f"{campaign}-bob-{n}" for n in range(3)]
    service.decisions.BatchDecide(pb.BatchDecideRequest(requests=[
        question(campaign, person, consent=DENIED, decision_id=decision_id, context=_personal())
        for asked in zip(refusals, others, strict=True)  # by turns: none has a moment of their own
        for person, decision_id in zip(("anna", "bob"), asked, strict=True)
    ]))  # fmt: skip
    rows = _rows(service)
    tied = [
        column
        for column in rows[refusals[0]]
        if len({rows[each][column] for each in refusals}) == 1
        and {rows[each][column] for each in refusals}.isdisjoint(rows[each][column] for each in others)
    ]
    assert tied == []
    features = [("note", "str", NOTE)]
    place, language, country = PERSONAL.values()
    said = ("mobile", "app", "", None, "", language, country, place, features)
    whole = ("anna", *said, int(DENIED), (), (), False, False)  # what was hashed once, without the id
    kept = (campaign, None, (), (), int(DENIED), False, False)
    full = (kept, ("anna", "mobile", "app", "", "", language, country, place, features))
    guesses = ["anna", PERSONAL["place"], NOTE, repr(whole), f"{campaign}anna"]
    guesses += [f"{each!r}\0{decision_id}" for decision_id in refusals for each in (whole, full)]
    hashes = _hashes(service, guesses)
    stored = [bytes(value) for each in refusals for value in rows[each].values() if isinstance(value, bytes)]
    assert not [value for value in stored if len(value) > 1 and not hashes.isdisjoint((value, value[1:]))]
    service.decisions.Decide(question(campaign, "anna", consent=GRANTED, context=_personal()))
    with closing(sqlite3.connect(service.data / "ledger.sqlite3")) as file:
        customers = {key for [key] in file.execute("SELECT key FROM customers")}
    assert not hashes.isdisjoint(customers), "the guesses do find whom the ledger may know"


def test_what_a_customer_forbade_is_not_kept_of_their_refusal(service: Service) -> None:
    """A fallback for want of consent says so of every offer, whatever the profile blocks."""
    update(service, customer("choosy", preferences=cpb.Preferences(blocked_offers=["two"])))
    refusal = decide(service, "required", "choosy")
    assert refusal.reason == NO_CONSENT
    fates = {
        fate.offer_id: fate.removed_by for fate in explain(service, "required", refusal.decision_id).offers
    }
    assert fates == {"one": "no_consent", "two": "no_consent"}


@pytest.mark.parametrize("campaign", ["required", "free"])
def test_a_retry_is_answered_whatever_became_of_consent_meanwhile(service: Service, campaign: str) -> None:
    """The answer under an id is word for word the first, and of what was kept another is ALREADY_EXISTS."""
    customer_id = f"turncoat-{campaign}"
    grant(service, customer_id)
    asked = question(campaign, customer_id, decision_id=f"granted-{campaign}", context=_personal())
    granted = service.decisions.Decide(asked)
    deny(service, customer_id)
    assert service.decisions.Decide(asked) == granted
    other = question(campaign, "somebody else", decision_id=asked.decision_id, context=_personal())
    assert refused(lambda: service.decisions.Decide(other))[0] == grpc.StatusCode.ALREADY_EXISTS
    asked.decision_id = f"denied-{campaign}"
    denied = service.decisions.Decide(asked)
    grant(service, customer_id)
    assert service.decisions.Decide(asked) == denied
    asked.context.place = "another place, which was not kept"
    assert service.decisions.Decide(asked) == denied
    asked.context.device = "desktop"
    assert refused(lambda: service.decisions.Decide(asked))[0] == grpc.StatusCode.ALREADY_EXISTS


def test_withdrawal_voids_what_is_pending(service: Service) -> None:
    """Outcomes of decisions from before a withdrawal are LATE, and nothing of them is learned."""
    grant(service, "leaver")
    shown = decide(service, "required", "leaver", context=_personal())
    waiting = decide(service, "required", "leaver", context=_personal(), defer_activation=True)
    other = decide(service, "required", "stayer", consent=GRANTED)
    before = sequence(service, "required")
    settled = service.metric("tilbud_settlements_total", campaign="required")
    deny(service, "leaver")
    for answer in (shown, waiting):
        assert report(service, "required", answer.decision_id, "bought") == pb.OUTCOME_STATUS_LATE
    grant(service, "leaver")
    assert (
        report(service, "required", shown.decision_id, "bought", event_id="again") == pb.OUTCOME_STATUS_LATE
    )
    assert report(service, "required", other.decision_id, "bought") == pb.OUTCOME_STATUS_ACCEPTED
    until(lambda: sequence(service, "required") > before)
    assert sequence(service, "required") == before + 1
    assert service.metric("tilbud_settlements_total", campaign="required") == settled + 1


def test_withdrawal_removes_what_was_known_and_a_new_grant_does_not_bring_it_back(service: Service) -> None:
    """Traits, language, journey stage and events go; the customer's own word stays."""
    preferences = cpb.Preferences(blocked_offers=["two"], quiet_hours="21:00-08:00")
    grant(
        service, "forgotten", traits={"tier": TIER}, language="da", journey_stage="retention",
        time_zone="Asia/Tokyo", preferences=preferences,
    )  # fmt: skip
    assert happens(service, "forgotten", "cart", "the-cart") == ACCEPTED
    assert rows_of(service, "forgotten", "event")
    deny(service, "forgotten")
    for _ in range(2):
        profile = known(service, "forgotten")
        assert not profile.traits
        assert (profile.language, profile.journey_stage) == ("", "")
        assert (profile.time_zone, profile.preferences) == ("Asia/Tokyo", preferences)
        text = str(exported(service, "forgotten"))
        assert "the-cart" not in text
        assert TIER not in text
        assert "'event'" not in text
        grant(service, "forgotten")
    assert happens(service, "forgotten", "cart", "the-cart") == ACCEPTED


def test_withdrawal_in_one_call_counts_for_that_call_only(service: Service) -> None:
    """A denial that a call says is that call's; the profile's grant goes on."""
    grant(service, "undecided", traits={"tier": TIER})
    assert decide(service, "required", "undecided", consent=DENIED).reason == NO_CONSENT
    assert known(service, "undecided").consent == GRANTED
    assert decide(service, "required", "undecided").reason == OFFERED
