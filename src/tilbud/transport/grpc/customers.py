"""CustomerService over gRPC: messages to use cases and back."""

from __future__ import annotations

from asyncio import shield
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.message import Message

from tilbud.domain.customer.customer import Profile
from tilbud.domain.customer.profile_update import PREFERENCE_LISTS, ProfileUpdate, TraitUpdate, etag
from tilbud.domain.errors import InvalidField
from tilbud.domain.limits import Limits
from tilbud.domain.text import nfc
from tilbud.service.customers import CustomerService, EventReport
from tilbud.transport.call import Call, Handle
from tilbud.transport.grpc.converters import (
    consent_of,
    feature_message,
    feature_value,
    microseconds,
    timestamp,
)
from tilbud.v1 import customers_pb2

_TEXTS = ("time_zone", "language", "journey_stage")
_TRAIT = "traits."
_PREFERENCE = "preferences."
_PATHS = ("consent", *_TEXTS, "traits", "preferences")
_PREFERENCES = (*PREFERENCE_LISTS, "quiet_hours")


def customer_handlers(customers: CustomerService, limits: Limits) -> Mapping[str, Handle]:
    """Return the handlers by the method's name."""

    async def get(message: customers_pb2.GetCustomerRequest, _: Call) -> Message:
        profile = await customers.get(message.customer_id)
        return customers_pb2.GetCustomerResponse(customer=customer_message(message.customer_id, profile))

    async def update(message: customers_pb2.UpdateCustomerRequest, _: Call) -> Message:
        customer_id = message.customer.id
        profile = await shield(customers.update(customer_id, profile_update(message, limits)))
        return customers_pb2.UpdateCustomerResponse(customer=customer_message(customer_id, profile))

    async def report_event(message: customers_pb2.ReportCustomerEventRequest, _: Call) -> Message:
        status = await shield(customers.report_event(event_report(message)))
        return customers_pb2.ReportCustomerEventResponse(
            status=int(status)  # type: ignore[arg-type]  # the domain's numbers are the contract's
        )

    async def export(message: customers_pb2.ExportCustomerRequest, _: Call) -> Message:
        page = await customers.export(message.customer_id, message.page_size, message.page_token)
        return customers_pb2.ExportCustomerResponse(
            json_lines=page.json_lines.encode(), next_page_token=page.next_page_token
        )

    async def erase(message: customers_pb2.EraseCustomerRequest, _: Call) -> Message:
        return customers_pb2.EraseCustomerResponse(
            removed_rows=await shield(customers.erase(message.customer_id))
        )

    return {
        "GetCustomer": get,
        "UpdateCustomer": update,
        "ReportCustomerEvent": report_event,
        "ExportCustomer": export,
        "EraseCustomer": erase,
    }


def customer_message(customer_id: str, profile: Profile) -> customers_pb2.Customer:
    """Return what the contract says of a profile."""
    preferences = profile.preferences
    return customers_pb2.Customer(
        id=customer_id,
        consent=int(profile.consent),  # type: ignore[arg-type]  # the domain's numbers are the contract's
        time_zone=profile.time_zone,
        language=profile.language,
        journey_stage=profile.journey_stage,
        update_time=timestamp(profile.updated_us),
        etag=etag(profile),
        traits={
            name: customers_pb2.Trait(
                value=feature_message(trait.value), update_time=timestamp(trait.updated_us)
            )
            for name, trait in profile.traits.items()
        },
        preferences=customers_pb2.Preferences(
            blocked_offers=sorted(preferences.blocked_offers),
            blocked_topics=sorted(preferences.blocked_topics),
            blocked_channels=sorted(preferences.blocked_channels),
            opted_in_topics=sorted(preferences.opted_in_topics),
            quiet_hours=str(preferences.quiet_hours or ""),
        ),
    )


def event_report(message: customers_pb2.ReportCustomerEventRequest) -> EventReport:
    """Return the event a message reports; raises InvalidField."""
    return EventReport(
        customer_id=message.customer_id,
        event=message.event,
        event_id=message.event_id,
        time_us=microseconds("time", message.time) if message.HasField("time") else None,
        consent=consent_of(message.consent),
    )


def profile_update(message: customers_pb2.UpdateCustomerRequest, limits: Limits) -> ProfileUpdate:
    """Return the fields a message changes; raises InvalidField."""
    customer = message.customer
    paths = list(dict.fromkeys(message.update_mask.paths)) or _set_paths(customer)
    _check_sizes(customer, paths, limits)
    fields: dict[str, Any] = {"etag": customer.etag, "traits": {}, "preference_lists": {}}
    for path in paths:
        if path == "consent":
            fields["consent"] = consent_of(customer.consent, "customer.consent")
        elif path in _TEXTS:
            fields[path] = nfc(getattr(customer, path))
        elif path == "traits":
            fields["other_traits_go"] = bool(message.update_mask.paths)
            fields["traits"] |= {nfc(name): _trait(customer, name) for name in customer.traits}
        elif path.startswith(_TRAIT):
            name = path.removeprefix(_TRAIT)
            fields["traits"][nfc(name)] = _trait(customer, name) if name in customer.traits else None
        elif path == "preferences":
            for name in _PREFERENCES:
                _preference(fields, customer.preferences, name)
        elif path.startswith(_PREFERENCE) and path.removeprefix(_PREFERENCE) in _PREFERENCES:
            _preference(fields, customer.preferences, path.removeprefix(_PREFERENCE))
        else:
            raise InvalidField(
                "update_mask",
                f"{path[:64]!r} cannot be changed; known are consent, {', '.join(_TEXTS)}, traits, "
                f"traits.NAME, preferences, {', '.join(_PREFERENCE + name for name in _PREFERENCES)}",
            )
    return ProfileUpdate(**fields)


def _check_sizes(customer: customers_pb2.Customer, paths: Sequence[str], limits: Limits) -> None:
    """Refuse what is too long before anything of it is read."""
    most = limits.traits_max + len(_PATHS) + len(_PREFERENCES)
    if len(paths) > most:
        raise InvalidField("update_mask", f"at most {most} different paths, got {len(paths)}")
    if len(customer.traits) > limits.traits_max:
        raise InvalidField("customer.traits", f"at most {limits.traits_max}, got {len(customer.traits)}")
    for name in PREFERENCE_LISTS:
        count = len(getattr(customer.preferences, name))
        if count > limits.blocked_offers_max:
            raise InvalidField(f"customer.preferences.{name}", f"{count} are too many")


def _set_paths(customer: customers_pb2.Customer) -> list[str]:
    """Return the paths of what a message sets, where it has no mask."""
    paths = [name for name in _TEXTS if getattr(customer, name)]
    if customer.consent:
        paths.append("consent")
    if customer.traits:
        paths.append("traits")
    preferences = customer.preferences
    paths += [f"{_PREFERENCE}{field.name}" for field, _ in preferences.ListFields()]
    return paths


def _trait(customer: customers_pb2.Customer, name: str) -> TraitUpdate:
    trait = customer.traits[name]
    where = f"customer.traits[{name[:64]}]"
    updated_us = None
    if trait.HasField("update_time"):
        updated_us = microseconds(f"{where}.update_time", trait.update_time)
    return TraitUpdate(feature_value(f"{where}.value", trait.value), updated_us)


def _preference(fields: dict[str, Any], preferences: customers_pb2.Preferences, name: str) -> None:
    if name == "quiet_hours":
        fields["quiet_hours"] = preferences.quiet_hours
    else:
        fields["preference_lists"][name] = tuple(nfc(entry) for entry in getattr(preferences, name))
