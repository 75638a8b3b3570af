"""What decisions ask of a ledger's file: a few statements for a batch of them, whatever they ask.

What holds: the answers are of one moment; a statement that nothing of the batch needs is not made; each
costs the same whatever a customer's history, since exposures of one who has many are read scope by scope,
as many as a cap can ask for, and only those that are not too old for one. Nothing waits in here: the
answers are there when `look_up` returns.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from tilbud.domain.customer.customer import ANONYMOUS, CustomerKey, Happened
from tilbud.domain.decision.facts import LookUp
from tilbud.domain.decision.records import Decision, State
from tilbud.domain.limits import Limits
from tilbud.ledger.marks import EVENT, OUTCOME, span, sticky_mark
from tilbud.ledger.sqlite.rows import STORED_DECISION, Reading, Row, recorded_decision

Stored = tuple[int, int, int | None, str | None]  # a customer's number, version, erased_us, profile

CUSTOMERS = "SELECT key, no, version, erased_us, profile FROM customers WHERE key IN ({asked})"
EARLIER = (
    "WITH asked(place, campaign, id) AS ({asked}) "  # noqa: S608 - only constants, here and below
    f"SELECT asked.place, asked.campaign, {STORED_DECISION}, NULL, NULL FROM asked "
    "CROSS JOIN campaigns c ON c.id = asked.campaign "
    "CROSS JOIN decisions d ON d.campaign_no = c.no AND d.decision_id = asked.id "
    f"UNION ALL SELECT asked.place, asked.campaign, {STORED_DECISION}, r.fingerprint, r.payload FROM asked "
    "CROSS JOIN campaigns c ON c.id = asked.campaign "
    "CROSS JOIN repeats r ON r.campaign_no = c.no AND r.decision_id = asked.id "
    "CROSS JOIN decisions d ON d.no = r.decision_no"
)
HAPPENED = (
    "WITH asked(place, customer_no, low, high) AS ({asked}) "
    "SELECT asked.place, l.what, l.time_us FROM asked CROSS JOIN latest l "
    "ON l.customer_no = asked.customer_no AND l.what >= asked.low AND l.what < asked.high"
)
_EXPOSURES_FEW = 256  # of a customer in a range, beyond which scopes are read one by one
EXPOSURES = (
    "WITH asked(place, customer_no, low, high, after_us) AS ({asked}), "  # noqa: S608
    "counted AS MATERIALIZED (SELECT place, customer_no, low, high, after_us, "
    "(SELECT count(*) FROM (SELECT 1 FROM exposures e WHERE e.customer_no = asked.customer_no "
    f"AND e.scope >= asked.low AND e.scope < asked.high LIMIT {_EXPOSURES_FEW + 1})) AS many FROM asked) "
    "SELECT counted.place, e.scope, e.time_us FROM counted CROSS JOIN exposures e "
    "ON e.customer_no = counted.customer_no AND e.scope >= counted.low AND e.scope < counted.high "
    f"WHERE counted.many <= {_EXPOSURES_FEW} AND e.time_us > counted.after_us "
    f"UNION ALL SELECT counted.place, NULL, 0 FROM counted WHERE counted.many > {_EXPOSURES_FEW}"
)
NEWEST = (
    "SELECT time_us FROM exposures WHERE customer_no = ? AND scope = ? AND time_us > ? "
    "ORDER BY time_us DESC LIMIT ?"
)
STICKY = (
    "WITH asked(place, campaign, customer_no, mark, pending) AS ({asked}) "  # noqa: S608
    f"SELECT asked.place, asked.campaign, {STORED_DECISION}, NULL, NULL FROM asked "
    "CROSS JOIN latest l ON l.customer_no = asked.customer_no AND l.what = asked.mark "
    "CROSS JOIN decisions d ON d.no = l.decision_no CROSS JOIN windows w ON w.decision_no = d.no "
    f"WHERE w.state NOT IN ({State.VOID}, {State.EXPIRED}) AND (w.state <> {State.PENDING} OR asked.pending)"
)
_AT_ONCE = 64  # of a statement; the numbers of them are powers of two, so that few statements are compiled


def customers(connection: sqlite3.Connection, keys: Sequence[CustomerKey]) -> dict[CustomerKey, Stored]:
    """Return what is stored of those who are known."""
    rows = _ask(connection, CUSTOMERS, [(key,) for key in keys], single=True)
    return {key: (no, version, erased_us, profile) for key, no, version, erased_us, profile in rows}


def earlier(connection: sqlite3.Connection, records: Reading, looks: Sequence[LookUp]) -> dict[int, Decision]:
    """Return the decisions that stand under the ids asked for, by place; of a repeat as it is answered."""
    asked = [(place, look.campaign, look.decision_id) for place, look in enumerate(looks) if look.decision_id]
    return _decisions(_ask(connection, EARLIER, asked), records)


def happened(
    connection: sqlite3.Connection, looks: Sequence[LookUp], numbers: Sequence[int]
) -> dict[int, Happened]:
    """Return when what last happened, by place; `numbers` are the customers'."""
    events: dict[int, dict[str, int]] = defaultdict(dict)
    outcomes: dict[int, dict[tuple[str, str], int]] = defaultdict(dict)
    asked: list[tuple[Any, ...]] = []
    for place, (look, number) in enumerate(zip(looks, numbers, strict=True)):
        if look.history and number:
            asked += (
                (place, number, *span(EVENT)),
                (place, number, *span(f"{OUTCOME}{look.campaign}:")),
            )
    for place, what, time_us in _ask(connection, HAPPENED, asked):
        if what.startswith(EVENT):
            events[place][what[len(EVENT) :]] = time_us
        else:
            offer_id, _, outcome = what[len(OUTCOME) + len(looks[place].campaign) + 1 :].partition(":")
            outcomes[place][offer_id, outcome] = time_us
    return {
        place: Happened(events.get(place, {}), outcomes.get(place, {}))
        for place in events.keys() | outcomes.keys()
    }


def exposures(
    connection: sqlite3.Connection, looks: Sequence[LookUp], numbers: Sequence[int], limits: Limits
) -> dict[int, dict[str, list[int]]]:
    """Return when customers were exposed under which scope, by place."""
    asked: list[tuple[Any, ...]] = []
    for place, (look, number) in enumerate(zip(looks, numbers, strict=True)):
        if number and look.scopes.ranges:
            asked += [(place, number, low, high, look.exposed_after_us) for low, high in look.scopes.ranges]
    times: dict[int, dict[str, list[int]]] = {}
    often = set()
    for place, scope, time_us in _ask(connection, EXPOSURES, asked):
        if scope is None:
            often.add(place)
        elif place not in times:
            times[place] = {scope: [time_us]}
        elif scope not in times[place]:
            times[place][scope] = [time_us]
        else:
            times[place][scope].append(time_us)
    for place in often:
        look = looks[place]
        newest = {
            scope: connection.execute(
                NEWEST, (numbers[place], scope, look.exposed_after_us, limits.cap_times_max)
            ).fetchall()
            for scope in look.scopes.names
        }
        times[place] = {scope: [time_us for (time_us,) in rows] for scope, rows in newest.items()}
    return times


def sticky(
    connection: sqlite3.Connection, records: Reading, looks: Sequence[LookUp], numbers: Sequence[int]
) -> dict[int, Decision]:
    """Return the decisions that may be served again, by place."""
    asked = [
        (place, look.campaign, number, sticky_mark(look.campaign), look.pending)
        for place, (look, number) in enumerate(zip(looks, numbers, strict=True))
        if look.sticky and number
    ]
    return _decisions(_ask(connection, STICKY, asked), records)


def asks_much(looks: Sequence[LookUp]) -> bool:
    """Say whether more than the customers themselves, and earlier decisions, is asked for."""
    return any(look.history or look.scopes.ranges or look.sticky for look in looks)


def known_as(look: LookUp, stored: Mapping[CustomerKey, Stored]) -> CustomerKey:
    """Return the key a customer is kept under, or will be: an older one only where that alone is there."""
    if not look.keys:
        return ANONYMOUS
    return next((key for key in look.keys if key in stored), look.keys[0])


def _decisions(rows: Sequence[Row], records: Reading) -> dict[int, Decision]:
    return {row[0]: recorded_decision(records, row[1], row[2:]) for row in rows}


def _ask(
    connection: sqlite3.Connection, statement: str, asked: Sequence[tuple[Any, ...]], *, single: bool = False
) -> list[Row]:
    """Return the rows of a statement for all that is asked, a few hundred values at a time."""
    answers: list[Row] = []
    for start in range(0, len(asked), _AT_ONCE):
        some = asked[start : start + _AT_ONCE]
        width, rows = len(some[0]), 1 << (len(some) - 1).bit_length()
        values = [value for row in some for value in row] + [None] * (width * (rows - len(some)))
        answers += connection.execute(filled(statement, rows, width, single=single), values).fetchall()
    return answers


@lru_cache(maxsize=Limits.filled_texts_cached_max)
def filled(statement: str, rows: int, width: int, *, single: bool) -> str:
    """Return the statement for so many rows of values; rows without values meet nothing."""
    row = ", ".join(width * "?")
    return statement.format(
        asked=", ".join(rows * row) if single else f"VALUES {', '.join(rows * [f'({row})'])}"
    )
