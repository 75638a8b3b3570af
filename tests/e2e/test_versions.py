"""Features that are versions: sent as text, asked for by rules, learned, explained."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.e2e.customers import decide, dropped, explain, grant, ranked, refused, removed, situation, used
from tests.running import Service, served

from tilbud.v1 import campaigns_pb2

APP = """
campaign: app
context:
  features: {app_version: version}
  traits: {system: version}
segments:
  modern: {system: {ge: "17"}}
offers:
  - {id: everyone}
  - {id: wallet, when: {app_version: {ge: "10.2"}}}
fallback: {id: nothing}
reward: {outcomes: {bought: 1}}
consent: not_required
"""
STRICT = APP.replace("campaign: app", "campaign: strict") + "strict: true\n"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Serves a campaign of which an offer needs an app that is new enough."""
    with served(tmp_path_factory.mktemp("versions"), {"app.yaml": APP, "strict.yaml": STRICT}) as started:
        yield started


@pytest.mark.parametrize(
    ("version", "fits"),
    [("10.10", True), ("v10.2", True), ("10.2+5", True), ("10.2.0-beta.1", False), ("9.30", False)],
)
def test_an_offer_may_ask_for_a_version(service: Service, version: str, fits: bool) -> None:
    """It is shown from that version on, in the order of versions."""
    assert ("wallet" in ranked(service, "app", context=situation({"app_version": version}))) is fits


def test_a_version_that_is_none_costs_itself(service: Service) -> None:
    """It is not used, named, and counted; a strict campaign refuses it by name."""
    context = situation({"app_version": "newest"})
    explained = explain(service, "app", decide(service, "app", context=context).decision_id)
    assert dropped(explained) == {"app_version": "not_a_version"}
    assert removed(explained) == {"wallet": "when"}
    labels = {"campaign": "app", "field": "app_version", "why": "not_a_version"}
    assert service.metric("tilbud_dropped_values_total", **labels) == 1.0
    assert refused(lambda: decide(service, "strict", context=context))[1] == "INVALID_FIELD"


def test_a_version_is_told_as_it_was_read(service: Service) -> None:
    """What was used says a version with its three parts, of a trait too; GetCampaign tells the kind."""
    grant(service, "Ada", traits={"system": "v17.2"})
    answer = decide(service, "app", "Ada", context=situation({"app_version": "10.2"}))
    known = used(explain(service, "app", answer.decision_id))
    assert (known["app_version"], known["system"], known["modern"]) == ("10.2.0", "17.2.0", True)
    campaign = service.campaigns.GetCampaign(campaigns_pb2.GetCampaignRequest(campaign="app")).campaign
    assert {feature.name: feature.kind for feature in campaign.features} == {"app_version": "version"}
