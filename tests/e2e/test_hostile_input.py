"""No input can hurt the service or the model: every field, every kind of nonsense."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conftest import Serve
from tests.e2e.campaigns import RULES
from tests.e2e.nonsense import (
    BAD_TIMES,
    MARK,
    NOT_UTF8,
    NUMBERS,
    TEXTS,
    answer_or_clear_error,
    messages_with_one_text,
    refuses,
)
from tests.running import Service, until

from tilbud.v1 import campaigns_pb2, customers_pb2
from tilbud.v1 import decisions_pb2 as pb

TEXT_FIELDS = ("device", "channel", "journey_stage", "place", "language", "country", "time_zone")
METHODS = [
    method
    for contract in (campaigns_pb2, customers_pb2, pb)
    for service in contract.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
WITH_TEXT = [method for method in METHODS if method.input_type.fields]
OFFERS = {"anyone", "app-only", "big-basket", "not-gold", "evenings", "loyal-mobile"}


def _check(decision: pb.DecideResponse | None, expected: set[str] | None = None) -> None:
    if decision is not None and decision.ranking:
        ranked = [each.offer_id for each in decision.ranking]
        assert len(set(ranked)) == len(ranked)
        assert set(ranked) <= OFFERS
        assert expected is None or set(ranked) == expected
        assert math.isclose(math.fsum(each.probability for each in decision.ranking), 1.0, abs_tol=1e-9)


def _requests() -> Iterator[tuple[str, pb.DecideRequest]]:
    for text in TEXTS:
        for name in TEXT_FIELDS:
            yield f"context.{name}", pb.DecideRequest(campaign="rules", context=pb.Context(**{name: text}))
        for name in ("decision_id", "customer_id"):
            yield name, pb.DecideRequest(**{"campaign": "rules", name: text})
        yield "campaign", pb.DecideRequest(campaign=text)
        for name in ("include_offers", "exclude_offers"):
            yield name, pb.DecideRequest(**{"campaign": "rules", name: [text]})
        category = pb.DecideRequest(campaign="rules")
        category.context.features["tier"].category = text
        yield "context.features", category
        undeclared = pb.DecideRequest(campaign="rules")
        undeclared.context.features[text].flag = True
        yield "context.features", undeclared
    for number in NUMBERS:
        request = pb.DecideRequest(campaign="rules")
        request.context.features["basket"].number = number
        yield "context.features", request
    for time in BAD_TIMES:
        yield "context.time", pb.DecideRequest(campaign="rules", context=pb.Context(time=time))
    empty = pb.DecideRequest(campaign="rules")
    empty.context.features["tier"].SetInParent()
    yield "context.features", empty
    yield "consent", pb.DecideRequest(campaign="rules", consent=99)
    many = pb.DecideRequest(campaign="rules", include_offers=["anyone"] * 1_001)
    yield "include_offers", many


def _still_learns(service: Service) -> None:
    """300 good examples move the prediction."""
    for start in range(0, 300, 100):
        asked = service.decisions.BatchDecide(
            pb.BatchDecideRequest(
                requests=[
                    pb.DecideRequest(campaign="rules", decision_id=f"good-{start + number}")
                    for number in range(100)
                ]
            )
        )
        service.decisions.BatchReportOutcomes(
            pb.BatchReportOutcomesRequest(
                requests=[
                    pb.ReportOutcomeRequest(
                        campaign="rules",
                        decision_id=each.decision.decision_id,
                        outcome="bought" if each.decision.offer_id == "not-gold" else "left",
                    )
                    for each in asked.results
                ]
            )
        )
    request = campaigns_pb2.GetCampaignRequest(campaign="rules")
    until(lambda: int(service.campaigns.GetCampaign(request).campaign.model_version.split(".")[1]) >= 300)
    answer = service.decisions.Decide(pb.DecideRequest(campaign="rules", include_ranking=True, dry_run=True))
    while answer.variant != "personalized":
        answer = service.decisions.Decide(
            pb.DecideRequest(campaign="rules", include_ranking=True, dry_run=True)
        )
    best = answer.ranking[0]
    assert best.offer_id == "not-gold"
    assert best.probability > 1.5 / len(answer.ranking)


def test_every_field_of_a_question_takes_any_nonsense(serve: Serve) -> None:
    """Text, numbers and times of every hostile kind: an answer, or an error that names the field.

    Never UNKNOWN or INTERNAL, never another number of offers, and afterwards the model still learns.
    """
    service = serve(RULES)
    bare = pb.DecideRequest(campaign="rules", include_ranking=True, dry_run=True)
    usual = {each.offer_id for each in service.decisions.Decide(bare).ranking}
    for field, request in _requests():
        request.include_ranking = True
        # A category or number is known then, a time is another; nothing else changes what may be shown.
        changes = field in {"context.features", "context.time", "context.time_zone", "exclude_offers"}
        answer = answer_or_clear_error(lambda request=request: service.decisions.Decide(request), field)
        _check(answer, None if changes else usual)
    _still_learns(service)
    assert "unexpected_error" not in service.log.read_text()


def test_every_field_of_an_outcome_and_an_activation_takes_any_nonsense(serve: Serve) -> None:
    """The same for ReportOutcome and Activate; what they accept still leaves a model that learns."""
    service = serve(RULES)
    report, activate = service.decisions.ReportOutcome, service.decisions.Activate

    def outcome(**fields: Any) -> pb.ReportOutcomeRequest:
        decision = service.decisions.Decide(pb.DecideRequest(campaign="rules", include_offers=["not-gold"]))
        said = {"campaign": "rules", "decision_id": decision.decision_id, "outcome": "bought"} | fields
        return pb.ReportOutcomeRequest(**said)

    for text in TEXTS:
        for name in ("campaign", "decision_id", "outcome", "event_id"):
            request = outcome(**{name: text})
            answer_or_clear_error(lambda request=request: report(request), name)
        for name in ("campaign", "decision_id", "shown_offer_id"):
            activation = pb.ActivateRequest(**{"campaign": "rules", "decision_id": "x", name: text})
            answer_or_clear_error(lambda activation=activation: activate(activation), name)
    for number in NUMBERS:
        request = outcome(value=number)
        answer_or_clear_error(lambda request=request: report(request), "value")
    for time in BAD_TIMES:
        request = outcome(time=time)
        answer_or_clear_error(lambda request=request: report(request), "time")
    _still_learns(service)
    assert "unexpected_error" not in service.log.read_text()


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_request_gets_an_answer_or_a_clear_error(shared: Service, data: st.DataObject) -> None:
    """Whatever the fields hold, together: an answer or an error that names a field."""
    text = st.one_of(st.text(max_size=140), st.sampled_from(TEXTS))
    value = st.one_of(
        st.builds(lambda each: pb.FeatureValue(category=each), text),
        st.builds(lambda each: pb.FeatureValue(number=each), st.floats()),
        st.builds(lambda each: pb.FeatureValue(flag=each), st.booleans()),
    )
    names = st.one_of(st.sampled_from(["tier", "basket", "returning"]), text)
    context = pb.Context(**{name: data.draw(text) for name in TEXT_FIELDS if data.draw(st.booleans())})
    for name, each in data.draw(st.dictionaries(names, value, max_size=4)).items():
        context.features[name].CopyFrom(each)
    request = pb.DecideRequest(
        campaign="rules",
        decision_id=data.draw(st.one_of(st.just(""), text)),
        context=context,
        include_ranking=True,
    )
    _check(answer_or_clear_error(lambda: shared.decisions.Decide(request)))


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=200))
def test_any_bytes_get_an_answer_or_a_clear_error(shared: Service, content: bytes) -> None:
    """Bytes that are no message, sent to every method there is: never UNKNOWN, never INTERNAL."""
    for method in METHODS:
        call = shared.channel.unary_unary(_path(method))
        answer_or_clear_error(lambda call=call: call(content))


@pytest.mark.parametrize("method", WITH_TEXT, ids=lambda method: method.full_name)
def test_text_that_is_not_utf8_is_refused_by_name(shared: Service, method: MethodDescriptor) -> None:
    """Invalid UTF-8 in any text field, however deep, is INVALID_ARGUMENT and names its field."""
    call = shared.channel.unary_unary(_path(method))
    for field, content in messages_with_one_text(method.input_type, GetMessageClass(method.input_type)):
        assert MARK.encode() in content
        for text in NOT_UTF8:
            bad = content.replace(MARK.encode(), text)
            refuses(lambda bad=bad: call(bad), field)


def _path(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for the tests that only ask."""
    directory = tmp_path_factory.mktemp("hostile")
    (directory / "campaigns").mkdir()
    (directory / "campaigns" / "rules.yaml").write_text(RULES)
    service = Service(directory / "campaigns", directory / "data", directory / "log")
    yield service
    service.close()
