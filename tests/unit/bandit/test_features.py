"""Contexts and offers, encoded for Vowpal Wabbit."""

from __future__ import annotations

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.bandit.samples import LIMITS, context, encoded

from tilbud.bandit.features import NAMESPACES, encode_context, encode_offer, is_encoding
from tilbud.bandit.workspace import Workspace
from tilbud.domain.campaign import Offer

ENCODING = re.compile(r"\|[a-z]( \d{1,15}(:-?\d{1,2}\.\d{6})?)+( \|[a-z]( \d{1,15}(:-?\d{1,2}\.\d{6})?)+)*")
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


def test_numbers_grow_with_what_they_say_and_stay_small():
    """Squashing keeps order and sign, and the largest float32 below 23."""
    values = [
        float(encoded(basket=number).rpartition(":")[2]) for number in (-3.4e38, -1.0, 1.0, 50.0, 3.4e38)
    ]
    assert values == sorted(values)
    assert max(map(abs, values)) < 23


def test_namespaces_have_letters_of_their_own():
    """VW crosses namespaces by first letter, so each has one that no other has."""
    assert len(set(NAMESPACES.values())) == len(NAMESPACES)
    assert all(len(letter) == 1 for letter in NAMESPACES.values())


def test_encoding_stays_as_it_is():
    """Encodings are stored with settlements: changing one needs a new ENCODER."""
    assert (
        encode_offer(Offer(id="free-shipping", features={"margin": 2.5}))
        == "|o 9367351290420 |a 224300057213758:0.313191"
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
