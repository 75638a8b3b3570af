"""Visitors for the sample campaign homepage-hero, so that rules, customers and consent are to be seen.

`python deploy/grafana/visitors.py --target HOST:PORT` sends them to a running service, one call at a time.

What holds: a bounded crowd of customers with random contexts, some of them undeclared or without consent;
what they do (events, outcomes, some late or of a decision nobody knows) is drawn from one seeded generator.
What it does not do: have tastes. `tilbud simulate` has a shop with them.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
from collections import deque
from pathlib import Path

import grpc

from tilbud.client.address import dialled
from tilbud.client.options import channel_options
from tilbud.runtime.settings import SAMPLES
from tilbud.v1 import customers_pb2 as customers
from tilbud.v1 import decisions_pb2 as decisions
from tilbud.v1.customers_pb2_grpc import CustomerServiceStub
from tilbud.v1.decisions_pb2_grpc import DecisionServiceStub

CAMPAIGN = "homepage-hero"
CUSTOMERS = 300
EARLIER_MAX = 1_000
UNKNOWN_DECISION = "nobody-knows"
_DEVICES = ("mobile", "mobile", "desktop", "tablet", "fridge", "")
_CHANNELS = ("web", "web", "app", "email", "push", "call_center", "fax", "")
_STAGES = ("awareness", "consideration", "purchase", "retention", "advocacy", "")
_OUTCOMES = ("click", "click", "dismiss", "purchase")


def hurried_samples(directory: Path, window: str) -> Path:
    """Copy the sample campaigns, with a short time for activation and outcomes, so that much happens soon."""
    directory.mkdir()
    for file in SAMPLES.glob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        hurried = window if "activation_window" in text else f"{window}\n  activation_window: {window}"
        text = text.replace("window: 30m", f"window: {hurried}").replace("grace: 10s", "grace: 1s")
        (directory / file.name).write_text(text, encoding="utf-8")
    return directory


class Visitors:
    """A crowd that visits over one connection."""

    def __init__(self, target: str, seed: int) -> None:
        self._target = dialled(target)
        self._random = random.Random(seed)  # noqa: S311 - a crowd, no secret
        self._seed = seed
        self.visits = 0
        self.decided = 0
        self.refused = 0
        self._earlier: deque[str] = deque([UNKNOWN_DECISION], maxlen=EARLIER_MAX)

    async def run(self, *, visits: int | None, per_second: float | None, stop: asyncio.Event) -> None:
        """Visit so often, or until `stop`; None: without end, and as fast as answers come."""
        async with grpc.aio.insecure_channel(self._target, channel_options()) as channel:
            self._decisions, self._customers = DecisionServiceStub(channel), CustomerServiceStub(channel)
            while not stop.is_set() and (visits is None or self.visits < visits):
                self.visits += 1
                try:
                    await self._visit()
                except grpc.aio.AioRpcError:
                    self.refused += 1
                if per_second:
                    await asyncio.sleep(1 / per_second)

    async def _visit(self) -> None:
        chance, name = self._random, f"visitor-{self._random.randrange(CUSTOMERS)}"
        if chance.random() < 0.1:  # noqa: PLR2004 - the shares of a made-up crowd, here and below
            event = chance.choice(("add_to_cart", "purchase", "support_case"))
            await self._customers.ReportCustomerEvent(
                customers.ReportCustomerEventRequest(
                    customer_id=name,
                    event=event,
                    event_id=f"{self._seed}-{self.visits}",
                    consent=decisions.CONSENT_GRANTED,
                )
            )
        deferred = chance.random() < 0.2  # noqa: PLR2004
        asked = decisions.DecideRequest(
            campaign=CAMPAIGN,
            decision_id=f"visit-{self._seed}-{self.visits}",
            customer_id=name if chance.random() < 0.6 else "",  # noqa: PLR2004
            context=self._context(),
            consent=decisions.CONSENT_DENIED if chance.random() < 0.1 else decisions.CONSENT_GRANTED,  # noqa: PLR2004
            defer_activation=deferred,
        )
        answer = await self._decisions.Decide(asked)
        self.decided += 1
        self._earlier.append(answer.decision_id)
        if chance.random() < 0.4:  # noqa: PLR2004
            await self._report(answer.decision_id)
        if deferred and chance.random() < 0.7:  # noqa: PLR2004
            await self._decisions.Activate(
                decisions.ActivateRequest(campaign=CAMPAIGN, decision_id=answer.decision_id)
            )
        if chance.random() < 0.05:  # noqa: PLR2004 - late, where the window is over by now
            await self._report(self._earlier[0])
        if chance.random() < 0.02:  # noqa: PLR2004
            await self._report(UNKNOWN_DECISION)

    async def _report(self, decision_id: str) -> None:
        report = decisions.ReportOutcomeRequest(
            campaign=CAMPAIGN, decision_id=decision_id, outcome=self._random.choice(_OUTCOMES)
        )
        if report.outcome == "purchase":
            report.value = self._random.uniform(0.5, 1.5)
        await self._decisions.ReportOutcome(report)

    def _context(self) -> decisions.Context:
        chance = self._random
        return decisions.Context(
            device=chance.choice(_DEVICES),
            channel=chance.choice(_CHANNELS),
            journey_stage=chance.choice(_STAGES),
            features={
                "basket_value": decisions.FeatureValue(number=round(chance.expovariate(1 / 40), 2)),
                "returning": decisions.FeatureValue(flag=chance.random() < 0.5),  # noqa: PLR2004
            },
        )


async def _visit(visitors: Visitors, visits: int | None, per_second: float) -> None:
    """Send them until they are so many, or until SIGTERM or Ctrl-C."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for ending in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(ending, stop.set)
    await visitors.run(visits=visits, per_second=per_second, stop=stop)


def main() -> None:
    """Read the command line and visit; status 1 where no visitor got an answer."""
    parser = argparse.ArgumentParser(description="Visit the sample campaign homepage-hero, call by call.")
    parser.add_argument("--target", default="127.0.0.1:50051", help="the service's gRPC address")
    parser.add_argument("--visits", type=int, help="end after so many; default: never")
    parser.add_argument("--per-second", type=float, default=10.0, help="visits a second, at most")
    asked = parser.parse_args()
    visitors = Visitors(asked.target, seed=random.SystemRandom().randrange(2**32))
    asyncio.run(_visit(visitors, asked.visits, asked.per_second))
    if not visitors.decided:
        raise SystemExit(f"none of {visitors.visits} visitors got an answer of {asked.target}")


if __name__ == "__main__":
    main()
