"""The invariant everything rests on: the probability answered is the one the draw used."""

from __future__ import annotations

import math
import random
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.conftest import Serve
from tests.e2e.campaigns import CONTACT, MANNERS
from tests.running import Service

from tilbud.domain.decision.eligibility import RULES
from tilbud.v1 import campaigns_pb2, customers_pb2
from tilbud.v1 import decisions_pb2 as pb

DECISIONS = 40_000
BATCH = 500
CUSTOMERS = 4_000
DEVIATIONS_MAX = 4.0
WEIGHT_DEVIATIONS_MAX = 3.0
LEARNED_VERSIONS_MIN = 20  # of the model, which learns as fast as the machine lets it
NARROW = ["anyone", "app-only", "ten-off", "not-gold"]
NIGHT_S = 1_790_000_000  # 2026-09-21, 15:33 in Copenhagen; the times of a day follow


def _introduce(service: Service, draw: random.Random) -> None:
    """Let half of the customers say what they want, and something happen to some."""
    waiting: list[Any] = []
    for number in range(0, CUSTOMERS, 2):
        preferences = customers_pb2.Preferences(
            blocked_offers=["anyone"] if draw.random() < 0.2 else [],
            blocked_topics=["prices"] if draw.random() < 0.2 else [],
            blocked_channels=["push"] if draw.random() < 0.1 else [],
            opted_in_topics=["family"] if draw.random() < 0.5 else [],
            quiet_hours="22:00-07:00" if draw.random() < 0.5 else "",
        )
        customer = customers_pb2.Customer(
            id=f"customer-{number}",
            consent=pb.CONSENT_GRANTED,
            time_zone=draw.choice(["Europe/Copenhagen", "Asia/Tokyo"]),
            preferences=preferences,
        )
        customer.traits["value"].value.number = draw.choice([100.0, 900.0])
        update = service.customers.UpdateCustomer.future(
            customers_pb2.UpdateCustomerRequest(customer=customer)
        )
        waiting.append(update)
        if draw.random() < 0.5:
            event = customers_pb2.ReportCustomerEventRequest(
                customer_id=customer.id,
                event=draw.choice(["add_to_cart", "support_case", "bought"]),
                event_id="first",
                consent=pb.CONSENT_GRANTED,
            )
            waiting.append(service.customers.ReportCustomerEvent.future(event))
        while len(waiting) >= BATCH:
            waiting.pop(0).result(60)
    for call in waiting:
        call.result(60)


def _request(draw: random.Random, number: int) -> pb.DecideRequest:
    context = pb.Context(
        device=draw.choice(["mobile", "desktop", "toaster"]),
        channel=draw.choice(["web", "app", "push"]),
        language=draw.choice(["", "da", "de"]),
        journey_stage=draw.choice(["", "", "new", "loyal"]),
        country=draw.choice(["", "DK", "SE"]),
        place=draw.choice(["harbour", "station"]),
    )
    context.time.FromSeconds(NIGHT_S + draw.randrange(86_400))
    if draw.random() < 0.7:
        context.features["basket"].number = draw.choice([10.0, 50.0])
        context.features["tier"].category = draw.choice(["gold", "silver"])
    return pb.DecideRequest(
        campaign="manners",
        decision_id=f"exact-{number}",
        customer_id=f"customer-{draw.randrange(CUSTOMERS)}" if draw.random() < 0.9 else "",
        consent=draw.choice([pb.CONSENT_UNSPECIFIED] * 8 + [pb.CONSENT_GRANTED, pb.CONSENT_DENIED]),
        context=context,
        include_ranking=True,
        include_offers=NARROW if draw.random() < 0.05 else [],
        exclude_offers=["anyone"] if draw.random() < 0.1 else [],
    )


def _asked(
    service: Service, draw: random.Random
) -> Iterator[tuple[int, list[pb.DecideRequest], Sequence[pb.BatchDecideResult]]]:
    """Ask batch by batch, each while the one before is looked at; from the middle an offer is paused."""
    ahead: deque[tuple[int, list[pb.DecideRequest], Any]] = deque()
    for start in range(0, DECISIONS, BATCH):
        if start == DECISIONS // 2:
            service.campaigns.PauseOffer(_pause("not-gold"))
        requests = [_request(draw, number) for number in range(start, start + BATCH)]
        asking = service.decisions.BatchDecide.future(pb.BatchDecideRequest(requests=requests))
        ahead.append((start, requests, asking))
        if len(ahead) > 1:
            first, asked, answering = ahead.popleft()
            yield first, asked, answering.result(60).results
    for first, asked, answering in ahead:
        yield first, asked, answering.result(60).results


def test_offers_are_shown_as_often_as_their_probabilities_say(serve: Serve, tmp_path: Path) -> None:
    """Over 40,000 decisions no offer is more than 4 standard deviations from its logged probabilities.

    Every rule, discovery, control, a pause, exclusions and learning are at work; a policy that always shows
    the first offer has a mean importance weight of 1 within 3 standard errors; and no removed offer is
    ever in a ranking.
    """
    (tmp_path / "manners").mkdir()
    (tmp_path / "manners" / "campaign.yaml").write_text(MANNERS)
    (tmp_path / "manners" / "contact.yaml").write_text(CONTACT)
    service = serve(tmp_path / "manners")
    draw = random.Random(7)
    _introduce(service, draw)
    shown: dict[tuple[str, str], int] = defaultdict(int)
    expected: dict[tuple[str, str], float] = defaultdict(float)
    variance: dict[tuple[str, str], float] = defaultdict(float)
    weights: list[float] = []
    versions: set[str] = set()
    for start, requests, results in _asked(service, draw):
        outcomes = []
        for request, result in zip(requests, results, strict=True):
            decision = result.decision
            versions.add(decision.model_version)
            ranking = {each.offer_id: each.probability for each in decision.ranking}
            if not ranking:
                assert decision.reason == pb.DECISION_REASON_FALLBACK_NO_ELIGIBLE_OFFER
                continue
            assert math.isclose(math.fsum(ranking.values()), 1.0, rel_tol=1e-9)
            assert not set(request.exclude_offers) & set(ranking)
            assert not request.include_offers or set(ranking) <= set(request.include_offers)
            assert start < DECISIONS // 2 or "not-gold" not in ranking
            for offer, probability in ranking.items():
                expected[decision.variant, offer] += probability
                variance[decision.variant, offer] += probability * (1.0 - probability)
            shown[decision.variant, decision.offer_id] += 1
            weights.append((decision.offer_id == min(ranking)) / decision.probability)
            likes = 0.6 if decision.offer_id in {"app-only", "not-gold"} else 0.2
            outcomes.append(
                pb.ReportOutcomeRequest(
                    campaign="manners",
                    decision_id=decision.decision_id,
                    outcome="bought" if draw.random() < likes else "left",
                )
            )
        service.decisions.BatchReportOutcomes(pb.BatchReportOutcomesRequest(requests=outcomes))
    assert {variant for variant, _ in expected} == {"personalized", "control"}
    for key, mean in expected.items():
        deviations = abs(shown[key] - mean) / math.sqrt(variance[key])
        assert deviations <= DEVIATIONS_MAX, f"{key}: shown {shown[key]}, expected {mean:.1f}"
    mean_weight = math.fsum(weights) / len(weights)
    spread = math.sqrt(math.fsum((weight - mean_weight) ** 2 for weight in weights)) / len(weights)
    assert abs(mean_weight - 1.0) <= WEIGHT_DEVIATIONS_MAX * spread
    assert len(versions) > LEARNED_VERSIONS_MIN, "it learned meanwhile"
    idle = [rule for rule in RULES if not service.metric("tilbud_excluded_offers_total", rule=rule)]
    assert not idle, "every rule was at work"


def _pause(offer_id: str) -> campaigns_pb2.PauseOfferRequest:
    return campaigns_pb2.PauseOfferRequest(campaign="manners", offer_id=offer_id, reason="for the test")
