"""All that a ledger's file has of one customer, kind by kind.

What holds: a page is read as far as it goes, at the moment that its caller began; it goes through the
customer's own rows alone. What the rows look like is in export.py, where it ended in page_tokens.py.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from tilbud.domain.customer.customer import CustomerKey
from tilbud.domain.decision.records import State
from tilbud.domain.decision.rewards import CountedOutcome, OutcomeStatus
from tilbud.ledger import export
from tilbud.ledger.answers import ExportPage
from tilbud.ledger.export import ExportRow
from tilbud.ledger.page_tokens import PageTokens, Place
from tilbud.ledger.sqlite.customers_reader import CUSTOMER, customer_of
from tilbud.ledger.sqlite.rows import STORED_DECISION, Reading
from tilbud.ledger.sqlite.schema import draw_key


@dataclass(frozen=True, slots=True)
class _Exported:
    """How the rows of one kind are read.

    The statement takes the customer's number and a place; `start` comes before every place, and a row
    begins with its own.
    """

    statement: str
    start: Place
    row: Callable[[Sequence[Any], Reading], ExportRow]


_OF_DECISIONS = "FROM decisions d JOIN campaigns c ON c.no = d.campaign_no"
EXPORTED: dict[str, _Exported] = {
    "event": _Exported(
        "SELECT no, event_id, event, time_us FROM events WHERE customer_no = ? AND no > ? ORDER BY no",
        (0,),
        lambda row, _: export.event_row(*row),
    ),
    "last": _Exported(
        "SELECT what, what, time_us FROM latest WHERE customer_no = ? AND what > ? ORDER BY what",
        ("",),
        lambda row, _: export.latest_row(*row),
    ),
    "exposure": _Exported(
        "SELECT decision_no, scope, again, scope, time_us FROM exposures WHERE customer_no = ? "
        "AND (decision_no, scope, again) > (?, ?, ?) ORDER BY decision_no, scope, again",
        (0, "", 0),
        lambda row, _: export.exposure_row(*row),
    ),
    "decision": _Exported(
        f"SELECT d.no, c.id, w.state, {STORED_DECISION} {_OF_DECISIONS} "
        "JOIN windows w ON w.decision_no = d.no WHERE d.customer_no = ? AND d.no > ? ORDER BY d.no",
        (0,),
        lambda row, records: export.decision_export(records.decision(row[0], tuple(row[2:])), State(row[1])),
    ),
    "outcome": _Exported(
        "SELECT d.no, o.key, c.id, d.decision_id, o.outcome, o.value, o.time_us, o.key, o.status "
        f"{_OF_DECISIONS} JOIN outcomes o ON o.decision_no = d.no "
        "WHERE d.customer_no = ? AND (d.no, o.key) > (?, ?) ORDER BY d.no, o.key",
        (0, ""),
        lambda row, _: export.outcome_row(row[0], row[1], CountedOutcome(*row[2:6]), OutcomeStatus(row[6])),
    ),
    "settlement": _Exported(
        "SELECT d.no, c.id, d.decision_id, s.sequence, s.reward, s.settled_us, s.clipped "
        f"{_OF_DECISIONS} JOIN settlements s ON s.decision_no = d.no "
        "WHERE d.customer_no = ? AND d.no > ? ORDER BY d.no",
        (0,),
        lambda row, _: export.settlement_row(*row[:-1], clipped=bool(row[-1])),
    ),
    "repeat": _Exported(
        "SELECT d.no, r.decision_id, c.id, r.decision_id, d.decision_id, r.payload "
        f"{_OF_DECISIONS} JOIN repeats r ON r.decision_no = d.no "
        "WHERE d.customer_no = ? AND (d.no, r.decision_id) > (?, ?) ORDER BY d.no, r.decision_id",
        (0, ""),
        lambda row, records: export.repeat_row(
            row[0], row[1], row[2], None if row[3] is None else records.text(row[3])
        ),
    ),
}


def export_page(
    reading: sqlite3.Connection, records: Reading, key: CustomerKey, after: str, *, limit: int, bytes_max: int
) -> ExportPage:
    """Return rows about a customer from where `after` says; raises InvalidField where no page gave that."""
    tokens = PageTokens(draw_key(reading))
    kind, place = tokens.parse(after) if after else ("", ())
    customer = reading.execute(CUSTOMER, (key,)).fetchone()
    if customer is None:
        return ExportPage((), "")
    return export.page(_exported(reading, records, customer, kind, place), limit, bytes_max, tokens)


def _exported(
    reading: sqlite3.Connection, records: Reading, customer: Sequence[Any], after_kind: str, place: Place
) -> Iterator[tuple[str, Place, ExportRow]]:
    """Go through a customer's rows, with their kinds and places, from the one after a place."""
    if not after_kind:
        yield "customer", (), export.customer_row(customer_of(customer), customer[2])
    for kind in export.kinds_from(after_kind or "customer"):
        if kind == "customer":
            continue
        exported = EXPORTED[kind]
        start = place if kind == after_kind else exported.start
        length = len(start)
        with closing(reading.execute(exported.statement, (customer[0], *start))) as stored:
            for row in stored:
                yield kind, row[:length], exported.row(row[length:], records)
