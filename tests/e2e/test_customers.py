"""Customers against a real server: profiles, preferences, events, traits, languages, stickiness."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tests.e2e.customers import (
    ACCEPTED,
    DAY_S,
    ago,
    customer,
    decide,
    deny,
    dropped,
    explain,
    grant,
    happens,
    known,
    ranked,
    refused,
    removed,
    report,
    rows_of,
    sequence,
    situation,
    update,
    used,
    value,
)
from tests.running import Service, served, until

from tilbud.v1 import campaigns_pb2
from tilbud.v1 import customers_pb2 as cpb
from tilbud.v1 import decisions_pb2 as pb
from tilbud.v1.campaigns_pb2 import PauseOfferRequest, ReloadCampaignsRequest, ResumeOfferRequest

RULED = """
campaign: ruled
context:
  channels: [web, app, email]
  features: {basket: number}
  traits: {tier: category, points: {kind: number, max_age: 30d}}
  max_age: 365d
  events: [add_to_cart, purchase, complaint]
journey: {purchase: retention}
segments: {keen: {tier: {in: [gold, silver]}}}
groups: {loud: {caps: [{times: 1, per: 1d}]}}
offers:
  - {id: plain}
  - {id: plain-too, topics: [shoes]}
  - {id: shoe, topics: [shoes, sports]}
  - {id: crib, sensitive_topic: family}
  - {id: basket, requires: {add_to_cart: 1d}}
  - {id: after-cart, when: {last_event: {eq: add_to_cart}}}
  - {id: welcome-back, journey_stages: [retention]}
  - {id: calm, suppress_after: {complaint: 7d, dismiss: 7d}}
  - {id: gold-only, when: {tier: {eq: gold}}}
  - {id: for-keen, when: {keen: {eq: true}}}
  - {id: for-points, when: {points: {ge: 100}}}
  - {id: once, caps: [{times: 1, per: 1d}]}
  - {id: loud, group: loud}
  - {id: pushy, channels: [app, web, email]}
reward:
  window: 1h
  range: [-1, 1]
  outcomes: {bought: {weight: 1, final: true}, dismiss: {weight: -0.2, final: true}}
  learn: on_settlement
consent: not_required
"""
STICKY = """
campaign: sticky
sticky: 24h
context: {channels: [web, app, email]}
offers:
  - {id: one, suppress_after: {dismiss: 7d}}
  - {id: two, suppress_after: {dismiss: 7d}}
  - {id: three, suppress_after: {dismiss: 7d}, caps: [{times: 1, per: 1d}]}
reward:
  window: 1h
  range: [-1, 1]
  outcomes: {bought: {weight: 1, final: true}, dismiss: {weight: -0.2, final: true}}
  learn: on_settlement
exploration: {preset: uniform}
consent: not_required
"""
SPOKEN = """
campaign: spoken
fallback_language: en
offers:
  - {id: one, payloads: {en: {title: Hello}, da: {title: Hej}, pt-BR: {title: Oi}}}
fallback: {id: none, payloads: {en: {title: Nothing}, da: {title: Intet}}}
reward: {window: 1h, outcomes: {click: 1}}
consent: not_required
"""
CONTACT = """
channels: {email: {caps: [{times: 1, per: 1d}]}}
quiet_channels: [app]
"""
FILES = {"ruled.yaml": RULED, "sticky.yaml": STICKY, "spoken.yaml": SPOKEN, "contact.yaml": CONTACT}
NOON_IN_TOKYO, NIGHT_IN_TOKYO = 1_760_065_200, 1_760_104_800  # 03:00 and 14:00 UTC
GRANTED, DENIED = pb.CONSENT_GRANTED, pb.CONSENT_DENIED
NO_OFFER = pb.DECISION_REASON_FALLBACK_NO_ELIGIBLE_OFFER


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Serves campaigns with every rule that looks at a customer."""
    with served(tmp_path_factory.mktemp("customers"), FILES) as started:
        yield started


def _prefers(service: Service, customer_id: str, **preferences: object) -> None:
    update(service, customer(customer_id, preferences=cpb.Preferences(**preferences)), "preferences")


def _removed(service: Service, customer_id: str, **fields: object) -> dict[str, str]:
    """Return by which rule each offer is removed from a customer's next decision."""
    answer = decide(service, "ruled", customer_id, **fields)
    return removed(explain(service, "ruled", answer.decision_id))


# Profiles


def test_an_update_changes_what_its_mask_names_and_nothing_else(service: Service) -> None:
    """Named fields are set, or emptied where they are not there; others stay; no mask: what is set."""
    grant(service, "masked", traits={"tier": "gold", "points": 3.0}, language="da", time_zone="Asia/Tokyo")
    _prefers(service, "masked", blocked_offers=["shoe"], quiet_hours="22:00-07:00")
    profile = customer("masked", {"tier": "silver"}, language="sv", time_zone="Europe/Paris")
    after = update(service, profile, "traits.tier", "traits.points", "language")
    assert {name: trait.value.category for name, trait in after.traits.items()} == {"tier": "silver"}
    assert (after.language, after.time_zone, after.consent) == ("sv", "Asia/Tokyo", GRANTED)
    after = update(service, customer("masked"), "language", "preferences.blocked_offers")
    assert after.language == ""
    assert after.preferences == cpb.Preferences(quiet_hours="22:00-07:00")
    after = update(service, customer("masked", {"points": 7.0}, time_zone="Europe/Paris"))
    assert set(after.traits) == {"tier", "points"}
    assert after.time_zone == "Europe/Paris"
    assert set(update(service, customer("masked", {"points": 8.0}), "traits").traits) == {"points"}
    assert known(service, "masked").traits["points"].value.number == 8.0
    assert refused(lambda: update(service, customer("masked"), "nonsense"))[1] == "INVALID_FIELD"
    assert refused(lambda: known(service, "nobody"))[1] == "UNKNOWN_CUSTOMER"


def test_an_update_with_an_old_etag_is_aborted(service: Service) -> None:
    """Who read an older profile must read again; without an etag the newest is changed."""
    read = grant(service, "contended", language="da")
    newer = update(service, customer("contended", language="sv"))
    assert newer.etag != read.etag
    stale = customer("contended", language="no", etag=read.etag)
    assert refused(lambda: update(service, stale)) == (grpc.StatusCode.ABORTED, "CUSTOMER_CHANGED")
    assert known(service, "contended") == newer
    assert update(service, customer("contended", language="no", etag=newer.etag)).language == "no"
    assert update(service, customer("contended", language="fi")).language == "fi"


def test_concurrent_updates_lose_nothing(service: Service) -> None:
    """Twenty updates of different traits at once: all are there, and no two have one etag."""
    grant(service, "busy")
    profiles = [customer("busy", {f"trait{number}": float(number)}) for number in range(20)]
    with ThreadPoolExecutor(len(profiles)) as pool:
        answered = list(pool.map(lambda profile: update(service, profile), profiles))
    after = {name: trait.value.number for name, trait in known(service, "busy").traits.items()}
    assert after == {f"trait{number}": float(number) for number in range(20)}
    assert len({each.etag for each in answered}) == len(profiles)


# Preferences


def test_what_a_customer_blocked_is_never_shown(service: Service) -> None:
    """Blocked offers, topics and channels are heeded, also when consent is denied."""
    _prefers(
        service, "choosy", blocked_offers=["plain"], blocked_topics=["sports"], blocked_channels=["email"]
    )
    for consent in (GRANTED, DENIED):
        web = _removed(service, "choosy", context=pb.Context(channel="web"), consent=consent)
        assert (web["plain"], web["shoe"]) == ("blocked_offers", "blocked_topics")
        assert "plain-too" not in web
        email = decide(service, "ruled", "choosy", context=pb.Context(channel="email"), consent=consent)
        assert email.reason == NO_OFFER
        fates = removed(explain(service, "ruled", email.decision_id))
        assert fates["plain-too"] == "blocked_channels"
    _prefers(service, "choosy", blocked_topics=["family"], opted_in_topics=["family"])
    assert "crib" not in ranked(service, "ruled", "choosy", consent=GRANTED)
    assert {"plain", "shoe"} <= ranked(service, "ruled", "choosy", context=pb.Context(channel="email"))


@pytest.mark.parametrize("consent", [GRANTED, DENIED])
def test_quiet_hours_are_heeded_on_the_customers_own_clock(service: Service, consent: int) -> None:
    """At night where the customer lives nothing is shown in quiet channels, whatever the consent."""
    customer_id = f"sleeper-{consent}"
    update(service, customer(customer_id, time_zone="Asia/Tokyo"))
    _prefers(service, customer_id, quiet_hours="21:00-08:00")

    def shown(channel: str, second: int) -> int:
        context = pb.Context(channel=channel, time=Timestamp(seconds=second))
        return decide(service, "ruled", customer_id, context=context, consent=consent).reason

    assert shown("app", NIGHT_IN_TOKYO) == NO_OFFER
    assert shown("app", NOON_IN_TOKYO) != NO_OFFER
    assert shown("web", NIGHT_IN_TOKYO) != NO_OFFER
    night = pb.Context(channel="app", time=Timestamp(seconds=NIGHT_IN_TOKYO))
    assert _removed(service, customer_id, context=night, consent=consent)["plain"] == "quiet_hours"
    update(service, customer(customer_id, time_zone="America/New_York"), "time_zone")
    assert shown("app", NIGHT_IN_TOKYO) != NO_OFFER


def test_sensitive_topics_are_shown_to_those_who_asked_and_consented(service: Service) -> None:
    """Opted in and consenting: shown; anyone else: not."""
    assert "crib" not in ranked(service, "ruled")
    grant(service, "parent")
    assert _removed(service, "parent")["crib"] == "sensitive_topic"
    _prefers(service, "parent", opted_in_topics=["family"])
    assert "crib" in ranked(service, "ruled", "parent")
    assert "crib" not in ranked(service, "ruled", "parent", consent=DENIED)
    deny(service, "parent")
    assert "crib" not in ranked(service, "ruled", "parent", consent=GRANTED)


# Events


def test_an_event_opens_the_offers_that_require_it(service: Service) -> None:
    """`requires`: recently reported opens the offer, for that customer, in every channel."""
    grant(service, "shopper")
    grant(service, "idler")
    assert _removed(service, "shopper")["basket"] == "requires"
    assert happens(service, "shopper", "add_to_cart", "late", time=ago(2 * DAY_S)) == ACCEPTED
    assert "basket" not in ranked(service, "ruled", "shopper")
    assert happens(service, "shopper", "add_to_cart", "now") == ACCEPTED
    for channel in ("web", "app"):
        context = pb.Context(channel=channel)
        assert {"basket", "after-cart"} <= ranked(service, "ruled", "shopper", context=context)
    assert not {"basket", "after-cart"} & ranked(service, "ruled", "idler")
    assert not {"basket", "after-cart"} & ranked(service, "ruled", "shopper", consent=DENIED)
    answer = decide(service, "ruled", "shopper", context=pb.Context(channel="app"))
    assert used(explain(service, "ruled", answer.decision_id))["last_event"] == "add_to_cart"
    assert happens(service, "shopper", "complaint") == ACCEPTED
    assert "after-cart" not in ranked(service, "ruled", "shopper")
    assert "basket" in ranked(service, "ruled", "shopper")


def test_an_event_and_an_outcome_suppress_an_offer(service: Service) -> None:
    """`suppress_after`: an event or an outcome of that offer takes it away, for that customer."""
    grant(service, "annoyed")
    assert "calm" in ranked(service, "ruled", "annoyed")
    assert happens(service, "annoyed", "complaint") == ACCEPTED
    assert _removed(service, "annoyed")["calm"] == "suppress_after"
    grant(service, "bored")
    answer = decide(service, "ruled", "bored", include_offers=["calm"])
    other = decide(service, "ruled", "bored", include_offers=["plain"])
    assert report(service, "ruled", other.decision_id, "dismiss") == pb.OUTCOME_STATUS_ACCEPTED
    assert "calm" in ranked(service, "ruled", "bored")
    assert report(service, "ruled", answer.decision_id, "dismiss") == pb.OUTCOME_STATUS_ACCEPTED
    assert "calm" not in ranked(service, "ruled", "bored")
    assert "calm" in ranked(service, "ruled", "shopper-who-is-not")


def test_an_event_moves_the_customers_journey(service: Service) -> None:
    """`journey`: the event's stage holds until something newer says another; the call's own wins."""
    grant(service, "traveller", journey_stage="awareness")

    def stage(**fields: object) -> object:
        answer = decide(service, "ruled", "traveller", **fields)
        return used(explain(service, "ruled", answer.decision_id))["journey_stage"]

    assert stage() == "awareness"
    assert happens(service, "traveller", "purchase") == ACCEPTED
    assert stage() == "retention"
    assert "welcome-back" in ranked(service, "ruled", "traveller")
    assert stage(context=pb.Context(journey_stage="advocacy")) == "advocacy"
    update(service, customer("traveller", journey_stage="consideration"))
    assert stage() == "consideration"


def test_an_event_counts_once_and_only_with_consent(service: Service) -> None:
    """A repeat is DUPLICATE, another event under its id is refused, without consent nothing is stored."""
    grant(service, "clicker")
    assert happens(service, "clicker", "add_to_cart", "e1") == ACCEPTED
    assert happens(service, "clicker", "add_to_cart", "e1") == cpb.CUSTOMER_EVENT_STATUS_DUPLICATE
    refusal = refused(lambda: happens(service, "clicker", "purchase", "e1"))
    assert refusal == (grpc.StatusCode.ALREADY_EXISTS, "ID_REUSED")
    assert happens(service, "stranger", "add_to_cart") == cpb.CUSTOMER_EVENT_STATUS_NO_CONSENT
    assert refused(lambda: known(service, "stranger"))[0] is grpc.StatusCode.NOT_FOUND
    assert "basket" not in ranked(service, "ruled", "stranger", consent=GRANTED)
    assert happens(service, "stranger", "add_to_cart", consent=GRANTED) == ACCEPTED
    assert "basket" in ranked(service, "ruled", "stranger", consent=GRANTED)


# Traits


def test_traits_and_segments_open_offers_until_they_are_too_old(service: Service) -> None:
    """A trait older than its max_age is not used, and the explanation says so."""
    grant(service, "old-hand", traits={"tier": "gold", "points": 200.0})
    assert {"gold-only", "for-keen", "for-points"} <= ranked(service, "ruled", "old-hand")
    grant(service, "older-hand")
    profile = cpb.Customer(id="older-hand")
    profile.traits["points"].CopyFrom(cpb.Trait(value=value(200.0), update_time=ago(31 * DAY_S)))
    profile.traits["tier"].CopyFrom(cpb.Trait(value=value("gold"), update_time=ago(364 * DAY_S)))
    update(service, profile)
    assert "for-points" not in ranked(service, "ruled", "older-hand")
    assert {"gold-only", "for-keen"} <= ranked(service, "ruled", "older-hand")
    explained = explain(service, "ruled", decide(service, "ruled", "older-hand").decision_id)
    assert dropped(explained) == {"points": "too_old"}
    assert "points" not in used(explained)
    assert used(explained)["tier"] == "gold"
    assert removed(explained)["for-points"] == "when"
    grant(service, "oldest-hand")
    profile.id = "oldest-hand"
    profile.traits["tier"].update_time.CopyFrom(ago(366 * DAY_S))
    profile.traits["points"].CopyFrom(cpb.Trait(value=value("many")))
    update(service, profile)
    explained = explain(service, "ruled", decide(service, "ruled", "oldest-hand").decision_id)
    assert dropped(explained) == {"points": "wrong_kind", "tier": "too_old"}
    assert not {"gold-only", "for-keen"} & ranked(service, "ruled", "oldest-hand")


# One voice across channels


def test_a_corrected_payload_reaches_a_sticky_customer(service: Service) -> None:
    """Who asks again is shown today's payload, also after a pause; a retry of an id is what it was."""
    file = service.files / "sticky.yaml"
    text = file.read_text()
    ids = [offer for offer in re.findall(r"id: (\w+)", text) if offer != "none"]

    def offers(price: int) -> str:
        return re.sub(r"id: (\w+)", rf"id: \1, payload: {{price: {price}}}", text)

    def reload(price: int) -> None:
        file.write_text(offers(price))
        service.campaigns.ReloadCampaigns(ReloadCampaignsRequest())

    def asked(decision_id: str = "") -> tuple[str, str, object]:
        answer = _sticky(service, "priced", "web", decision_id=decision_id)
        return answer.decision_id, answer.offer_id, dict(answer.payload)["price"]

    try:
        reload(1)
        first = asked("priced-first")
        assert asked("priced-again") == first
        reload(100)
        today = (*first[:2], 100)
        assert asked() == asked("priced-today") == today
        assert (asked("priced-first"), asked("priced-again")) == (first, first)
        pause = PauseOfferRequest(campaign="sticky", offer_id=first[1], reason="the price")
        service.campaigns.PauseOffer(pause)
        reload(7)
        service.campaigns.ResumeOffer(ResumeOfferRequest(campaign="sticky", offer_id=first[1]))
        assert asked() == (*first[:2], 7)
        service.stop()
        service.start()
        assert (asked("priced-first"), asked("priced-today")) == (first, today)
        exports = rows_of(service, "priced", "repeat")
        assert [(row["decision_id"], row.get("payload")) for row in exports] == [
            ("priced-again", None),
            ("priced-today", {"price": 100}),
        ]
        file.write_text(offers(7).replace(f"id: {first[1]}", "id: another"))
        service.campaigns.ReloadCampaigns(ReloadCampaignsRequest())
        assert asked()[0] != first[0], f"an offer that is gone is not sticky, of {ids}"
        assert asked("priced-today") == today
    finally:
        file.write_text(text)
        service.campaigns.ReloadCampaigns(ReloadCampaignsRequest())


def _sticky(service: Service, customer_id: str, channel: str, **fields: object) -> pb.DecideResponse:
    return decide(service, "sticky", customer_id, context=pb.Context(channel=channel), **fields)


def test_a_customer_hears_one_voice_in_every_channel(service: Service) -> None:
    """The decision is served again, same id and probability, counted and learned once; others get theirs."""
    decided = service.metric("tilbud_decisions_total", campaign="sticky")
    repeated = service.metric("tilbud_sticky_decisions_total", campaign="sticky")
    first = _sticky(service, "loyal", "web", decision_id="loyal-first")
    assert first.probability == pytest.approx(1 / 3)
    again = [
        _sticky(service, "loyal", "app"),
        _sticky(service, "loyal", "email", decision_id="loyal-own"),
        _sticky(service, "loyal", "email", decision_id="loyal-own"),
        _sticky(service, "loyal", "web", decision_id="loyal-first"),
    ]
    assert all(answer == first for answer in again)
    assert service.metric("tilbud_decisions_total", campaign="sticky") == decided + 1
    assert service.metric("tilbud_sticky_decisions_total", campaign="sticky") == repeated + 2
    reused = refused(lambda: _sticky(service, "loyal", "web", decision_id="loyal-own"))
    assert reused == (grpc.StatusCode.ALREADY_EXISTS, "ID_REUSED")
    for customer_id, consent in (("", GRANTED), ("loyal", DENIED), ("somebody", GRANTED)):
        assert _sticky(service, customer_id, "web", consent=consent).decision_id != first.decision_id
    learned = sequence(service, "sticky")
    assert report(service, "sticky", first.decision_id, "bought") == pb.OUTCOME_STATUS_ACCEPTED
    until(lambda: sequence(service, "sticky") > learned)
    assert sequence(service, "sticky") == learned + 1
    assert _sticky(service, "loyal", "app") == first
    asked = {"decision_id": "loyal-own"}
    service.kill()
    service.start()
    assert _sticky(service, "loyal", "email", **asked) == first
    assert _sticky(service, "loyal", "web") == first


def test_a_retry_of_a_repeat_is_answered_even_where_the_offer_is_eligible_no_more(service: Service) -> None:
    """What one id was answered stays its answer, word for word."""
    first = _sticky(service, "settled", "web")
    assert _sticky(service, "settled", "app", decision_id="settled-own") == first
    _prefers(service, "settled", blocked_offers=[first.offer_id])
    assert _sticky(service, "settled", "app", decision_id="settled-own") == first
    service.kill()
    service.start()
    assert _sticky(service, "settled", "app", decision_id="settled-own") == first
    assert _sticky(service, "settled", "app").decision_id != first.decision_id


def _block(service: Service, customer_id: str, answer: pb.DecideResponse) -> None:
    _prefers(service, customer_id, blocked_offers=[answer.offer_id])


def _dismiss(service: Service, _: str, answer: pb.DecideResponse) -> None:
    assert report(service, "sticky", answer.decision_id, "dismiss") == pb.OUTCOME_STATUS_ACCEPTED


def _pause(service: Service, _: str, answer: pb.DecideResponse) -> None:
    service.campaigns.PauseOffer(
        campaigns_pb2.PauseOfferRequest(campaign="sticky", offer_id=answer.offer_id, reason="Bad news")
    )


@pytest.mark.parametrize("remove", [_block, _dismiss, _pause])
def test_a_decision_is_not_served_again_when_its_offer_may_not_be_shown(
    service: Service, remove: Callable[[Service, str, pb.DecideResponse], None]
) -> None:
    """Blocked, dismissed or paused: the next decision is a new one with another offer, which stays."""
    customer_id = f"changing{remove.__name__}"
    first = _sticky(service, customer_id, "web")
    assert _sticky(service, customer_id, "app") == first
    remove(service, customer_id, first)
    try:
        second = _sticky(service, customer_id, "app")
        assert second.decision_id != first.decision_id
        assert second.offer_id != first.offer_id
        assert _sticky(service, customer_id, "web") == second
    finally:
        service.campaigns.ResumeOffer(
            campaigns_pb2.ResumeOfferRequest(campaign="sticky", offer_id=first.offer_id)
        )


def test_a_decision_served_again_is_no_new_exposure(service: Service) -> None:
    """A capped offer is served again all day; it was counted when it was decided."""
    first = _sticky(service, "capped", "web", include_offers=["three"])
    assert first.offer_id == "three"
    assert _sticky(service, "capped", "app", include_offers=["three"]).decision_id == first.decision_id


# Languages


def test_payloads_are_in_the_callers_language_the_customers_or_the_fallback(service: Service) -> None:
    """The call's language, then the profile's, then the fallback; `da-DK` reads `da`."""
    grant(service, "dane", language="da-DK")

    def title(customer_id: str = "", language: str = "", **fields: object) -> object:
        context = pb.Context(language=language)
        return decide(service, "spoken", customer_id, context=context, **fields).payload["title"]

    assert [title(language=said) for said in ("en", "da", "DA-dk", "pt-br", "pt", "", "xx")] == [
        "Hello", "Hej", "Hej", "Oi", "Oi", "Hello", "Hello",
    ]  # fmt: skip
    assert title("dane") == "Hej"
    assert title("dane", "en") == "Hello"
    assert title("dane", consent=DENIED) == "Hello"
    assert title("dane", exclude_offers=["one"]) == "Intet"


# Metrics


def test_every_rule_that_removes_offers_is_counted_by_its_name(service: Service) -> None:
    """excluded_offers_total{rule}: one for each offer that the rule removed from a recorded decision."""
    grant(service, "counted")
    _prefers(
        service, "counted", blocked_offers=["plain"], blocked_topics=["sports"], blocked_channels=["email"],
        quiet_hours="21:00-08:00",
    )  # fmt: skip
    update(service, customer("counted", time_zone="Asia/Tokyo"))
    happens(service, "counted", "complaint")
    for offer in ("once", "loud"):
        assert decide(service, "ruled", "counted", include_offers=[offer]).offer_id == offer
    assert decide(service, "ruled", "mailed", context=pb.Context(channel="email")).reason != NO_OFFER
    night = pb.Context(channel="app", time=Timestamp(seconds=NIGHT_IN_TOKYO))
    asked = {
        "blocked_offers": ("counted", ["plain"], None),
        "blocked_topics": ("counted", ["shoe"], None),
        "blocked_channels": ("counted", ["plain-too"], pb.Context(channel="email")),
        "quiet_hours": ("counted", ["plain-too"], night),
        "sensitive_topic": ("counted", ["crib"], None),
        "requires": ("counted", ["basket"], None),
        "suppress_after": ("counted", ["calm"], None),
        "caps": ("counted", ["once"], None),
        "group_caps": ("counted", ["loud"], None),
        "contact_policy": ("mailed", ["plain"], pb.Context(channel="email")),
    }
    for rule, (customer_id, offers, context) in asked.items():
        before = service.metric("tilbud_excluded_offers_total", campaign="ruled", rule=rule)
        answer = decide(service, "ruled", customer_id, include_offers=offers, context=context)
        assert answer.reason == NO_OFFER, rule
        assert removed(explain(service, "ruled", answer.decision_id))[offers[0]] == rule
        after = service.metric("tilbud_excluded_offers_total", campaign="ruled", rule=rule)
        assert after == before + 1, rule


def test_a_feature_the_caller_says_is_used_beside_what_is_known(service: Service) -> None:
    """What the call says wins over what is stored; the rest of what is stored is used too."""
    grant(service, "corrected", traits={"tier": "silver", "points": 5.0})
    answer = decide(service, "ruled", "corrected", context=situation({"tier": "gold", "basket": 3.0}))
    known_then = used(explain(service, "ruled", answer.decision_id))
    assert (known_then["tier"], known_then["points"], known_then["basket"]) == ("gold", 5.0, 3.0)
