"""The words of one decision: the question, the offers it could choose from, and the record of it.

What holds: every record is frozen, complete enough to answer a retry word for word, and to be
learned long after the campaign file has changed. Times are microseconds: `*_us` on the wall clock
(since 1970, UTC); `*_service_us` on the service clock, which stands still while the service is away.
What is made anew for every call is a named tuple: a frozen dataclass of as many fields takes five times
as long to make.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from tilbud.domain.context import NOTHING_SAID, Consent, ContextInput
from tilbud.domain.customers import ANONYMOUS, CustomerKey
from tilbud.domain.errors import InvalidField
from tilbud.domain.limits import Limits

_ID = re.compile(r"[A-Za-z0-9._:-]*")


class Reason(IntEnum):
    """Why a decision fell as it did. The numbers are the contract's, and the ledger's."""

    PERSONALIZED = 1
    CONTROL = 2
    FALLBACK_NO_ELIGIBLE_OFFER = 3
    FALLBACK_NO_CONSENT = 4
    FALLBACK_NO_TIME = 5
    FALLBACK_MODEL_UNAVAILABLE = 6
    FALLBACK_CAMPAIGN_PAUSED = 7


class State(IntEnum):
    """Where a recorded decision stands. The numbers are the ledger's."""

    PENDING = 0  # deferred, waits for its activation
    ACTIVE = 1  # shown, takes outcomes
    SETTLED = 2  # its reward is final
    VOID = 3  # another offer was shown instead
    EXPIRED = 4  # never activated


class DecideRequest(NamedTuple):
    """One question, as the caller put it."""

    campaign: str
    decision_id: str = ""
    customer_id: str = ""
    context: ContextInput = NOTHING_SAID
    consent: Consent = Consent.UNSPECIFIED
    include_offers: tuple[str, ...] = ()
    exclude_offers: tuple[str, ...] = ()
    defer_activation: bool = False
    include_ranking: bool = False
    dry_run: bool = False

    def fingerprint(self, key: bytes) -> bytes:
        """Return 16 bytes that tell this question from any other; the id itself does not count."""
        said = self.context
        asked = (
            self.customer_id,
            said.device, said.channel, said.journey_stage, said.time_us, said.time_zone,
            said.language, said.country, said.place,
            sorted((name, type(value).__name__, value) for name, value in said.features.items())
            if said.features else [],
            int(self.consent), self.include_offers, self.exclude_offers,
            self.defer_activation, self.include_ranking,
        )  # fmt: skip
        text = repr(asked).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=16, key=key).digest()


def _digest(text: str) -> int:
    """Return a signed 64-bit number for `text`, as SQLite keeps integers."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


class Text(NamedTuple):
    """A text that many decisions share, kept once under its digest (signed, 64 bit)."""

    digest: int
    body: str

    @classmethod
    def of(cls, body: str) -> Text:
        """Return `body` with its digest."""
        return cls(_digest(body), body)


@dataclass(frozen=True, slots=True)
class OfferSet:
    """Offers a decision could choose from: ids and encoded features, in the campaign file's order."""

    ids: tuple[str, ...]
    features: tuple[str, ...]
    text: Text

    @classmethod
    def of(cls, ids: tuple[str, ...], features: tuple[str, ...]) -> OfferSet:
        """Return the set; `features[i]` is offer `ids[i]` as the bandit room encoded it."""
        return cls(ids, features, Text.of(json.dumps([ids, features], separators=(",", ":"))))

    @classmethod
    def parse(cls, text: Text) -> OfferSet:
        """Return the set that `text.body` was made from."""
        ids, features = json.loads(text.body)
        return cls(tuple(ids), tuple(features), text)


NO_OFFERS = OfferSet.of((), ())
NO_PAYLOAD = Text.of("{}")
NOTHING_REMOVED = NOTHING_DROPPED = NO_PAYLOAD


class Decision(NamedTuple):
    """The record of one decision: all that answers a retry, joins a reward and is learned from."""

    campaign: str
    decision_id: str
    fingerprint: bytes  # 16 bytes, see DecideRequest.fingerprint
    decided_us: int
    variant: str
    reason: Reason
    offer_id: str
    payload: Text  # JSON object
    probability: float  # of offer_id within the variant, in (0, 1]
    offers: OfferSet  # what was eligible; NO_OFFERS for a fallback
    probabilities: tuple[float, ...]  # of offers.ids, sums to 1; () for a fallback
    drawn: int  # index into offers.ids; -1 for a fallback
    discovery: float  # the share of probability that was spread evenly
    lineage: str  # of the model that answered
    sequence: int  # the last settlement it had learned
    features: str  # the context as the bandit room encoded it
    context: str  # the context that was used, as JSON
    device: str  # these three label metrics
    channel: str
    journey_stage: str
    deferred: bool
    deadline_us: int  # as answered: until when outcomes count, or when to activate by
    closes_service_us: int  # outcomes after it are late (deferred: activation after it fails)
    due_service_us: int  # when it settles, or expires: closes_service_us plus the grace
    customer: CustomerKey = ANONYMOUS  # only with consent
    removed: Text = NOTHING_REMOVED  # JSON object: offer id to the rule that removed it
    dropped: Text = NOTHING_DROPPED  # JSON object: name of what was known and not used, to why

    def ranking(self) -> list[tuple[str, float]]:
        """Return (offer id, probability), the most probable first; ties in the file's order."""
        return sorted(zip(self.offers.ids, self.probabilities, strict=True), key=lambda each: -each[1])


@dataclass(frozen=True, slots=True)
class Contact:
    """What a decision means for the customer it is recorded for."""

    version: int  # of the customer, as it was decided on
    scopes: tuple[str, ...]  # what the exposure is counted under; () where nothing was chosen
    sticky: bool  # it may be served again


@dataclass(frozen=True, slots=True)
class Repeat:
    """A question that is answered with an earlier decision of the same customer."""

    campaign: str
    decision_id: str  # that stands for the earlier one from now on; "": none was said
    fingerprint: bytes
    stands_for: str  # the earlier decision's id
    contact: Contact | None = None  # where answering it again is to be counted, if anywhere


@dataclass(frozen=True, slots=True)
class Settlement:
    """A reward that became final, in its place in the campaign's one total order."""

    campaign: str
    sequence: int  # 1, 2, 3, … without gaps
    decision_id: str  # "": erased with its customer; nothing but the place is left
    variant: str
    offer_id: str
    device: str
    channel: str
    journey_stage: str
    offers: OfferSet
    drawn: int  # index into offers.ids; -1: nothing to learn
    probability: float
    features: str
    reward: float  # within the campaign's range at the time it settled
    clipped: bool
    due_service_us: int
    settled_us: int


def check_id(name: str, value: str, limits: Limits, *, required: bool = False) -> str:
    """Return an opaque id if it keeps to its alphabet and length; raise InvalidField otherwise."""
    if required and not value:
        raise InvalidField(name, "is required")
    if len(value) > limits.id_chars_max:
        raise InvalidField(name, f"at most {limits.id_chars_max} characters, got {len(value)}")
    if not _ID.fullmatch(value):
        raise InvalidField(name, "only letters A-Z a-z, digits and . _ : -")
    return value


def payload_text(payload: Mapping[str, object]) -> Text:
    """Return a payload as the compact JSON that is kept and sent."""
    return Text.of(json.dumps(payload, separators=(",", ":"), ensure_ascii=False, allow_nan=False))
