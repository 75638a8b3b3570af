"""The words of a decision: what tells two questions apart, and what is kept of the answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.domain.builders import LIMITS

from tilbud.domain.context import Consent, ContextInput
from tilbud.domain.decisions import NO_OFFERS, DecideRequest, OfferSet, Text, check_id, payload_text
from tilbud.domain.errors import InvalidField

KEY = bytes(32)
TEXT = st.text(max_size=6)
CONTEXTS = st.builds(
    ContextInput,
    device=TEXT, channel=TEXT, journey_stage=TEXT, time_us=st.none() | st.integers(0, 3), time_zone=TEXT,
    language=TEXT, country=TEXT, place=TEXT,
    features=st.dictionaries(TEXT, TEXT | st.floats(allow_nan=False) | st.booleans(), max_size=3),
)  # fmt: skip
REQUESTS = st.builds(
    DecideRequest,
    campaign=st.just("c"), decision_id=st.just("d"), customer_id=TEXT, context=CONTEXTS,
    consent=st.sampled_from(Consent), include_offers=st.lists(TEXT, max_size=2).map(tuple),
    exclude_offers=st.lists(TEXT, max_size=2).map(tuple), defer_activation=st.booleans(),
    include_ranking=st.booleans(),
)  # fmt: skip
NOT_ASKED = {"campaign", "decision_id", "dry_run"}  # the decision's own name, and what is never recorded


@given(REQUESTS, st.randoms(use_true_random=False))
def test_equal_questions_have_equal_fingerprints(request, random):
    """The same question has the same fingerprint, whatever its id and the order of its features."""
    features = list(request.context.features.items())
    random.shuffle(features)
    again = request._replace(decision_id="other", context=request.context._replace(features=dict(features)))
    assert request.fingerprint(KEY) == again.fingerprint(KEY)
    assert len(request.fingerprint(KEY)) == 16


@given(REQUESTS, st.data())
def test_any_other_field_is_another_question(request, data):
    """A question that differs in any one field has another fingerprint."""
    own = [name for name in DecideRequest._fields if name not in NOT_ASKED | {"context"}]
    said = list(ContextInput._fields)
    name = data.draw(st.sampled_from(own + said))
    donor = data.draw(REQUESTS)
    if name in own:
        other = request._replace(**{name: getattr(donor, name)})
        differs = getattr(request, name) != getattr(donor, name)
    else:
        other = request._replace(context=request.context._replace(**{name: getattr(donor.context, name)}))
        differs = repr(getattr(request.context, name)) != repr(getattr(donor.context, name))
        if name == "features":
            differs = sorted(map(repr, request.context.features.items())) != sorted(
                map(repr, donor.context.features.items())
            )
    assert (request.fingerprint(KEY) != other.fingerprint(KEY)) is differs


BASE = DecideRequest("c", context=ContextInput(device="a", features={"x": 1.0}), include_offers=("a", "b"))


@pytest.mark.parametrize(
    "other",
    [
        BASE._replace(context=ContextInput(device="a", features={"x": True})),
        BASE._replace(context=ContextInput(device="a", features={"x": "1.0"})),
        BASE._replace(context=ContextInput(device="a", features={"x": 1.0, "y": 1.0})),
        BASE._replace(context=ContextInput(channel="a", features={"x": 1.0})),
        BASE._replace(context=ContextInput(device="a", features={"x": 1.0}, time_us=0)),
        BASE._replace(include_offers=("a",), exclude_offers=("b",)),
        BASE._replace(include_offers=("ab",)),
        BASE._replace(include_offers=("b", "a")),
        BASE._replace(consent=Consent.DENIED),
    ],
)
def test_questions_that_look_alike_differ(other):
    """A value that moves to another field, kind or place makes another question."""
    assert other.fingerprint(KEY) != BASE.fingerprint(KEY)


def test_fingerprints_need_the_key():
    """Who does not know the key cannot tell from a fingerprint what was asked."""
    assert BASE.fingerprint(KEY) != BASE.fingerprint(b"another key")


IDS = st.lists(st.text(), max_size=4).map(tuple)


@given(st.lists(st.tuples(st.text(), st.text()), max_size=5))
def test_offer_sets_come_back_from_their_text(offers):
    """An offer set parsed from its text is the set it was made from."""
    made = OfferSet.of(tuple(each for each, _ in offers), tuple(each for _, each in offers))
    assert OfferSet.parse(made.text) == made
    assert OfferSet.parse(Text.of(made.text.body)) == made


@given(IDS, IDS)
def test_different_offer_sets_have_different_texts(one, other):
    """Ids and features never run into each other."""
    same = OfferSet.of(one, other) == OfferSet.of(other, one)
    assert same is (one == other)
    assert (OfferSet.of(one, other).text == OfferSet.of(other, one).text) is same


def test_no_offers_is_an_empty_set():
    """A fallback has no offers."""
    assert (NO_OFFERS.ids, NO_OFFERS.features, OfferSet.parse(NO_OFFERS.text)) == ((), (), NO_OFFERS)


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_digests_fit_the_ledger(body):
    """A text's digest is a signed number of 64 bits that depends on the text alone."""
    text = Text.of(body)
    assert -(2**63) <= text.digest < 2**63
    assert text == Text.of(body)


@given(
    st.dictionaries(st.text(alphabet=st.characters(codec="utf-8")), st.integers() | st.booleans() | st.none())
)
def test_payloads_come_back_from_their_text(payload: dict[str, Any]):
    """A payload is kept as JSON that says the same."""
    assert json.loads(payload_text(payload).body) == payload


@pytest.mark.parametrize("value", ["a", "A-z0.9_:-", "x" * 128, "018f3c1e-7b1a-7000-8000-000000000000"])
def test_good_ids_are_returned(value):
    """Ids of the alphabet up to 128 characters are taken as they are."""
    assert check_id("decision_id", value, LIMITS) == value


@pytest.mark.parametrize("value", ["x" * 129, "a b", "a\n", "æ", "a/b", "a\0", "٣", "\ud800"])
def test_bad_ids_name_their_field(value):
    """Any other id is refused by the name of its field."""
    with pytest.raises(InvalidField) as refused:
        check_id("decision_id", value, LIMITS)
    assert refused.value.field == "decision_id"


def test_an_empty_id_is_refused_where_one_is_required():
    """An empty id passes unless one is required."""
    assert check_id("event_id", "", LIMITS) == ""
    with pytest.raises(InvalidField, match="campaign: is required"):
        check_id("campaign", "", LIMITS, required=True)
