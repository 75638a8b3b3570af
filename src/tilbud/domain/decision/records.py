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

from tilbud.domain.context import NOTHING_SENT, OTHER, UNKNOWN, Consent, ContextInput, FeatureValue
from tilbud.domain.customer.customer import ANONYMOUS, CustomerKey
from tilbud.domain.errors import InvalidField
from tilbud.domain.limits import Limits

_ID = re.compile(r"[A-Za-z0-9._:-]*")
_FINGERPRINT_BYTES = 16
_EVERYTHING, _WHAT_IS_KEPT = b"\1", b"\2"  # the forms of a fingerprint, its first byte
FORGOTTEN = bytes(_FINGERPRINT_BYTES)
"""Stands where a ledger of before had a fingerprint that could be tied to a person."""


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
    context: ContextInput = NOTHING_SENT
    consent: Consent = Consent.UNSPECIFIED
    include_offers: tuple[str, ...] = ()
    exclude_offers: tuple[str, ...] = ()
    defer_activation: bool = False
    include_ranking: bool = False
    dry_run: bool = False

    def question(self, key: bytes, *, consented: bool) -> Question:
        """Return what tells this question from any other, apart from its id.

        Without consent nothing enters that may not be kept: neither who asks, nor where, nor what else was
        said of them. Device, channel and journey stage are held against the record itself, which has the
        campaign's words for them.
        """
        flags = (int(self.consent), self.defer_activation, self.include_ranking)
        recorded = (self.campaign, self.context.time_us, self.include_offers, self.exclude_offers, *flags)
        form, asked = (
            (_EVERYTHING, (recorded, self._sent())) if consented else (_WHAT_IS_KEPT, (recorded, ()))
        )
        text = f"{asked!r}\0".encode("utf-8", "surrogatepass")
        return Question(form, hashlib.blake2b(text, digest_size=_FINGERPRINT_BYTES, key=key, person=form))

    def asked_before(self, decision_id: str, earlier: Decision, key: bytes) -> bool:
        """Say whether a decision, found under this id, answered this question, as far as was kept of it.

        What is known of consent may have changed since: it is asked as it was asked then.
        """
        form, then = earlier.fingerprint[:1], earlier.fingerprint
        if form in (_EVERYTHING, _WHAT_IS_KEPT) and len(then) > _FINGERPRINT_BYTES:
            question = self.question(key, consented=form == _EVERYTHING)
            same = question.fingerprint(decision_id) == then
            return same and (form == _EVERYTHING or self._fits(earlier))
        if then == FORGOTTEN:
            return self._fits(earlier) and earlier.deferred == self.defer_activation
        return then == self._fingerprint_before(key)

    def _sent(self) -> tuple[object, ...]:
        context = self.context
        return (
            self.customer_id, context.device, context.channel, context.journey_stage, context.time_zone,
            context.language, context.country, context.place, _in_order(context.features),
        )  # fmt: skip

    def _fits(self, earlier: Decision) -> bool:
        """Say whether a record has the campaign's words for what this question says."""
        context = self.context
        words = (
            (context.device, earlier.device),
            (context.channel, earlier.channel),
            (context.journey_stage, earlier.journey_stage),
        )
        return all(recorded in (text, OTHER if text else UNKNOWN) for text, recorded in words)

    def _fingerprint_before(self, key: bytes) -> bytes:
        """Return what ledgers of before kept of a customer's question; its id did not count."""
        context = self.context
        asked = (
            self.customer_id,
            context.device, context.channel, context.journey_stage, context.time_us, context.time_zone,
            context.language, context.country, context.place, _in_order(context.features),
            int(self.consent), self.include_offers, self.exclude_offers,
            self.defer_activation, self.include_ranking,
        )  # fmt: skip
        text = repr(asked).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=_FINGERPRINT_BYTES, key=key).digest()


def _in_order(features: Mapping[str, FeatureValue]) -> list[tuple[str, str, FeatureValue]]:
    if not features:
        return []
    return sorted((name, type(value).__name__, value) for name, value in features.items())


class Question(NamedTuple):
    """A question without its id, hashed under the ledger's key."""

    form: bytes  # one byte: whether everything that was sent is in it, or only what may be kept
    hashed: hashlib.blake2b

    def fingerprint(self, decision_id: str) -> bytes:
        """Return 17 bytes that tell this question under this id from any other, under this id or another.

        So nobody can tell from two records that they answered the same question.
        """
        hashed = self.hashed.copy()
        hashed.update(decision_id.encode())
        return self.form + hashed.digest()


def _digest(text: str) -> int:
    """Return a signed 64-bit number for `text`, as SQLite keeps integers."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


class InternedText(NamedTuple):
    """A text that many decisions share, kept once under its digest (signed, 64 bit)."""

    digest: int
    body: str

    @classmethod
    def of(cls, body: str) -> InternedText:
        """Return `body` with its digest."""
        return cls(_digest(body), body)


@dataclass(frozen=True, slots=True)
class OfferSet:
    """Offers a decision could choose from: ids and encoded features, in the campaign file's order.

    Either all that `text` says, or those at some `indexes` of such a `whole`.
    """

    ids: tuple[str, ...]
    features: tuple[str, ...]
    text: InternedText
    indexes: tuple[int, ...] | None = None  # None: all of them
    whole: OfferSet | None = None

    @classmethod
    def of(cls, ids: tuple[str, ...], features: tuple[str, ...]) -> OfferSet:
        """Return the set; `features[i]` is offer `ids[i]` as the bandit room encoded it."""
        return cls(ids, features, InternedText.of(json.dumps([ids, features], separators=(",", ":"))))

    def only(self, indexes: tuple[int, ...]) -> OfferSet:
        """Return the offers at these indexes of a whole set, given in order."""
        assert self.whole is None, "indexes are of the whole set"
        if len(indexes) == len(self.ids):
            return self
        ids, features = self.ids, self.features
        return OfferSet(
            tuple([ids[index] for index in indexes]),
            tuple([features[index] for index in indexes]),
            self.text,
            indexes,
            self,
        )

    @classmethod
    def parse(cls, text: InternedText) -> OfferSet:
        """Return the set that `text.body` was made from."""
        ids, features = json.loads(text.body)
        return cls(tuple(ids), tuple(features), text)


NO_OFFERS = OfferSet.of((), ())
NO_PAYLOAD = InternedText.of("{}")
NOTHING_REMOVED = NOTHING_DROPPED = NO_RULES = NO_PAYLOAD


class Removed(NamedTuple):
    """By which rule each offer was removed that was not eligible."""

    ids: tuple[str, ...]  # of the whole catalogue
    rules: tuple[tuple[int, str], ...]  # index into it, rule; in order

    @property
    def body(self) -> str:
        """The same as a JSON object: offer id to rule."""
        named = {self.ids[index]: rule for index, rule in self.rules}
        return json.dumps(named, separators=(",", ":"), ensure_ascii=False)


class Decision(NamedTuple):
    """The record of one decision: all that answers a retry, joins a reward and is learned from."""

    campaign: str
    decision_id: str
    fingerprint: bytes  # see Question.fingerprint
    decided_us: int
    variant: str
    reason: Reason
    offer_id: str
    payload: InternedText  # JSON object
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
    removed: Removed | InternedText = (
        NOTHING_REMOVED  # its body is a JSON object: offer id to the rule that removed it
    )
    dropped: InternedText = NOTHING_DROPPED  # JSON object: name of what was known and not used, to why
    rules: InternedText = (
        NO_RULES  # what its outcomes are worth, see decision_rules.py; NO_RULES: not kept yet
    )
    variant_share: float | None = None  # of the split that the variant gets; None: of before it was recorded
    split: str = "decision"  # what was split: customer or decision
    scores: tuple[float, ...] = ()  # what the probabilities were mixed from, where there was a model

    @property
    def decided_service_us(self) -> int:
        """When it was decided, on the service clock."""
        return self.closes_service_us - (self.deadline_us - self.decided_us)

    def ranking(self) -> list[tuple[str, float]]:
        """Return (offer id, probability), the most probable first; ties in the file's order."""
        return sorted(zip(self.offers.ids, self.probabilities, strict=True), key=lambda offer: -offer[1])


@dataclass(frozen=True, slots=True)
class ExposureEffect:
    """What a decision means for the customer it is recorded for."""

    version: int  # of the customer, as it was decided on
    scopes: tuple[str, ...]  # what the exposure is counted under; () where nothing was chosen
    sticky: bool  # it may be served again
    counted: bool = True  # a rule counts it, or follows it: the customer's next decision must know of it


@dataclass(frozen=True, slots=True)
class Repeat:
    """A question that is answered with an earlier decision of the same customer."""

    campaign: str
    decision_id: str  # that stands for the earlier one from now on; "": none was given
    fingerprint: bytes
    stands_for: str  # the earlier decision's id
    contact: ExposureEffect | None = None  # where answering it again is to be counted, if anywhere
    payload: InternedText | None = None  # what its offer shows by now; None: what it showed then

    def answer(self, earlier: Decision) -> Decision:
        """Return the earlier decision as it is answered under this id."""
        payload = earlier.payload if self.payload is None else self.payload
        return earlier._replace(fingerprint=self.fingerprint, payload=payload)


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

    @classmethod
    def erased(cls, campaign: str, sequence: int) -> Settlement:
        """Return what is left of a settlement whose customer was erased: its place."""
        return cls(
            campaign=campaign,
            sequence=sequence,
            decision_id="",
            variant="",
            offer_id="",
            device="",
            channel="",
            journey_stage="",
            offers=NO_OFFERS,
            drawn=-1,
            probability=1.0,
            features="",
            reward=0.0,
            clipped=False,
            due_service_us=0,
            settled_us=0,
        )


def check_id(name: str, value: str, limits: Limits, *, required: bool = False) -> str:
    """Return an opaque id if it keeps to its alphabet and length; raise InvalidField otherwise."""
    if required and not value:
        raise InvalidField(name, "is required")
    if len(value) > limits.id_chars_max:
        raise InvalidField(name, f"at most {limits.id_chars_max} characters, got {len(value)}")
    if not _ID.fullmatch(value):
        raise InvalidField(name, "only letters A-Z a-z, digits and . _ : -")
    return value


def payload_text(payload: Mapping[str, object]) -> InternedText:
    """Return a payload as the compact JSON that is kept and sent."""
    return InternedText.of(json.dumps(payload, separators=(",", ":"), ensure_ascii=False, allow_nan=False))
