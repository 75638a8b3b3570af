"""Lists of campaigns that any caller can receive."""

from __future__ import annotations

from dataclasses import replace

from tilbud.domain.limits import Limits
from tilbud.transport.grpc.campaigns import CampaignsPage
from tilbud.v1 import campaigns_pb2


def _campaign(name: str) -> campaigns_pb2.Campaign:
    return campaigns_pb2.Campaign(id=name, offers=["x" * 100])


def test_a_page_ends_before_it_is_too_large() -> None:
    """The campaign that would make it too large begins the next page."""
    limits = replace(Limits(), campaigns_page_bytes_max=250)
    page = CampaignsPage(10, limits)
    assert [page.add(_campaign(name)) for name in "abc"] == [True, True, False]
    assert page.response.next_page_token == page.response.campaigns[-1].id
    assert page.response.ByteSize() <= 250


def test_a_page_holds_one_campaign_whatever_its_size() -> None:
    """Else nobody would get past it."""
    page = CampaignsPage(10, replace(Limits(), campaigns_page_bytes_max=1))
    assert page.add(_campaign("a"))
    assert not page.add(_campaign("b"))
    assert page.response.next_page_token == page.response.campaigns[-1].id
