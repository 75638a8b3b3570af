"""Campaigns asked as flags, by OpenFeature's own SDK and provider."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason
from tests.e2e.campaigns import RULES
from tests.running import CALL_S, Service

from tilbud.v1 import decisions_pb2 as pb


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that tests share."""
    made = tmp_path_factory.mktemp("openfeature")
    (made / "campaigns").mkdir()
    (made / "campaigns" / "rules.yaml").write_text(RULES)
    started = Service(made / "campaigns", made / "data", made / "log")
    yield started
    started.close()


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[OpenFeatureClient]:
    """An application's client of it."""
    api.set_provider(OFREPProvider(service.http, timeout=CALL_S))
    yield api.get_client()
    api.shutdown()


def test_an_evaluation_is_a_recorded_decision(service: Service, client: OpenFeatureClient) -> None:
    """Its value is the offer's payload, its variant the offer; outcomes are reported by its id."""
    said = {"channel": "app", "device": "mobile", "tier": "gold", "more": {"a": 1}}
    context = EvaluationContext("anna", said)
    details = client.get_object_details("rules", {}, context)
    assert details.error_code is None, details.error_message
    assert details.reason in {Reason.TARGETING_MATCH, Reason.SPLIT}
    decision_id = str(details.flag_metadata["decisionId"])
    explained = service.decisions.ExplainDecision(
        pb.ExplainDecisionRequest(campaign="rules", decision_id=decision_id)
    )
    assert explained.decision.offer_id == details.variant
    assert explained.used["tier"].category == "gold"
    assert not isinstance(details.value, str)
    assert dict(details.value) == dict(explained.decision.payload)
    reported = service.decisions.ReportOutcome(
        pb.ReportOutcomeRequest(campaign="rules", decision_id=decision_id, outcome="looked")
    )
    assert reported.status == pb.OUTCOME_STATUS_ACCEPTED
    name = "tilbud_rpc_duration_seconds_count"
    assert service.metric(name, method="Decide", code="OK", protocol="ofrep") >= 1


def test_one_view_evaluated_twice_is_one_decision(client: OpenFeatureClient) -> None:
    """Where it says its id, as a retry over gRPC does."""
    context = EvaluationContext("anna", {"decisionId": "view-1"})
    first, second = (client.get_object_details("rules", {}, context) for _ in range(2))
    assert first.flag_metadata["decisionId"] == second.flag_metadata["decisionId"] == "view-1"
    assert first.variant == second.variant


def test_a_flag_that_is_no_campaign_is_the_code_s_default(client: OpenFeatureClient) -> None:
    """As OpenFeature has it: the default, and why."""
    details = client.get_object_details("nothing", {"title": "ours"})
    assert details.value == {"title": "ours"}
    assert details.error_code is ErrorCode.FLAG_NOT_FOUND
    assert details.error_message == "campaign 'nothing' is not served here"


def test_a_context_that_cannot_be_is_the_code_s_default(client: OpenFeatureClient) -> None:
    """And names what is wrong."""
    details = client.get_object_details("rules", {}, EvaluationContext("anna", {"consent": "yes"}))
    assert details.error_code is ErrorCode.INVALID_CONTEXT
    assert details.error_message == "context.consent: must be true or false"


def test_all_flags_are_not_evaluated_at_once(service: Service) -> None:
    """It would record a decision in every campaign."""
    headers = {"content-type": "application/json"}
    with pytest.raises(HTTPError) as refused:
        urlopen(Request(f"{service.http}/ofrep/v1/evaluate/flags", b"{}", headers), timeout=CALL_S)
    assert refused.value.code == 501
    assert "each evaluation records a decision" in json.loads(refused.value.read())["errorDetails"]


def test_a_form_of_a_page_evaluates_nothing(service: Service) -> None:
    """A flag is asked for as JSON."""
    with pytest.raises(HTTPError) as refused:
        urlopen(Request(f"{service.http}/ofrep/v1/evaluate/flags/rules", b"a=b"), timeout=CALL_S)
    assert refused.value.code == 415
