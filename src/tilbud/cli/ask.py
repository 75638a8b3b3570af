"""The commands that ask a running service about decisions: `decide`, `activate`, `outcome` and `explain`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from tilbud.cli.answers import (
    Row,
    number_text,
    print_json,
    print_rows,
    print_table,
    time_text,
    value_text,
    values_text,
    wants_json,
    word,
)
from tilbud.cli.errors import mistakes_reported
from tilbud.cli.options import LISTEN, TIMEOUT_S, CampaignId, DecisionId, Output, Target, Timeout
from tilbud.cli.values import Consent, features, moment

if TYPE_CHECKING:
    from tilbud.client.calls import Connection
    from tilbud.client.questions import Feature
    from tilbud.v1 import decisions_pb2


def decide(
    campaign: CampaignId,
    device: Annotated[str, typer.Option(help="Such as mobile.")] = "",
    channel: Annotated[str, typer.Option(help="Such as web.")] = "",
    journey_stage: Annotated[str, typer.Option(help="Such as consideration.")] = "",
    place: Annotated[str, typer.Option(help="A shop, a city, a page slot.")] = "",
    language: Annotated[str, typer.Option(help="Such as da or en-GB.")] = "",
    country: Annotated[str, typer.Option(help="Such as DK.")] = "",
    time: Annotated[str, typer.Option(help="When it is shown: 2026-12-24T18:00+01:00. Default: now.")] = "",
    time_zone: Annotated[str, typer.Option(help="Such as Europe/Copenhagen.")] = "",
    feature: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A declared feature; repeatable.")
    ] = None,
    customer_id: Annotated[str, typer.Option(help="Your own id of the customer. Default: anonymous.")] = "",
    consent: Annotated[
        Consent | None, typer.Option(help="The customer's. Default: as their profile.")
    ] = None,
    decision_id: Annotated[str, typer.Option(help="Your own id, for retries. Default: a new one.")] = "",
    include: Annotated[
        list[str] | None, typer.Option(metavar="OFFER", help="Only these offers; repeatable.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="OFFER", help="Not these offers; repeatable.")
    ] = None,
    defer_activation: Annotated[
        bool, typer.Option("--defer-activation", help="The offer may not be shown after all: see `activate`.")
    ] = False,
    ranking: Annotated[
        bool, typer.Option("--ranking", help="Tell every eligible offer's probability.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Answer, and leave no trace.")] = False,
    target: Target = LISTEN,
    timeout: Timeout = TIMEOUT_S,
    output: Output = None,
) -> None:
    """Ask which offer to show."""
    with mistakes_reported():
        from tilbud.client.calls import connected
        from tilbud.client.questions import Question, decide_request

        when = moment(time, "--time") if time else None
        with connected(target, timeout) as service:
            question = Question(
                campaign,
                decision_id=decision_id,
                customer_id=customer_id,
                consent=consent or Consent.UNSPECIFIED,
                device=device,
                channel=channel,
                journey_stage=journey_stage,
                place=place,
                language=language,
                country=country,
                time=when,
                time_zone=time_zone,
                features=_features(service, campaign, feature or []),
                include_offers=include or [],
                exclude_offers=exclude or [],
                defer_activation=defer_activation,
                include_ranking=ranking,
                dry_run=dry_run,
            )
            answer = service.ask(service.decisions.Decide, decide_request(question))
    if wants_json(output):
        print_json(answer)
        return
    print_rows(_decision_rows(answer))
    if answer.recorded:
        then = "activate" if defer_activation else "outcome"
        words = f"tilbud {then} {campaign} {answer.decision_id}"
        print_rows([("next", words if defer_activation else f"{words} OUTCOME")])
    if answer.ranking:
        print_table(
            ["offer", "probability"],
            [(each.offer_id, number_text(each.probability)) for each in answer.ranking],
        )


def _features(service: Connection, campaign: str, texts: list[str]) -> dict[str, Feature]:
    """Return features of the kinds that the campaign declares, which is asked only where there are any."""
    from tilbud.v1.campaigns_pb2 import GetCampaignRequest

    if not texts:
        return {}
    served = service.ask(service.campaigns.GetCampaign, GetCampaignRequest(campaign=campaign)).campaign
    kinds = {each.name: each.kind for each in (*served.traits, *served.features)}
    values = features(texts, "--feature", kinds)
    for name in values.keys() - kinds.keys():
        declared = ", ".join(kinds) or "none"
        typer.echo(f"--feature {name} is not used: the campaign declares {declared}", err=True)
    return values


def _decision_rows(decision: decisions_pb2.DecideResponse) -> Iterator[Row]:
    from google.protobuf.json_format import MessageToDict

    from tilbud.v1.decisions_pb2 import DecisionReason

    yield "offer", decision.offer_id or "none"
    yield "payload", json.dumps(MessageToDict(decision.payload), ensure_ascii=False)
    yield "probability", number_text(decision.probability)
    yield "reason", word(DecisionReason.Name(decision.reason), "DECISION_REASON_")
    yield "variant", decision.variant
    yield "model version", decision.model_version
    yield "decision id", decision.decision_id if decision.recorded else "none: it was not recorded"
    yield (
        "outcomes until",
        time_text(decision.reward_deadline) if decision.HasField("reward_deadline") else "",
    )


def activate(
    campaign: CampaignId,
    decision_id: DecisionId,
    shown_offer: Annotated[
        str, typer.Option(metavar="OFFER", help="The offer that was shown. Default: the decision's own.")
    ] = "",
    target: Target = LISTEN,
    timeout: Timeout = TIMEOUT_S,
    output: Output = None,
) -> None:
    """Say that the offer of a deferred decision was shown."""
    with mistakes_reported():
        from tilbud.client.calls import connected
        from tilbud.v1.decisions_pb2 import ActivateRequest

        request = ActivateRequest(campaign=campaign, decision_id=decision_id, shown_offer_id=shown_offer)
        with connected(target, timeout) as service:
            answer = service.ask(service.decisions.Activate, request)
    if wants_json(output):
        print_json(answer)
    elif answer.HasField("reward_deadline"):
        print_rows([("outcomes count until", time_text(answer.reward_deadline))])
    else:
        print_rows([("void", "another offer was shown; nothing is learned from this decision")])


def outcome(
    campaign: CampaignId,
    decision_id: DecisionId,
    outcome: Annotated[str, typer.Argument(metavar="OUTCOME", help="What happened, such as purchase.")],
    value: Annotated[float | None, typer.Option(help="Multiplies the outcome's weight. Default: 1.")] = None,
    event_id: Annotated[
        str, typer.Option(help="Your own id of what happened, for retries. Default: it counts once.")
    ] = "",
    time: Annotated[str, typer.Option(help="When it happened: 2026-12-24T18:00+01:00. Default: now.")] = "",
    target: Target = LISTEN,
    timeout: Timeout = TIMEOUT_S,
    output: Output = None,
) -> None:
    """Say what happened after a decision."""
    with mistakes_reported():
        from tilbud.client.calls import connected
        from tilbud.v1.decisions_pb2 import OutcomeStatus, ReportOutcomeRequest

        request = ReportOutcomeRequest(
            campaign=campaign, decision_id=decision_id, outcome=outcome, value=value, event_id=event_id
        )
        if time:
            request.time.FromDatetime(moment(time, "--time"))
        with connected(target, timeout) as service:
            answer = service.ask(service.decisions.ReportOutcome, request)
    if wants_json(output):
        print_json(answer)
        return
    print_rows([(outcome, word(OutcomeStatus.Name(answer.status), "OUTCOME_STATUS_"))])


def explain(
    campaign: CampaignId,
    decision_id: DecisionId,
    language: Annotated[str, typer.Option(help="Of the sentence for the customer, such as da.")] = "",
    target: Target = LISTEN,
    timeout: Timeout = TIMEOUT_S,
    output: Output = None,
) -> None:
    """Say why a decision fell as it did."""
    with mistakes_reported():
        from tilbud.client.calls import connected
        from tilbud.v1.decisions_pb2 import ExplainDecisionRequest

        request = ExplainDecisionRequest(campaign=campaign, decision_id=decision_id, language=language)
        with connected(target, timeout) as service:
            answer = service.ask(service.decisions.ExplainDecision, request)
    if wants_json(output):
        print_json(answer)
        return
    print_rows([*_decision_rows(answer.decision), *_story_rows(answer)])
    columns = ["offer", "probability", "removed by"]
    rows = [[fate.offer_id, number_text(fate.probability), fate.removed_by] for fate in answer.offers]
    if any(fate.HasField("new_settlements") for fate in answer.offers):
        columns.append("settled while new")
        for row, fate in zip(rows, answer.offers, strict=True):
            row.append(str(fate.new_settlements) if fate.HasField("new_settlements") else "")
    print_table(columns, rows)


def _story_rows(story: decisions_pb2.ExplainDecisionResponse) -> Iterator[Row]:
    yield "decided", time_text(story.decision_time)
    yield "used", values_text(story.used)
    yield "for rules only", values_text(story.rules_only)
    yield "not used", ", ".join(f"{each.name}: {each.reason}" for each in story.dropped)
    yield (
        "what counted",
        "\n".join(
            f"{factor.name}={value_text(factor.value)} {factor.effect:+.4f}" for factor in story.factors
        ),
    )
    yield "for the customer", story.customer_explanation
