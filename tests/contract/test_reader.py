"""What every ledger tells who looks into the record."""

from __future__ import annotations

from tests.builders import (
    CAMPAIGN,
    at,
    decision,
    fallback,
)

from tilbud.domain.decision.records import Reason


async def test_drawn_decisions_are_the_bandits_own_in_order(ledger):
    """In the order of recording, page by page; control, fallbacks and other lineages are left out."""
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
    drawn = ledger.drawn(CAMPAIGN, "c0ffee", 0, 10)
    assert [each.decision_id for _, each in drawn] == ["s3", "s1", "s4"]
    assert drawn[1][1] == decision("s1", sequence=1)
    first_page = ledger.drawn(CAMPAIGN, "c0ffee", 0, 2)
    assert first_page + ledger.drawn(CAMPAIGN, "c0ffee", first_page[-1][0], 2) == drawn
    assert ledger.drawn("unknown", "c0ffee", 0, 2) == []
