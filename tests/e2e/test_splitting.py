"""A customer's side of the experiment against a real server."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.e2e.customers import decide, explain
from tests.running import Service, served

from tilbud.v1 import decisions_pb2 as pb
from tilbud.v1.campaigns_pb2 import ReloadCampaignsRequest

CAMPAIGN = """
campaign: split
context: {channels: [web, app]}
offers: [{id: a}, {id: b}]
reward: {outcomes: {click: 1}}
variants: {control: {share: %s}}
consent: not_required
"""
PEOPLE = [f"customer-{number}" for number in range(80)]


def sides(service: Service, channel: str) -> dict[str, str]:
    """Ask for each customer in a channel; return their sides."""
    context = pb.Context(channel=channel)
    return {each: decide(service, "split", each, context=context).variant for each in PEOPLE}


def test_customers_keep_their_side(tmp_path: Path) -> None:
    """In every channel and after a restart; a larger share moves none of them, nor decisions of before."""
    with served(tmp_path, {"split.yaml": CAMPAIGN % 0.3}) as service:
        first = sides(service, "web")
        assert set(first.values()) == {"control", "personalized"}
        assert sides(service, "app") == first
        moved = next(each for each in PEOPLE if first[each] == "personalized")
        kept = {each: decide(service, "split", each, decision_id=f"kept-{each}").variant for each in PEOPLE}
        assert kept == first
        service.stop()
        service.start()
        assert sides(service, "web") == first

        (tmp_path / "campaigns" / "split.yaml").write_text(CAMPAIGN % 1.0)
        service.campaigns.ReloadCampaigns(ReloadCampaignsRequest())
        assert decide(service, "split", moved).variant == "control"
        assert decide(service, "split", moved, decision_id=f"kept-{moved}").variant == "personalized"
        explained = explain(service, "split", f"kept-{moved}")
        assert explained.variant_share == pytest.approx(0.7)
        assert explained.split == "customer"

        (tmp_path / "campaigns" / "split.yaml").write_text(CAMPAIGN % 0.5)
        service.campaigns.ReloadCampaigns(ReloadCampaignsRequest())
        half = sides(service, "web")
        assert all(half[each] == "control" for each in PEOPLE if first[each] == "control")
        assert sum(half[each] != first[each] for each in PEOPLE) < 0.4 * len(PEOPLE)
