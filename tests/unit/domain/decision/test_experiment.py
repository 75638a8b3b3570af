"""Which side of the experiment: by customer where there is one to use, else by decision."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilbud.domain.campaign.campaign import CONTROL, PERSONALIZED, Control, Variants
from tilbud.domain.customer.customer import ANONYMOUS, CustomerKey, customer_key
from tilbud.domain.decision.draw import keyed_uniform
from tilbud.domain.decision.experiment import DRAW, Side, side_of

KEY = bytes(range(32))
IDS = tuple(f"d-{number}" for number in range(100_000))
PEOPLE = tuple(customer_key(f"customer-{number}", KEY) for number in range(20_000))
SHARES = st.floats(0, 1)


def variants(share: float, split: str = "customer") -> Variants:
    """Return an experiment with a control group of this share."""
    return Variants.model_validate({"control": Control(share=share), "split": split})


def of_decision(share: float, decision_id: str) -> str:
    """Return the variant of an anonymous decision."""
    return side_of(variants(share), KEY, "shop", decision_id).variant


def of_customer(share: float, customer: CustomerKey, campaign: str = "shop") -> str:
    """Return the variant of a customer's decision."""
    return side_of(variants(share), KEY, campaign, "any", customer).variant


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize(("variant_of", "units"), [(of_decision, IDS), (of_customer, PEOPLE)])
def test_the_control_group_has_its_declared_share(
    share: float, variant_of: Callable[[float, Any], str], units: tuple[Any, ...]
) -> None:
    """The control variant gets the share of decisions, or of customers, that its campaign declares."""
    control = sum(variant_of(share, unit) == CONTROL for unit in units)
    assert abs(control - share * len(units)) <= 5 * math.sqrt(share * (1 - share) * len(units))


@given(SHARES, st.lists(st.text(max_size=9), min_size=1), st.binary(min_size=16, max_size=16))
def test_a_customer_is_on_one_side(share: float, decision_ids: list[str], customer: CustomerKey) -> None:
    """Whatever the decisions are called, all of one customer's in a campaign are on the same side."""
    sides = {side_of(variants(share), KEY, "shop", each, customer) for each in decision_ids}
    assert len(sides) == 1
    assert sides.pop().split == "customer"


@given(SHARES, SHARES, st.binary(min_size=16, max_size=16))
def test_a_changed_share_moves_nobody_the_other_way(one: float, other: float, customer: CustomerKey) -> None:
    """A larger control group has everybody of the smaller one."""
    small, large = sorted((one, other))
    if of_customer(small, customer) == CONTROL:
        assert of_customer(large, customer) == CONTROL


def test_a_changed_share_moves_as_many_as_it_must() -> None:
    """From 5 % to 10 % it moves 5 % of the customers."""
    moved = sum(of_customer(0.05, each) != of_customer(0.10, each) for each in PEOPLE)
    assert abs(moved - 0.05 * len(PEOPLE)) < 5 * math.sqrt(0.05 * len(PEOPLE))


def test_campaigns_split_for_themselves() -> None:
    """Who is in one campaign's control group is as likely as anybody in another's."""
    both = sum(of_customer(0.5, each) == of_customer(0.5, each, "other") for each in PEOPLE)
    assert abs(both - len(PEOPLE) / 2) < 5 * math.sqrt(len(PEOPLE)) / 2


def test_decisions_are_split_where_the_file_says_so_and_where_nobody_may_be_known() -> None:
    """By decision a customer is on both sides; without a customer the id alone says the side."""
    known = {side_of(variants(0.5, "decision"), KEY, "shop", each, PEOPLE[0]) for each in IDS[:100]}
    unknown = {side_of(variants(0.5), KEY, "shop", each, ANONYMOUS) for each in IDS[:100]}
    assert known == unknown == {Side(CONTROL, 0.5, "decision"), Side(PERSONALIZED, 0.5, "decision")}
    for each in IDS[:100]:
        assert side_of(variants(0.5, "decision"), KEY, "shop", each, PEOPLE[0]) == side_of(
            variants(0.5), KEY, "shop", each
        )


def test_an_id_that_looks_like_a_customer_says_nothing_of_them() -> None:
    """The sides of a customer and of a decision called as their key are independent."""
    alike = sum(of_decision(0.5, each.hex()) == of_customer(0.5, each) for each in PEOPLE)
    assert abs(alike - len(PEOPLE) / 2) < 5 * math.sqrt(len(PEOPLE)) / 2


def test_a_side_says_its_share() -> None:
    """The shares of both sides add up to 1, and without a control group one side has all."""
    shares = {
        side.variant: side.share for each in IDS[:100] for side in [side_of(variants(0.25), KEY, "c", each)]
    }
    assert shares == {CONTROL: 0.25, PERSONALIZED: 0.75}
    assert side_of(Variants(), KEY, "shop", "d", PEOPLE[0]) == Side(PERSONALIZED, 1.0, "customer")


@pytest.mark.parametrize("customer", [None, PEOPLE[0]])
def test_offers_are_drawn_alike_in_both_variants(customer: CustomerKey | None) -> None:
    """Within the control group the draw is as uniform as outside it, for one customer too."""
    draws = [(keyed_uniform(KEY, DRAW, "shop", each), each) for each in IDS[:20_000]]
    low: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for u, each in draws:
        variant = side_of(variants(0.2), KEY, "shop", each, customer or ANONYMOUS).variant
        total[variant] += 1
        low[variant] += u < 0.5
    for variant, count in total.items():
        assert abs(low[variant] - count / 2) < 5 * math.sqrt(count) / 2
