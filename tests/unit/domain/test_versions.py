"""Versions: what is one, and their order."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tilbud.domain.limits import Limits
from tilbud.domain.versions import Version, version_of

NUMBERS = st.integers(0, 12) | st.integers(0, 10**15 - 1)
IDENTIFIERS = st.sampled_from(["alpha", "beta", "rc", "0", "1", "10", "x-1"]) | st.integers(0, 999).map(str)
TEXTS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "v", "V"]),
    st.lists(NUMBERS, min_size=1, max_size=5).map(lambda parts: ".".join(map(str, parts))),
    st.just("") | st.lists(IDENTIFIERS, min_size=1, max_size=3).map(lambda words: "-" + ".".join(words)),
    st.sampled_from(["", "+build.7", "+1"]),
).filter(lambda text: len(text) <= Limits.version_chars_max)


def version(text: str) -> Version:
    """The version that a text is."""
    read = version_of(text)
    assert read is not None, text
    return read


VERSIONS = TEXTS.map(version)
IN_ORDER = (
    "0.0.0-alpha", "0", "0.0.1", "0.9", "0.10", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta",
    "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1", "1.0.0.1", "1.0.1", "1.2-2", "1.2-10",
    "1.2-a", "1.2", "9.9.9", "10.2.1-beta.1", "10.2.1", "10.9", "10.10", "10.10.1", "11", "2024.12.31",
    "20240501",
)  # fmt: skip


@pytest.mark.parametrize("pair", list(pairwise(IN_ORDER)), ids=" < ".join)
def test_versions_are_in_their_order(pair):
    """By parts, and what comes before a release before it, as Semantic Versioning has it."""
    one, other = map(version, pair)
    assert one < other
    assert one <= other
    assert not other <= one
    assert one != other


@pytest.mark.parametrize(
    "alike",
    [
        ("10", "10.0", "10.0.0", "10.0.0.0", "v10", "V10.0", "010.00"),
        ("10.2", "10.2.0", "10.2+build", "v10.2.0+1.2-x"),
        ("1.0-rc.1", "1.0.0-RC.1", "1.0-rc.01"),
        ("0", "0.0.0", "v0"),
    ],
)
def test_versions_that_say_the_same_are_equal(alike):
    """Missing parts are 0; a v, zeros in front, capitals and what is built do not count."""
    assert len(set(map(version, alike))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "", "v", "x", "1.", ".1", "1..2", "1.x", "1.2b3", "-1", "1-", "1-a..b", "1+", "1 .2", " 1", "1 ",
        "1,2", "1.2.3 (45)", "latest", "1e3", "1\n", "\u0661.2", "1.\u00b2", "1." * 8 + "1.1", "9" * 16,
        "1-" + "a" * 63, "vv1",
    ],
)  # fmt: skip
def test_what_is_no_version_is_none(text):
    """Nothing is guessed: a text that is not wholly a version, or too long, is none."""
    assert version_of(text) is None


@given(text=st.text(max_size=80))
def test_any_text_is_a_version_or_none(text):
    """Whatever is sent is read as a version or not, and raises nothing."""
    assert version_of(text) is None or version(str(version(text))) == version(text)


@given(one=VERSIONS)
@example(one=version("9" * 15))
def test_a_version_is_read_as_it_is_printed(one):
    """The text of a version is that version, and what it prints is printed again."""
    assert version(str(one)) == one
    assert str(version(str(one))) == str(one)


@given(one=VERSIONS, other=VERSIONS, third=VERSIONS)
def test_the_order_is_total(one, other, third):
    """Of two one comes first, or they are equal; what comes before another comes before what follows that."""
    assert (one < other) + (one == other) + (one > other) == 1
    assert (one <= other) is not (one > other)
    assert (one == other) is (str(one) == str(other))
    first, second, last = sorted([one, other, third])
    assert first <= second <= last
    assert first <= last


@given(one=VERSIONS, other=VERSIONS)
@example(one=version("1.2.3.4-beta"), other=version("1.2.3"))
@example(one=version("1.2.3.4.5-beta"), other=version("1.2.3.4"))
@example(one=version("1.0.999999999999999-a"), other=version("1.0.999999999999999"))
def test_places_are_in_the_order_of_versions(one, other):
    """A later version never has a smaller place, and a place lies within its major version."""
    first, last = sorted([one, other])
    assert 0.0 <= first.place() <= last.place()
    assert int(one.major) <= one.place() <= int(one.major) + 1


@pytest.mark.parametrize(
    "pair", list(pairwise(["9.9", "10.2-beta", "10.2", "10.2.1", "10.3", "10.10", "11", "11.0.1"]))
)
def test_places_tell_common_versions_apart(pair):
    """Versions as apps have them lie in places that ten digits tell apart."""
    one, other = (f"{version(text).place():.9e}" for text in pair)
    assert float(one) < float(other)


def test_a_version_has_a_major_and_a_minor():
    """They are the first part, and the first two."""
    assert (version("10.2.1-beta").major, version("10.2.1-beta").minor) == ("10", "10.2")
    assert (version("v0").major, version("v0").minor) == ("0", "0.0")
