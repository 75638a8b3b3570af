"""`when`: what a condition says of a context, and how a wrong one is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.domain.builders import campaign, context

from tilbud.domain.campaign.conditions import Condition, ConditionInvalid, parse_condition

KINDS = {"tier": "category", "basket": "number", "returning": "flag", "app": "version"}
FACTS: dict[str, Any] = {
    "device": "mobile",
    "language": "da",
    "features": {"tier": "gold", "basket": 30.0, "returning": True},
}


def holds(written: object, **said: Any) -> bool:
    """Say whether a written condition holds in a context, the one of FACTS unless another is said."""
    return parse_condition(written, KINDS).holds(context(**(said or FACTS)))


@pytest.mark.parametrize(
    ("operator", "limit", "expected"),
    [
        ("gt", 29, True), ("gt", 30, False), ("gt", 31, False),
        ("ge", 29, True), ("ge", 30, True), ("ge", 31, False),
        ("lt", 29, False), ("lt", 30, False), ("lt", 31, True),
        ("le", 29, False), ("le", 30, True), ("le", 31, True),
        ("eq", 29, False), ("eq", 30, True), ("eq", 30.0, True),
        ("in", [1, 30], True), ("in", [1, 2.5], False),
    ],
)  # fmt: skip
def test_operators_on_numbers(operator, limit, expected):
    """Every operator compares a number as its name says."""
    assert holds({"basket": {operator: limit}}) is expected


@pytest.mark.parametrize(
    ("operator", "limit", "expected"),
    [
        ("gt", "10.9", True), ("gt", "10.10", False), ("gt", "v10.10-rc.1", True),
        ("ge", "10.10.0", True), ("ge", "10.10.0.1", False),
        ("lt", "10.9", False), ("lt", "10.10", False), ("lt", "11-alpha", True),
        ("le", "10.9", False), ("le", "V10.10.0+5", True),
        ("eq", "10.10.0", True), ("eq", "10.1", False), ("eq", "10.10-beta", False),
        ("in", ["9", "10.10.0"], True), ("in", ["10.1", "10.9"], False),
    ],
)  # fmt: skip
def test_operators_on_versions(operator, limit, expected):
    """Every operator compares versions by their parts, however they are written."""
    home = campaign(context={"features": {"app": "version"}})
    known = context(home, features={"app": "v10.10"})
    assert parse_condition({"app": {operator: limit}}, KINDS).holds(known) is expected
    assert not parse_condition({"app": {operator: limit}}, KINDS).holds(context(home))


@pytest.mark.parametrize("limit", [10.1, 10, True, "", "ten", "10.x", "1" * 65, None])
@pytest.mark.parametrize("operator", ["ge", "eq"])
def test_a_version_is_written_in_quotes(operator, limit):
    """A number is refused, since 10.10 is 10.1, and so is any other text; the remedy is named."""
    with pytest.raises(ConditionInvalid, match=r"must be a version in quotes, such as \"10.10\"") as refused:
        parse_condition({"app": {operator: limit}}, KINDS)
    assert refused.value.path == ("app", operator)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"tier": {"eq": "gold"}}, True),
        ({"tier": {"eq": "Gold"}}, False),
        ({"tier": {"in": ["silver", "gold"]}}, True),
        ({"tier": {"in": ["silver"]}}, False),
        ({"returning": {"eq": True}}, True),
        ({"returning": {"eq": False}}, False),
        ({"returning": {"in": [True, False]}}, True),
        ({"device": {"eq": "mobile"}}, True),
        ({"weekday": {"eq": "sunday"}}, True),
        ({"weekend": {"eq": True}}, True),
        ({"hour": {"eq": 12}}, True),
        ({"part_of_day": {"in": ["afternoon"]}}, True),
    ],
)
def test_operators_on_other_kinds(condition, expected):
    """Categories, flags and built-in features compare by equality and membership."""
    assert holds(condition) is expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"basket": {"gt": 20, "lt": 40}}, True),
        ({"basket": {"gt": 20, "lt": 25}}, False),
        ({"basket": {"gt": 20}, "tier": {"eq": "gold"}}, True),
        ({"basket": {"gt": 20}, "tier": {"eq": "silver"}}, False),
        ({"any_of": [{"tier": {"eq": "silver"}}, {"basket": {"eq": 30}}]}, True),
        ({"any_of": [{"tier": {"eq": "silver"}}, {"basket": {"eq": 31}}]}, False),
        ({"none_of": [{"tier": {"eq": "silver"}}, {"basket": {"eq": 31}}]}, True),
        ({"none_of": [{"tier": {"eq": "silver"}}, {"basket": {"eq": 30}}]}, False),
        ({"any_of": [{"none_of": [{"tier": {"eq": "silver"}}]}], "none_of": [{"basket": {"gt": 99}}]}, True),
        ({"basket": {"gt": 99}, "any_of": [{"tier": {"eq": "gold"}}]}, False),
    ],
)
def test_all_keys_must_hold(condition, expected):
    """Every key must hold; any_of asks for one of its conditions, none_of for none."""
    assert holds(condition) is expected


@pytest.mark.parametrize(
    "condition",
    [
        {"basket": {"gt": -1e30}},
        {"basket": {"le": 1e30}},
        {"tier": {"eq": "gold"}},
        {"tier": {"in": ["unknown", "other", "gold"]}},
        {"returning": {"eq": False}},
        {"device": {"eq": "unknown"}},
        {"place": {"eq": ""}},
        {"any_of": [{"returning": {"eq": True}}, {"returning": {"eq": False}}]},
    ],
)
def test_an_absent_feature_matches_nothing(condition):
    """What is not known satisfies no comparison, and its exclusion therefore always."""
    assert not holds(condition, channel="web")
    assert holds({"none_of": [condition]}, channel="web")


@pytest.mark.parametrize(
    ("written", "path"),
    [
        (None, ()),
        ({}, ()),
        ([], ()),
        ("basket > 30", ()),
        ({"cart": {"gt": 1}}, ("cart",)),
        ({"basket": 30}, ("basket",)),
        ({"basket": {}}, ("basket",)),
        ({"basket": {"above": 30}}, ("basket", "above")),
        ({"basket": {"gt": "30"}}, ("basket", "gt")),
        ({"basket": {"gt": True}}, ("basket", "gt")),
        ({"basket": {"gt": None}}, ("basket", "gt")),
        ({"basket": {"gt": math.nan}}, ("basket", "gt")),
        ({"basket": {"lt": math.inf}}, ("basket", "lt")),
        ({"basket": {"gt": 1e39}}, ("basket", "gt")),
        ({"basket": {"gt": 10**400}}, ("basket", "gt")),
        ({"basket": {"in": 30}}, ("basket", "in")),
        ({"basket": {"in": []}}, ("basket", "in")),
        ({"basket": {"in": [1, "2"]}}, ("basket", "in")),
        ({"app": {"in": "10.2"}}, ("app", "in")),
        ({"app": {"in": ["10.2", 11]}}, ("app", "in")),
        ({"tier": {"gt": "gold"}}, ("tier", "gt")),
        ({"tier": {"eq": 1}}, ("tier", "eq")),
        ({"returning": {"lt": True}}, ("returning", "lt")),
        ({"returning": {"eq": 1}}, ("returning", "eq")),
        ({"any_of": {"tier": {"eq": "gold"}}}, ("any_of",)),
        ({"none_of": []}, ("none_of",)),
        ({"any_of": [{"tier": {"eq": "gold"}}, {"none_of": [{"tier": {"eq": 1}}]}]},
         ("any_of", 1, "none_of", 0, "tier", "eq")),
        ({1: {"eq": 1}}, ("1",)),
    ],
)  # fmt: skip
def test_a_wrong_condition_is_refused_with_its_path(written, path):
    """What cannot be read raises ConditionInvalid with the keys that lead to it."""
    with pytest.raises(ConditionInvalid) as refused:
        parse_condition(written, KINDS)
    assert refused.value.path == path
    assert str(refused.value)


def test_conditions_nest_only_so_deep():
    """Eight levels are read, and endless nesting is refused rather than followed."""
    nested: dict[str, Any] = {"tier": {"eq": "gold"}}
    for _ in range(8):
        nested = {"any_of": [nested]}
    assert holds(nested)
    for _ in range(5_000):
        nested = {"any_of": [nested]}
    with pytest.raises(ConditionInvalid, match="8 deep"):
        parse_condition(nested, KINDS)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["gold", "tier", "x", "10.2"]),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["any_of", "none_of", "tier", "basket", "returning", "app", "hour", "gt", "eq", "in", "x"]
            ),
            below,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(ANYTHING)
def test_anything_is_a_condition_or_refused(written):
    """Whatever is written is a condition that can be asked, or raises ConditionInvalid."""
    try:
        condition = parse_condition(written, KINDS)
    except ConditionInvalid:
        return
    assert isinstance(condition, Condition)
    assert condition.holds(context(**FACTS)) in (True, False)
    assert condition.holds(context()) in (True, False)


def test_conditions_ask_for_languages_and_countries_as_rules_do():
    """A condition for `no` takes nb-NO, one for DK takes dk, however both are written."""
    for said, wanted, holds in (("nb_NO", "no", True), ("da-DK", "DA", True), ("da", "da-DK", False)):
        for operand in ({"eq": wanted}, {"in": ["th", wanted]}):
            condition = parse_condition({"language": operand}, {})
            assert condition.holds(context(language=said)) is holds
    assert parse_condition({"country": {"eq": "dk"}}, {}).holds(context(country="DK"))
