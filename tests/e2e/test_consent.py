"""Nothing personal without consent: what is used, stored, logged and labelled, and what withdrawal undoes."""

from __future__ import annotations

from collections.abc import Iterator

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
    until,
    update,
    used,
)
from tests.running import Service, served

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
        assert refused(lambda asked=asked: service.decisions.Decide(asked))[1] == "INVALID_FIELD"
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
        "DeniedEvent", "DeniedEventId",
    ]  # fmt: skip
    assert found(words, service.data, service.log) == {}
    assert found(["GrantedPlace", "GrantedEvent"], service.data).keys() == {"GrantedPlace", "GrantedEvent"}
    _, metrics = service.get("/metrics")
    assert [word for word in [*words, "GrantedPlace"] if word in metrics] == []
    service.stop()
    assert found(words, service.data, service.log) == {}
    service.start()


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
