"""What the tests of customers say and ask over gRPC, and how they look for what must not be there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from tests.running import PATIENCE_S, Service

from tilbud.v1 import campaigns_pb2
from tilbud.v1 import customers_pb2 as cpb
from tilbud.v1 import decisions_pb2 as pb

DAY_S = 86_400.0
ACCEPTED = cpb.CUSTOMER_EVENT_STATUS_ACCEPTED


def ago(seconds: float) -> Timestamp:
    """Return the time so many seconds ago."""
    return Timestamp(seconds=int(time.time() - seconds))


def value(of: str | float | bool) -> pb.FeatureValue:
    """Return a feature's value as a message."""
    if isinstance(of, str):
        return pb.FeatureValue(category=of)
    return pb.FeatureValue(flag=of) if isinstance(of, bool) else pb.FeatureValue(number=of)


def plain(of: pb.FeatureValue) -> str | float | bool:
    """Return what a message says."""
    said: str | float | bool = getattr(of, of.WhichOneof("kind") or "")
    return said


def situation(features: Mapping[str, str | float | bool] | None = None, **fields: Any) -> pb.Context:
    """Return a context with these free features."""
    return pb.Context(features={name: value(each) for name, each in (features or {}).items()}, **fields)


def question(campaign: str, customer_id: str = "", **fields: Any) -> pb.DecideRequest:
    """Return what a customer's decision is asked with."""
    return pb.DecideRequest(campaign=campaign, customer_id=customer_id, **fields)


def decide(service: Service, campaign: str, customer_id: str = "", **fields: Any) -> pb.DecideResponse:
    """Ask for a decision."""
    return service.decisions.Decide(question(campaign, customer_id, **fields))


def ranked(service: Service, campaign: str, customer_id: str = "", **fields: Any) -> set[str]:
    """Return the offers that could be shown, leaving no trace."""
    answer = decide(service, campaign, customer_id, dry_run=True, include_ranking=True, **fields)
    return {each.offer_id for each in answer.ranking}


def report(service: Service, campaign: str, decision_id: str, outcome: str, **fields: Any) -> int:
    """Report an outcome; return its status."""
    request = pb.ReportOutcomeRequest(campaign=campaign, decision_id=decision_id, outcome=outcome, **fields)
    return service.decisions.ReportOutcome(request).status


def explain(
    service: Service, campaign: str, decision_id: str, language: str = ""
) -> pb.ExplainDecisionResponse:
    """Ask why a decision fell as it did."""
    return service.decisions.ExplainDecision(
        pb.ExplainDecisionRequest(campaign=campaign, decision_id=decision_id, language=language)
    )


def used(explained: pb.ExplainDecisionResponse) -> dict[str, str | float | bool]:
    """Return what was known and used."""
    return {name: plain(each) for name, each in explained.used.items()}


def dropped(explained: pb.ExplainDecisionResponse) -> dict[str, str]:
    """Return what was known and not used, and why."""
    return {each.name: each.reason for each in explained.dropped}


def removed(explained: pb.ExplainDecisionResponse) -> dict[str, str]:
    """Return by which rule each removed offer was removed."""
    return {each.offer_id: each.removed_by for each in explained.offers if each.removed_by}


def customer(
    customer_id: str, traits: Mapping[str, str | float | bool] | None = None, **fields: Any
) -> cpb.Customer:
    """Return a profile with these traits."""
    return cpb.Customer(
        id=customer_id,
        traits={name: cpb.Trait(value=value(each)) for name, each in (traits or {}).items()},
        **fields,
    )


def update(service: Service, profile: cpb.Customer, *mask: str) -> cpb.Customer:
    """Change what the mask names, or what the profile sets; return the profile after it."""
    request = cpb.UpdateCustomerRequest(customer=profile, update_mask=FieldMask(paths=mask))
    return service.customers.UpdateCustomer(request).customer


def grant(service: Service, customer_id: str, **fields: Any) -> cpb.Customer:
    """Let a customer consent, and say more of them."""
    return update(service, customer(customer_id, consent=pb.CONSENT_GRANTED, **fields))


def deny(service: Service, customer_id: str) -> cpb.Customer:
    """Let a customer take consent back."""
    return update(service, customer(customer_id, consent=pb.CONSENT_DENIED))


def known(service: Service, customer_id: str) -> cpb.Customer:
    """Return the profile."""
    return service.customers.GetCustomer(cpb.GetCustomerRequest(customer_id=customer_id)).customer


def happens(service: Service, customer_id: str, event: str, event_id: str = "", **fields: Any) -> int:
    """Report a customer event; return its status."""
    request = cpb.ReportCustomerEventRequest(
        customer_id=customer_id, event=event, event_id=event_id or f"{event}-1", **fields
    )
    return service.customers.ReportCustomerEvent(request).status


def exported(service: Service, customer_id: str, page_size: int = 0) -> list[dict[str, Any]]:
    """Return every row about a customer, all pages."""
    rows: list[dict[str, Any]] = []
    token = ""
    while True:
        page = service.customers.ExportCustomer(
            cpb.ExportCustomerRequest(customer_id=customer_id, page_size=page_size, page_token=token)
        )
        lines = page.json_lines.decode().splitlines()
        assert len(lines) <= (page_size or 1_000)
        rows.extend(map(json.loads, lines))
        token = page.next_page_token
        if not token:
            return rows


def rows_of(service: Service, customer_id: str, kind: str) -> list[dict[str, Any]]:
    """Return the rows of one kind about a customer; none where nothing is known."""
    try:
        return [row for row in exported(service, customer_id) if row["kind"] == kind]
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.NOT_FOUND, error
        return []


def erase(service: Service, customer_id: str) -> int:
    """Erase a customer; return how many rows there were."""
    return service.customers.EraseCustomer(cpb.EraseCustomerRequest(customer_id=customer_id)).removed_rows


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """Return the code a call is refused with, and the reason of its ErrorInfo."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    status = rpc_status.from_call(raised.value)
    info = error_details_pb2.ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    return raised.value.code(), info.reason


def sequence(service: Service, campaign: str) -> int:
    """Return the last settlement that the campaign's model has learned."""
    request = campaigns_pb2.GetCampaignRequest(campaign=campaign)
    return int(service.campaigns.GetCampaign(request).campaign.model_version.rpartition(".")[2])


def found(words: Iterable[str], *places: Path) -> dict[str, list[str]]:
    """Return which words stand in which files at or below these places, byte for byte."""
    files = [file for place in places for file in (place, *place.rglob("*")) if file.is_file()]
    texts = {file.name: file.read_bytes() for file in files}
    where = {word: [name for name, text in texts.items() if word.encode() in text] for word in words}
    return {word: names for word, names in where.items() if names}


def rebuild(service: Service) -> None:
    """Learn all models anew from the ledger, and see that they equal the running ones."""
    rebuilt = subprocess.run(
        [sys.executable, "-m", "tilbud", "rebuild", "--campaigns", service.files, "--data", service.data],
        check=False, capture_output=True, text=True, timeout=PATIENCE_S * 2, env={"COLUMNS": "200"},
    )  # fmt: skip
    assert rebuilt.returncode == 0, rebuilt.stdout + rebuilt.stderr
    assert re.search(r"verdict +equal", rebuilt.stdout), rebuilt.stdout
