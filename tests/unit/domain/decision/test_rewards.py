"""Outcomes become a reward, the same one in whatever order they came."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.domain.builders import campaign

from tilbud.domain.decision.records import State
from tilbud.domain.decision.rewards import (
    CountedOutcome,
    Outcome,
    OutcomeStatus,
    Reward,
    RewardRules,
    receive,
)

WEIGHTS = {"click": 0.1, "purchase": 1.0, "dismiss": -0.2, "refund": -1.0}


def rules(aggregate: str = "sum", default: float = 0.0, low: float = -1.0, high: float = 1.0) -> RewardRules:
    """Return reward rules over the usual outcomes."""
    return RewardRules(WEIGHTS, aggregate, default, low, high)


def counted(*outcomes: str | tuple[str, float]) -> list[CountedOutcome]:
    """Return outcomes one second apart, each worth 1 unless it says more."""
    pairs = [(each, 1.0) if isinstance(each, str) else each for each in outcomes]
    return [
        CountedOutcome(name, value, number * 1_000_000, f"e:{number}")
        for number, (name, value) in enumerate(pairs)
    ]


@pytest.mark.parametrize(
    ("aggregate", "outcomes", "expected"),
    [
        ("sum", ["click"], 0.1),
        ("sum", ["click", "click", "dismiss"], 0.0),
        ("sum", [("click", 3.0)], 0.3),
        ("sum", [("purchase", 0.5), ("refund", 0.25)], 0.25),
        ("max", ["click", "dismiss"], 0.1),
        ("max", ["dismiss"], -0.2),
        ("max", ["dismiss", "refund"], -0.2),
        ("max", ["refund", "refund"], -1.0),
    ],
)
def test_contributions_are_weight_times_value(aggregate, outcomes, expected):
    """Contributions are summed, or the largest counts, even where all are negative."""
    reward = rules(aggregate, default=0.7).reward(counted(*outcomes))
    assert reward.value == pytest.approx(expected)
    assert not reward.clipped


@pytest.mark.parametrize("aggregate", ["sum", "max"])
def test_no_outcome_is_the_default(aggregate):
    """Without an outcome, or with none that is still declared, the reward is the default, once."""
    for outcomes in ([], counted("gone"), counted("gone", "gone")):
        reward = rules(aggregate, default=0.25).reward(outcomes)
        assert (reward.value, reward.clipped) == (0.25, False)


def test_the_default_adds_nothing_to_outcomes():
    """An outcome takes the default's place, it is not added to it."""
    assert rules(default=0.25).reward(counted("click")).value == 0.1


@pytest.mark.parametrize(
    ("outcomes", "expected", "clipped"),
    [
        ([("purchase", 5.0)], 1.0, True),
        ([("refund", 5.0)], -1.0, True),
        ([("purchase", 1.0)], 1.0, False),
        ([("refund", 1.0)], -1.0, False),
        ([("purchase", math.inf)], 1.0, True),
        ([("refund", math.inf)], -1.0, True),
        ([("purchase", math.inf), ("refund", math.inf)], 0.0, True),
        ([("purchase", math.nan)], 0.0, True),
        ([("purchase", 1e308), ("purchase", 1e308)], 1.0, True),
    ],
)
def test_rewards_are_clipped_and_it_shows(outcomes, expected, clipped):
    """A reward beyond the range is clipped to it and says so, also where the sum overflows."""
    reward = rules().reward(counted(*outcomes))
    assert (reward.value, reward.clipped) == (expected, clipped)


VALUES = st.floats(width=32) | st.floats() | st.sampled_from([0.1, 0.2, 0.3, 1e16, -1e16])
OUTCOMES = st.lists(
    st.tuples(st.sampled_from([*WEIGHTS, "gone"]), VALUES, st.integers(0, 3)), max_size=8
).map(
    lambda said: [
        CountedOutcome(name, value, time_us, f"e:{number}")
        for number, (name, value, time_us) in enumerate(said)
    ]
)
AGGREGATES = st.sampled_from(["sum", "max"])


@given(OUTCOMES, AGGREGATES, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(outcomes, aggregate, random: Random):
    """Any permutation of the same outcomes gives the same reward, to the last bit."""
    shuffled = outcomes[:]
    random.shuffle(shuffled)
    one, other = rules(aggregate).reward(outcomes), rules(aggregate).reward(iter(shuffled))
    assert (one.value.hex(), one.clipped) == (other.value.hex(), other.clipped)


RANGES = st.tuples(st.floats(width=32), st.floats(width=32)).filter(lambda pair: pair[0] < pair[1]).filter(
    lambda pair: math.isfinite(pair[1] - pair[0])
)  # fmt: skip


@given(OUTCOMES, AGGREGATES, RANGES, st.data())
def test_rewards_lie_in_the_range_and_costs_in_the_unit(outcomes, aggregate, bounds, data):
    """Whatever was reported, the reward lies in the range and its cost between 0 and 1."""
    low, high = bounds
    default = data.draw(st.floats(min_value=low, max_value=high))
    these = rules(aggregate, default, low, high)
    reward = these.reward(outcomes)
    assert low <= reward.value <= high
    assert 0.0 <= these.cost(reward.value) <= 1.0


@given(RANGES, st.floats(allow_nan=False))
def test_any_reward_has_a_cost_in_the_unit(bounds, reward):
    """A reward outside today's range, from before the file changed, still costs between 0 and 1."""
    assert 0.0 <= rules("sum", bounds[0], *bounds).cost(reward) <= 1.0


def test_costs_are_unit_free():
    """The best reward costs 0, the worst 1, the middle a half, whatever the unit."""
    assert [rules(low=-10, high=30).cost(reward) for reward in (30, 10, -10)] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.1] * 10, 1.0),  # 0.9999999999999999, added one by one as Python did before 3.12
        ([1.0, 1e-16, 1e-16], 1.0000000000000002),  # 1.0, one by one
        ([1e16, 1.0, -1e16], 1.0),  # 0.0, one by one
        ([1e308, 1e308, -1e308], 1e308),  # infinite on the way
        ([-1e308, -1e308, 1e308, 1e300], -9.9999999e307),
    ],
)
def test_a_sum_is_rounded_once(values, expected):
    """A sum is the float next to the true one, on every Python and in every order."""
    wide = RewardRules({"click": 1.0}, "sum", 0.0, -1.7e308, 1.7e308)
    orders = [counted(*(("click", value) for value in order)) for order in (values, values[::-1])]
    assert [wide.reward(order) for order in orders] == 2 * [Reward(expected, clipped=False)]


def test_rules_are_what_the_file_declares():
    """The rules a campaign settles by are those of its file."""
    section = campaign(
        reward={
            "outcomes": {"click": 0.1, "buy": {"weight": 2}},
            "aggregate": "max",
            "default": 1,
            "range": [0, 3],
        }
    ).reward
    assert RewardRules.of(section) == RewardRules({"click": 0.1, "buy": 2.0}, "max", 1.0, 0.0, 3.0)


CLOSES, DUE = 100, 110
ACCEPTED, LATE, HELD = OutcomeStatus.ACCEPTED, OutcomeStatus.LATE, OutcomeStatus.HELD


@pytest.mark.parametrize(
    ("state", "occurred", "now", "expected"),
    [
        (State.ACTIVE, None, 50, ACCEPTED),
        (State.ACTIVE, None, 100, ACCEPTED),
        (State.ACTIVE, None, 109, ACCEPTED),  # within the grace
        (State.ACTIVE, None, 110, LATE),  # due
        (State.ACTIVE, None, 111, LATE),
        (State.ACTIVE, 100, 109, ACCEPTED),  # at the deadline, arrived within the grace
        (State.ACTIVE, 101, 109, LATE),  # after the deadline, by its own time
        (State.ACTIVE, 101, 50, LATE),
        (State.ACTIVE, -5, 50, ACCEPTED),  # said to be before the decision
        (State.ACTIVE, 50, 110, LATE),  # in time, but arrived too late
        (State.PENDING, None, 50, HELD),
        (State.PENDING, 101, 109, HELD),  # what is late is known at the activation
        (State.PENDING, None, 110, LATE),
        (State.SETTLED, None, 50, LATE),
        (State.SETTLED, 50, 50, LATE),
        (State.VOID, None, 50, LATE),
        (State.EXPIRED, None, 50, LATE),
    ],
)
def test_what_an_outcome_meets(state, occurred, now, expected):
    """Each state, time of the outcome and time of arrival gives the status of the table."""
    assert receive(state, CLOSES, DUE, occurred, now) is expected


@given(st.sampled_from(State), st.none() | st.integers(0, 200), st.integers(0, 200))
def test_once_late_always_late(state, occurred, now):
    """An outcome that is late now is late at any later time; receiving never calls it a duplicate."""
    status = receive(state, CLOSES, DUE, occurred, now)
    assert status is not OutcomeStatus.DUPLICATE
    if status is LATE:
        assert receive(state, CLOSES, DUE, occurred, now + 1) is LATE


def outcome(name: str = "click", value: float = 1.0, event_id: str = "") -> Outcome:
    """Return an outcome of a decision."""
    return Outcome("c", "d", name, value, event_id, None, ends_now=False, weight=0.1)


def test_an_outcome_without_an_event_id_counts_once():
    """Without an event id, the outcome's name is its key, and any value is the same outcome again."""
    assert outcome("click").key == outcome("click", 2.0).key != outcome("purchase").key
    assert outcome("click").same_as("click", 2.0)


def test_an_event_id_is_the_key():
    """With an event id, that is the key, and another name or value under it is another outcome."""
    keyed = outcome("click", 1.0, "1")
    assert keyed.key == outcome("purchase", 2.0, "1").key
    assert keyed.same_as("click", 1.0)
    assert not keyed.same_as("purchase", 1.0)
    assert not keyed.same_as("click", 2.0)


@given(st.text(), st.text(min_size=1))
def test_names_and_event_ids_never_share_a_key(name, event_id):
    """No event id is ever taken for an outcome's name."""
    assert outcome(name).key != outcome(event_id=event_id).key
