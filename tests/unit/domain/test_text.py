"""Text as the world writes it is text, and one text in two forms is one."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tilbud.domain.text import is_clean, nfc, nfd

ASSIGNED = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"]), min_size=1, max_size=128)


def test_only_controls_surrogates_and_noncharacters_are_unclean():
    """Of all code points, those and no other are refused, alone and between letters."""
    for point in range(sys.maxunicode + 1):
        character = chr(point)
        noncharacter = point & 0xFFFE == 0xFFFE or 0xFDD0 <= point <= 0xFDEF
        refused = noncharacter or unicodedata.category(character) in ("Cc", "Cs")
        assert is_clean(character) is is_clean(f"é{character}a") is not refused, hex(point)


@given(ASSIGNED)
def test_both_forms_of_a_text_are_one(text):
    """What a phone sends in NFD is, once it is in, what a file says in NFC; twice is once."""
    assert nfc(nfd(text)) == nfc(text) == nfc(nfc(text))
    assert is_clean(text)


@pytest.mark.parametrize("text", ["\u1f82" * 128, "각" * 128, "ệ" * 128])
def test_a_text_at_its_limit_may_be_four_times_as_long_when_it_comes(text):
    """A text of 128 characters in NFC is read whatever form it comes in."""
    assert nfc(nfd(text)) == text


def test_an_over_long_text_is_left_alone():
    """What no form could make short enough costs nothing to look at."""
    text = "e\u0301" * 100_000
    assert nfc(text) is text


@given(ASSIGNED)
def test_forms_never_turn_a_clean_text_into_another_kind(text):
    """NFC makes no clean text unclean, so that it may be checked after."""
    assume(is_clean(text))
    assert is_clean(nfc(text))
