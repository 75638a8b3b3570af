"""A connection, and one call over it.

What holds: a call is answered, or raises a Refusal; no error of gRPC leaves this module. A connection that
breaks is tried again within the call's time. Never through a proxy.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import grpc.aio
from google.protobuf.message import Message

from tilbud.client.address import TIMEOUT_S, dialled
from tilbud.client.options import MetadataSource, metadata_of
from tilbud.client.refusals import Refusal, refusal_of_error
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
"""Of commands, which do not wait for a service that is not there, as the published config would."""
_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.service_config", json.dumps(_RETRIES)))


class Connection:
    """Stubs of the services, and `ask`, which calls one of their methods."""

    def __init__(
        self,
        channel: grpc.Channel,
        *,
        target: str,
        timeout_s: float,
        metadata: MetadataSource = None,
        option: str = "",
    ) -> None:
        """`option` names the target on a command line, where one asks."""
        self.channel = channel
        self.decisions = DecisionServiceStub(channel)
        self.customers = CustomerServiceStub(channel)
        self.campaigns = CampaignServiceStub(channel)
        self._target = target
        self._timeout_s = timeout_s
        self._metadata = metadata
        self._option = option

    def ask(
        self, method: Callable[..., Answer], request: Message, *, timeout_s: float | None = None
    ) -> Answer:
        """Return the method's answer; raises Refusal."""
        time_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            return method(request, timeout=time_s, metadata=metadata_of(self._metadata))
        except grpc.RpcError as error:
            refused = refusal_of_error(error, target=self._target, timeout_s=time_s, option=self._option)
        except Exception as error:  # noqa: BLE001 - see unmade
            refused = unmade(error)
        raise refused


class AsyncConnection:
    """The stub of decisions for asyncio, and `ask`, which calls one of its methods."""

    def __init__(
        self, channel: grpc.aio.Channel, *, target: str, timeout_s: float, metadata: MetadataSource
    ) -> None:
        self.channel = channel
        self.decisions = DecisionServiceStub(channel)
        self._target = target
        self._timeout_s = timeout_s
        self._metadata = metadata

    async def ask(
        self, method: Callable[..., Awaitable[Answer]], request: Message, *, timeout_s: float | None = None
    ) -> Answer:
        """Return the method's answer; raises Refusal."""
        time_s = self._timeout_s if timeout_s is None else timeout_s
        try:
            return await method(request, timeout=time_s, metadata=metadata_of(self._metadata))
        except grpc.aio.AioRpcError as error:
            refused = refusal_of_error(error, target=self._target, timeout_s=time_s)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            refused = Refusal("CANCELLED", ["the client was closed before an answer came"])
        except Exception as error:  # noqa: BLE001 - see unmade
            refused = unmade(error)
        raise refused


def unmade(error: Exception) -> Refusal:
    """Return what to try again after, where a call was not made: the client is closed, there is no token."""
    return Refusal("UNKNOWN", [f"no call was made: {error!r}"])


@contextmanager
def connected(target: str, timeout_s: float = TIMEOUT_S) -> Iterator[Connection]:
    """Yield a command's connection to the service at `target`, unencrypted.

    Raises ValueError where `target` is no address.
    """
    with grpc.insecure_channel(dialled(target), _OPTIONS) as channel:
        yield Connection(channel, target=target, timeout_s=timeout_s, option="--target")
