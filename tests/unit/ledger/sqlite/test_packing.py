"""A decision's offers and probabilities, packed: what comes back is, bit for bit, what was packed."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import decision, fallback

from tilbud.domain.decision.draw import draw
from tilbud.domain.decision.eligibility import RULES
from tilbud.domain.decision.records import NO_PAYLOAD, Decision, InternedText, OfferSet, Reason, Removed
from tilbud.domain.errors import LedgerInvalid
from tilbud.ledger.sqlite.packing import (
    NUMBERED,
    pack_fates,
    pack_probabilities,
    unpack_fates,
    unpack_probabilities,
)


def catalogue(count: int) -> OfferSet:
    """Return so many offers."""
    return OfferSet.of(
        tuple(f"offer-{number}" for number in range(count)), tuple(f"|o {n}" for n in range(count))
    )


def recorded(whole: OfferSet, rules: dict[int, str], **said: Any) -> Decision:
    """Return a record of a decision among what these rules leave."""
    eligible = tuple(index for index in range(len(whole.ids)) if index not in rules)
    offers = whole.only(eligible)
    removed = Removed(whole.ids, tuple(sorted(rules.items()))) if rules else NO_PAYLOAD
    choice = draw([1.0] * len(eligible), len(eligible), 0.0, 0.0) if eligible else None
    if choice is None:
        return fallback(offers=offers, removed=removed, **said)
    return decision(
        offers=offers,
        probabilities=choice.probabilities,
        drawn=0,
        offer_id=offers.ids[0],
        removed=removed,
        **said,
    )


def back(record: Decision, whole: OfferSet) -> tuple[OfferSet, Removed | InternedText]:
    """Return what is read of a record's offers."""
    offers, removed = unpack_fates(pack_fates(record), whole)
    return offers, record.removed if removed is None else removed


def again(record: Decision) -> Decision:
    """Return a record with the probabilities that are read of it."""
    probabilities, scores = unpack_probabilities(
        pack_probabilities(record), len(record.offers.ids), record.drawn, record.discovery
    )
    return record._replace(probabilities=probabilities, scores=scores)


@given(st.integers(1, 200), st.data())
def test_fates_come_back(count, data):
    """Which offers were eligible, and by which rule each other was not, is read as it was."""
    whole = catalogue(count)
    rules = data.draw(st.dictionaries(st.integers(0, count - 1), st.sampled_from(NUMBERED)))
    record = recorded(whole, rules)
    assert back(record, whole) == (record.offers, record.removed)


def test_every_rule_and_reason_has_a_number_of_its_own():
    """What can keep an offer back is named in the file; the numbers of before stay what they were."""
    reasons = {reason.name.lower().removeprefix("fallback_") for reason in Reason} - {"personalized"}
    assert {*RULES, *reasons} <= set(NUMBERED)
    assert len(set(NUMBERED)) == len(NUMBERED)
    assert (NUMBERED[0], NUMBERED[21], NUMBERED[23]) == ("include_offers", "caps", "no_consent")


def test_a_rule_without_a_number_loses_its_name_alone():
    """The decision is recorded all the same."""
    whole = catalogue(3)
    offers, removed = back(recorded(whole, {1: "made up", 2: "caps"}), whole)
    assert offers == whole.only((0,))
    assert removed == Removed(whole.ids, ((1, "other"), (2, "caps")))


def test_reasons_that_are_a_text_stay_one():
    """Then the fates say only what was eligible."""
    whole = catalogue(3)
    record = recorded(whole, {1: "caps"})._replace(removed=InternedText.of('{"elsewhere":"hours"}'))
    assert back(record, whole) == (whole.only((0, 2)), record.removed)


def scores_of(count: int, seed: int, spread: int) -> list[float]:
    """Return scores as VW gives them: float32, from even to far apart."""
    drawn = random.Random(seed)
    numbers = [drawn.random() ** spread for _ in range(count)]
    return unpack_floats(numbers)


def unpack_floats(numbers: list[float]) -> list[float]:
    """Return numbers as float32 has them."""
    return [float(each) for each in np.array(numbers, np.float32)]


@given(st.integers(1, 1_000), st.integers(0, 9), st.sampled_from([0, 1, 4, 20]), st.floats(0.0, 1.0))
def test_probabilities_come_back_bit_for_bit(count, seed, spread, discovery):
    """Of any number of offers, however far apart: what the draw used is what is read."""
    choice = draw(scores_of(count, seed, spread), count, discovery, 0.3)
    whole = catalogue(count)
    record = decision(
        offers=whole, probabilities=choice.probabilities, drawn=choice.drawn, scores=choice.scores,
        offer_id=whole.ids[choice.drawn], discovery=discovery,
    )  # fmt: skip
    assert again(record).probabilities == record.probabilities


@pytest.mark.parametrize("count", [1, 2, 3, 49, 200])
def test_probabilities_of_the_control_group_come_back(count):
    """Even ones, and one offer for certain, take a byte; any others are kept as they are."""
    whole = catalogue(count)
    some = tuple([0.5 / count] * (count - 1) + [1.0 - 0.5 / count * (count - 1)])
    for scores in ([1.0] * count, [0.0] * (count - 1) + [1.0]):
        choice = draw(scores, count, 0.0, 0.5)
        record = decision(
            offers=whole,
            probabilities=choice.probabilities,
            drawn=choice.drawn,
            offer_id=whole.ids[choice.drawn],
        )
        assert again(record) == record
        assert len(pack_probabilities(record)) == 1
    record = decision(offers=whole, probabilities=some, drawn=0, offer_id=whole.ids[0])
    assert again(record) == record


@pytest.mark.parametrize("size", [0, 1, 7, 200])
@pytest.mark.parametrize("form", range(6))
def test_a_damaged_row_is_told(size, form):
    """Bytes that fit no set of offers are LedgerInvalid, never a wrong record."""
    damaged = bytes((form,)) + random.Random(size).randbytes(size)
    with pytest.raises(LedgerInvalid):
        unpack_fates(damaged, catalogue(100))
    if form not in {1, 2}:  # which say all in a byte
        with pytest.raises(LedgerInvalid):
            unpack_probabilities(damaged, 100, 3, 0.02)
    with pytest.raises(LedgerInvalid):
        unpack_probabilities(b"", 100, 3, 0.02)


def test_a_decision_among_a_thousand_takes_little():
    """However far apart the scores: a thousand of them take 1,000 bytes, and which half was removed 140."""
    whole = catalogue(1_000)
    rules = dict.fromkeys(random.Random(1).sample(range(1_000), 500), "include_offers")
    assert len(pack_fates(recorded(whole, rules))) <= 140
    scores = [1.0 / (1_000 + 20_000 * each) for each in scores_of(1_000, 1, 1)]
    choice = draw(unpack_floats(scores), 1_000, 0.02, 0.5)
    record = decision(
        offers=whole, probabilities=choice.probabilities, drawn=choice.drawn, scores=choice.scores,
        offer_id=whole.ids[choice.drawn],
    )  # fmt: skip
    assert len(pack_probabilities(record)) <= 1_000
