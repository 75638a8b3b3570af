"""CampaignService over gRPC: messages to use cases and back."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.message import Message

from tilbud.domain.decisions import check_id
from tilbud.domain.limits import Limits
from tilbud.service.catalog import Catalog
from tilbud.service.reload import CampaignLoader
from tilbud.transport.converters import campaign_message
from tilbud.transport.rpc import Context, Handle
from tilbud.v1 import campaigns_pb2


def campaign_handlers(catalog: Catalog, loader: CampaignLoader, limits: Limits) -> Mapping[str, Handle]:
    """Return the handlers of the methods that work, by name."""

    async def list_campaigns(_: campaigns_pb2.ListCampaignsRequest, __: Context) -> Message:
        return campaigns_pb2.ListCampaignsResponse(
            campaigns=[campaign_message(served) for served in catalog.all()]
        )

    async def get_campaign(message: campaigns_pb2.GetCampaignRequest, _: Context) -> Message:
        served = catalog.get(check_id("campaign", message.campaign, limits, required=True))
        return campaigns_pb2.GetCampaignResponse(campaign=campaign_message(served))

    async def reload_campaigns(_: campaigns_pb2.ReloadCampaignsRequest, __: Context) -> Message:
        changes = await loader.reload()
        return campaigns_pb2.ReloadCampaignsResponse(
            added=changes.added,
            changed=changes.changed,
            removed=changes.removed,
            unchanged=changes.unchanged,
        )

    return {
        "ListCampaigns": list_campaigns,
        "GetCampaign": get_campaign,
        "ReloadCampaigns": reload_campaigns,
    }
