"""The service as the simulator sees it: calls that are repeated, with the same ids, until answered.

What always holds:
 * UNAVAILABLE, CANCELLED, DEADLINE_EXCEEDED and RESOURCE_EXHAUSTED are tried again, at most `tries` times
   in all, with a pause that doubles: about 9 s together, longer than a restart takes.
 * In a batch only the requests that were not answered go again, unchanged.
 * Every request ends as an answer or as a Refusal; no gRPC exception leaves this module.
 * Where nobody answers at first, that is told at once, or after `CONNECT_S`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from tilbud.client.address import TIMEOUT_S, dialled
from tilbud.client.refusals import Refusal, refusal, refusal_of_error, refusal_of_status
from tilbud.v1 import (
    campaigns_pb2,
    campaigns_pb2_grpc,
    customers_pb2,
    customers_pb2_grpc,
    decisions_pb2,
    decisions_pb2_grpc,
)

Request = TypeVar("Request")
Reply = TypeVar("Reply")
Pause = Callable[[float], Awaitable[None]]

TRIES = 10
CONNECT_S = 1.0
_PAUSE_FIRST_S = 0.05
_PAUSE_MAX_S = 2.0
_CHANNEL_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", int(CONNECT_S * 1_000)),  # so long an attempt may take
    ("grpc.max_reconnect_backoff_ms", 1000),
)
_RETRIED = frozenset({"UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"})


@asynccontextmanager
async def connect(target: str, credentials: grpc.ChannelCredentials | None) -> AsyncIterator[Calls]:
    """Calls over a channel of their own; without credentials, unencrypted.

    Raises ValueError where `target` is no address, and Refusal where no service answers there.
    """
    if credentials is None:
        channel = grpc.aio.insecure_channel(dialled(target), options=_CHANNEL_OPTIONS)
    else:
        channel = grpc.aio.secure_channel(dialled(target), credentials, options=_CHANNEL_OPTIONS)
    async with channel:
        if not await _answers(channel):
            raise refusal("UNAVAILABLE", "", None, target=target, timeout_s=CONNECT_S, option="--target")
        yield Calls(channel, target=target)


async def _answers(channel: grpc.aio.Channel) -> bool:
    """Return whether somebody does, as soon as that is known."""
    try:
        async with asyncio.timeout(CONNECT_S):
            while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
                if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                    return False
                await channel.wait_for_state_change(state)
    except TimeoutError:
        return False
    return True


class Calls:
    """What the driver asks of the service."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        target: str,
        tries: int = TRIES,
        timeout_s: float = TIMEOUT_S,
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._campaigns = campaigns_pb2_grpc.CampaignServiceStub(channel)
        self._decisions = decisions_pb2_grpc.DecisionServiceStub(channel)
        self._customers = customers_pb2_grpc.CustomerServiceStub(channel)
        self._target = target
        self._tries = tries
        self._timeout_s = timeout_s
        self._pause = pause
        self.retries = 0

    async def campaign(self, campaign: str) -> campaigns_pb2.Campaign:
        """The campaign as it is served. Raises Refusal."""

        async def send(requests: Sequence[campaigns_pb2.GetCampaignRequest]) -> list[campaigns_pb2.Campaign]:
            reply = await self._campaigns.GetCampaign(requests[0], timeout=self._timeout_s)
            return [reply.campaign]

        (answer,) = await self._ask([campaigns_pb2.GetCampaignRequest(campaign=campaign)], send)
        if isinstance(answer, Refusal):
            raise answer
        return answer

    async def decide(
        self, requests: Sequence[decisions_pb2.DecideRequest]
    ) -> list[decisions_pb2.DecideResponse | Refusal]:
        """One answer for each question, in the same order."""

        async def send(
            requests: Sequence[decisions_pb2.DecideRequest],
        ) -> list[decisions_pb2.DecideResponse | Refusal]:
            batch = decisions_pb2.BatchDecideRequest(requests=requests)
            reply = await self._decisions.BatchDecide(batch, timeout=self._timeout_s)
            return [
                result.decision if result.HasField("decision") else refusal_of_status(result.error)
                for result in reply.results
            ]

        return await self._ask(requests, send)

    async def activate(
        self, request: decisions_pb2.ActivateRequest
    ) -> decisions_pb2.ActivateResponse | Refusal:
        """Say that one deferred decision's offer was shown."""

        async def send(
            requests: Sequence[decisions_pb2.ActivateRequest],
        ) -> list[decisions_pb2.ActivateResponse]:
            return [await self._decisions.Activate(requests[0], timeout=self._timeout_s)]

        return (await self._ask([request], send))[0]

    async def tell(
        self, request: customers_pb2.ReportCustomerEventRequest | customers_pb2.UpdateCustomerRequest
    ) -> Message | Refusal:
        """Say what is known of a customer."""

        async def send(_: Sequence[Message]) -> list[Message]:
            if isinstance(request, customers_pb2.UpdateCustomerRequest):
                return [await self._customers.UpdateCustomer(request, timeout=self._timeout_s)]
            return [await self._customers.ReportCustomerEvent(request, timeout=self._timeout_s)]

        told: list[Message | Refusal] = await self._ask([request], send)
        return told[0]

    async def report(
        self, requests: Sequence[decisions_pb2.ReportOutcomeRequest]
    ) -> list[decisions_pb2.ReportOutcomeResponse | Refusal]:
        """One acknowledgement for each outcome, in the same order."""

        async def send(
            requests: Sequence[decisions_pb2.ReportOutcomeRequest],
        ) -> list[decisions_pb2.ReportOutcomeResponse | Refusal]:
            batch = decisions_pb2.BatchReportOutcomesRequest(requests=requests)
            reply = await self._decisions.BatchReportOutcomes(batch, timeout=self._timeout_s)
            return [
                result.outcome if result.HasField("outcome") else refusal_of_status(result.error)
                for result in reply.results
            ]

        return await self._ask(requests, send)

    async def _ask(
        self,
        requests: Sequence[Request],
        send: Callable[[Sequence[Request]], Awaitable[Sequence[Reply | Refusal]]],
    ) -> list[Reply | Refusal]:
        """Send, and send again what is unanswered."""
        answers: dict[int, Reply | Refusal] = {}
        unanswered = list(range(len(requests)))
        for attempt in range(self._tries):
            if attempt:
                self.retries += 1
                await self._pause(min(_PAUSE_FIRST_S * 2 ** (attempt - 1), _PAUSE_MAX_S))
            answers.update(
                zip(unanswered, await self._sent([requests[i] for i in unanswered], send), strict=True)
            )
            unanswered = [i for i in unanswered if is_temporary(answers[i])]
            if not unanswered:
                break
        return [answers[i] for i in range(len(requests))]

    async def _sent(
        self,
        requests: Sequence[Request],
        send: Callable[[Sequence[Request]], Awaitable[Sequence[Reply | Refusal]]],
    ) -> Sequence[Reply | Refusal]:
        try:
            replies = await send(requests)
        except grpc.aio.AioRpcError as error:
            refused = refusal_of_error(error, target=self._target, timeout_s=self._timeout_s)
            return [refused] * len(requests)
        if len(replies) != len(requests):
            problem = f"{len(replies)} results for {len(requests)} requests"
            return [Refusal("INTERNAL", [f"{self._target}: {problem}"])] * len(requests)
        return replies


def is_temporary(answer: object) -> bool:
    """The service might grant it later: trying ended, not the question."""
    return isinstance(answer, Refusal) and answer.code in _RETRIED
