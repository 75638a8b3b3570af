"""All that the ledger in memory has of one customer, kind by kind.

What holds: the rows and their order are those of every adapter; a page is of one moment.
What the rows look like is in export.py, where a page ended in page_tokens.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tilbud.ledger import export
from tilbud.ledger.answers import ExportPage
from tilbud.ledger.export import ExportRow
from tilbud.ledger.memory.entries import Campaign, CustomerEntry
from tilbud.ledger.page_tokens import PageTokens, Place


def export_page(
    customer: CustomerEntry | None,
    campaigns: Mapping[str, Campaign],
    tokens: PageTokens,
    after: str,
    *,
    limit: int,
    bytes_max: int,
) -> ExportPage:
    """Return rows about a customer from where `after` says; raises InvalidField where no page gave that."""
    kind, place = tokens.parse(after) if after else ("", ())
    if customer is None:
        return ExportPage((), "")
    kinds = list(export.kinds_from(kind)) if kind else list(export.KINDS)
    rows = (
        row for row in exported(customer, campaigns) if row[0] in kinds and (row[0] != kind or row[1] > place)
    )
    return export.page(rows, limit, bytes_max, tokens)


def exported(
    customer: CustomerEntry, campaigns: Mapping[str, Campaign]
) -> Iterator[tuple[str, Place, ExportRow]]:
    """Go through a customer's rows, with their kinds and places."""
    yield "customer", (), export.customer_row(customer.customer(), customer.erased_us)
    for event_id, (number, event, time_us) in customer.events.items():
        yield "event", (number,), export.event_row(event_id, event, time_us)
    for what, time_us in sorted(customer.latest.items()):
        yield "last", (what,), export.latest_row(what, time_us)
    for (number, scope, again), time_us in sorted(customer.exposures.items()):
        yield "exposure", (number, scope, again), export.exposure_row(scope, time_us)
    yield from _decisions(customer, campaigns)


def _decisions(
    customer: CustomerEntry, campaigns: Mapping[str, Campaign]
) -> Iterator[tuple[str, Place, ExportRow]]:
    for number, entry in customer.entries.items():
        yield "decision", (number,), export.decision_export(entry.decision, entry.window.state)
    for number, entry in customer.entries.items():
        of = entry.decision.campaign, entry.decision.decision_id
        for key, (outcome, status) in sorted(entry.received.items()):
            yield "outcome", (number, key), export.outcome_row(*of, outcome, status)
    for number, entry in customer.entries.items():
        if entry.sequence:
            settlement = campaigns[entry.decision.campaign].settlements[entry.sequence]
            yield (
                "settlement",
                (number,),
                export.settlement_row(
                    settlement.campaign,
                    settlement.decision_id,
                    settlement.sequence,
                    settlement.reward,
                    settlement.settled_us,
                    clipped=settlement.clipped,
                ),
            )
    for number, entry in customer.entries.items():
        repeats = campaigns[entry.decision.campaign].repeats
        for decision_id, repeat in sorted(repeats.items()):
            if repeat.stands_for == entry.decision.decision_id:
                row = export.repeat_row(repeat.campaign, decision_id, repeat.stands_for, repeat.payload)
                yield "repeat", (number, decision_id), row
