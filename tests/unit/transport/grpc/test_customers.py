"""Customer messages: what a mask names changes, and what a profile says comes back as it was sent."""

from __future__ import annotations

import pytest
from google.protobuf import field_mask_pb2

from tilbud.domain.context import Consent
from tilbud.domain.customer.customer import UNKNOWN_CUSTOMER
from tilbud.domain.customer.profile_update import ProfileUpdate, TraitUpdate
from tilbud.domain.errors import InvalidField
from tilbud.domain.limits import Limits
from tilbud.transport.grpc.customers import customer_message, profile_update
from tilbud.v1 import customers_pb2, decisions_pb2

NOW_US = 1_790_000_000_000_000


def update(customer: customers_pb2.Customer, *paths: str) -> ProfileUpdate:
    """Read an update of these paths."""
    return profile_update(
        customers_pb2.UpdateCustomerRequest(
            customer=customer, update_mask=field_mask_pb2.FieldMask(paths=paths)
        ),
        Limits(),
    )


def full() -> customers_pb2.Customer:
    """A customer of whom everything is said."""
    customer = customers_pb2.Customer(
        id="anna",
        consent=decisions_pb2.CONSENT_GRANTED,
        time_zone="Europe/Copenhagen",
        language="da",
        journey_stage="retention",
        preferences=customers_pb2.Preferences(
            blocked_offers=["a", "b"],
            blocked_topics=["x"],
            blocked_channels=["push"],
            opted_in_topics=["family"],
            quiet_hours="21:00-08:00",
        ),
    )
    customer.traits["tier"].value.category = "gold"
    customer.traits["tier"].update_time.FromSeconds(1_000)
    customer.traits["age"].value.number = 40.5
    customer.traits["member"].value.flag = False
    return customer


def test_what_is_sent_comes_back():
    """Without a mask every field that is set is taken, and the profile shows it again word for word."""
    said = full()
    profile = update(said).apply(UNKNOWN_CUSTOMER, NOW_US, Limits())
    shown = customer_message("anna", profile)
    for name in ("age", "member"):
        said.traits[name].update_time.FromMicroseconds(NOW_US)
    said.etag, said.update_time.seconds = "0.0", 0
    assert shown == said


def test_a_mask_takes_only_what_it_names():
    """Fields beside the mask are not looked at; a named field that is not set is emptied."""
    assert update(full(), "language") == ProfileUpdate(language="da")
    assert update(customers_pb2.Customer(), "language") == ProfileUpdate(language="")
    assert update(full(), "consent") == ProfileUpdate(consent=Consent.GRANTED)
    assert update(full(), "traits.age", "traits.none") == ProfileUpdate(
        traits={"age": TraitUpdate(40.5), "none": None}
    )
    assert update(full(), "preferences.blocked_offers") == ProfileUpdate(
        preference_lists={"blocked_offers": ("a", "b")}
    )


def test_traits_as_a_whole_are_replaced_only_by_a_mask():
    """`traits` in the mask replaces all; traits without a mask join those that are there."""
    assert update(full(), "traits").other_traits_go
    assert not update(full()).other_traits_go


def test_preferences_as_a_whole_are_replaced():
    """`preferences` in the mask empties what is not set."""
    emptied = update(customers_pb2.Customer(), "preferences")
    lists = ("blocked_offers", "blocked_topics", "blocked_channels", "opted_in_topics")
    assert emptied == ProfileUpdate(preference_lists=dict.fromkeys(lists, ()), quiet_hours="")


@pytest.mark.parametrize("path", ["id", "etag", "update_time", "preferences.nothing", ""])
def test_a_path_that_cannot_be_changed_is_refused(path):
    """A mask that names what is no field to change says so."""
    with pytest.raises(InvalidField) as raised:
        update(full(), path)
    assert raised.value.field == "update_mask"


def test_a_trait_without_a_value_is_refused_by_name():
    """A trait message without a value is a mistake, not a removal."""
    customer = customers_pb2.Customer(id="anna")
    customer.traits["tier"].update_time.FromSeconds(1)
    with pytest.raises(InvalidField) as raised:
        update(customer)
    assert raised.value.field == "customer.traits[tier].value"


def test_what_is_too_long_is_refused_before_it_is_read():
    """A mask that repeats itself is read once; more paths, traits or entries than can be kept are refused."""
    assert update(full(), *["traits"] * 10_000) == update(full(), "traits")
    crowd = full()
    for number in range(101):
        crowd.traits[f"t{number}"].value.flag = True
    for customer, paths, field in (
        (full(), [f"traits.t{number}" for number in range(10_000)], "update_mask"),
        (crowd, ["traits"], "customer.traits"),
        (
            customers_pb2.Customer(preferences=customers_pb2.Preferences(blocked_topics=["x"] * 1_001)),
            ["preferences"],
            "customer.preferences.blocked_topics",
        ),
    ):
        with pytest.raises(InvalidField) as raised:
            update(customer, *paths)
        assert raised.value.field == field
