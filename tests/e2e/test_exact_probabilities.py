"""The invariant everything rests on: the probability answered is the one the draw used."""

from __future__ import annotations

import math
import random
from collections import defaultdict

from tests.conftest import Serve
from tests.e2e.campaigns import RULES

from tilbud.v1 import decisions_pb2 as pb

DECISIONS = 100_000
BATCH = 500
DEVIATIONS_MAX = 4.0


def _request(draw: random.Random, number: int) -> pb.DecideRequest:
    context = pb.Context(
        device=draw.choice(["mobile", "desktop", "toaster"]),
        channel=draw.choice(["web", "app"]),
        journey_stage=draw.choice(["new", "loyal"]),
    )
    context.time.FromSeconds(1_790_000_000 + draw.randrange(86_400))
    if draw.random() < 0.7:
        context.features["basket"].number = draw.choice([10.0, 50.0])
        context.features["tier"].category = draw.choice(["gold", "silver"])
    exclude = ["anyone"] if draw.random() < 0.1 else []
    return pb.DecideRequest(
        campaign="rules",
        decision_id=f"exact-{number}",
        context=context,
        include_ranking=True,
        exclude_offers=exclude,
    )


def test_offers_are_shown_as_often_as_their_probabilities_say(serve: Serve) -> None:
    """Over 100,000 decisions no offer is more than 4 standard deviations from its logged probabilities.

    Rules, discovery, control, exclusions and learning are all at work; a policy that always shows the
    first offer has a mean importance weight of 1; and no removed offer is ever in a ranking.
    """
    service = serve(RULES)
    draw = random.Random(7)
    shown: dict[tuple[str, str], int] = defaultdict(int)
    expected: dict[tuple[str, str], float] = defaultdict(float)
    variance: dict[tuple[str, str], float] = defaultdict(float)
    weights: list[float] = []
    for start in range(0, DECISIONS, BATCH):
        requests = [_request(draw, number) for number in range(start, start + BATCH)]
        results = service.decisions.BatchDecide(pb.BatchDecideRequest(requests=requests)).results
        outcomes = []
        for request, result in zip(requests, results, strict=True):
            decision = result.decision
            ranking = {each.offer_id: each.probability for each in decision.ranking}
            if not ranking:
                assert decision.reason == pb.DECISION_REASON_FALLBACK_NO_ELIGIBLE_OFFER
                continue
            assert math.isclose(math.fsum(ranking.values()), 1.0, abs_tol=1e-12)
            assert ranking[decision.offer_id] == decision.probability
            assert ("app-only" in ranking) == (request.context.channel == "app")
            assert not set(request.exclude_offers) & ranking.keys()
            for offer, probability in ranking.items():
                expected[decision.variant, offer] += probability
                variance[decision.variant, offer] += probability * (1.0 - probability)
            shown[decision.variant, decision.offer_id] += 1
            weights.append((decision.offer_id == min(ranking)) / decision.probability)
            likes = 0.6 if decision.offer_id in {"app-only", "not-gold"} else 0.2
            outcomes.append(
                pb.ReportOutcomeRequest(
                    campaign="rules",
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
    assert abs(mean_weight - 1.0) <= DEVIATIONS_MAX * spread
    assert service.metric("tilbud_model_sequence", campaign="rules") > DECISIONS / 2, "it learned meanwhile"
