"""The rules of a decision come back from their text as they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.domain.builders import campaign

from tilbud.domain.decision.decision_rules import DecisionRules, parse_rules
from tilbud.domain.decision.records import NO_RULES, InternedText
from tilbud.domain.decision.rewards import RewardRules
from tilbud.domain.errors import LedgerInvalid

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text(min_size=1, max_size=8).filter(lambda name: name.isprintable())
SPANS_US = st.integers(0, 2**62)
RULES = st.builds(
    DecisionRules,
    rewards=st.builds(
        RewardRules,
        st.dictionaries(NAMES, NUMBERS, max_size=4),
        st.sampled_from(["sum", "max"]),
        NUMBERS,
        NUMBERS,
        NUMBERS,
    ),
    final=st.frozensets(NAMES, max_size=2),
    learn=st.sampled_from(["at_deadline", "on_settlement"]),
    window_us=SPANS_US,
    activation_window_us=SPANS_US,
    grace_us=SPANS_US,
)


@given(RULES)
def test_rules_come_back_from_their_text(rules):
    """Every number is the same to the last bit."""
    assert parse_rules(rules.text()) == rules


def test_the_order_of_a_file_makes_no_other_rules():
    """The same outcomes in another order are the same text, so nothing waits under older rules."""
    one = campaign(reward={"outcomes": {"click": 0.1, "buy": 1}}).reward
    two = campaign(reward={"outcomes": {"buy": {"weight": 1}, "click": 0.1}}).reward
    assert DecisionRules.of(one).text() == DecisionRules.of(two).text()


def test_before_rules_were_kept_there_are_none():
    """A decision of an older ledger has no rules of its own."""
    assert parse_rules(NO_RULES) is None


@pytest.mark.parametrize("body", ["[]", "nonsense", '{"weights": {}}', '{"range": 1}'])
def test_damaged_rules_are_told(body):
    """Nothing is settled under what cannot be read."""
    with pytest.raises(LedgerInvalid, match="restore a backup"):
        parse_rules(InternedText.of(body))
