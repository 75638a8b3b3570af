"""The words of a decision: what tells two questions apart, and what is kept of the answer."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import decision
from tests.unit.domain.builders import LIMITS

from tilbud.domain.context import Consent, ContextInput
from tilbud.domain.decision.records import (
    FORGOTTEN,
    NO_OFFERS,
    DecideRequest,
    Decision,
    InternedText,
    OfferSet,
    check_id,
    payload_text,
)
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


def kept(request: DecideRequest, *, consented: bool = True, key: bytes = KEY) -> Decision:
    """Return a record of the question, as the service keeps it."""
    said = request.context
    question = request.question(key, consented=consented)
    return decision(
        request.decision_id,
        fingerprint=question.fingerprint(request.decision_id),
        deferred=request.defer_activation,
        device=said.device or "unknown",
        channel=said.channel or "unknown",
        journey_stage=said.journey_stage or "unknown",
    )


def same(request: DecideRequest, earlier: Decision, key: bytes = KEY) -> bool:
    """Say whether a record is of this question."""
    return request.asked_before(request.decision_id, earlier, key)


@given(REQUESTS, st.randoms(use_true_random=False))
def test_equal_questions_have_equal_fingerprints(request, random):
    """The same question under the same id has the same fingerprint, whatever the order of its features."""
    features = list(request.context.features.items())
    random.shuffle(features)
    again = request._replace(context=request.context._replace(features=dict(features)))
    assert kept(request) == kept(again)
    assert same(again, kept(request))


@given(REQUESTS, st.booleans())
def test_under_another_id_nothing_tells_that_it_is_the_same_question(request, consented):
    """Fingerprints tie no two records to each other."""
    question = request.question(KEY, consented=consented)
    assert question.fingerprint("one") != question.fingerprint("other")
    elsewhere = request._replace(campaign="another").question(KEY, consented=consented)
    assert question.fingerprint("one") != elsewhere.fingerprint("one")


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
    assert same(other, kept(request)) is not differs


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
    assert not same(other, kept(BASE))


def test_fingerprints_need_the_key():
    """Who does not know the key cannot tell from a fingerprint what was asked."""
    assert kept(BASE).fingerprint != kept(BASE, key=b"another key").fingerprint


PERSONAL: dict[str, Any] = {
    "time_zone": "Asia/Tokyo",
    "language": "da",
    "country": "DK",
    "place": "Main Street 5",
}


def test_without_consent_a_fingerprint_tells_nothing_of_the_person():
    """Whoever has the key and guesses who asked, and where, finds the guess in no fingerprint."""
    bare = DecideRequest("c", "d", context=ContextInput(device="a", time_us=5), consent=Consent.DENIED)
    told = bare._replace(
        customer_id="anna", context=bare.context._replace(**PERSONAL, features={"note": "secret"})
    )
    assert kept(told, consented=False).fingerprint == kept(bare, consented=False).fingerprint
    assert kept(told).fingerprint != kept(bare).fingerprint


@pytest.mark.parametrize("name", PERSONAL)
def test_what_was_not_kept_makes_no_other_question(name: str):
    """A refusal asked again under its id is answered: nobody can say that it came from another place."""
    asked = DecideRequest("c", "d", "anna", ContextInput(device="a", **PERSONAL), Consent.DENIED)
    elsewhere: dict[str, Any] = {name: "elsewhere"}
    moved = asked._replace(context=asked.context._replace(**elsewhere))
    assert same(moved, kept(asked, consented=False))
    assert not same(moved, kept(asked))
    assert same(asked._replace(customer_id="bob"), kept(asked, consented=False))


@pytest.mark.parametrize(
    "changed",
    [
        {"context": ContextInput(device="b")},
        {"context": ContextInput()},
        {"context": ContextInput(device="a", channel="c")},
        {"context": ContextInput(device="a", time_us=1)},
        {"consent": Consent.GRANTED},
        {"include_offers": ("x",)},
        {"exclude_offers": ("x",)},
        {"defer_activation": True},
        {"include_ranking": True},
    ],
)
def test_what_was_kept_of_a_refusal_makes_another_question(changed):
    """One id cannot be used for two questions that a record can tell apart."""
    asked = DecideRequest("c", "d", "anna", ContextInput(device="a"), Consent.DENIED)
    assert not same(asked._replace(**changed), kept(asked, consented=False))


@pytest.mark.parametrize(("said", "word"), [("anna's phone", "other"), ("", "unknown"), ("tv", "tv")])
def test_a_device_is_known_again_by_the_campaigns_word_for_it(said, word):
    """What no campaign declared is not kept, and what one declared since changes nothing for a retry."""
    asked = DecideRequest("c", "d", context=ContextInput(device=said))
    record = kept(asked, consented=False)._replace(device=word)
    assert same(asked, record)
    assert not same(
        asked._replace(context=ContextInput(device="phone" if said != "anna's phone" else "")), record
    )


def before(request: DecideRequest) -> bytes:
    """Return the fingerprint that earlier versions kept of a question."""
    said = request.context
    features = sorted((name, type(value).__name__, value) for name, value in said.features.items())
    asked = (request.customer_id, *said[:8], features, int(request.consent), *request[5:9])
    return hashlib.blake2b(repr(asked).encode(), digest_size=16, key=KEY).digest()


def test_a_fingerprint_of_before_is_known_again():
    """A retry that crosses the upgrade is answered, and another question under its id is not."""
    asked = BASE._replace(decision_id="d", customer_id="anna")
    record = kept(asked)._replace(fingerprint=before(asked))
    assert same(asked, record)
    assert not same(asked._replace(customer_id="bob"), record)


def test_a_forgotten_fingerprint_leaves_what_the_record_says():
    """Where it could be tied to a person it is gone: the record's own words are all that tells questions."""
    asked = BASE._replace(decision_id="d", customer_id="anna")
    record = kept(asked)._replace(fingerprint=FORGOTTEN)
    assert same(asked._replace(customer_id="bob", consent=Consent.DENIED), record)
    assert not same(asked._replace(defer_activation=True), record)
    assert not same(asked._replace(context=ContextInput(device="b")), record)


IDS = st.lists(st.text(), max_size=4).map(tuple)


@given(st.lists(st.tuples(st.text(), st.text()), max_size=5))
def test_offer_sets_come_back_from_their_text(offers):
    """An offer set parsed from its text is the set it was made from."""
    made = OfferSet.of(tuple(each for each, _ in offers), tuple(each for _, each in offers))
    assert OfferSet.parse(made.text) == made
    assert OfferSet.parse(InternedText.of(made.text.body)) == made


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
    text = InternedText.of(body)
    assert -(2**63) <= text.digest < 2**63
    assert text == InternedText.of(body)


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
