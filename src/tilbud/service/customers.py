"""What is kept about customers, and their rights over it.

What holds: a customer's id is hashed here and goes no further; whoever was kept under another form of it,
and no other, before ids were read in one form, stays who they were; nothing personal is stored without
consent; an erasure returns when rows are gone and no served model has learned them. Each one is in the log,
without the id; of people of whom nothing is kept there are so many a second, since each leaves a tombstone.
gRPC is not known here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import structlog

from tilbud.domain.allowance import Allowance
from tilbud.domain.clock import Clock
from tilbud.domain.context import TIME_US_MAX, Consent, check_text
from tilbud.domain.customer.customer import (
    CustomerEvent,
    CustomerEventStatus,
    CustomerKey,
    Profile,
    customer_keys,
)
from tilbud.domain.customer.profile_update import ProfileUpdate
from tilbud.domain.decision.records import check_id
from tilbud.domain.errors import InvalidField, Overloaded, TilbudError, UnknownCustomer
from tilbud.domain.limits import Limits
from tilbud.domain.text import nfc
from tilbud.ledger.answers import EventResult, or_later
from tilbud.ledger.ports import CustomerExport, Customers
from tilbud.telemetry.decisions import DecisionMetrics

_EVENT = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")

_LINE_ENDS = {0x2028: "\\u2028", 0x2029: "\\u2029"}  # of Unicode, where readers may break lines


@dataclass(frozen=True, slots=True)
class EventReport:
    """A customer event, as the caller put it."""

    customer_id: str
    event: str
    event_id: str
    time_us: int | None = None
    consent: Consent = Consent.UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Exported:
    """A page of rows about a customer: JSON, one object a line; "" where it is the last."""

    json_lines: str
    next_page_token: str


class CustomerService:
    """Profiles, events, export, erasure. `relearn` brings every model up to date with erasures."""

    def __init__(
        self,
        *,
        customers: Customers,
        record: CustomerExport,
        clock: Clock,
        ledger_key: bytes,
        metrics: DecisionMetrics,
        limits: Limits,
        relearn: Callable[[], Awaitable[object]],
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._customers = customers
        self._record = record
        self._clock = clock
        self._key = ledger_key
        self._metrics = metrics
        self._limits = limits
        self._relearn = relearn
        self._log = log
        self._strangers = Allowance(
            at_once=limits.erasures_of_strangers_at_once, per_s=limits.erasures_of_strangers_per_s
        )

    async def get(self, customer_id: str) -> Profile:
        """Return a customer's profile; raises InvalidField, UnknownCustomer."""
        customer = await self._customers.customer(await self._customer(customer_id, "customer_id"))
        if not customer.profile.changes or customer.erased:
            raise UnknownCustomer("profile")
        return customer.profile

    async def update(self, customer_id: str, update: ProfileUpdate) -> Profile:
        """Change what the update names; return the profile after it.

        Raises InvalidField, CustomerChanged, ConsentMissing, CustomerErased, Overloaded, LedgerUnavailable.
        """
        key = await self._customer(customer_id, "customer.id")
        update.check(self._limits)
        now = self._clock.now()
        return await self._customers.update_customer(
            key, lambda customer: update.apply(customer, now.steady_us, self._limits), now
        )

    async def report_event(self, report: EventReport) -> CustomerEventStatus:
        """Store an event, with consent.

        Raises InvalidField, IdReused, CustomerErased, Overloaded, LedgerUnavailable.
        """
        key = await self._customer(report.customer_id, "customer_id")
        if not _EVENT.fullmatch(report.event):
            raise InvalidField("event", "1 to 64 letters, digits and _, beginning with a letter")
        check_id("event_id", report.event_id, self._limits, required=True)
        now = self._clock.now()
        if report.time_us is not None and not 0 <= report.time_us < TIME_US_MAX:
            raise InvalidField("time", "must lie in the years 1970 to 9998")
        occurred_us = now.steady_us if report.time_us is None else min(report.time_us, now.steady_us)
        event = CustomerEvent(key, report.event, report.event_id, occurred_us, report.consent)
        (result,) = await or_later(self._customers.receive_events([event], now), self._count_events)
        self._count_events([result])
        if isinstance(result, TilbudError):
            raise result
        return result

    def _count_events(self, results: Sequence[EventResult]) -> None:
        for result in results:
            status = "refused" if isinstance(result, TilbudError) else result.name.lower()
            self._metrics.customer_events.labels(status).inc()

    async def export(self, customer_id: str, page_size: int, page_token: str) -> Exported:
        """Return a page of all that is stored about a customer; raises InvalidField, UnknownCustomer."""
        key = await self._customer(customer_id, "customer_id")
        if len(page_token) > self._limits.page_token_chars_max:
            raise InvalidField("page_token", "is none that an earlier page gave")
        rows_max = self._limits.export_page_rows_max
        if not 0 <= page_size <= rows_max:
            raise InvalidField("page_size", f"must lie between 0 and {rows_max}")
        page = await self._record.export(
            key, page_token, page_size or self._limits.export_page_rows, self._limits.export_page_bytes_max
        )
        if not page.rows and not page_token:
            raise UnknownCustomer("stored rows")
        lines = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in page.rows]
        return Exported("".join(f"{line.translate(_LINE_ENDS)}\n" for line in lines), page.more)

    async def erase(self, customer_id: str) -> int:
        """Remove all that is stored about a customer, and all that was learned from it.

        Returns how many rows there were. Not to be cancelled. Raises InvalidField, Overloaded,
        LedgerUnavailable.
        """
        started = perf_counter()
        today, *older = self._keys(customer_id, "customer_id")
        keys = [today, *[key for key in older if await self._is_known(key)]]
        if len(keys) == 1 and not await self._is_known(today):
            self._admit_stranger()
        erased = [await self._customers.erase(key, self._clock.now()) for key in keys]
        rows, stranger = sum(erasure.rows for erasure in erased), all(erasure.stranger for erasure in erased)
        self._metrics.erasures.labels("unknown" if stranger else "known").inc()
        if not stranger:  # nobody can have learned from a stranger
            await self._relearn()
        self._log.info(
            "customer_erased",
            known=not stranger,
            removed_rows=rows,
            campaigns=sorted({name for erasure in erased for name in erasure.campaigns}),
            seconds=round(perf_counter() - started, 3),
        )
        return rows

    def _admit_stranger(self) -> None:
        if not self._strangers.take(self._clock.now().service_us):
            self._log.warning("erasures_of_strangers_refused", per_s=self._limits.erasures_of_strangers_per_s)
            raise Overloaded(
                "the allowance for erasing customers of whom nothing is kept",
                1 / self._limits.erasures_of_strangers_per_s,
            )

    async def _customer(self, customer_id: str, field: str) -> CustomerKey:
        """Return the key a customer is kept under, or will be: an older one where that alone is known."""
        keys = self._keys(customer_id, field)
        if len(keys) == 1:
            return keys[0]
        for key in keys:
            if await self._is_known(key):
                return key
        return keys[0]

    def _keys(self, customer_id: str, field: str) -> tuple[CustomerKey, ...]:
        """Return every key a customer may be kept under: the one of today first."""
        if not customer_id:
            raise InvalidField(field, "is required")
        return customer_keys(check_text(field, nfc(customer_id), self._limits), self._key)

    async def _is_known(self, key: CustomerKey) -> bool:
        return (await self._customers.customer(key)).known
