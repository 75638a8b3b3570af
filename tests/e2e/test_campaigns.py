"""Loading changed campaign files while the service runs."""

from __future__ import annotations

import signal
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from tests.conftest import Serve
from tests.e2e.campaigns import MANNERS, RULES, SLOW
from tests.running import Service, until

from tilbud.v1 import campaigns_pb2, decisions_pb2


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory with one campaign file."""
    directory = tmp_path / "files"
    directory.mkdir()
    (directory / "slow.yaml").write_text(SLOW)
    return directory


def _reload(service: Service) -> campaigns_pb2.ReloadCampaignsResponse:
    return service.campaigns.ReloadCampaigns(campaigns_pb2.ReloadCampaignsRequest())


def _offers(service: Service, campaign: str) -> list[str]:
    request = campaigns_pb2.GetCampaignRequest(campaign=campaign)
    return list(service.campaigns.GetCampaign(request).campaign.offers)


def test_changed_files_are_served_and_a_kept_lineage_keeps_its_model(serve: Serve, files: Path) -> None:
    """A reload says what it added, changed and left alone; a new offer does not forget what was learned."""
    service = serve(files)
    before = service.campaigns.ListCampaigns(campaigns_pb2.ListCampaignsRequest()).campaigns[0]
    (files / "slow.yaml").write_text(SLOW.replace("{id: two}", "{id: two}, {id: three}"))
    (files / "rules.yaml").write_text(RULES)
    changes = _reload(service)
    assert (list(changes.added), list(changes.changed), list(changes.removed)) == (["rules"], ["slow"], [])
    assert _offers(service, "slow") == ["one", "two", "three"]
    after = service.campaigns.GetCampaign(campaigns_pb2.GetCampaignRequest(campaign="slow")).campaign
    assert after.model_version == before.model_version
    assert after.file_sha256 != before.file_sha256
    (files / "rules.yaml").unlink()
    assert list(_reload(service).removed) == ["rules"]


def test_a_preference_page_learns_what_there_is_to_choose(serve: Serve) -> None:
    """GetCampaign tells the topics to block and to opt in to, and the traits and events that are used."""
    service = serve(MANNERS)
    request = campaigns_pb2.GetCampaignRequest(campaign="manners")
    campaign = service.campaigns.GetCampaign(request).campaign
    assert list(campaign.topics) == ["prices"]
    assert list(campaign.sensitive_topics) == ["family"]
    assert list(campaign.events) == ["add_to_cart", "support_case", "bought"]
    assert [(trait.name, trait.kind) for trait in campaign.traits] == [("value", "number")]


def test_a_bad_file_leaves_the_running_campaigns(serve: Serve, files: Path) -> None:
    """Any problem: INVALID_ARGUMENT with file, line, key and remedy, and nothing changes."""
    service = serve(files)
    (files / "slow.yaml").write_text(SLOW.replace("{id: two}", "{id: two}, {id: three}"))
    (files / "bad.yaml").write_text(RULES.replace("fallback:", "fallbak:"))
    with pytest.raises(grpc.RpcError) as raised:
        _reload(service)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(raised.value)
    violations = error_details_pb2.BadRequest()
    assert status is not None
    assert status.details[1].Unpack(violations)
    description = violations.field_violations[0].description
    assert description.startswith(f"{files}/bad.yaml:16: fallbak:")
    assert "did you mean `fallback`?" in description
    assert _offers(service, "slow") == ["one", "two"]
    assert service.decisions.Decide(decisions_pb2.DecideRequest(campaign="slow")).recorded
    assert service.metric("tilbud_campaign_reloads_total", result="refused") == 1


def test_sighup_loads_changed_files(serve: Serve, files: Path) -> None:
    """SIGHUP does what ReloadCampaigns does."""
    service = serve(files)
    (files / "slow.yaml").write_text(SLOW.replace("{id: two}", "{id: two}, {id: three}"))
    service.process.send_signal(signal.SIGHUP)
    until(lambda: _offers(service, "slow") == ["one", "two", "three"])


def test_a_retry_of_a_decision_survives_its_campaign_file_changing(serve: Serve, files: Path) -> None:
    """A recorded decision is answered word for word even where the new file would refuse the request."""
    (files / "slow.yaml").write_text(
        SLOW.replace("offers:", "context: {features: {tier: category}}\noffers:")
    )
    service = serve(files)
    request = decisions_pb2.DecideRequest(campaign="slow", decision_id="kept")
    request.context.features["tier"].category = "gold"
    first = service.decisions.Decide(request)
    (files / "slow.yaml").write_text(SLOW)
    _reload(service)
    assert service.decisions.Decide(request) == first
