"""Customers of a shop, as locust users: a realistic mix of calls, and whether locust and the service agree.

    locust -f loadtests/locustfile.py --headless -u 16 -r 16 -t 30s --host 127.0.0.1:50051

against a service of the sample campaigns that nobody else calls meanwhile. Decisions with ids of their own
and of the server's, the same id asked again; deferred ones, activated after an outcome came; outcomes that
are accepted, duplicate, late, or of a decision nobody knows; batches of both. Each answer is checked: a
status other than expected, or another answer to a retry, is a failure in locust's statistics.

When it ends, it asks the service for its metrics (TILBUD_METRICS_URL, by default http://127.0.0.1:8080/metrics;
several with commas between, one for each worker) and compares: calls by method and status, which must be
equal, else the exit code is 1; and latencies. A user waits for its answer before it asks again, so locust
never sees less than the service does: it adds the way there and back, the queue before the service begins to
handle a call, and its own work. Locust is one process of Python: it is its figures that are checked here,
not the service's limits.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
import urllib.request
import uuid
from collections import defaultdict
from itertools import count
from typing import Any

import grpc
import grpc.experimental.gevent
from google.protobuf.message import Message
from locust import User, between, events, task
from locust.env import Environment
from locust.user.task import LOCUST_STATE_STOPPING, LOCUST_STATE_WAITING
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table

from histograms import Seen
from serving import SEED, machine
from tilbud.v1 import decisions_pb2 as pb
from tilbud.v1.decisions_pb2_grpc import DecisionServiceStub

grpc.experimental.gevent.init_gevent()

METRICS = os.environ.get("TILBUD_METRICS_URL", "http://127.0.0.1:8080/metrics")
TIMEOUT_S = 10.0
CUSTOMERS = 2_000
BATCH = 20
DAY_S = 86_400
DURATION = "tilbud_rpc_duration_seconds"
OK, NOT_FOUND = grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND
Key = tuple[str, str]
"""A method's name and the status it was answered with."""

_numbers = count()
_heard: defaultdict[Key, list[float]] = defaultdict(list)  # milliseconds
_before: dict[Key, Seen] = {}


class Unexpected(Exception):
    """An answer that is not what the contract promises."""


class Shopper(User):
    """Somebody who visits the shop again and again."""

    wait_time = between(0.001, 0.02)
    _state: Any  # locust's; said here for whoever checks types without it

    def on_start(self) -> None:
        """Connect: each user has a connection, as each server of a shop would."""
        self.random = random.Random(f"{SEED}-{next(_numbers)}")
        options = [("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.insecure_channel(str(self.host).split("://")[-1], options)
        self.service = DecisionServiceStub(self.channel)

    def on_stop(self) -> None:
        """Disconnect."""
        self.channel.close()

    def stop(self, force: bool = False) -> bool:
        """Let the user finish what it began.

        Locust kills who waits between two tasks, and the next one may have begun before that comes through:
        its call would be counted by the service only.
        """
        if self._state == LOCUST_STATE_WAITING and not force:
            self._state = LOCUST_STATE_STOPPING  # which is looked at after the wait
            return False
        return bool(super().stop(force))

    @task(50)
    def visit(self) -> None:
        """Look at the shop, and buy or leave."""
        decision = self.call("Decide", "shop", self.shop())
        self.report("accepted", decision.decision_id, self.ending(), pb.OUTCOME_STATUS_ACCEPTED)

    @task(15)
    def come_back(self) -> None:
        """Ask as a known customer, ask again with the same id, and click twice on what is shown."""
        question = self.hero(decision_id=f"visit-{uuid.uuid4()}")
        decision = self.call("Decide", "own id", question)
        self.call("Decide", "retry of the same id", question, same=decision)
        event_id = f"click-{uuid.uuid4()}"
        outcome: dict[str, Any] = {"campaign": question.campaign, "event_id": event_id}
        self.report("accepted", decision.decision_id, "click", pb.OUTCOME_STATUS_ACCEPTED, **outcome)
        self.report("duplicate", decision.decision_id, "click", pb.OUTCOME_STATUS_DUPLICATE, **outcome)

    @task(10)
    def wait_and_see(self) -> None:
        """Ask in advance; half of what was asked is shown, after an outcome was heard of it."""
        decision = self.call("Decide", "deferred", self.shop(defer_activation=True))
        self.report("held", decision.decision_id, self.ending(), pb.OUTCOME_STATUS_HELD)
        if self.random.random() < 0.5:
            request = pb.ActivateRequest(campaign="shop", decision_id=decision.decision_id)
            self.call("Activate", "deferred", request)

    @task(5)
    def come_too_late(self) -> None:
        """Report what happened a day after the reward window."""
        decision = self.call("Decide", "homepage-hero", self.hero())
        request = pb.ReportOutcomeRequest(
            campaign="homepage-hero",
            decision_id=decision.decision_id,
            outcome="click",
            event_id=f"late-{uuid.uuid4()}",
        )
        request.time.seconds = decision.reward_deadline.seconds + DAY_S
        self.check("late", self.call("ReportOutcome", "late", request), pb.OUTCOME_STATUS_LATE)

    @task(3)
    def come_from_nowhere(self) -> None:
        """Report an outcome of a decision that nobody made."""
        request = pb.ReportOutcomeRequest(
            campaign="shop", decision_id=f"nobody-{uuid.uuid4()}", outcome="purchase"
        )
        self.call("ReportOutcome", "orphan, NOT_FOUND expected", request, expected=NOT_FOUND)

    @task(3)
    def come_in_a_group(self) -> None:
        """Ask for a newsletter's readers at once, and report what they did at once."""
        requests = [self.shop() for _ in range(BATCH)]
        batch = pb.BatchDecideRequest(requests=requests)
        decisions = [each.decision for each in self.call("BatchDecide", f"{BATCH}", batch).results]
        outcomes = [
            pb.ReportOutcomeRequest(campaign="shop", decision_id=each.decision_id, outcome=self.ending())
            for each in decisions
        ]
        report = pb.BatchReportOutcomesRequest(requests=outcomes)
        for each in self.call("BatchReportOutcomes", f"{BATCH}", report).results:
            self.check(f"{BATCH}", each.outcome, pb.OUTCOME_STATUS_ACCEPTED, "BatchReportOutcomes")

    # What is asked

    def shop(self, **fields: Any) -> pb.DecideRequest:
        """Return an anonymous visitor's question."""
        context = pb.Context(
            device=self.random.choice(("mobile", "desktop", "tablet")),
            channel=self.random.choice(("web", "app", "email")),
            journey_stage=self.random.choice(("awareness", "consideration", "purchase", "retention")),
        )
        return pb.DecideRequest(campaign="shop", context=context, **fields)

    def hero(self, **fields: Any) -> pb.DecideRequest:
        """Return a known customer's question."""
        context = pb.Context(
            device=self.random.choice(("mobile", "desktop")),
            channel=self.random.choice(("web", "app")),
            journey_stage="consideration",
            language=self.random.choice(("da", "en")),
            features={
                "basket_value": pb.FeatureValue(number=round(self.random.uniform(0, 120), 2)),
                "returning": pb.FeatureValue(flag=self.random.random() < 0.5),
            },
        )
        return pb.DecideRequest(
            campaign="homepage-hero",
            customer_id=f"customer-{self.random.randrange(CUSTOMERS)}",
            consent=pb.CONSENT_GRANTED,
            context=context,
            **fields,
        )

    def ending(self) -> str:
        """Return how a visit ends."""
        return "purchase" if self.random.random() < 0.1 else "leave"

    # Asking

    def report(self, name: str, decision_id: str, outcome: str, expected: int, **fields: Any) -> None:
        """Report an outcome, and check what became of it."""
        fields = {"campaign": "shop"} | fields
        request = pb.ReportOutcomeRequest(decision_id=decision_id, outcome=outcome, **fields)
        self.check(name, self.call("ReportOutcome", name, request), expected)

    def call(
        self,
        method: str,
        name: str,
        request: Message,
        *,
        expected: grpc.StatusCode = OK,
        same: Message | None = None,
    ) -> Any:
        """Make a call and tell locust; a call that failed ends the task. `same`: what it must answer."""
        answer, error = None, None
        began_s = time.perf_counter()
        try:
            answer, code = getattr(self.service, method)(request, timeout=TIMEOUT_S), OK
        except grpc.RpcError as refused:
            code, error = refused.code(), refused
        took_ms = (time.perf_counter() - began_s) * 1e3
        _heard[method, code.name].append(took_ms)
        wrong: Exception | None = None
        if code is not expected:
            wrong = error or Unexpected(f"{code.name}, not {expected.name}")
        elif same is not None and answer != same:
            wrong = Unexpected("another answer to the same question")
        length = answer.ByteSize() if answer is not None else 0
        self.tell(method, name, wrong, took_ms, length)
        if wrong is not None:
            raise wrong
        return answer

    def check(
        self, name: str, outcome: pb.ReportOutcomeResponse, expected: int, method: str = "ReportOutcome"
    ) -> None:
        """Tell locust where an outcome became something else."""
        if outcome.status != expected:
            got = pb.OutcomeStatus.Name(outcome.status)
            self.tell(method, f"{name}: another status", Unexpected(got), 0.0, 0)

    def tell(self, method: str, name: str, wrong: Exception | None, took_ms: float, length: int) -> None:
        """Fire what locust counts."""
        self.environment.events.request.fire(
            request_type=method,
            name=name,
            response_time=took_ms,
            response_length=length,
            exception=wrong,
            context={},
        )


# What the service saw


def handled() -> dict[Key, Seen]:
    """Return how long the service handled calls so far, by method and status, over all its processes."""
    samples: defaultdict[Key, list[Sample]] = defaultdict(list)
    for url in METRICS.split(","):
        text = urllib.request.urlopen(url, timeout=TIMEOUT_S).read().decode()
        for family in text_string_to_metric_families(text):
            for each in family.samples if family.name == DURATION else ():
                samples[each.labels["method"], each.labels["code"]].append(each)
    return {key: Seen.of(found) for key, found in samples.items()}


@events.init.add_listener  # type: ignore[untyped-decorator]  # the library's
def finish_calls(environment: Environment, **_: object) -> None:
    """Let users finish what they began, since what is cut off here may be counted there."""
    environment.stop_timeout = environment.stop_timeout or TIMEOUT_S


@events.test_start.add_listener  # type: ignore[untyped-decorator]  # the library's
def begin(**_: object) -> None:
    """Remember what was counted before."""
    try:
        _before.update(handled())
    except OSError as error:
        sys.exit(f"no metrics at {METRICS}: {error}; set TILBUD_METRICS_URL")


@events.test_stop.add_listener  # type: ignore[untyped-decorator]  # the library's
def compare(environment: Environment, **_: object) -> None:
    """Print both sides, and fail where they counted differently."""
    console = Console(width=100)
    nothing = Seen({}, 0.0)
    since = {key: seen - _before.get(key, nothing) for key, seen in handled().items()}
    names = ("method", "status", "calls", "mean", "p50", "p99", "agree")
    columns = (Column(name, no_wrap=True) for name in names)
    table = Table(*columns, title="What locust heard, and what the service's histograms saw; ms", box=SIMPLE)
    differ = not _heard
    for key in sorted({key for key, seen in since.items() if seen.count} | set(_heard)):
        heard, seen = _heard[key], since.get(key, nothing)
        differ |= len(heard) != seen.count
        table.add_row(*key, f"{len(heard):,} / {seen.count:,}", *_latencies(heard, seen), _agree(heard, seen))
    console.print(table)
    console.print(f"{environment.runner.target_user_count if environment.runner else 0} users; {machine()}")
    if differ:
        console.print("locust and the service counted different calls: does anybody else call it?")
        environment.process_exit_code = 1


def _latencies(heard: list[float], seen: Seen) -> list[str]:
    several = heard if len(heard) > 1 else [*heard, *heard] or [0.0, 0.0]
    cuts = statistics.quantiles(several, n=100, method="inclusive")
    pairs = (
        (statistics.fmean(heard or [0.0]), seen.mean),
        (cuts[49], seen.quantile(0.5)),
        (cuts[98], seen.quantile(0.99)),
    )
    return [f"{here_ms:.1f} / {there_s * 1e3:.1f}" for here_ms, there_s in pairs]


def _agree(heard: list[float], seen: Seen) -> str:
    """Judge by what is exact: the counts, and the means, of which locust's cannot be the smaller one."""
    if len(heard) != seen.count:
        return "no: calls"
    return "yes" if statistics.fmean(heard) >= seen.mean * 1e3 else "no: mean"
