"""What is known of a customer: consent, preferences, traits, and when what last happened to them.

What holds: a customer's id is never stored, only a keyed hash of it. What the customer forbade (blocked
offers, topics and channels, quiet hours) is heeded whatever the consent says; everything else is used
with consent alone. Values are frozen and checked. Storing them is `ledger/`'s business, which rule
removes which offer `eligibility.py`'s and `frequency_caps.py`'s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from tilbud.domain.context import Consent, FeatureValue
from tilbud.domain.durations import Hours
from tilbud.domain.text import nfc, nfd

CustomerKey = bytes
ANONYMOUS: CustomerKey = b""
_PERSON = b"tilbud customer"
_KEY_BYTES = 16


def customer_key(customer_id: str, key: bytes) -> CustomerKey:
    """Return the 16 bytes a customer is kept under; `key` is the ledger's own. "": anonymous.

    One id in NFC and in NFD is one customer.
    """
    if not customer_id:
        return ANONYMOUS
    return _keyed(nfc(customer_id), key)


def older_key(customer_id: str, key: bytes) -> CustomerKey:
    """Return what a customer may have been kept under before ids were read in NFC; "": nothing else."""
    decomposed = nfd(customer_id)
    if decomposed == nfc(customer_id):
        return ANONYMOUS
    return _keyed(decomposed, key)


def customer_keys(customer_id: str, key: bytes) -> tuple[CustomerKey, ...]:
    """Return every key that a customer may be kept under: the one of today first; (): anonymous."""
    if not customer_id:
        return ()
    today = customer_key(customer_id, key)
    older = ANONYMOUS if customer_id.isascii() else older_key(customer_id, key)
    return (today, older) if older else (today,)


def _keyed(text: str, key: bytes) -> CustomerKey:
    written = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(written, digest_size=_KEY_BYTES, key=key, person=_PERSON).digest()


@dataclass(frozen=True, slots=True)
class Trait:
    """A lasting fact, and since when it is known (steady clock, µs)."""

    value: FeatureValue
    updated_us: int


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a customer asks for."""

    blocked_offers: frozenset[str] = frozenset()
    blocked_topics: frozenset[str] = frozenset()
    blocked_channels: frozenset[str] = frozenset()
    opted_in_topics: frozenset[str] = frozenset()
    quiet_hours: Hours | None = None


NO_PREFERENCES = Preferences()


@dataclass(frozen=True, slots=True)
class Profile:
    """What is kept about a customer by their leave; "" means unknown."""

    consent: Consent = Consent.UNSPECIFIED
    time_zone: str = ""
    language: str = ""
    journey_stage: str = ""
    journey_stage_us: int = 0  # when it was set
    traits: Mapping[str, Trait] = field(default_factory=dict)
    removed_traits: Mapping[str, int] = field(default_factory=dict)  # by name, when: older ones stay away
    traits_cleared_us: int = 0  # when all others were removed: older ones stay away
    preferences: Preferences = NO_PREFERENCES
    updated_us: int = 0
    changes: int = 0  # how often it was changed, 0: never set; the etag


NO_PROFILE = Profile()


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer as the ledger knows them at one moment.

    `version` changes with whatever a decision must not miss (exposures that a rule counts, profile, erasure):
    a decision is recorded only while it is still the one that was decided on.
    """

    number: int = 0  # the ledger's own, which says nothing to anybody else; 0: unknown
    version: int = 0
    erased: bool = False  # only the tombstone is left
    profile: Profile = NO_PROFILE

    @property
    def known(self) -> bool:
        """Whether the ledger has anything of them, be it a tombstone."""
        return self.number != 0


UNKNOWN_CUSTOMER = Customer()


def resolve_consent(in_call: Consent, customer: Customer) -> Consent:
    """Return the consent that counts: DENIED wins wherever it stands, then what the call has."""
    stored = customer.profile.consent
    if customer.erased or Consent.DENIED in (in_call, stored):
        return Consent.DENIED
    return in_call or stored


@dataclass(frozen=True, slots=True)
class Happened:
    """When things last happened to a customer (steady clock, µs)."""

    events: Mapping[str, int] = field(default_factory=dict)  # by event
    outcomes: Mapping[tuple[str, str], int] = field(
        default_factory=dict
    )  # of one campaign, by (offer, outcome)


NOTHING_HAPPENED = Happened()


class CustomerEventStatus(IntEnum):
    """What became of a customer event. The numbers are the contract's."""

    ACCEPTED = 1
    DUPLICATE = 2
    NO_CONSENT = 3


@dataclass(frozen=True, slots=True)
class CustomerEvent:
    """Something that happened to a customer, whatever was decided before."""

    customer: CustomerKey
    event: str
    event_id: str
    occurred_us: int
    consent: Consent  # as the call had it


def offer_scope(campaign: str, offer_id: str) -> str:
    """Return what exposures to one offer are counted under."""
    return f"o:{campaign}:{offer_id}"


def group_scope(campaign: str, group: str) -> str:
    """Return what exposures to the offers of one group are counted under."""
    return f"g:{campaign}:{group}"


def channel_scope(channel: str) -> str:
    """Return what exposures in one channel, in any campaign, are counted under."""
    return f"c:{channel}"


def withdraws(before: Consent, after: Consent) -> bool:
    """Say whether a change of consent takes it back, so that what is pending is void."""
    return after is not Consent.GRANTED and after is not before


def without_personal(profile: Profile) -> Profile:
    """Return what may be kept of a profile without consent: consent, time zone and preferences."""
    return Profile(
        consent=profile.consent,
        time_zone=profile.time_zone,
        preferences=profile.preferences,
        updated_us=profile.updated_us,
        changes=profile.changes,
    )
