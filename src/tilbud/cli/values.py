"""Values as they are written on the command line: NAME=VALUE pairs, times, from now on for so long.

What holds: a mistake is a ValueError that says which option it was and how to write it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tilbud.client.words import Consent as Consent  # noqa: PLC0414 - an option's values
from tilbud.domain.durations import parse_duration_us

if TYPE_CHECKING:
    from tilbud.client.questions import Feature


_FLAGS = {"true": True, "false": False}


def pairs(texts: Iterable[str], option: str) -> dict[str, str]:
    """Return the parts of NAME=VALUE texts."""
    split = [text.partition("=") for text in texts]
    for name, equals, value in split:
        if not (name and equals and value):
            raise ValueError(f"{option} {name}{equals}{value}: write {option} NAME=VALUE")
    return {name: value for name, _, value in split}


def features(texts: Iterable[str], option: str, kinds: Mapping[str, str]) -> dict[str, Feature]:
    """Return NAME=VALUE texts as values of the declared kinds; of one that is not declared, by its looks."""
    return {
        name: _value(name, text, option, kinds.get(name, "")) for name, text in pairs(texts, option).items()
    }


def _value(name: str, text: str, option: str, kind: str) -> Feature:
    number, flag = _number(text), _FLAGS.get(text.lower())
    if kind == "number" and number is None:
        raise ValueError(f"{option} {name}={text}: write a number, such as {name}=12.5")
    if kind == "flag" and flag is None:
        raise ValueError(f"{option} {name}={text}: write {name}=true or {name}=false")
    if flag is not None and kind in ("", "flag"):
        return flag
    if number is not None and kind in ("", "number"):
        return number
    quoted = len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1] if quoted else text


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def moment(text: str, option: str) -> datetime:
    """Return a time as ISO 8601 has it, such as 2026-12-24T18:00+01:00; without an offset, UTC."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        example = "2026-12-24T18:00+01:00"
        raise ValueError(
            f"{option} {text}: write a time such as {example}; without an offset it is UTC"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def end_after(text: str, option: str, now: datetime) -> datetime:
    """Return when a duration such as `2h` from now is over."""
    try:
        return now + timedelta(microseconds=parse_duration_us(text))
    except (ValueError, OverflowError):
        raise ValueError(f"{option} {text}: write a whole number and a unit: 30m, 12h or 7d") from None
