"""The Reader of a ledger in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
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
        settlements = self._of(campaign).settlements
        for page in _pages([settlements[sequence] for sequence in settlements if sequence > after]):
            yield page

    async def drawn(self, campaign: str, lineage: str) -> AsyncIterator[Sequence[Decision]]:
        """Yield decisions the bandit drew, in the order of recording."""
        decisions = [entry.decision for entry in self._of(campaign).entries.values()]
        of_lineage = [
            decision
            for decision in decisions
            if decision.reason is Reason.PERSONALIZED and decision.lineage == lineage
        ]
        for page in _pages(of_lineage):
            yield page

    async def export(self, key: CustomerKey, after: str, limit: int, bytes_max: int) -> ExportPage:
        """Return rows about a customer from where `after` says: at most `limit`, about `bytes_max`."""
        customer = self._customers.get(key)
        return export_page(customer, self._campaigns, self._tokens, after, limit=limit, bytes_max=bytes_max)

    def _of(self, campaign: str) -> Campaign:
        return self._campaigns.get(campaign) or Campaign()


def _pages(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    left = iter(rows)
    while page := list(islice(left, Limits.reader_page_rows)):
        yield page
