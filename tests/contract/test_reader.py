"""What every ledger tells who looks into the record, on a connection of its own."""

from __future__ import annotations

from tests.builders import CAMPAIGN, CUSTOMER, at, contact, decision, fallback, outcome
from tests.contract import reads
from tests.contract.settling import DUE_S, settle

from tilbud.domain.decision.records import Reason, Repeat
from tilbud.domain.limits import Limits
from tilbud.ledger.ports import Reader

MORE_THAN_A_PAGE = Limits.reader_page_rows + 3


async def test_drawn_decisions_are_the_bandits_own_in_order(ledger):
    """In the order of recording; control, fallbacks and other lineages are left out."""
    await ledger.record(
        [
            decision("s3", sequence=3),
            decision("s1", sequence=1),
            decision("other", sequence=2, lineage="decade"),
            decision("control", sequence=2, reason=Reason.CONTROL, variant="control"),
            fallback("f", sequence=2),
            decision("s4", sequence=4),
        ],
        at(),
    )
    drawn = await reads.drawn(ledger)
    assert [each.decision_id for each in drawn] == ["s3", "s1", "s4"]
    assert drawn[1] == decision("s1", sequence=1)
    assert await reads.drawn(ledger, "unknown") == []


async def test_what_is_long_comes_by_pages(ledger):
    """Decisions and settlements, each once and in order; none of a page is empty, none too long."""
    ids = [f"d{number}" for number in range(MORE_THAN_A_PAGE)]
    await ledger.record([decision(each) for each in ids], at())
    await settle(ledger)
    async with ledger.reader() as reader:
        drawn = [page async for page in reader.drawn(CAMPAIGN, "c0ffee")]
        settled = [page async for page in reader.settlements(CAMPAIGN, 0)]
        rest = [row.sequence async for page in reader.settlements(CAMPAIGN, 5) for row in page]
    assert [len(page) for page in drawn] == [len(page) for page in settled] == [Limits.reader_page_rows, 3]
    assert [each.decision_id for page in drawn for each in page] == ids
    assert [each.sequence for page in settled for each in page] == list(range(1, MORE_THAN_A_PAGE + 1))
    assert rest == list(range(6, MORE_THAN_A_PAGE + 1))


async def test_a_reader_sees_every_acknowledged_write(ledger):
    """Also those after it was opened: decisions, what repeats stand for, settlements, erasures."""

    async def seen(reader: Reader) -> object:
        return (
            await reader.find(CAMPAIGN, "d1"),
            await reader.find(CAMPAIGN, "again"),
            await reader.sequences(CAMPAIGN),
            await reader.erasures(CAMPAIGN),
        )

    async with ledger.reader() as reader:
        assert await seen(reader) == (None, None, (0, 0), 0)
        made = decision("d1", customer=CUSTOMER)
        await ledger.record([made], at(), [contact()])
        repeat = Repeat(CAMPAIGN, "again", bytes(16), "d1")
        await ledger.repeat([repeat], at(1))
        again = made._replace(fingerprint=repeat.fingerprint)
        assert await seen(reader) == (made, again, (0, 0), 0)
        await ledger.receive([outcome("d1")], at(1))
        await settle(ledger, DUE_S)
        assert await seen(reader) == (made, again, (1, 1), 0)
        await ledger.erase(CUSTOMER, at(DUE_S + 1))
        assert await seen(reader) == (None, None, (1, 1), 1)


async def test_a_later_page_is_of_the_moment_it_is_asked_for(ledger):
    """Of who was erased while somebody went through the pages, the next one has nothing any more."""
    ids = [f"d{number}" for number in range(MORE_THAN_A_PAGE)]
    made = [*[decision(each) for each in ids[:-1]], decision(ids[-1], customer=CUSTOMER)]
    await ledger.record(made, at(), [*[None] * (len(ids) - 1), contact()])
    await settle(ledger)
    async with ledger.reader() as reader:
        drawn, settled = reader.drawn(CAMPAIGN, "c0ffee"), reader.settlements(CAMPAIGN, 0)
        await anext(drawn)
        await anext(settled)
        await ledger.erase(CUSTOMER, at(DUE_S + 1))
        assert [each.decision_id for each in await anext(drawn)] == ids[Limits.reader_page_rows : -1]
        assert [each.decision_id for each in await anext(settled)] == [*ids[Limits.reader_page_rows : -1], ""]
