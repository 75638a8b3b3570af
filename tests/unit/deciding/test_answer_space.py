"""The bytes that the answers of a batch may take."""

from __future__ import annotations

import pytest

from tilbud.deciding.answer_space import AnswerSpace
from tilbud.domain.errors import AnswersTooLarge


def _space(bytes_max: int) -> AnswerSpace[str]:
    return AnswerSpace(bytes_max, len)


def test_a_first_round_that_does_not_fit_is_refused() -> None:
    """Whole, and to the byte."""
    _space(4).begin({0: "ab", 1: "cd"}, [])
    with pytest.raises(AnswersTooLarge):
        _space(3).begin({0: "ab", 1: "cd"}, [])


def test_questions_that_wait_count_as_the_largest() -> None:
    """A later round is decided after the first was recorded, so there must be space for it before."""
    _space(6_000).begin({0: "x" * 2_000, 1: "y"}, [2])
    with pytest.raises(AnswersTooLarge):
        _space(4_000).begin({0: "x" * 2_000, 1: "y"}, [2])


def test_what_waits_has_space_for_its_error() -> None:
    """So that saying that an answer does not fit always fits."""
    with pytest.raises(AnswersTooLarge):
        _space(1_000).begin({0: "x"}, [1])


def test_a_reply_takes_the_place_of_what_was_kept_for_it() -> None:
    """A question decided again counts once; one that does not fit keeps what it had."""
    space = _space(2_100)
    space.begin({0: "x" * 1_000}, [1])
    assert space.take(0, "x" * 1_050)
    assert not space.take(1, "x" * 1_051)
    assert space.take(1, "x" * 1_050)


def test_the_error_of_one_question_names_it() -> None:
    """As any other of a batch."""
    error = _space(10).too_large().under("requests[3]")
    assert error.field == "requests[3]"
    assert str(error) == "requests[3]: the answers take more than 10 bytes; ask for fewer at once"
