"""Values as they are written on the command line."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tilbud.cli.values import end_after, features, moment


def test_a_declared_kind_decides_what_a_value_is() -> None:
    """`7` of a category or version is text; of a number a number; of nothing declared what it looks like."""
    kinds = {"code": "category", "age": "number", "known": "flag", "app": "version"}
    read = features(
        ["code=7", "app=10.10", "age=7", "known=true", "a=7", "b=false", 'c="7"', "d=x=y"], "--feature", kinds
    )
    assert read == {
        "code": "7",
        "app": "10.10",
        "age": 7,
        "known": True,
        "a": 7,
        "b": False,
        "c": "7",
        "d": "x=y",
    }


@pytest.mark.parametrize(
    ("text", "said"), [("age=old", "age=12.5"), ("known=7", "known=true"), ("age", "NAME=VALUE")]
)
def test_a_value_that_is_none_is_refused_with_an_example(text: str, said: str) -> None:
    """The option, the name and how to write it are said."""
    with pytest.raises(ValueError, match=f"--feature .*{said}"):
        features([text], "--feature", {"age": "number", "known": "flag"})


def test_times_are_iso_and_utc_where_they_say_no_offset() -> None:
    """An offset counts; without one it is UTC; anything else is refused with an example."""
    assert moment("2026-12-24T18:00+01:00", "--time") == datetime(2026, 12, 24, 17, tzinfo=UTC)
    assert moment("2026-12-24", "--time") == datetime(2026, 12, 24, tzinfo=UTC)
    with pytest.raises(ValueError, match="--time noon: write a time such as"):
        moment("noon", "--time")


def test_an_end_is_so_long_from_now() -> None:
    """`2h` from noon is two; what is no duration is refused with examples."""
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert end_after("2h", "--for", noon) == datetime(2026, 1, 1, 14, tzinfo=UTC)
    with pytest.raises(ValueError, match="--for soon: write a whole number"):
        end_after("soon", "--for", noon)
