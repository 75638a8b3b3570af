"""What a caller cannot receive is not recorded, and what is too large to take is said so.

Clients take messages of 4 MiB by default; those here do.
"""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from google.rpc import code_pb2
from grpc_status import rpc_status
from tests.running import CALL_S, Service, served

from tilbud.v1 import campaigns_pb2
from tilbud.v1 import decisions_pb2 as pb

_PAYLOAD_CHARS = 8_000


def _campaign(name: str, chars: int, offers: int = 2) -> str:
    listed = "\n".join(
        f"  - {{id: offer-{number}, payload: {{html: {'x' * chars}}}}}" for number in range(offers)
    )
    return f"""
campaign: {name}
offers:
{listed}
reward: {{window: 1h, outcomes: {{click: 1}}}}
consent: not_required
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Campaigns with payloads of 8 kB, with none, and with many offers."""
    files = {
        "large.yaml": _campaign("large", _PAYLOAD_CHARS),
        "small.yaml": _campaign("small", 1),
        "wide.yaml": _campaign("wide", 1, offers=500),
    }
    with served(tmp_path_factory.mktemp("sizes"), files) as service:
        yield service


def _refusal(service: Service, requests: list[pb.DecideRequest]) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as refused:
        service.decisions.BatchDecide(pb.BatchDecideRequest(requests=requests), timeout=CALL_S)
    return refused.value


def _recorded(service: Service) -> float:
    return service.metric("tilbud_decisions_total")


@pytest.mark.parametrize(
    "request_",
    [
        pb.DecideRequest(campaign="large"),
        pb.DecideRequest(campaign="large", dry_run=True),
        pb.DecideRequest(campaign="large", customer_id="one-and-the-same"),
        pb.DecideRequest(campaign="wide", include_ranking=True),
    ],
    ids=["payloads", "dry runs", "one customer", "rankings"],
)
def test_answers_too_large_are_refused_before_they_are_recorded(
    service: Service, request_: pb.DecideRequest
) -> None:
    """A batch whose answers no caller could take is INVALID_ARGUMENT for `requests`; nothing is recorded."""
    before = _recorded(service)
    refusal = _refusal(service, [request_] * 1_000)
    assert refusal.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "requests: the answers take more than 4,000,000 bytes; ask for fewer at once" in str(
        refusal.details()
    )
    assert _recorded(service) == before


def test_a_large_answer_among_small_ones_is_received(service: Service) -> None:
    """What counts is what the answers take, not what the largest of them could."""
    requests = [pb.DecideRequest(campaign="small")] * 990 + [pb.DecideRequest(campaign="large")] * 10
    before = _recorded(service)
    results = service.decisions.BatchDecide(pb.BatchDecideRequest(requests=requests), timeout=CALL_S).results
    assert all(result.HasField("decision") for result in results)
    assert _recorded(service) == before + 1_000


def test_as_many_as_fit_are_answered(service: Service) -> None:
    """The bound is near what a client takes: 480 answers of 8 kB pass, and none is lost on the way."""
    requests = [pb.DecideRequest(campaign="large", decision_id=f"fit-{number}") for number in range(480)]
    for _ in range(2):  # the second time from the ledger
        response = service.decisions.BatchDecide(pb.BatchDecideRequest(requests=requests), timeout=CALL_S)
        assert len(response.results) == len(requests)
        assert response.ByteSize() <= 4_000_000


def test_a_request_too_large_is_not_called_retryable(service: Service) -> None:
    """More than 4 MiB in a request is the caller's to mend: INVALID_ARGUMENT, with what to do."""
    request = pb.DecideRequest(campaign="small", customer_id="x" * (5 * 1024 * 1024))
    with pytest.raises(grpc.RpcError) as refused:
        service.decisions.Decide(request, timeout=CALL_S)
    status = rpc_status.from_call(refused.value)
    assert status.code == code_pb2.INVALID_ARGUMENT
    assert "more than 4,194,304; send less at once" in status.message


def test_campaigns_are_listed_page_by_page(service: Service) -> None:
    """Pages follow one another by id, and together hold each campaign once."""
    names, token = [], ""
    while True:
        page = service.campaigns.ListCampaigns(
            campaigns_pb2.ListCampaignsRequest(page_size=2, page_token=token)
        )
        names += [campaign.id for campaign in page.campaigns]
        token = page.next_page_token
        if not token:
            break
    assert names == ["large", "small", "wide"]
