"""`when`: conditions over the context that an offer's rule, written in YAML, asks for.

    {basket_value: {gt: 30}, any_of: [{weekend: {eq: true}}, {device: {in: [mobile]}}]}

What holds: every key of a condition must hold; `any_of` asks for at least one of its conditions, `none_of`
for none. A language is asked for as a rule names it: `da` is also da-DK. Numbers and versions have an order.
An absent feature matches nothing, not even a negation of a value: only `none_of` can be true of what is not
known.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any

from tilbud.domain.context import (
    BUILT_IN_FEATURES,
    EVENT_FEATURES,
    VERSION,
    Context,
    ContextValue,
    check_number,
    kind_of,
)
from tilbud.domain.errors import InvalidField
from tilbud.domain.language_tags import canonical, covers
from tilbud.domain.limits import Limits
from tilbud.domain.text import nfc
from tilbud.domain.versions import version_of

_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {"gt": gt, "ge": ge, "lt": lt, "le": le}
"""Of numbers, and of versions."""
_OPERATORS = (*_ORDER, "eq", "in")
Kind = str | tuple[str, ...]
"""category, number, flag or version; or the words that a category may have."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One operator on one feature."""

    feature: str
    operator: str
    operand: ContextValue | tuple[ContextValue, ...]

    def holds(self, context: Context) -> bool:
        """Say whether the context's value of the feature satisfies the operator."""
        value = context.value(self.feature)
        if value is None:
            return False
        if self.feature == "language":
            wanted = self.operand if isinstance(self.operand, tuple) else (self.operand,)
            return any(covers(str(language), str(value)) for language in wanted)
        if self.operator == "in":
            return value in self.operand  # type: ignore[operator]  # parsed as a tuple
        if self.operator == "eq":
            return value == self.operand
        return _ORDER[self.operator](value, self.operand)


@dataclass(frozen=True, slots=True)
class Condition:
    """Comparisons that must all hold, with alternatives and exclusions."""

    comparisons: tuple[Comparison, ...] = ()
    any_of: tuple[Condition, ...] = ()
    none_of: tuple[Condition, ...] = ()

    def holds(self, context: Context) -> bool:
        """Say whether the context satisfies the whole condition."""
        return (
            all(comparison.holds(context) for comparison in self.comparisons)
            and (not self.any_of or any(condition.holds(context) for condition in self.any_of))
            and not any(condition.holds(context) for condition in self.none_of)
        )

    def asks_for(self, features: Container[str]) -> bool:
        """Say whether one of these features is asked for anywhere in the condition."""
        return any(comparison.feature in features for comparison in self.comparisons) or any(
            condition.asks_for(features) for condition in (*self.any_of, *self.none_of)
        )


class ConditionInvalid(ValueError):
    """A condition cannot be read; `path` says where in it."""

    def __init__(self, path: tuple[str | int, ...], problem: str) -> None:
        super().__init__(problem)
        self.path = path


def parse_condition(
    written: object, kinds: Mapping[str, Kind], path: tuple[str | int, ...] = ()
) -> Condition:
    """Read a condition as YAML gives it; `kinds` maps what can be asked for beside the built-in features.

    Raises ConditionInvalid with the path of keys to what is wrong.
    """
    if not isinstance(written, Mapping) or not written:
        raise ConditionInvalid(path, "write a condition such as {basket_value: {gt: 30}}")
    if len(path) > Limits.condition_levels_max * 2:
        raise ConditionInvalid(path, f"conditions nest at most {Limits.condition_levels_max} deep")
    comparisons: list[Comparison] = []
    nested: dict[str, tuple[Condition, ...]] = {}
    for key, below in written.items():
        here = (*path, str(key))
        if key in ("any_of", "none_of"):
            if not isinstance(below, list) or not below:
                raise ConditionInvalid(here, "write a list of conditions, such as [{basket_value: {gt: 30}}]")
            nested[key] = tuple(
                parse_condition(condition, kinds, (*here, number)) for number, condition in enumerate(below)
            )
        else:
            comparisons.extend(_comparisons(key, below, {**BUILT_IN_FEATURES, **kinds}, here))
    return Condition(tuple(comparisons), nested.get("any_of", ()), nested.get("none_of", ()))


def _comparisons(
    feature: object, written: object, kinds: Mapping[str, Kind], path: tuple[str | int, ...]
) -> list[Comparison]:
    if feature in EVENT_FEATURES and feature not in kinds:
        raise ConditionInvalid(path, "there is none without customer events; declare them under "
                                     "context.events")  # fmt: skip
    if not isinstance(feature, str) or feature not in kinds:
        raise ConditionInvalid(path, f"unknown feature; declare it under context.features or context.traits, "
                                     f"or use one of: {', '.join(kinds)}")  # fmt: skip
    if not isinstance(written, Mapping) or not written:
        raise ConditionInvalid(path, f"write an operator and a value, such as {{eq: …}}; operators: "
                                     f"{', '.join(_OPERATORS)}")  # fmt: skip
    form = _FORMS.get(feature, _as_it_is)
    return [
        Comparison(
            feature,
            str(operator),
            _formed(form, _operand(str(operator), operand, kinds[feature], (*path, str(operator)))),
        )
        for operator, operand in written.items()
    ]


def _as_it_is(word: str) -> str:
    return word


_FORMS: Mapping[str, Callable[[str], str]] = {"language": canonical, "country": str.upper}
"""How a context has the words of a feature, where that is not as they are written."""


def _formed(
    form: Callable[[str], str], operand: ContextValue | tuple[ContextValue, ...]
) -> ContextValue | tuple[ContextValue, ...]:
    if isinstance(operand, tuple):
        return tuple(form(item) if isinstance(item, str) else item for item in operand)
    return form(operand) if isinstance(operand, str) else operand


def _operand(
    operator: str, operand: object, kind: Kind, path: tuple[str | int, ...]
) -> ContextValue | tuple[ContextValue, ...]:
    if operator not in _OPERATORS:
        raise ConditionInvalid(path, f"unknown operator; use one of: {', '.join(_OPERATORS)}")
    if operator == "in":
        if not isinstance(operand, list) or not operand:
            raise ConditionInvalid(path, "write a list of values, such as [gold, silver]")
        return tuple(_value(item, kind, path) for item in operand)
    if operator in _ORDER and kind not in ("number", VERSION):
        problem = f"only numbers and versions have an order and this is a {_named(kind)}; use eq or in"
        raise ConditionInvalid(path, problem)
    return _value(operand, kind, path)


_WRITE = {
    "category": "write text, such as gold, in quotes where it looks like a number or a date",
    "number": "write one such as 30",
    "flag": "write true or false",
}


def _value(written: object, kind: Kind, path: tuple[str | int, ...]) -> ContextValue:
    if kind == VERSION:
        version = version_of(written) if isinstance(written, str) else None
        if version is None:
            raise ConditionInvalid(
                path, 'must be a version in quotes, such as "10.10", which is 10.1 without'
            )
        return version
    if isinstance(written, str):
        written = nfc(written)
    if not isinstance(written, str | int | float) or kind_of(written) != _named(kind):
        raise ConditionInvalid(path, f"must be a {_named(kind)}; {_WRITE[_named(kind)]}")
    if isinstance(kind, tuple) and written not in kind:
        raise ConditionInvalid(path, f"is never {written!r:.60}; use one of: {', '.join(kind)}")
    if isinstance(written, str | bool):
        return written
    try:
        return float(check_number("", written))
    except InvalidField as error:
        raise ConditionInvalid(path, error.problem) from None


def _named(kind: Kind) -> str:
    return kind if isinstance(kind, str) else "category"
