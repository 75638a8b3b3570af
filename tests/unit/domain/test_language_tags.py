"""A language is the same however a device writes it, and is matched as BCP 47 and CLDR say."""

from __future__ import annotations

import gc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langcodes import Language

from tilbud.domain.language_tags import canonical, cased, covers, nearest


@pytest.mark.parametrize(
    ("written", "tag"),
    [
        ("da_DK", "da-dk"), ("DA-dk", "da-dk"), (" da ", "da"), ("da-", "da"), ("dan", "da"),
        ("da_DK.UTF-8", "da-dk"), ("da_DK.UTF-8@euro", "da-dk"), ("de_DE@euro", "de-de"),
        ("sr_RS@latin", "sr-latn-rs"), ("ca_ES@valencia", "ca-es-valencia"), ("da_DK:en", "da-dk"),
        ("iw_IL", "he-il"), ("in", "id"), ("ji", "yi"), ("mo", "ro"), ("tl", "fil"), ("no_NO_NY", "nn-no"),
        ("cmn-Hans-CN", "zh-cn"), ("en-UK", "en-gb"), ("i-klingon", "tlh"), ("zh-min-nan", "nan"),
        ("zh_TW", "zh-tw"), ("zh-Hant-TW", "zh-tw"), ("zh_TW_#Hant", "zh-tw"), ("zh-Hant_TW", "zh-tw"),
        ("zh-Hans-TW", "zh-hans-tw"), ("zh-Hans", "zh-hans"), ("zh-CHT", "zh-hant"),
        ("da-DK-u-ca-gregory", "da-dk"), ("da-DK-x-mine", "da-dk"), ("de-1996", "de-1996"),
        ("es-419", "es-419"),
        ("da, en-gb;q=0.8, en;q=0.7", "da"), ("en;q=0.3,da-DK;q=0.9", "da-dk"), ("*,nb;q=0.5", "nb"),
        ("", ""), ("*", ""), ("C", ""), ("C.UTF-8", ""), ("POSIX", ""), ("und", ""), ("root", ""), (",;", ""),
        ("Dansk", "dansk"), ("Norsk bokmål", "norsk bokmål"), ("x-mine", "x-mine"),
    ],
)  # fmt: skip
def test_a_language_is_read_however_it_is_written(written, tag):
    """Encodings, old names, legacy orders, headers and cases are one tag; what is none is a word."""
    assert canonical(written) == tag


@pytest.mark.parametrize(
    ("wider", "tag", "covered"),
    [
        ("no", "nb-no", True), ("no", "nn-no", True), ("nb", "no-no", True), ("nb", "nn", False),
        ("no", "da", False), ("da", "no", False), ("da", "da-dk", True), ("da-dk", "da", False),
        ("zh-hant", "zh-tw", True), ("zh-hant", "zh-hk", True), ("zh-hant", "zh-cn", False),
        ("zh-hant", "zh", False), ("zh-hans", "zh-sg", True), ("zh-hans", "zh", True), ("zh", "zh-tw", True),
        ("zh-tw", "zh-hk", False), ("zh", "yue", True), ("ar", "arz", True), ("ms", "id", False),
        ("en-gb", "en-us", False), ("en-gb", "en-au", False), ("en", "en-gb", True),
        ("pt-br", "pt-pt", False), ("pt-br", "pt", False), ("es-419", "es-mx", True),
        ("es-419", "es-es", False), ("en-001", "en-gb", True), ("en-001", "en", True),
        ("ar-001", "fa", False), ("zh-hant-001", "zh-cn", False),
        ("sr", "sr-latn", True), ("sr-latn", "sr", False), ("de-1996", "de", False),
        ("de-1996", "de-1996", True),
        ("dansk", "dansk", True), ("da", "dansk", False), ("dansk", "da", False),
    ],
)  # fmt: skip
def test_a_rule_covers_its_language_and_no_other(wider, tag, covered):
    """A rule covers what has its language, and its script and region where it names them."""
    assert covers(wider, tag) is covered


@pytest.mark.parametrize(
    ("tag", "shown"),
    [
        ("da", "da"), ("da-dk", "da-DK"), ("zh-hant", "zh-Hant"), ("sr-latn-rs", "sr-Latn-RS"),
        ("es-419", "es-419"), ("de-ch-1901", "de-CH-1901"), ("x-ab", "x-ab"), ("dansk", "dansk"), ("", ""),
    ],
)  # fmt: skip
def test_a_tag_is_shown_as_people_write_it(tag, shown):
    """Scripts begin with a capital, regions are capitals; what is no tag stays as it is."""
    assert cased(tag) == shown


@pytest.mark.parametrize(
    ("tag", "texts", "read"),
    [
        ("zh-tw", ("zh", "zh-hant"), "zh-hant"), ("zh-tw", ("zh", "en"), "zh"), ("zh", ("zh-hant",), None),
        ("nn", ("en", "nb"), "nb"), ("nb-no", ("da", "no"), "no"), ("da", ("en", "no"), None),
        ("en-us", ("en-gb", "da"), "en-gb"), ("en-au", ("en", "en-gb"), "en-gb"),
        ("en", ("en-gb", "en-us"), "en-us"),
        ("pt-ao", ("pt-br", "pt-pt"), "pt-pt"), ("pt", ("pt-pt", "pt-br"), "pt-br"),
        ("es-mx", ("es", "es-419"), "es-419"),
        ("gsw", ("fr", "de"), "de"), ("de", ("gsw",), None), ("de-at", ("fr", "de"), "de"),
        ("de-1996", ("de", "de-1996"), "de-1996"), ("dansk", ("da",), None),
        ("dansk", ("da", "dansk"), "dansk"),
    ],
)  # fmt: skip
def test_a_reader_is_given_the_text_they_read_best(tag, texts, read):
    """The nearest text by CLDR, also of another region; none of a language that they do not read."""
    assert nearest(tag, texts) == read


TAGS = st.from_regex(
    r"\A[A-Za-z]{2,3}([-_][A-Za-z]{4})?([-_]([A-Za-z]{2}|[0-9]{3}))?([-_.@][A-Za-z0-9]{1,8})?\Z"
)


@settings(max_examples=300)
@given(st.text(max_size=128) | TAGS, TAGS)
@example("-", "en")
@example("a,b;q=1", "en")
def test_any_text_is_a_language_or_none(text, other):
    """No text makes reading fail; what was read reads as itself, covers itself, and is its own nearest."""
    tag = canonical(text)
    assert canonical(tag) == tag
    if tag:
        assert covers(tag, tag)
        assert nearest(tag, (canonical(other) or "en", tag)) is not None


def test_memory_does_not_grow_with_what_callers_write():
    """However many tags are asked about, langcodes remembers few of them."""
    for number in range(12_000):
        canonical(f"da-x-{number:x}")
    gc.collect()
    assert sum(isinstance(thing, Language) for thing in gc.get_objects()) < 5_000
