"""Decisions and settlements as rows, and back, word for word.

What holds: a probability read is, bit for bit, the one written. Texts and rows are checked when they
are read: what does not fit together raises LedgerInvalid, never a wrong record.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from tilbud.domain.campaign.campaign import BY_CUSTOMER, BY_DECISION
from tilbud.domain.decision.decision_rules import DecisionRules, parse_rules
from tilbud.domain.decision.records import (
    NO_PAYLOAD,
    NO_RULES,
    NOTHING_DROPPED,
    NOTHING_REMOVED,
    Decision,
    InternedText,
    OfferSet,
    Reason,
    Removed,
    Settlement,
)
from tilbud.domain.errors import LedgerInvalid
from tilbud.domain.limits import Limits
from tilbud.ledger.sqlite.packing import pack_fates, pack_probabilities, unpack_fates, unpack_probabilities

Row = tuple[Any, ...]

DECISION_COLUMNS = (
    "decision_id, fingerprint, decided_us, variant, reason, offer_id, payload, probability, offers, "
    "probabilities, drawn, discovery, lineage, sequence, features, context, device, channel, journey_stage, "
    "deferred, deadline_us, closes_service_us, due_service_us, rules, variant_share, split_by_customer, fates"
)
_RARER = "removed, dropped, customer_no"
_CUSTOMER_KEY = "(SELECT key FROM customers c WHERE c.no = d.customer_no)"
# Of `decisions d`; the last is the customer's key, NULL where the customer is lost.
STORED_DECISION = (
    f"d.{', d.'.join(DECISION_COLUMNS.split(', '))}, d.removed, d.dropped, "
    f"CASE WHEN d.customer_no IS NULL THEN x'' ELSE {_CUSTOMER_KEY} END"
)
SETTLEMENT_COLUMNS = (
    "s.sequence, s.decision_no, d.decision_id, d.variant, d.offer_id, d.device, d.channel, d.journey_stage, "
    "d.offers, d.fates, d.drawn, d.probability, d.features, s.reward, s.clipped, s.due_service_us, "
    "s.settled_us"
)
_ROWS_AT_ONCE_MAX = 128
_EVERY_NUMBER_UP_TO = 24
_INTO_DECISIONS = f"decisions (no, campaign_no, {DECISION_COLUMNS})"
_INTO_ALL_OF_DECISIONS = f"decisions (no, campaign_no, {DECISION_COLUMNS}, {_RARER})"


def insert_decisions(
    connection: sqlite3.Connection,
    rows: Sequence[Row],
    decisions: Sequence[Decision],
    customers: Sequence[int | None],
) -> int:
    """Insert rows of (no, campaign_no, *DECISION_COLUMNS) whose id is free; return how many.

    Where no decision has anything in the other columns they are left out: a tenth of the time.
    """
    into = _INTO_DECISIONS
    if any(customers) or not all(map(_nothing_else, decisions)):
        into = _INTO_ALL_OF_DECISIONS
        rows = [
            (*row, _digest(removed_text(decision)), _digest(decision.dropped), customer_no)
            for row, decision, customer_no in zip(rows, decisions, customers, strict=True)
        ]
    return insert(connection, into, rows, "ON CONFLICT (campaign_no, decision_id) DO NOTHING")


def _nothing_else(decision: Decision) -> bool:
    return decision.dropped is NOTHING_DROPPED and removed_text(decision) is NOTHING_REMOVED


def removed_text(decision: Decision) -> InternedText:
    """Return why offers were removed as a text to be kept; NOTHING_REMOVED where the fates say it."""
    return decision.removed if isinstance(decision.removed, InternedText) else NOTHING_REMOVED


def _digest(text: InternedText) -> int | None:
    return None if text.digest == NO_PAYLOAD.digest else text.digest


def insert(connection: sqlite3.Connection, into: str, rows: Sequence[Row], conflict: str = "") -> int:
    """Insert rows, all of one length, into a table; return how many were inserted or changed.

    Many rows are one statement: each one that runs gives the GIL up and has to win it back from the loop. Of
    more than a few they are powers of two, so that not too many statements are prepared.
    """
    stored = start = 0
    while start < len(rows):
        count = left = len(rows) - start
        if left > _EVERY_NUMBER_UP_TO:
            count = min(_ROWS_AT_ONCE_MAX, 1 << left.bit_length() - 1)
        values = [value for row in rows[start : start + count] for value in row]
        stored += connection.execute(_insert(into, conflict, len(rows[0]), count), values).rowcount
        start += count
    return stored


@lru_cache(maxsize=Limits.insert_texts_cached_max)
def _insert(into: str, conflict: str, columns: int, count: int) -> str:
    row = f"(?{', ?' * (columns - 1)})"
    return f"INSERT INTO {into} VALUES {', '.join([row] * count)} {conflict}"  # noqa: S608 - only constants


def decision_row(decision: Decision) -> Row:
    """Return a decision as DECISION_COLUMNS hold it; its ints plain, which are quicker to bind."""
    return (
        decision.decision_id, decision.fingerprint, decision.decided_us, decision.variant,
        int(decision.reason), decision.offer_id, decision.payload.digest, decision.probability,
        decision.offers.text.digest,
        pack_probabilities(decision), decision.drawn, decision.discovery,
        decision.lineage, decision.sequence, decision.features, decision.context, decision.device,
        decision.channel, decision.journey_stage, int(decision.deferred), decision.deadline_us,
        decision.closes_service_us, decision.due_service_us,
        None if decision.rules is NO_RULES else decision.rules.digest,
        decision.variant_share, int(decision.split == BY_CUSTOMER), pack_fates(decision),
    )  # fmt: skip


class Reading:
    """Makes records of rows, with the texts that a connection can see; for one thread.

    Texts and offer sets are kept while there is room, so that records that share one share it.
    """

    def __init__(self, connection: sqlite3.Connection, limits: Limits) -> None:
        self._connection = connection
        self._limits = limits
        self._texts: dict[int, InternedText] = {}
        self._offer_sets: dict[int, OfferSet] = {}
        self._fates: dict[tuple[int, bytes], tuple[OfferSet, Removed | None]] = {}
        self._fates_offers = 0  # of all their catalogues together

    def decision(self, campaign: str, row: Row) -> Decision:
        """Return the decision of a row of STORED_DECISION."""
        (
            decision_id, fingerprint, decided_us, variant, reason, offer_id, payload, probability,
            offers_digest, packed, drawn, discovery, lineage, sequence, features, context, device, channel,
            journey_stage, deferred, deadline_us, closes_service_us, due_service_us, rules, variant_share,
            by_customer, fates, removed, dropped, customer,
        ) = row  # fmt: skip
        if customer is None:
            raise LedgerInvalid("a recorded decision has lost its customer: restore a backup")
        offers, by_fates = self._offers(offers_digest, fates)
        if drawn >= len(offers.ids):
            raise LedgerInvalid("a recorded decision does not fit its offers: restore a backup")
        scores: tuple[float, ...] = ()
        if fates is None and len(packed) == 8 * len(offers.ids):  # as a ledger of before has it
            probabilities = struct.unpack(f"<{len(offers.ids)}d", packed)
        else:
            probabilities, scores = unpack_probabilities(packed, len(offers.ids), drawn, discovery)
        reasons = NO_PAYLOAD if removed is None else self.text(removed)
        return Decision(
            campaign, decision_id, fingerprint, decided_us, variant, Reason(reason), offer_id,
            self.text(payload), probability, offers, probabilities, drawn,
            discovery, lineage, sequence, features, context, device, channel, journey_stage, bool(deferred),
            deadline_us, closes_service_us, due_service_us, customer,
            reasons if by_fates is None else by_fates,
            NO_PAYLOAD if dropped is None else self.text(dropped),
            NO_RULES if rules is None else self.text(rules),
            variant_share, BY_CUSTOMER if by_customer else BY_DECISION,
            scores,
        )  # fmt: skip

    def settlement(self, campaign: str, row: Row) -> Settlement:
        """Return the settlement of a row of SETTLEMENT_COLUMNS."""
        (
            sequence, decision_no, decision_id, variant, offer_id, device, channel, journey_stage,
            offers_digest, fates, drawn, probability, features, reward, clipped, due_service_us, settled_us,
        ) = row  # fmt: skip
        if not decision_no:
            return Settlement.erased(campaign, sequence)
        if decision_id is None:
            raise LedgerInvalid(f"settlement {sequence} has lost its decision: restore a backup")
        offers, _ = self._offers(offers_digest, fates)
        if drawn >= len(offers.ids):
            raise LedgerInvalid("a recorded decision does not fit its offers: restore a backup")
        return Settlement(
            campaign, sequence, decision_id, variant, offer_id, device, channel, journey_stage, offers,
            drawn, probability, features, reward, bool(clipped), due_service_us, settled_us,
        )  # fmt: skip

    def text(self, digest: int) -> InternedText:
        """Return a text by its digest."""
        text = self._texts.get(digest)
        if text is None:
            text = self._read(digest)
            _make_room(self._texts, self._limits.interned_texts_max)
            self._texts[digest] = text
        return text

    def rules(self, digest: int | None) -> DecisionRules | None:
        """Return the rules of a digest; None of none."""
        return None if digest is None else parse_rules(self.text(digest))

    def _offers(self, digest: int, fates: bytes | None) -> tuple[OfferSet, Removed | None]:
        """Return what was eligible, and why the rest was not, where the fates say it."""
        whole = self._offer_sets.get(digest)
        if whole is None:
            whole = OfferSet.parse(self._read(digest))
            _make_room(self._offer_sets, self._limits.offer_set_cache_entries_max)
            self._offer_sets[digest] = whole
        if not fates:
            return whole, None
        removal = self._fates.get((digest, fates))
        if removal is None:
            removal = unpack_fates(fates, whole)
            self._make_room_for_fates(len(whole.ids))
            self._fates[digest, fates] = removal
        return removal

    def _make_room_for_fates(self, offers: int) -> None:
        """Drop the oldest fates until those of so many more offers fit: catalogues differ in size."""
        self._fates_offers += offers
        while self._fates and self._fates_offers > self._limits.fates_cache_offers_max:
            oldest, _ = self._fates.pop(next(iter(self._fates)))
            self._fates_offers -= len((oldest.whole or oldest).ids)

    def _read(self, digest: int) -> InternedText:
        row = self._connection.execute("SELECT body FROM texts WHERE digest = ?", (digest,)).fetchone()
        if row is None or (text := InternedText.of(row[0])).digest != digest:
            raise LedgerInvalid("a recorded text is lost or damaged: restore a backup")
        return text


def _make_room(cache: dict[Any, Any], entries_max: int) -> None:
    """Drop the oldest entry of a full cache."""
    if cache and len(cache) >= entries_max:
        del cache[next(iter(cache))]


def recorded_decision(records: Reading, campaign: str, row: Row) -> Decision:
    """Return the decision of a row, as a repeat answers it where the row ends with one's fingerprint."""
    decision, (fingerprint, payload) = records.decision(campaign, row[:-2]), row[-2:]
    if fingerprint is None:
        return decision
    shown = decision.payload if payload is None else records.text(payload)
    return decision._replace(fingerprint=fingerprint, payload=shown)
