"""Texts that many decisions share, stored once and told to be in use once a day.

What holds: remembered is only what was committed; what a transaction stored counts for that transaction
until it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from tilbud.domain.clock import Now
from tilbud.domain.decision.records import NO_PAYLOAD, Decision, InternedText
from tilbud.domain.limits import Limits
from tilbud.ledger.sqlite.rows import removed_text

_DAY_US = 86_400_000_000


class InternedTexts:
    """The texts one connection has stored; for one thread."""

    def __init__(self, connection: sqlite3.Connection, limits: Limits) -> None:
        self._connection = connection
        self._limits = limits
        self._stored: dict[int, int] = {}  # digest: day of the last use that is stored
        self._new: dict[int, int] = {}  # by this transaction

    def keep(self) -> None:
        """Remember what the transaction stored: it was committed."""
        if self._new:
            if len(self._stored) + len(self._new) > self._limits.interned_texts_max:
                self._stored.clear()
            self._stored.update(self._new)
            self._new = {}

    def mark(self) -> dict[int, int]:
        """Return what the transaction stored so far, for `back_to`."""
        return dict(self._new)

    def back_to(self, mark: dict[int, int]) -> None:
        """Forget what the transaction stored since the mark."""
        self._new = mark

    def store(self, texts: Iterable[InternedText], now: Now) -> None:
        """Store texts that are new, or were not used yet today."""
        today = now.steady_us // _DAY_US
        self._write({text.digest: text for text in texts if self._stored.get(text.digest) != today}, now)

    def store_all(self, decisions: Sequence[Decision], now: Now) -> None:
        """Store the texts of decisions."""
        today = now.steady_us // _DAY_US
        missing: dict[int, InternedText] = {}
        for decision in decisions:
            for text in (decision.payload, decision.offers.text):
                if self._stored.get(text.digest) != today:
                    missing[text.digest] = text
            for text in (removed_text(decision), decision.dropped, decision.rules):
                if text is not NO_PAYLOAD and self._stored.get(text.digest) != today:
                    missing[text.digest] = text
        self._write(missing, now)

    def _write(self, missing: Mapping[int, InternedText], now: Now) -> None:
        today = now.steady_us // _DAY_US
        for digest, text in missing.items():
            self._connection.execute(
                "INSERT INTO texts VALUES (?, ?, ?) ON CONFLICT (digest) DO UPDATE "
                "SET used_us = max(used_us, excluded.used_us)",
                (digest, text.body, now.steady_us),
            )
            self._new[digest] = today
