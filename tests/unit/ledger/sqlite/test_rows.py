"""Rows and records: what is kept of what was read."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from tests.builders import CAMPAIGN, at, decision
from tests.unit.ledger.sqlite.opened import ignore_commit, make

from tilbud.domain.decision.records import Decision, OfferSet
from tilbud.domain.limits import Limits

OFFERS_MAX = 40


def catalogue(count: int) -> OfferSet:
    """Return so many offers."""
    return OfferSet.of(
        tuple(f"offer-{number}" for number in range(count)), tuple(f"|o {n}" for n in range(count))
    )


def among_two_of(name: str, whole: OfferSet) -> list[Decision]:
    """Return decisions, each among two other offers of a catalogue."""
    return [
        decision(
            f"{name}-{number}",
            at(),
            offers=whole.only(pair),
            probabilities=(0.25, 0.75),
            drawn=1,
        )
        for number, pair in enumerate(combinations(range(len(whole.ids)), 2))
    ]


async def test_offers_of_large_catalogues_keep_to_the_limit_after_many_of_small_ones(path: Path) -> None:
    """However many sets of a small catalogue were read before, of a large one as few are kept as fit."""
    ledger = make(path, Limits(fates_cache_offers_max=OFFERS_MAX))
    await ledger.start(ignore_commit)
    small, large = among_two_of("small", catalogue(5)), among_two_of("large", catalogue(20))[:5]
    await ledger.record([*small, *large], at())
    read = [await ledger.find(CAMPAIGN, each.decision_id) for each in [*small, *large, large[0]]]
    await ledger.close()
    assert read == [*small, *large, large[0]]
    earlier, again = read[len(small)], read[-1]
    assert earlier is not None
    assert again is not None
    assert again.offers is not earlier.offers
