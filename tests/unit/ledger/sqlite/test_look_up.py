"""What a look before decisions costs a ledger in a file: few statements, and none that nothing needs."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from tests.builders import CAMPAIGN, CUSTOMER, SOMEONE_ELSE, at, contact, decision, event, profile
from tests.contract.reads import scopes_of
from tests.unit.ledger.sqlite.opened import Parts, ignore_commit, make

from tilbud.domain.customer.customer import channel_scope, offer_scope
from tilbud.domain.decision.facts import LookUp
from tilbud.domain.limits import Limits
from tilbud.ledger.sqlite.adapter import SqliteLedger

OFFER, WEB = offer_scope(CAMPAIGN, "ten-off"), channel_scope("web")
OF = (CUSTOMER,)
WHOLE = LookUp(CAMPAIGN, "d1", OF, history=True, scopes=scopes_of([OFFER, WEB]), sticky=True, pending=True)


async def statements(ledger: SqliteLedger, parts: Parts, looks: list[LookUp]) -> list[str]:
    """Return what the file is asked for some look-ups, in order."""
    await ledger.look_up(looks)  # the pauses, and texts that decisions share, are read once
    seen: list[str] = []
    reading = parts.reading
    reading.set_trace_callback(seen.append)
    await ledger.look_up(looks)
    reading.set_trace_callback(None)
    return [each for each in seen if each not in ("BEGIN", "ROLLBACK")]


async def met(ledger: SqliteLedger, times: int = 1) -> None:
    """Let CUSTOMER be known, and met so often."""
    await ledger.update_customer(CUSTOMER, lambda _: profile(), at())
    await ledger.receive_events([event()], at())
    made = [decision(f"d{number}", customer=CUSTOMER) for number in range(1, times + 1)]
    version = (await ledger.customer(CUSTOMER)).version
    of = contact(version, scopes=(OFFER, WEB), sticky=True, counted=False)
    assert None not in await ledger.record(made, at(), times * [of])


@pytest.mark.parametrize(
    ("look", "read"),
    [
        (LookUp(CAMPAIGN), []),
        (LookUp(CAMPAIGN, "d1"), ["campaigns"]),
        (LookUp(CAMPAIGN, keys=OF), ["customers"]),
        (LookUp(CAMPAIGN, keys=OF, history=True), ["customers", "latest"]),
        (LookUp(CAMPAIGN, keys=OF, scopes=WHOLE.scopes), ["customers", "exposures"]),
        (LookUp(CAMPAIGN, keys=OF, sticky=True), ["customers", "latest"]),
        (WHOLE._replace(keys=(SOMEONE_ELSE,)), ["campaigns", "customers"]),
        (WHOLE, ["campaigns", "customers", "latest", "exposures", "latest"]),
    ],
    ids=["nothing", "an id", "a customer", "history", "scopes", "sticky", "a stranger", "all"],
)
async def test_no_statement_is_made_that_nothing_needs(ledger, look, read, parts):
    """Of someone unknown nothing more is read; where nothing is asked for, nothing."""
    await met(ledger)
    asked = await statements(ledger, parts, [look])
    tables = [re.search(r"CROSS JOIN (\w+)|^SELECT .* FROM (\w+)", each) for each in asked]
    assert [table and (table[1] or table[2]) for table in tables] == read


async def test_a_large_call_asks_the_file_no_more_often(ledger, parts):
    """Thirty-two questions are as many statements as one: each gives the GIL up."""
    await met(ledger, 32)
    one = await statements(ledger, parts, [WHOLE])
    many = await statements(
        ledger, parts, [WHOLE._replace(decision_id=f"d{number}") for number in range(1, 33)]
    )
    assert len(many) == len(one)


@pytest.mark.parametrize(("times", "told"), [(256, 256), (257, 7)])
async def test_of_who_was_met_often_no_more_is_read_than_a_cap_asks_for(path, times, told):
    """The cost stays flat however long a history is."""
    ledger = make(path, replace(Limits(), cap_times_max=7))
    await ledger.start(ignore_commit)
    await met(ledger, times)
    [facts] = await ledger.look_up([WHOLE])
    assert {scope: len(exposures) for scope, exposures in facts.exposures.items()} == {OFFER: told, WEB: told}
    await ledger.close()
