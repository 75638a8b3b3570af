"""What a decision asks of the ledger, and the answer: one of each for a decision.

What holds: a question is asked before anything is decided, so it asks for all that the rules of its campaign
may need; what may be used of the answer is decided later, by consent. Both are plain values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from tilbud.domain.customer.customer import (
    ANONYMOUS,
    NOTHING_HAPPENED,
    UNKNOWN_CUSTOMER,
    Customer,
    CustomerKey,
    Happened,
)
from tilbud.domain.decision.records import Decision
from tilbud.domain.pauses import Pause


class Scopes(NamedTuple):
    """Under what exposures count, and for how long.

    The ranges [low, high) are all apart, and each of the names lies in one.
    """

    names: tuple[str, ...] = ()
    ranges: tuple[tuple[str, str], ...] = ()
    per_us: int = 0  # the longest time of a cap under any of them


NO_SCOPES = Scopes()
EVER_US = -(2**62)
NOTHING_SEEN: Mapping[str, Sequence[int]] = MappingProxyType({})


class LookUp(NamedTuple):
    """What one decision needs to know; what it does not need is not read."""

    campaign: str
    decision_id: str = ""  # under which an earlier decision may stand; "": none can
    keys: tuple[CustomerKey, ...] = ()  # under which the customer may be kept, the one of today first
    history: bool = False  # when what last happened to the customer
    scopes: Scopes = NO_SCOPES  # under which the customer's exposures count
    exposed_after_us: int = EVER_US  # on the steady clock; exposures no later than that count no more
    sticky: bool = False  # the decision that may be served again
    pending: bool = False  # also one that waits for its activation


class Facts(NamedTuple):
    """What the ledger knew at one moment."""

    pauses: tuple[Pause, ...] = ()  # of the campaign, also those whose time is over
    earlier: Decision | None = None  # under the decision's id
    key: CustomerKey = ANONYMOUS  # under which the customer is kept, or will be
    customer: Customer = UNKNOWN_CUSTOMER
    happened: Happened = NOTHING_HAPPENED
    # Times by scope, at least the newest that caps can count; after any other while it waits to be activated.
    exposures: Mapping[str, Sequence[int]] = NOTHING_SEEN
    sticky: Decision | None = None
