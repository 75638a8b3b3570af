"""A connection that asks one thing after another, and waits for each answer.

What holds: a call is answered, or raises a Refusal; no error of gRPC leaves this module. A connection that
breaks is tried again within the call's time. Never through a proxy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from tilbud.client.address import TIMEOUT_S, dialled
from tilbud.client.refusals import DETAILS, refusal
from tilbud.v1.campaigns_pb2_grpc import CampaignServiceStub
from tilbud.v1.customers_pb2_grpc import CustomerServiceStub
from tilbud.v1.decisions_pb2_grpc import DecisionServiceStub

Answer = TypeVar("Answer", bound=Message)
_RETRIES = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.1s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.service_config", json.dumps(_RETRIES)))


class Connection:
    """Stubs of the services, and `ask`, which calls one of their methods."""

    def __init__(self, channel: grpc.Channel, *, target: str, timeout_s: float) -> None:
        self.decisions = DecisionServiceStub(channel)
        self.customers = CustomerServiceStub(channel)
        self.campaigns = CampaignServiceStub(channel)
        self._target = target
        self._timeout_s = timeout_s

    def ask(self, method: Callable[..., Answer], request: Message) -> Answer:
        """Return the method's answer; raises Refusal."""
        try:
            return method(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            trailers = {each.key: each.value for each in error.trailing_metadata() or ()}
            problem = refusal(
                error.code().name,
                error.details() or "",
                trailers.get(DETAILS),
                target=self._target,
                timeout_s=self._timeout_s,
            )
        raise problem


@contextmanager
def connected(target: str, timeout_s: float = TIMEOUT_S) -> Iterator[Connection]:
    """Yield a connection to the service at `target`, unencrypted; ValueError where that is no address."""
    with grpc.insecure_channel(dialled(target), _OPTIONS) as channel:
        yield Connection(channel, target=target, timeout_s=timeout_s)
