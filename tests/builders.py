"""Records for tests: everything has a sensible default, a test says only what its promise is about.

Times start at START: the wall clock and the service clock differ, so that no test can mix them up.
"""

from __future__ import annotations

from typing import Any

from tilbud.domain.clock import Now
from tilbud.domain.context import Consent
from tilbud.domain.customer.customer import (
    CustomerEvent,
    Preferences,
    Profile,
    Trait,
    channel_scope,
    customer_key,
    offer_scope,
)
from tilbud.domain.decision.activation import Activation
from tilbud.domain.decision.decision_rules import DecisionRules
from tilbud.domain.decision.records import (
    NO_OFFERS,
    NO_PAYLOAD,
    Decision,
    ExposureEffect,
    OfferSet,
    Reason,
    payload_text,
)
from tilbud.domain.decision.rewards import Outcome, RewardRules
from tilbud.domain.durations import Hours
from tilbud.domain.pauses import Pause
from tilbud.ledger.answers import Settled
from tilbud.ledger.ports import Ledger

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US
START_WALL_US = 1_790_000_000 * SECOND_US
START_SERVICE_US = 5_000 * SECOND_US
WINDOW_US = 1_800 * SECOND_US
ACTIVATION_WINDOW_US = 3_600 * SECOND_US
GRACE_US = 10 * SECOND_US
CAMPAIGN = "homepage-hero"
CUSTOMER = customer_key("ada@example.org", bytes(32))
SOMEONE_ELSE = customer_key("bob@example.org", bytes(32))
FINGERPRINT = bytes(range(16))
OFFERS = OfferSet.of(("free-shipping", "ten-off", "bundle"), ("|Offer id=a", "|Offer id=b", "|Offer id=c"))
PROBABILITIES = (0.1, 0.7000000000000001, 0.2)
RULES = RewardRules({"click": 0.1, "purchase": 1.0, "dismiss": -0.2}, "sum", 0.0, -1.0, 1.0)


def at(seconds: float = 0.0) -> Now:
    """Return both clocks, `seconds` after the start."""
    passed_us = round(seconds * SECOND_US)
    return Now(wall_us=START_WALL_US + passed_us, service_us=START_SERVICE_US + passed_us)


def decision(decision_id: str = "d1", now: Now | None = None, **said: Any) -> Decision:
    """Return a personalized decision made at `now`; deferred ones wait for their activation."""
    now = now or at()
    deferred = said.get("deferred", False)
    window_us = ACTIVATION_WINDOW_US if deferred else WINDOW_US
    offers: OfferSet = said.get("offers", OFFERS)
    drawn: int = said.get("drawn", 1)
    probabilities: tuple[float, ...] = said.get("probabilities", PROBABILITIES)
    defaults: dict[str, Any] = {
        "campaign": CAMPAIGN,
        "decision_id": decision_id,
        "fingerprint": FINGERPRINT,
        "decided_us": now.wall_us,
        "variant": "personalized",
        "reason": Reason.PERSONALIZED,
        "offer_id": said.get("offer_id") or offers.ids[drawn],
        "payload": payload_text({"title": f"Offer {drawn}"}),
        "probability": said.get("probability") or probabilities[drawn],
        "offers": offers,
        "probabilities": probabilities,
        "drawn": drawn,
        "discovery": 0.02,
        "lineage": "c0ffee",
        "sequence": 0,
        "features": "|Context device=mobile channel=web",
        "context": '{"device":"mobile","channel":"web"}',
        "device": "mobile",
        "channel": "web",
        "journey_stage": "consideration",
        "deferred": deferred,
        "deadline_us": now.wall_us + window_us,
        "closes_service_us": now.service_us + window_us,
        "due_service_us": now.service_us + window_us + GRACE_US,
    }
    return Decision(**{**defaults, **said})


def fallback(decision_id: str = "f1", now: Now | None = None, **said: Any) -> Decision:
    """Return a decision that could not choose."""
    return decision(
        decision_id,
        now,
        **{
            "reason": Reason.FALLBACK_NO_CONSENT,
            "offers": NO_OFFERS,
            "probabilities": (),
            "drawn": -1,
            "offer_id": "welcome",
            "probability": 1.0,
            "payload": NO_PAYLOAD,
            **said,
        },
    )


def outcome(decision_id: str = "d1", name: str = "click", **said: Any) -> Outcome:
    """Return an outcome of value 1 whose time and event id were not said."""
    defaults: dict[str, Any] = {
        "campaign": CAMPAIGN,
        "decision_id": decision_id,
        "outcome": name,
        "value": 1.0,
        "event_id": "",
        "occurred_us": None,
        "ends_now": False,
        "weight": RULES.weights.get(name, 1.0),
    }
    return Outcome(**{**defaults, **said})


def activation(decision_id: str = "d1", **said: Any) -> Activation:
    """Return an activation of the decision's own offer; `ends_now` and `window_us` are of its rules."""
    terms = {each: said.pop(each) for each in ("ends_now", "window_us") if each in said}
    defaults: dict[str, Any] = {
        "campaign": CAMPAIGN,
        "decision_id": decision_id,
        "shown_offer_id": "",
        "rules": rules(**terms),
    }
    return Activation(**{**defaults, **said})


def rules(rewards: RewardRules = RULES, **said: Any) -> DecisionRules:
    """Return the rules a decision is made with; those that `ends_now` names settle it at once."""
    ends_now = said.pop("ends_now", frozenset())
    defaults: dict[str, Any] = {
        "rewards": rewards,
        "final": ends_now,
        "learn": "on_settlement" if ends_now else "at_deadline",
        "window_us": WINDOW_US,
        "activation_window_us": ACTIVATION_WINDOW_US,
        "grace_us": GRACE_US,
    }
    return DecisionRules(**{**defaults, **said})


def contact(version: int = 0, campaign: str = CAMPAIGN, **said: Any) -> ExposureEffect:
    """Return what a decision for the second offer, on the web, means for a customer of that version."""
    scopes = (offer_scope(campaign, "ten-off"), channel_scope("web"))
    return ExposureEffect(
        version,
        said.get("scopes", scopes),
        sticky=said.get("sticky", False),
        counted=said.get("counted", True),
    )


def event(
    name: str = "add_to_cart", event_id: str = "e1", now: Now | None = None, **said: Any
) -> CustomerEvent:
    """Return something that happened to CUSTOMER, who said they consent."""
    defaults: dict[str, Any] = {
        "customer": CUSTOMER,
        "event": name,
        "event_id": event_id,
        "occurred_us": (now or at()).wall_us,
        "consent": Consent.GRANTED,
    }
    return CustomerEvent(**{**defaults, **said})


def profile(**said: Any) -> Profile:
    """Return a profile with something in every field."""
    defaults: dict[str, Any] = {
        "consent": Consent.GRANTED,
        "time_zone": "Europe/Copenhagen",
        "language": "da",
        "journey_stage": "retention",
        "journey_stage_us": at(-50).wall_us,
        "traits": {
            "loyalty_tier": Trait("gold", at(-10).wall_us),
            "basket_value": Trait(0.1 + 0.2, at(-20).wall_us),
            "returning": Trait(True, at(-30).wall_us),
        },
        "preferences": Preferences(
            blocked_offers=frozenset({"bundle"}),
            blocked_topics=frozenset({"alcohol", "tobacco"}),
            blocked_channels=frozenset({"call_center"}),
            opted_in_topics=frozenset({"family"}),
            quiet_hours=Hours(21 * 60, 8 * 60),
        ),
    }
    return Profile(**{**defaults, **said})


def pause(**said: Any) -> Pause:
    """Return a pause of an offer, until it is resumed."""
    defaults: dict[str, Any] = {
        "campaign": CAMPAIGN,
        "offer_id": "ten-off",
        "reason": "the price is wrong",
        "since_us": at().wall_us,
        "until_us": None,
    }
    return Pause(**{**defaults, **said})


async def settle_due(
    ledger: Ledger, campaign: str, rules: RewardRules | None, limit: int, now: Now
) -> Settled:
    """Settle up to `limit` due decisions, under a lease that is taken for it."""
    token = await ledger.lease("tests", now.service_us + 1, now)
    return await ledger.settle(campaign, rules, limit, now, token)
