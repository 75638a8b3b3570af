"""Contexts and offers, encoded for Vowpal Wabbit."""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.bandit.samples import LIMITS, NOW_US, context, encoded

from tilbud.bandit.features import (
    NAMESPACES,
    NOTHING,
    encode_context,
    encode_offer,
    is_encoding,
    is_in,
    parts_of,
    without,
)
from tilbud.bandit.hats import hour_of_day, written
from tilbud.bandit.vw import Workspace
from tilbud.domain.campaign.campaign import Offer
from tilbud.domain.context import (
    TIME_FEATURES,
    TIME_READ,
    UNKNOWN,
    Context,
    FeatureValue,
    moment_at,
    time_zone,
)
from tilbud.domain.versions import version_of

FEATURE = r" \d{1,15}(:-?\d(\.\d{1,9})?e[+-]\d{2,3})?"
ENCODING = re.compile(rf"\|[a-z]({FEATURE})+( \|[a-z]({FEATURE})+)*")
HOUR_US = 3_600_000_000
HOSTILE = (
    "a\n|o 5",
    "shared |d 1",
    "|o 5",
    "t=14:30",
    "x:1e9",
    "1:2",
    "0:0:1 |o 1",
    "\u2028|",
    "",
    "é" * 128,
)
words = st.text(max_size=128).filter(str.isprintable) | st.sampled_from(
    [each for each in HOSTILE if each.isprintable()]
)
numbers = st.floats(-LIMITS.number_abs_max, LIMITS.number_abs_max, allow_subnormal=True)
versions = st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,4}){0,3}(-[a-z]{1,5})?", fullmatch=True).map(version_of)
contexts = st.builds(
    replace,
    st.just(context()),
    device=words.filter(bool) | st.just(UNKNOWN),
    channel=words.filter(bool) | st.just(UNKNOWN),
    journey_stage=words.filter(bool) | st.just(UNKNOWN),
    place=words,
    language=words,
    country=words,
    features=st.dictionaries(
        words.filter(bool).map("x_{}".format),
        words.filter(bool) | numbers | st.booleans() | versions,
        max_size=5,
    ),
    moment=st.integers(0, 14 * 24).map(lambda hour: moment_at(NOW_US + hour * HOUR_US, time_zone("UTC"))),
)
times = st.sets(st.sampled_from(TIME_FEATURES)).map(
    lambda read: tuple(name for name in TIME_FEATURES if name in read)
)


@given(word=words.filter(bool), place=words, number=numbers, flag=st.booleans())
@example(word="a |o 5", place="|", number=3.4e38, flag=True)
@example(word="-", place="", number=-0.0, flag=False)
@example(word="-", place="", number=5e-324, flag=False)
def test_encoding_is_made_of_our_numbers_alone(word, place, number, flag):
    """Whatever text and numbers come, an encoding has only namespace letters and digits made here."""
    text = encode_context(context(place=place, tier=word, basket=number, returning=flag))
    assert ENCODING.fullmatch(text)
    assert is_encoding(text)
    offer = Offer.model_construct(id=word, features={word: word, "margin": number, "flag": flag})
    assert ENCODING.fullmatch(encode_offer(offer))


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(words | st.sampled_from(HOSTILE), min_size=1, max_size=5), place=words)
def test_vw_sees_one_example_for_each_offer_and_the_context(texts, place):
    """No text changes how many examples VW makes of a context and its offers: 1 + offers."""
    lines = [encode_offer(Offer.model_construct(id=text, features={text: text})) for text in texts]
    workspace = Workspace("--cb_explore_adf")
    examples = workspace.parse("\n".join([f"shared {encode_context(context(place=place))}", *lines]))
    try:
        assert len(examples) == 1 + len(lines)
        assert len(workspace.predict(examples)) == len(lines)
    finally:
        workspace.finish(examples)
        workspace.close()


@given(place=words.filter(bool), other=words.filter(bool), tier=words.filter(bool))
def test_one_value_leaves_the_features_of_others_alone(place, other, tier):
    """Changing one value changes its own features and no other's."""
    before = encode_context(context(place=place, tier=tier)).split("|")
    after = encode_context(context(place=other, tier=tier)).split("|")
    changed = {line[0] for line in set(before) ^ set(after)}
    assert changed == (set() if place == other else {NAMESPACES["place"]})


def test_absent_and_unknown_values_have_no_feature():
    """What is not known has no feature, while `other` is a value."""
    letters = {group[0] for group in encode_context(context(device="")).split("|")[1:]}
    assert letters == {"c", "t"}
    assert "|d " in encode_context(context(device="toaster"))
    assert encoded("toaster") == encoded("fridge")


def test_a_word_a_flag_and_a_number_of_one_name_differ():
    """A value's kind is part of what it is."""
    said = [
        encode_offer(Offer.model_construct(id="a", features={"x": value})) for value in (True, "True", 1.0)
    ]
    assert len({each.split("|a ")[1].split(":")[0] for each in said}) == 3


@given(number=numbers)
@example(number=-0.0)
@example(number=1_792_592_000.0)
def test_a_number_is_had_back_from_its_encoding(number):
    """Numbers are encoded to ten digits, 0 as well; unknown is another thing than 0."""
    parts = parts_of(encoded(basket=number))
    assert parts is not None
    [[namespace, _, value]] = parts.numbers
    assert namespace == NAMESPACES["features"]
    assert value == pytest.approx(number, rel=1e-9, abs=0.0)
    assert encoded(basket=number) != encoded()


@given(one=versions, other=versions)
def test_a_version_is_two_words_and_a_place(one, other):
    """Versions of one major or minor share its word; their numbers are in the order of the versions."""
    parts = [parts_of(encode_context(replace(context(), features={"app": each}))) for each in (one, other)]
    assert parts[0] is not None
    assert parts[1] is not None
    shared = set(parts[0].words[-2:]) & set(parts[1].words[-2:])
    assert len(shared) == (one.major == other.major) + (one.minor == other.minor)
    [[_, name, place]], [[_, again, place_of_other]] = parts[0].numbers, parts[1].numbers
    assert name == again
    assert (place <= place_of_other) or one > other
    assert (place >= place_of_other) or one < other


def test_a_version_is_no_word_and_no_number():
    """What was learned of a text, or of a number, says nothing of a version of the same name."""
    version = version_of("10")
    assert version is not None
    features = [
        {
            feature.partition(":")[0]
            for feature in encode_context(replace(context(), features={"x": value})).split()
        }
        for value in ("10", "10.0.0", 10.0, version)
    ]
    bare = set(encode_context(context()).split()) | {"|f"}
    assert all(not (one - bare) & (other - bare) for one, other in itertools.combinations(features, 2))


@given(number=st.floats(-1e9, 1e9))
def test_numbers_of_older_ledgers_are_had_back(number):
    """Settlements of before have the logarithm of a number: what is learned anew of them has the number."""
    squashed = math.copysign(math.log1p(abs(number)) / 4, number)
    parts = parts_of(f"|t 1 |f 2 3:{squashed:.6f}")
    assert parts is not None
    assert parts.words == (1, 2)
    assert parts.numbers[0].value == pytest.approx(number, rel=1e-5, abs=1e-5)
    assert parts.rest == "|t 1 |f 2"


def test_any_text_that_passes_for_an_encoding_has_finite_numbers():
    """However large the exponent in a damaged ledger, no infinity is read from it."""
    for text in ("|f 1:9.9e+999", "|f 1:99.999999", "|f 1:-9e+400"):
        parts = parts_of(text)
        assert parts is None or all(math.isfinite(number.value) for number in parts.numbers)


def test_namespaces_have_letters_of_their_own():
    """VW crosses namespaces by first letter, so each has one that no other has."""
    assert len(set(NAMESPACES.values())) == len(NAMESPACES)
    assert all(len(letter) == 1 for letter in NAMESPACES.values())


def test_encoding_stays_as_it_is():
    """Encodings are stored with settlements: changing one needs a new ENCODER."""
    assert (
        encode_offer(Offer(id="free-shipping", features={"margin": 2.5}))
        == "|o 9367351290420 |a 224300057213758:2.5e+00"
    )
    assert (
        encode_context(context(tier="gold"))
        == "|d 236410759901475 |c 43880476023094 |t 208805593525459 90141526205661 |f 140464581857421"
    )


def test_text_that_was_not_made_here_is_recognised():
    """What a ledger gives back is checked before VW reads it."""
    for text in (
        "|d 1\n|o 2",
        "|d x",
        "shared |d 1",
        "|x 1",
        "|d 1 ",
        "|d",
        "",
        "|d 1:nan",
        "|d 1:1e9",
        "0:1:1 |o 1",
    ):
        assert not is_encoding(text)


def less(known: Context, name: str) -> Context:
    """The context as it would be, had that value not been known."""
    if name in known.features:
        return replace(
            known, features={each: known.features[each] for each in known.features if each != name}
        )
    unknown: dict[str, Any] = {name: "" if name in ("place", "language", "country") else UNKNOWN}
    return replace(known, **unknown)


@given(known=contexts, time=times)
def test_a_value_taken_out_leaves_what_would_be_without_it(known, time):
    """Taking a value out of an encoding gives, byte for byte, the encoding of the context without it."""
    encoding = encode_context(known, time)
    for name, value in known.known().items():
        taken = without(encoding, name, value)
        left = tuple(each for each in time if each != name)
        bare = encode_context(known if name in TIME_FEATURES else less(known, name), left)
        assert taken is None or is_encoding(taken)
        assert (NOTHING if taken is None and bare == NOTHING else taken or encoding) == bare


@given(known=contexts, time=times)
def test_what_is_in_an_encoding_is_what_was_known_and_is_read(known, time):
    """Every value of a context is in its encoding, but for what is not read of the time."""
    encoding = encode_context(known, time)
    assert is_encoding(encoding)
    found = {name for name, value in known.known().items() if is_in(encoding, name, value)}
    assert found == (known.known().keys() - TIME_FEATURES) | set(time)


@given(known=contexts, order=st.randoms(use_true_random=False))
def test_values_can_be_taken_out_one_after_another(known, order):
    """Values taken out in any order leave valid encodings, down to a last feature that stays."""
    encoding = encode_context(known, TIME_FEATURES)
    values = list(known.known().items())
    order.shuffle(values)
    for name, value in values:
        taken = without(encoding, name, value)
        assert taken is None or is_encoding(taken)
        encoding = taken or encoding
    assert sum(is_in(encoding, name, value) for name, value in values) == 1


def test_the_time_is_read_as_it_is_declared():
    """Part of day and weekend unless another is asked for; nothing where nothing is, and something always."""
    known = context()
    assert encode_context(known) == encode_context(known, TIME_READ)
    assert encode_context(known, TIME_FEATURES).startswith(encode_context(known))
    assert "|t" not in encode_context(known, ())
    assert encode_context(replace(context(""), channel=UNKNOWN), ()) == NOTHING
    assert is_encoding(NOTHING)


@pytest.mark.parametrize("time", [("hour",), TIME_FEATURES])
def test_the_hour_is_read_between_knots_of_the_day(time):
    """An encoding says the hour as it is; what it says is read with no knots to be learned."""
    parts = parts_of(encode_context(context(), time))
    assert parts is not None
    assert parts.numbers == ()
    [index] = {
        int(text.split(":")[0]) for text in encode_context(context(), ("hour",)).split() if ":" in text
    }
    assert parts.hour == tuple(hour_of_day(index, context().moment.hour))
    assert f"|t {' '.join(map(str, parts.words[2:]))}".strip() in parts.rest
    assert parts.rest.endswith(written(parts.hour))


@pytest.mark.parametrize("name", ["part_of_day", "weekend"])
def test_the_time_is_taken_out_by_value(name):
    """Of the time's two features, the one asked about goes and the other stays."""
    known = context()
    value = known.known()[name]
    before, after = (
        {tuple(group.split()) for group in text.split("|")}
        for text in (encode_context(known), without(encode_context(known), name, value) or "")
    )
    [[letter, *features]] = after - before
    [[_, *both]] = before - after
    assert letter == NAMESPACES["time"]
    assert len(features) == 1
    assert features[0] in both


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hour", 14.0),  # never encoded
        ("weekday", "monday"),
        ("device", "desktop"),  # known, but another
        ("place", "mobile"),  # another value's word
        ("tier", "silver"),
        ("tier", ""),
        ("basket", 51.0),
        ("returning", False),
        ("returning", 1.0),  # a flag is no number
    ],
)
def test_what_is_not_in_an_encoding_cannot_be_taken_out(name, value):
    """A value that has no feature in an encoding, or another one there, is not asked about."""
    assert without(encode_context(context(tier="gold", basket=50.0, returning=True)), name, value) is None


@pytest.mark.parametrize("value", ["gold", 50.0, True])
def test_a_word_a_number_and_a_flag_can_be_taken_out(value: FeatureValue):
    """Free features of every kind are found again; a group left empty goes with its last one."""
    known = replace(context(), features={"x": value})
    assert without(encode_context(known), "x", value) == encode_context(context())


def test_the_last_value_cannot_be_taken_out():
    """An encoding is never empty: of what alone is known, nothing can be asked."""
    alone, place = encode_context(context(place="here")).split(" |p ")
    assert without(f"|p {place}", "place", "here") is None
    assert without(f"{alone} |p {place}", "place", "here") == alone
