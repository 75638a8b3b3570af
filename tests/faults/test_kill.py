"""kill -9 under load: what was acknowledged is there, and everything is learned once."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import threading

import grpc
from tests.conftest import Serve
from tests.e2e.campaigns import RULES
from tests.running import PATIENCE_S, Service, until

from tilbud.v1 import campaigns_pb2
from tilbud.v1 import decisions_pb2 as pb

CALLERS = 8
KILLS = 3
ACKNOWLEDGED = 100  # of each round, before the kill


class _Load:
    """Callers that decide and report until the service is gone, and remember every acknowledgement."""

    def __init__(self) -> None:
        self.decisions: dict[str, tuple[pb.DecideRequest, bytes]] = {}
        self.outcomes: list[pb.ReportOutcomeRequest] = []

    def run(self, service: Service, round_number: int) -> None:
        """Load the service, kill it in the middle, and wait for the callers to notice."""
        threads = [
            threading.Thread(target=self._call, args=(service, f"r{round_number}-c{caller}"))
            for caller in range(CALLERS)
        ]
        for thread in threads:
            thread.start()
        before = len(self.outcomes)
        until(lambda: len(self.outcomes) >= before + ACKNOWLEDGED)
        service.process.kill()
        for thread in threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        service.kill()

    def _call(self, service: Service, name: str) -> None:
        draw = random.Random(name)
        try:
            for number in range(1_000_000):
                request = pb.DecideRequest(
                    campaign="rules",
                    decision_id=f"{name}-{number}",
                    include_ranking=True,
                    context=pb.Context(
                        channel=draw.choice(["web", "app"]), device=draw.choice(["mobile", "desktop"])
                    ),
                )
                answer = service.decisions.Decide(request)
                self.decisions[answer.decision_id] = (request, answer.SerializeToString(deterministic=True))
                outcome = pb.ReportOutcomeRequest(
                    campaign="rules",
                    decision_id=answer.decision_id,
                    outcome="bought" if draw.random() < 0.3 else "left",
                )
                service.decisions.ReportOutcome(outcome)
                self.outcomes.append(outcome)
        except (grpc.RpcError, ValueError):
            return


def _sequence(service: Service) -> int:
    request = campaigns_pb2.GetCampaignRequest(campaign="rules")
    return int(service.campaigns.GetCampaign(request).campaign.model_version.split(".")[1])


def test_what_was_acknowledged_survives_kill_9_and_is_learned_once(serve: Serve) -> None:
    """Three kills under load lose nothing that was acknowledged.

    After each, every acknowledged decision answers the same again and every acknowledged outcome is a
    DUPLICATE; in the end every settlement was learned once, and `rebuild` agrees with the running model.
    """
    service = serve(RULES)
    load = _Load()
    for round_number in range(KILLS):
        load.run(service, round_number)
        service.start()
        for request, answer in load.decisions.values():
            again = service.decisions.Decide(request)
            assert again.SerializeToString(deterministic=True) == answer
        for start in range(0, len(load.outcomes), 500):
            batch = pb.BatchReportOutcomesRequest(requests=load.outcomes[start : start + 500])
            for result in service.decisions.BatchReportOutcomes(batch).results:
                assert result.outcome.status == pb.OUTCOME_STATUS_DUPLICATE
    assert len(load.outcomes) >= KILLS * ACKNOWLEDGED
    settled_at_least = len(load.outcomes)
    settled_at_most = len(load.decisions) + KILLS * CALLERS
    until(lambda: _sequence(service) >= settled_at_least)
    assert _sequence(service) <= settled_at_most
    for running in (True, False):
        if not running:
            service.stop()
        rebuilt = subprocess.run(
            [sys.executable, "-m", "tilbud", "rebuild", "--campaigns", service.files, "--data", service.data],
            check=False, capture_output=True, text=True, timeout=2 * PATIENCE_S, env={"COLUMNS": "200"},
        )  # fmt: skip
        assert rebuilt.returncode == 0, rebuilt.stdout + rebuilt.stderr
        assert re.search(r"verdict +equal", rebuilt.stdout), rebuilt.stdout
        alike = re.search(r"decisions drawn alike +([\d,]+) of ([\d,]+)", rebuilt.stdout)
        assert alike, rebuilt.stdout
        assert alike[1] == alike[2]
        assert int(alike[1].replace(",", "")) > len(load.decisions) / 2
        assert running or "100 of 100 (written at" in rebuilt.stdout, "the checkpoint of the drain"
