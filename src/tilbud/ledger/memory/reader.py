"""The Reader of a ledger in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from itertools import islice
from typing import Self, TypeVar

from tilbud.domain.customer.customer import CustomerKey
from tilbud.domain.decision.records import Decision, Reason, Settlement
from tilbud.domain.limits import Limits
from tilbud.ledger.answers import ExportPage
from tilbud.ledger.memory.customer_export import export_page
from tilbud.ledger.memory.entries import Campaign, CustomerEntry
from tilbud.ledger.page_tokens import PageTokens

Row = TypeVar("Row")


class MemoryReader:
    """Reads these campaigns and customers, within `async with`; pages of exports are told by `key`."""

    def __init__(
        self, campaigns: Mapping[str, Campaign], customers: Mapping[CustomerKey, CustomerEntry], key: bytes
    ) -> None:
        self._campaigns = campaigns
        self._customers = customers
        self._tokens = PageTokens(key)

    async def __aenter__(self) -> Self:
        """Begin."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End."""

    async def find(self, campaign: str, decision_id: str) -> Decision | None:
        """Return the recorded decision, or the earlier one that a repeat stands for."""
        return self._of(campaign).find(decision_id)

    async def sequences(self, campaign: str) -> tuple[int, int]:
        """Return the first and the last retained sequence."""
        return self._of(campaign).sequences()

    async def erasures(self, campaign: str) -> int:
        """Return how many erasures removed settlements of the campaign."""
        return self._of(campaign).erasures

    async def settlements(self, campaign: str, after: int) -> AsyncIterator[Sequence[Settlement]]:
        """Yield settlements with sequence > `after`, in order."""
        while rows := _page(
            row for sequence, row in self._of(campaign).settlements.items() if sequence > after
        ):
            yield rows
            after = rows[-1].sequence

    async def drawn(self, campaign: str, lineage: str) -> AsyncIterator[Sequence[Decision]]:
        """Yield decisions the bandit drew, in the order of recording."""
        number = 0
        while entries := _page(
            entry
            for entry in self._of(campaign).entries.values()
            if entry.number > number
            and entry.decision.reason is Reason.PERSONALIZED
            and entry.decision.lineage == lineage
        ):
            yield [entry.decision for entry in entries]
            number = entries[-1].number

    async def export(self, key: CustomerKey, after: str, limit: int, bytes_max: int) -> ExportPage:
        """Return rows about a customer from where `after` says: at most `limit`, about `bytes_max`."""
        customer = self._customers.get(key)
        return export_page(customer, self._campaigns, self._tokens, after, limit=limit, bytes_max=bytes_max)

    def _of(self, campaign: str) -> Campaign:
        return self._campaigns.get(campaign) or Campaign()


def _page(rows: Iterable[Row]) -> list[Row]:
    return list(islice(rows, Limits.reader_page_rows))
