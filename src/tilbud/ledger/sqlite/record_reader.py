"""The Reader of a ledger's file: for whoever looks into the record, beside those who write it.

What holds: it has a connection and a thread of its own, so that it waits for no event loop and holds none up;
nothing here can change the file; pages are of as many rows as fit one, in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, Self, TypeVar

from tilbud.domain.customer.customer import CustomerKey
from tilbud.domain.decision.records import Decision, Reason, Settlement
from tilbud.domain.limits import Limits
from tilbud.ledger.answers import ExportPage
from tilbud.ledger.sqlite.condition import Condition
from tilbud.ledger.sqlite.customer_export import export_page
from tilbud.ledger.sqlite.reader import CAMPAIGN, SqliteReading
from tilbud.ledger.sqlite.rows import STORED_DECISION

_DRAWN = (
    f"SELECT d.no, {STORED_DECISION} FROM decisions d WHERE d.no > ? "  # noqa: S608 - only constants
    f"AND d.campaign_no = {CAMPAIGN} AND d.reason = {Reason.PERSONALIZED} AND d.lineage = ? "
    "ORDER BY d.no LIMIT ?"
)

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")


class SqliteReader:
    """Reads the file at `path` within `async with`, which raises LedgerInvalid where it is no ledger.

    `condition` is told what fails, where the ledger is served from this process.
    """

    def __init__(self, path: Path, *, limits: Limits, condition: Condition | None = None) -> None:
        self._record = _Record(path, limits=limits, condition=condition)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger-reader")

    async def __aenter__(self) -> Self:
        """Open the file."""
        await self._in_thread(self._record.open_reading)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the file, when reads that nobody waits for any longer are over."""
        await self._in_thread(self._record.close_reading)
        self._thread.shutdown(wait=False)

    async def find(self, campaign: str, decision_id: str) -> Decision | None:
        """Return the recorded decision, or the earlier one that a repeat stands for."""
        return await self._in_thread(self._record.find, campaign, decision_id)

    async def sequences(self, campaign: str) -> tuple[int, int]:
        """Return the first and the last retained sequence."""
        return await self._in_thread(self._record.sequences, campaign)

    async def erasures(self, campaign: str) -> int:
        """Return how many erasures removed settlements of the campaign."""
        return await self._in_thread(self._record.erasures, campaign)

    async def settlements(self, campaign: str, after: int) -> AsyncIterator[Sequence[Settlement]]:
        """Yield settlements with sequence > `after`, in order."""
        rows_max = Limits.reader_page_rows
        while rows := await self._in_thread(self._record.settlements, campaign, after, rows_max):
            yield rows
            after = rows[-1].sequence

    async def drawn(self, campaign: str, lineage: str) -> AsyncIterator[Sequence[Decision]]:
        """Yield decisions the bandit drew, in the order of recording."""
        no = 0
        while rows := await self._in_thread(self._record.drawn, campaign, lineage, no):
            yield [decision for _, decision in rows]
            no = rows[-1][0]

    async def export(self, key: CustomerKey, after: str, limit: int, bytes_max: int) -> ExportPage:
        """Return rows about a customer from where `after` says: at most `limit`, about `bytes_max`."""
        return await self._in_thread(self._record.export, key, after, limit, bytes_max)

    async def _in_thread(
        self, read: Callable[Asked, Answer], *asked: Asked.args, **options: Asked.kwargs
    ) -> Answer:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: read(*asked, **options))


class _Record(SqliteReading):
    def drawn(self, campaign: str, lineage: str, after_no: int) -> list[tuple[int, Decision]]:
        """Return a page of decisions the bandit drew, with their numbers."""
        with self._reads() as (reading, records):
            rows = reading.execute(_DRAWN, (after_no, campaign, lineage, Limits.reader_page_rows)).fetchall()
            return [(row[0], records.decision(campaign, row[1:])) for row in rows]

    def export(self, key: CustomerKey, after: str, limit: int, bytes_max: int) -> ExportPage:
        """Return a page of a customer's rows."""
        with self._reads_one_moment() as (reading, records):
            return export_page(reading, records, key, after, limit=limit, bytes_max=bytes_max)
