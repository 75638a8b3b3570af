"""The commands that ask a running service about its campaigns: `campaigns`, `pause` and `resume`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from tilbud.cli.answers import Row, print_json, print_rows, print_table, time_text, wants_json
from tilbud.cli.errors import mistakes_reported
from tilbud.cli.options import LISTEN, TIMEOUT_S, CampaignId, Output, Target, Timeout
from tilbud.cli.values import end_after
from tilbud.domain.numbers import exact_text

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from tilbud.client.calls import Connection
    from tilbud.v1 import campaigns_pb2

Offer = Annotated[
    str, typer.Argument(metavar="[OFFER]", help="One offer of it. Default: the whole campaign.")
]


def campaigns(
    campaign: Annotated[str, typer.Argument(metavar="[CAMPAIGN]", help="Only this one, in full.")] = "",
    target: Target = LISTEN,
    timeout: Timeout = TIMEOUT_S,
    output: Output = None,
) -> None:
    """List the campaigns that are served, or tell all about one."""
    with mistakes_reported():
        from tilbud.client.calls import connected
        from tilbud.v1.campaigns_pb2 import GetCampaignRequest, ListCampaignsResponse

        with connected(target, timeout) as service:
            if campaign:
                request = GetCampaignRequest(campaign=campaign)
                one = service.ask(service.campaigns.GetCampaign, request).campaign
            else:
                every = ListCampaignsResponse(campaigns=_every_campaign(service))
    if wants_json(output):
        print_json(one if campaign else every)
    elif campaign:
        print_rows(_campaign_rows(one))
    else:
        rows = [
            (each.id, str(len(each.offers)), each.model_version, _paused(each)) for each in every.campaigns
        ]
        print_table(["campaign", "offers", "model version", "paused"], rows)


def _every_campaign(service: Connection) -> Iterator[campaigns_pb2.Campaign]:
    from tilbud.v1.campaigns_pb2 import ListCampaignsRequest

    request = ListCampaignsRequest()
    while True:
        page = service.ask(service.campaigns.ListCampaigns, request)
        yield from page.campaigns
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _paused(campaign: campaigns_pb2.Campaign) -> str:
    return ", ".join(pause.offer_id or "all of it" for pause in campaign.pauses)


def _campaign_rows(campaign: campaigns_pb2.Campaign) -> Iterator[Row]:
    yield "campaign", campaign.id
    yield "offers", ", ".join(campaign.offers)
    yield "outcomes", ", ".join(f"{each.name} ({exact_text(each.weight)})" for each in campaign.outcomes)
    yield "devices", ", ".join(campaign.devices)
    yield "channels", ", ".join(campaign.channels)
    yield "journey stages", ", ".join(campaign.journey_stages)
    yield "features", ", ".join(f"{each.name} ({each.kind})" for each in campaign.features)
    yield "traits", ", ".join(f"{each.name} ({each.kind})" for each in campaign.traits)
    yield "events", ", ".join(campaign.events)
    yield "topics", ", ".join((*campaign.topics, *campaign.sensitive_topics))
    yield "model version", campaign.model_version
    if campaign.HasField("relearning"):
        yield "relearning", f"{campaign.relearning.settlements_left:,} settlements to learn"
    for pause in campaign.pauses:
        until = f" until {time_text(pause.end_time)}" if pause.HasField("end_time") else ""
        yield f"paused: {pause.offer_id or 'all of it'}", f"{pause.reason}{until}"


def pause(
    campaign: CampaignId,
    offer: Offer = "",
    reason: Annotated[str, typer.Option(help="Why, for those who read it later. Required.")] = "",
    duration: Annotated[
        str,
        typer.Option("--for", metavar="DURATION", help="For so long, such as 2h. Default: until resumed."),
    ] = "",
    target: Target = LISTEN,
    timeout: Timeout = TIMEOUT_S,
    output: Output = None,
) -> None:
    """Take an offer, or a whole campaign, out of every decision from the next one on."""
    with mistakes_reported():
        from tilbud.client.calls import connected
        from tilbud.v1 import campaigns_pb2

        if not reason:
            raise ValueError('say why, for those who read it later: --reason "the bank is down"')
        end = _end(duration) if duration else None
        with connected(target, timeout) as service:
            if offer:
                of_offer = campaigns_pb2.PauseOfferRequest(
                    campaign=campaign, offer_id=offer, reason=reason, end_time=end
                )
                service.ask(service.campaigns.PauseOffer, of_offer)
            else:
                whole = campaigns_pb2.PauseCampaignRequest(campaign=campaign, reason=reason, end_time=end)
                service.ask(service.campaigns.PauseCampaign, whole)
            _show_after(service, campaign, output)


def _end(duration: str) -> Timestamp:
    from google.protobuf.timestamp_pb2 import Timestamp

    end = Timestamp()
    end.FromDatetime(end_after(duration, "--for", datetime.now(UTC)))
    return end


def resume(
    campaign: CampaignId,
    offer: Offer = "",
    target: Target = LISTEN,
    timeout: Timeout = TIMEOUT_S,
    output: Output = None,
) -> None:
    """Bring a paused offer, or campaign, back."""
    with mistakes_reported():
        from tilbud.client.calls import connected
        from tilbud.v1 import campaigns_pb2

        with connected(target, timeout) as service:
            if offer:
                of_offer = campaigns_pb2.ResumeOfferRequest(campaign=campaign, offer_id=offer)
                service.ask(service.campaigns.ResumeOffer, of_offer)
            else:
                whole = campaigns_pb2.ResumeCampaignRequest(campaign=campaign)
                service.ask(service.campaigns.ResumeCampaign, whole)
            _show_after(service, campaign, output)


def _show_after(service: Connection, campaign: str, output: Output) -> None:
    """Print what is paused of the campaign now."""
    from tilbud.v1.campaigns_pb2 import Campaign, GetCampaignRequest

    served = service.ask(service.campaigns.GetCampaign, GetCampaignRequest(campaign=campaign)).campaign
    if wants_json(output):
        print_json(served)
        return
    only = Campaign(id=served.id, pauses=served.pauses)
    print_rows([*_campaign_rows(only), *([] if served.pauses else [("paused", "nothing")])])
