"""A fake service in this process: answers by a policy, remembers everything, fails when told to."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from tilbud.v1 import campaigns_pb2, campaigns_pb2_grpc, decisions_pb2, decisions_pb2_grpc

UNIFORM_OFFERS = ("free-shipping", "ten-percent-off", "gift-wrapping")


class FakeService(decisions_pb2_grpc.DecisionServiceServicer, campaigns_pb2_grpc.CampaignServiceServicer):
    """Keeps the contract's promises on retries and duplicates, and nothing else."""

    def __init__(self) -> None:
        self.target = ""
        self.campaign = campaigns_pb2.Campaign(
            id="shop",
            offers=UNIFORM_OFFERS,
            outcomes=[
                campaigns_pb2.CampaignOutcome(name="purchase", weight=1, final=True),
                campaigns_pb2.CampaignOutcome(name="leave", weight=0, final=True),
            ],
            devices=["mobile", "desktop"],
            channels=["web"],
        )
        self.policy: Callable[[int], str] = lambda count: UNIFORM_OFFERS[count % len(UNIFORM_OFFERS)]
        self.reason = decisions_pb2.DECISION_REASON_PERSONALIZED
        self.recorded = True
        self.refuse: Callable[[str], int] = lambda _: 0
        """Decision id → the gRPC code of its own refusal in a batch; 0: none."""
        self.faults: dict[str, deque[grpc.StatusCode]] = {}
        """Method → codes its next calls fail with, after having done their work."""
        self.forgets_result = False
        self.learned: Callable[[], int] = lambda: len(self.reported)
        """How many settlements the model has learned, when asked."""
        self.on_batch: Callable[[], None] = lambda: None
        self.asked: list[decisions_pb2.DecideRequest] = []
        """Every question, retries included."""
        self.decisions: dict[str, tuple[bytes, decisions_pb2.DecideResponse]] = {}
        self.activated: list[str] = []
        self.reported: Counter[tuple[str, str, float]] = Counter()
        """(decision, outcome, value), retries included."""
        self.story: list[tuple[str, str]] = []
        """What happened to which decision, in order, without retries."""

    async def GetCampaign(self, request, context):  # noqa: N802 - the contract's name
        if request.campaign != self.campaign.id:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no campaign {request.campaign}")
        await self._fault("GetCampaign", context)
        self.campaign.model_version = f"fake.{self.learned()}"
        return campaigns_pb2.GetCampaignResponse(campaign=self.campaign)

    async def BatchDecide(self, request, context):  # noqa: N802
        results = [self._decide(one) for one in request.requests]
        self.on_batch()
        await self._fault("BatchDecide", context)
        return decisions_pb2.BatchDecideResponse(results=results[int(self.forgets_result) :])

    async def Activate(self, request, context):  # noqa: N802
        self.activated.append(request.decision_id)
        self.story.append(("activated", request.decision_id))
        await self._fault("Activate", context)
        return decisions_pb2.ActivateResponse()

    async def BatchReportOutcomes(self, request, context):  # noqa: N802
        results = [self._report(one) for one in request.requests]
        await self._fault("BatchReportOutcomes", context)
        return decisions_pb2.BatchReportOutcomesResponse(results=results)

    def _decide(self, request) -> decisions_pb2.BatchDecideResult:
        self.asked.append(request)
        result = decisions_pb2.BatchDecideResult()
        code = self.refuse(request.decision_id)
        if code:
            result.error.code = code
            result.error.message = "refused by the test"
            return result
        asked_as, answer = self.decisions.setdefault(
            request.decision_id, (request.SerializeToString(deterministic=True), self._answer(request))
        )
        assert asked_as == request.SerializeToString(deterministic=True), "one id, two different requests"
        result.decision.CopyFrom(answer)
        return result

    def _answer(self, request) -> decisions_pb2.DecideResponse:
        self.story.append(("decided", request.decision_id))
        return decisions_pb2.DecideResponse(
            decision_id=request.decision_id,
            offer_id=self.policy(len(self.decisions)),
            probability=1,
            reason=self.reason,
            variant="personalized",
            model_version="fake.0",
            recorded=self.recorded,
        )

    def _report(self, request) -> decisions_pb2.BatchReportOutcomesResult:
        known = request.decision_id in self.decisions
        assert known, f"an outcome for {request.decision_id}, which was never answered"
        value = request.value if request.HasField("value") else 1.0
        seen = (request.decision_id, request.outcome, value)
        self.reported[seen] += 1
        if self.reported[seen] == 1:
            self.story.append((request.outcome, request.decision_id))
            status = decisions_pb2.OUTCOME_STATUS_ACCEPTED
        else:
            status = decisions_pb2.OUTCOME_STATUS_DUPLICATE
        outcome = decisions_pb2.ReportOutcomeResponse(status=status)
        return decisions_pb2.BatchReportOutcomesResult(outcome=outcome)

    async def _fault(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        faults = self.faults.get(method)
        if faults:
            await context.abort(faults.popleft(), "a fault of the test")


@pytest.fixture
async def service() -> AsyncIterator[FakeService]:
    """The fake, listening."""
    fake = FakeService()  # type: ignore[abstract] # the contract's other methods are not called
    server = grpc.aio.server()
    decisions_pb2_grpc.add_DecisionServiceServicer_to_server(fake, server)
    campaigns_pb2_grpc.add_CampaignServiceServicer_to_server(fake, server)
    fake.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield fake
    await server.stop(None)
