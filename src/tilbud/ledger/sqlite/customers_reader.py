"""What can be read of customers in a ledger's file.

What holds: a profile is parsed once for as long as it stays what it is. What decisions ask is in look_up.py,
all that is stored of somebody in customer_export.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tilbud.domain.customer.customer import (
    NO_PROFILE,
    UNKNOWN_CUSTOMER,
    Customer,
    CustomerKey,
    Profile,
)
from tilbud.domain.limits import Limits
from tilbud.ledger.profile_json import parse_profile
from tilbud.ledger.sqlite.condition import Condition
from tilbud.ledger.sqlite.reading_file import ReadingFile

CUSTOMER = "SELECT no, version, erased_us, profile FROM customers WHERE key = ?"


def customer_of(row: Sequence[Any] | None) -> Customer:
    """Return the customer of a row of CUSTOMER; UNKNOWN_CUSTOMER where there is none."""
    if row is None:
        return UNKNOWN_CUSTOMER
    no, version, erased_us, profile = row
    return Customer(
        no,
        version,
        erased_us is not None,
        NO_PROFILE if profile is None else parse_profile(profile),
    )


class SqliteCustomersReading(ReadingFile):
    """Reads customers of the file at `path`."""

    def __init__(self, path: Path, *, limits: Limits, condition: Condition | None = None) -> None:
        super().__init__(path, limits=limits, condition=condition)
        self._profiles: dict[int, tuple[str, Profile]] = {}  # what was read last, and the text it stands for

    def customer(self, key: CustomerKey) -> Customer:
        """Return what is known; UNKNOWN_CUSTOMER where nothing is."""
        with self._reads() as (reading, _):
            row = reading.execute(CUSTOMER, (key,)).fetchone()
        return self._customer_of(row)

    def _customer_of(self, row: Sequence[Any] | None) -> Customer:
        if row is None:
            return UNKNOWN_CUSTOMER
        number, version, erased_us, text = row
        return Customer(number, version, erased_us is not None, self._profile(number, text))

    def _profile(self, number: int, text: str | None) -> Profile:
        """Return a profile, parsed anew only where it changed; nothing is kept of who has none any more."""
        if text is None:
            self._profiles.pop(number, None)
            return NO_PROFILE
        cached = self._profiles.get(number)
        if cached is not None and cached[0] == text:
            return cached[1]
        if len(self._profiles) >= self._limits.profile_cache_entries_max:
            self._profiles.clear()
        profile = parse_profile(text)
        self._profiles[number] = (text, profile)
        return profile
