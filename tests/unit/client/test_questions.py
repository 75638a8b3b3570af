"""Questions and outcomes as the contract writes them."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import get_type_hints
from uuid import UUID

import pytest

from tilbud.client.questions import Question, Situation, decide_request, new_id, outcome_request
from tilbud.client.words import Consent
from tilbud.v1 import decisions_pb2 as pb

WHEN = datetime(2026, 12, 24, 18, tzinfo=UTC)


def test_all_that_is_known_is_asked_with() -> None:
    """Every field of the contract can be said, by its own name."""
    question = Question(
        "shop", decision_id="d-1", customer_id="anna", consent=Consent.GRANTED, device="mobile",
        channel="web", journey_stage="new", place="odense", language="da", country="DK", time=WHEN,
        time_zone="Europe/Copenhagen", features={"tier": "gold", "basket": 42, "returning": True},
        include_offers=["a"], exclude_offers=["b"], defer_activation=True, include_ranking=True, dry_run=True,
    )  # fmt: skip
    request = decide_request(question)
    assert {field.name for field, _ in request.ListFields()} == set(
        pb.DecideRequest.DESCRIPTOR.fields_by_name
    )
    assert {field.name for field, _ in request.context.ListFields()} == set(
        pb.Context.DESCRIPTOR.fields_by_name
    )
    assert request.consent == pb.CONSENT_GRANTED
    assert request.context.time.ToDatetime(UTC) == WHEN
    features = request.context.features
    assert features["tier"].category == "gold"
    assert features["basket"].number == 42
    assert features["returning"].flag


def test_situation_says_what_question_has() -> None:
    """`decide` takes by name what a Question has beside its campaign."""
    names = {each.name for each in fields(Question)} - {"campaign"}
    assert set(get_type_hints(Situation)) == names


def test_a_question_without_an_id_gets_one() -> None:
    """A UUIDv7: of its time, and never the same."""
    before = datetime.now(UTC)
    ids = {decide_request(Question("shop")).decision_id for _ in range(100)}
    assert len(ids) == 100
    made = UUID(ids.pop())
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    age = datetime.fromtimestamp((made.int >> 80) / 1_000, UTC) - before
    assert timedelta(seconds=-1) < age < timedelta(minutes=1)


def test_later_ids_sort_later() -> None:
    """Ids lie in the ledger in the order of their milliseconds."""
    first = new_id()
    assert first[:13] <= new_id()[:13]


@pytest.mark.parametrize("value", [None, [1], object()])
def test_a_feature_of_no_kind_is_named(value) -> None:
    """A TypeError with the feature's name and what may be written."""
    with pytest.raises(TypeError, match=r"features\['basket'\]: write a text, a number, True or False"):
        decide_request(Question("shop", features={"basket": value}))


def test_a_word_that_is_not_known_is_refused() -> None:
    """A misspelt keyword is a TypeError that names it, not silently nothing."""
    with pytest.raises(TypeError, match="devise"):
        Question("shop", devise="mobile")  # type: ignore[call-arg]


def test_a_time_without_a_zone_is_refused() -> None:
    """It says how to write one."""
    with pytest.raises(ValueError, match="time: say in which zone"):
        decide_request(Question("shop", time=datetime(2026, 12, 24)))  # noqa: DTZ001


def test_an_outcome_says_when_it_happened() -> None:
    """However long it waits: now, or as told; its value is absent where nobody says one."""
    now = outcome_request("shop", "d", "click", value=None, event_id="", time=None)
    assert abs(now.time.ToDatetime(UTC) - datetime.now(UTC)) < timedelta(minutes=1)
    assert not now.HasField("value")
    then = outcome_request("shop", "d", "click", value=0.0, event_id="e", time=WHEN)
    assert then.time.ToDatetime(UTC) == WHEN
    assert then.HasField("value")


def test_a_text_is_no_list_of_offers() -> None:
    """It would be a list of its characters, none of them an offer."""
    with pytest.raises(TypeError, match=r"^include_offers: write a list of ids; it is of type str$"):
        decide_request(Question("shop", include_offers="free-shipping"))


@pytest.mark.parametrize(
    ("said", "error", "problem"),
    [
        ({"device": 5}, TypeError, "device: write a text; it is of type int"),
        ({"place": "\ud800"}, ValueError, r"place: '\ud800' has half a character"),
        ({"features": ["a"]}, TypeError, "features: write a dict; it is of type list"),
        ({"features": {"a": 10**400}}, ValueError, "features['a']: the number is too large"),
        ({"time": "now"}, TypeError, "time: write a datetime; it is of type str"),
    ],
)
def test_what_cannot_be_written_down_is_named(said, error: type[Exception], problem: str) -> None:
    """The argument, and what it should be; never the words of a library."""
    with pytest.raises(error) as refused:
        decide_request(Question("shop", **said))
    assert str(refused.value) == problem
    assert decide_request(Question("shop", device=None)).context.device == ""  # type: ignore[arg-type]
