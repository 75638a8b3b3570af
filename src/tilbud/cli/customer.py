"""The commands about a customer of a service: `customer show`, `update`, `event`, `export` and `erase`."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from tilbud.cli.answers import (
    Row,
    print_json,
    print_line,
    print_rows,
    time_text,
    value_text,
    wants_json,
    word,
)
from tilbud.cli.errors import mistakes_reported
from tilbud.cli.options import LISTEN, TIMEOUT_S, CustomerId, Output, Target, Timeout
from tilbud.cli.values import Consent, features, moment

if TYPE_CHECKING:
    from tilbud.v1 import customers_pb2


def show(
    customer_id: CustomerId, target: Target = LISTEN, timeout: Timeout = TIMEOUT_S, output: Output = None
) -> None:
    """Tell a customer's profile."""
    with mistakes_reported():
        from tilbud.client.calls import connected
        from tilbud.v1.customers_pb2 import GetCustomerRequest

        with connected(target, timeout) as service:
            request = GetCustomerRequest(customer_id=customer_id)
            answer = service.ask(service.customers.GetCustomer, request).customer
    _print_customer(answer, output)


def update(
    customer_id: CustomerId,
    consent: Annotated[
        Consent | None, typer.Option(help="What the customer said; `unspecified` takes it back.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Such as da; empty: unknown.")] = None,
    time_zone: Annotated[str | None, typer.Option(help="Such as Europe/Copenhagen; empty: unknown.")] = None,
    journey_stage: Annotated[str | None, typer.Option(help="Such as retention; empty: unknown.")] = None,
    trait: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A lasting fact; repeatable.")
    ] = None,
    remove_trait: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Forget a fact; repeatable.")
    ] = None,
    block_offer: Annotated[
        list[str] | None, typer.Option(metavar="OFFER", help="Never show these; empty: none. Repeatable.")
    ] = None,
    block_topic: Annotated[
        list[str] | None, typer.Option(metavar="TOPIC", help="Never show these; empty: none. Repeatable.")
    ] = None,
    block_channel: Annotated[
        list[str] | None, typer.Option(metavar="CHANNEL", help="Show nothing there; empty: none. Repeatable.")
    ] = None,
    opt_in: Annotated[
        list[str] | None,
        typer.Option(metavar="TOPIC", help="Sensitive topics to show; empty: none. Repeatable."),
    ] = None,
    quiet_hours: Annotated[str | None, typer.Option(help="Such as 21:00-08:00; empty: never.")] = None,
    target: Target = LISTEN,
    timeout: Timeout = TIMEOUT_S,
    output: Output = None,
) -> None:
    """Change what is kept of a customer; what is not named stays. Of a list what is given replaces it."""
    with mistakes_reported():
        from tilbud.client.calls import connected
        from tilbud.client.questions import consent_value, feature_values
        from tilbud.v1 import customers_pb2

        customer = customers_pb2.Customer(id=customer_id)
        mask = []
        if consent:
            mask.append("consent")
            customer.consent = consent_value(consent)
        texts = {"language": language, "time_zone": time_zone, "journey_stage": journey_stage}
        for name, text in texts.items():
            if text is not None:
                mask.append(name)
                setattr(customer, name, text)
        for name, value in feature_values(features(trait or [], "--trait", {})).items():
            mask.append(f"traits.{name}")
            customer.traits[name].value.CopyFrom(value)
        mask += [f"traits.{name}" for name in remove_trait or []]
        lists = {
            "blocked_offers": block_offer,
            "blocked_topics": block_topic,
            "blocked_channels": block_channel,
            "opted_in_topics": opt_in,
        }
        for name, words in lists.items():
            if words is not None:
                mask.append(f"preferences.{name}")
                getattr(customer.preferences, name).extend(filter(None, words))
        if quiet_hours is not None:
            mask.append("preferences.quiet_hours")
            customer.preferences.quiet_hours = quiet_hours
        if not mask:
            raise ValueError(
                "say what changes, such as --consent granted; `customer show` tells what is kept"
            )
        request = customers_pb2.UpdateCustomerRequest(customer=customer)
        request.update_mask.paths.extend(mask)
        with connected(target, timeout) as service:
            answer = service.ask(service.customers.UpdateCustomer, request).customer
    _print_customer(answer, output)


def event(
    customer_id: CustomerId,
    event: Annotated[str, typer.Argument(metavar="EVENT", help="What happened, such as add_to_cart.")],
    event_id: Annotated[str, typer.Option(help="Your own id of it, for retries. Default: a new one.")] = "",
    time: Annotated[str, typer.Option(help="When: 2026-12-24T18:00+01:00. Default: now.")] = "",
    consent: Annotated[
        Consent | None, typer.Option(help="The customer's. Default: as their profile.")
    ] = None,
    target: Target = LISTEN,
    timeout: Timeout = TIMEOUT_S,
    output: Output = None,
) -> None:
    """Say that something happened to a customer, whatever they were shown."""
    with mistakes_reported():
        from tilbud.client.calls import connected
        from tilbud.client.questions import consent_value
        from tilbud.v1.customers_pb2 import CustomerEventStatus, ReportCustomerEventRequest

        request = ReportCustomerEventRequest(
            customer_id=customer_id,
            event=event,
            event_id=event_id or secrets.token_hex(16),
            consent=consent_value(consent or Consent.UNSPECIFIED),
        )
        if time:
            request.time.FromDatetime(moment(time, "--time"))
        with connected(target, timeout) as service:
            answer = service.ask(service.customers.ReportCustomerEvent, request)
    if wants_json(output):
        print_json(answer)
        return
    print_rows([(event, word(CustomerEventStatus.Name(answer.status), "CUSTOMER_EVENT_STATUS_"))])


def export(customer_id: CustomerId, target: Target = LISTEN, timeout: Timeout = TIMEOUT_S) -> None:
    """Print everything stored about a customer, as JSON, one row a line."""
    with mistakes_reported():
        from tilbud.client.calls import connected
        from tilbud.v1.customers_pb2 import ExportCustomerRequest

        request = ExportCustomerRequest(customer_id=customer_id)
        with connected(target, timeout) as service:
            while True:
                page = service.ask(service.customers.ExportCustomer, request)
                for line in page.json_lines.decode().splitlines():
                    print_line(line)
                if not page.next_page_token:
                    return
                request.page_token = page.next_page_token


def erase(
    customer_id: CustomerId,
    target: Target = LISTEN,
    timeout: Timeout = 600.0,
    output: Output = None,
) -> None:
    """Remove everything stored about a customer, and learn the models anew without it.

    Waits for that. Where it takes longer than --timeout it goes on; asking again joins it.
    """
    with mistakes_reported():
        from tilbud.client.calls import connected
        from tilbud.v1.customers_pb2 import EraseCustomerRequest

        with connected(target, timeout) as service:
            request = EraseCustomerRequest(customer_id=customer_id)
            answer = service.ask(service.customers.EraseCustomer, request)
    if wants_json(output):
        print_json(answer)
        return
    print_rows([("rows removed", f"{answer.removed_rows:,}")])


def _print_customer(customer: customers_pb2.Customer, output: Output) -> None:
    if wants_json(output):
        print_json(customer)
    else:
        print_rows(_customer_rows(customer))


def _customer_rows(customer: customers_pb2.Customer) -> Iterator[Row]:
    from tilbud.v1.decisions_pb2 import Consent as Consents

    wishes = customer.preferences
    yield "customer", customer.id
    yield "consent", word(Consents.Name(customer.consent), "CONSENT_")
    yield "language", customer.language
    yield "time zone", customer.time_zone
    yield "journey stage", customer.journey_stage
    for name in sorted(customer.traits):
        kept = customer.traits[name]
        yield f"trait {name}", f"{value_text(kept.value)} (since {time_text(kept.update_time)})"
    yield "blocked offers", ", ".join(wishes.blocked_offers)
    yield "blocked topics", ", ".join(wishes.blocked_topics)
    yield "blocked channels", ", ".join(wishes.blocked_channels)
    yield "opted in to", ", ".join(wishes.opted_in_topics)
    yield "quiet hours", wishes.quiet_hours
    yield "changed", time_text(customer.update_time)
