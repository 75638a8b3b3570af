"""CampaignService over gRPC: messages to use cases and back."""

from __future__ import annotations

from asyncio import shield
from collections.abc import Awaitable, Callable, Mapping

from google.protobuf.message import Message

from tilbud.campaigns.changes import Changes
from tilbud.campaigns.loader import CampaignLoader
from tilbud.campaigns.served import Catalog, ServedCampaign
from tilbud.concurrency.time_slice import TimeSlice
from tilbud.domain.context import TIME_US_MAX
from tilbud.domain.decision.records import check_id
from tilbud.domain.errors import InvalidField
from tilbud.domain.limits import Limits
from tilbud.service.pauses import PauseService
from tilbud.transport.call import Call, Handle
from tilbud.transport.grpc.converters import campaign_message, microseconds
from tilbud.v1 import campaigns_pb2

_FRAME_BYTES = 6  # around a campaign in a page: a tag and a length


class CampaignsPage:
    """A page of ListCampaigns: so many campaigns as fit, but at least one."""

    def __init__(self, campaigns_max: int, limits: Limits) -> None:
        self.response = campaigns_pb2.ListCampaignsResponse()
        self._campaigns_max = campaigns_max
        self._bytes_max = limits.campaigns_page_bytes_max
        self._bytes = 0

    def add(self, campaign: campaigns_pb2.Campaign) -> bool:
        """Add a campaign, or say that the next page begins with it."""
        listed = self.response.campaigns
        self._bytes += campaign.ByteSize() + _FRAME_BYTES
        if listed and (len(listed) >= self._campaigns_max or self._bytes > self._bytes_max):
            self.response.next_page_token = listed[-1].id
            return False
        listed.append(campaign)
        return True


def _list_handler(
    catalog: Catalog,
    message_of: Callable[[ServedCampaign], Awaitable[campaigns_pb2.Campaign]],
    limits: Limits,
) -> Handle:
    async def list_campaigns(message: campaigns_pb2.ListCampaignsRequest, _: Call) -> Message:
        if not 0 <= message.page_size <= limits.campaigns_max:
            raise InvalidField("page_size", f"must lie between 0 and {limits.campaigns_max}")
        after = check_id("page_token", message.page_token, limits)
        page, time_slice = (
            CampaignsPage(message.page_size or limits.campaigns_max, limits),
            TimeSlice(limits.loop_slice_s),
        )
        for served in catalog.all():
            if served.id > after and not page.add(await message_of(served)):
                break
            if time_slice.expired():
                await time_slice.yield_to_loop()
        return page.response

    return list_campaigns


def campaign_handlers(
    catalog: Catalog,
    loader: CampaignLoader,
    pauses: PauseService,
    limits: Limits,
    reloaded: Callable[[], None],
) -> Mapping[str, Handle]:
    """Return the handlers by the method's name; `reloaded` hears of each ReloadCampaigns that loaded."""

    async def message_of(served: ServedCampaign) -> campaigns_pb2.Campaign:
        return campaign_message(served, await pauses.pauses(served.id), await loader.relearning(served.id))

    async def get_campaign(message: campaigns_pb2.GetCampaignRequest, _: Call) -> Message:
        served = catalog.get(check_id("campaign", message.campaign, limits, required=True))
        return campaigns_pb2.GetCampaignResponse(campaign=await message_of(served))

    async def reload() -> Changes:
        changes = await loader.reload()
        reloaded()
        return changes

    async def reload_campaigns(_: campaigns_pb2.ReloadCampaignsRequest, __: Call) -> Message:
        changes = await shield(reload())  # it goes on where the caller's time is over
        return campaigns_pb2.ReloadCampaignsResponse(
            added=changes.added,
            changed=changes.changed,
            removed=changes.removed,
            unchanged=changes.unchanged,
            under_older_rules=changes.under_older_rules,
            rewards_not_converted=changes.rewards_not_converted,
        )

    async def pause_offer(message: campaigns_pb2.PauseOfferRequest, _: Call) -> Message:
        until_us = _end_us(message)
        await shield(pauses.pause_offer(message.campaign, message.offer_id, message.reason, until_us))
        return campaigns_pb2.PauseOfferResponse()

    async def resume_offer(message: campaigns_pb2.ResumeOfferRequest, _: Call) -> Message:
        await shield(pauses.resume_offer(message.campaign, message.offer_id))
        return campaigns_pb2.ResumeOfferResponse()

    async def pause_campaign(message: campaigns_pb2.PauseCampaignRequest, _: Call) -> Message:
        await shield(pauses.pause_campaign(message.campaign, message.reason, _end_us(message)))
        return campaigns_pb2.PauseCampaignResponse()

    async def resume_campaign(message: campaigns_pb2.ResumeCampaignRequest, _: Call) -> Message:
        await shield(pauses.resume_campaign(message.campaign))
        return campaigns_pb2.ResumeCampaignResponse()

    return {
        "ListCampaigns": _list_handler(catalog, message_of, limits),
        "GetCampaign": get_campaign,
        "ReloadCampaigns": reload_campaigns,
        "PauseOffer": pause_offer,
        "ResumeOffer": resume_offer,
        "PauseCampaign": pause_campaign,
        "ResumeCampaign": resume_campaign,
    }


def _end_us(message: campaigns_pb2.PauseOfferRequest | campaigns_pb2.PauseCampaignRequest) -> int | None:
    """Return until when it is off; None: until it is resumed. Raises InvalidField."""
    if not message.HasField("end_time"):
        return None
    end_us = microseconds("end_time", message.end_time)
    if not 0 <= end_us < TIME_US_MAX:
        raise InvalidField("end_time", "must lie in the years 1970 to 9998")
    return end_us
