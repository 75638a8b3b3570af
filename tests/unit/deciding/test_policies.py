"""What policies score, before discovery is mixed in and an offer is drawn."""

from __future__ import annotations

import pytest
from tests.builders import OFFERS

from tilbud.campaigns.source import parse_campaign
from tilbud.deciding.policies import Fixed, Policy, Uniform, control_policy

CAMPAIGN = """
campaign: c
offers: [{{id: a}}, {{id: b}}]
fallback: {{id: none}}
consent: not_required
reward: {{outcomes: {{click: 1}}}}
variants: {{control: {{share: 0.5, serves: {}}}}}
"""


def test_uniform_scores_every_offer_alike() -> None:
    """Whatever the context."""
    scores = Uniform().scores("|Context device=mobile", OFFERS)
    assert len(scores) == len(OFFERS.ids)
    assert set(scores) == {1.0}


def test_fixed_scores_its_offer_alone() -> None:
    """And none where its offer may not be shown: no other takes its place."""
    index = 1
    scores = Fixed(OFFERS.ids[index]).scores("", OFFERS)
    assert [bool(score) for score in scores] == [place == index for place in range(len(OFFERS.ids))]
    assert Fixed("gone").scores("", OFFERS) == ()


@pytest.mark.parametrize(
    ("serves", "policy"), [("uniform", Uniform()), ("fallback", None), ("b", Fixed("b"))]
)
def test_a_file_names_the_policy_of_control(serves: str, policy: Policy | None) -> None:
    """By what control serves; no discovery is mixed into it."""
    campaign = parse_campaign(CAMPAIGN.format(serves).encode(), "c.yaml")
    assert control_policy(campaign) == policy
    assert policy is None or policy.discovery == 0.0
