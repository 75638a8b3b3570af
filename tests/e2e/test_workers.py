"""Two workers are one service: whichever answers, the answer is the same, and everything counts once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from tests.e2e.campaigns import RULES
from tests.e2e.customers import question, rebuild
from tests.running import CALL_S, START_S, Service, alive, served, until

from tilbud.v1 import campaigns_pb2 as cpb
from tilbud.v1 import decisions_pb2 as pb
from tilbud.v1.campaigns_pb2_grpc import CampaignServiceStub
from tilbud.v1.customers_pb2 import EraseCustomerRequest
from tilbud.v1.customers_pb2_grpc import CustomerServiceStub
from tilbud.v1.decisions_pb2_grpc import DecisionServiceStub

WORKERS = 2
CONNECTIONS = 12
DECISIONS = 60
CALLERS = 48
TIMES = 3
CAPPED = f"""
campaign: capped
offers: [{{id: thrice, caps: [{{times: {TIMES}, per: 7d}}]}}, {{id: plain}}]
reward: {{window: 1h, outcomes: {{click: 1}}}}
exploration: {{preset: uniform}}
consent: not_required
"""
SWITCHED = """
campaign: switched
offers: [{id: one}, {id: two}]
reward: {window: 1h, outcomes: {click: 1}}
consent: not_required
"""
FILES = {"rules.yaml": RULES, "capped.yaml": CAPPED, "switched.yaml": SWITCHED}
OPTIONS = ("--workers", str(WORKERS))


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection, to one worker."""

    decisions: DecisionServiceStub
    campaigns: CampaignServiceStub
    customers: CustomerServiceStub


def _connection(channel: grpc.Channel) -> Connection:
    return Connection(
        DecisionServiceStub(channel), CampaignServiceStub(channel), CustomerServiceStub(channel)
    )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Serves three campaigns from two workers."""
    with served(tmp_path_factory.mktemp("workers"), FILES, OPTIONS) as started:
        yield started


@pytest.fixture(scope="module")
def each(service: Service) -> Iterator[list[Connection]]:
    """A connection to each worker, in order."""
    channels = service.dial_each()
    yield [_connection(channel) for channel in channels]
    for channel in channels:
        channel.close()


@pytest.fixture(scope="module")
def many(service: Service) -> Iterator[list[Connection]]:
    """More connections, to whichever worker."""
    channels = [service.dial() for _ in range(CONNECTIONS)]
    yield [_connection(channel) for channel in channels]
    for channel in channels:
        channel.close()


def _serve(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tilbud", "serve", *map(str, words)],
        check=False, capture_output=True, text=True, timeout=2 * START_S,
    )  # fmt: skip


def _model_version(connection: Connection, campaign: str) -> str:
    request = cpb.GetCampaignRequest(campaign=campaign)
    return str(connection.campaigns.GetCampaign(request).campaign.model_version)


def _offers(connection: Connection, campaign: str) -> list[str]:
    return list(connection.campaigns.GetCampaign(cpb.GetCampaignRequest(campaign=campaign)).campaign.offers)


def test_every_worker_answers_and_counts_what_it_answered(service: Service, each: list[Connection]) -> None:
    """All answer on one port; each counts its own at a port of its own, and is ready."""
    assert len(set(service.metrics_sides)) == WORKERS
    before = service.metrics("tilbud_decisions_total")
    for worker, connection in enumerate(each):
        for _ in range(worker + 1):
            assert connection.decisions.Decide(pb.DecideRequest(campaign="switched")).recorded
    after = service.metrics("tilbud_decisions_total")
    assert [late - early for early, late in zip(before, after, strict=True)] == [1, 2]
    for worker in range(WORKERS):
        assert service.wait_ready(worker) == "ready\n"


def test_one_worker_settles(service: Service) -> None:
    """The lease is one worker's alone."""
    until(lambda: sorted(service.metrics("tilbud_settling_lease")) == [0.0, 1.0])


def test_a_retry_is_the_same_decision_whichever_worker_answers(many: list[Connection]) -> None:
    """One id, asked over many connections at once and again after: one answer, word for word."""
    request = pb.DecideRequest(
        campaign="rules", decision_id="retried", include_ranking=True, context=pb.Context(channel="app")
    )
    asked = [connection.decisions.Decide.future(request) for connection in many]
    answers = {each.result(CALL_S).SerializeToString(deterministic=True) for each in asked}
    answers |= {
        connection.decisions.Decide(request).SerializeToString(deterministic=True) for connection in many
    }
    assert len(answers) == 1


def test_outcomes_may_go_to_any_worker_and_are_learned_once_by_all(
    service: Service, each: list[Connection], many: list[Connection]
) -> None:
    """Of copies sent to all at once one is accepted; a settlement counts once and is learned by all."""
    settled = sum(service.metrics("tilbud_settlements_total", campaign="rules"))
    before = int(_model_version(each[0], "rules").split(".")[1])
    for number in range(DECISIONS):
        name = f"learned-{number}"
        many[number % CONNECTIONS].decisions.Decide(pb.DecideRequest(campaign="rules", decision_id=name))
        outcome = pb.ReportOutcomeRequest(campaign="rules", decision_id=name, outcome="bought")
        sent = [connection.decisions.ReportOutcome.future(outcome) for connection in each]
        statuses = Counter(answer.result(CALL_S).status for answer in sent)
        assert statuses == {pb.OUTCOME_STATUS_ACCEPTED: 1, pb.OUTCOME_STATUS_DUPLICATE: WORKERS - 1}
    last = before + DECISIONS
    until(lambda: service.metrics("tilbud_model_sequence", campaign="rules") == WORKERS * [last])
    assert sum(service.metrics("tilbud_settlements_total", campaign="rules")) == settled + DECISIONS
    assert len({_model_version(connection, "rules") for connection in each}) == 1


def test_the_models_of_all_workers_predict_alike(each: list[Connection]) -> None:
    """The same question, asked of each worker without a trace, has the same ranking to the last digit."""
    request = pb.DecideRequest(
        campaign="rules", dry_run=True, include_ranking=True, decision_id="alike",
        context=pb.Context(channel="app", device="mobile", journey_stage="loyal"),
    )  # fmt: skip
    answers = [connection.decisions.Decide(request) for connection in each]
    rankings = [[(offer.offer_id, offer.probability) for offer in answer.ranking] for answer in answers]
    assert len(rankings[0]) > 1
    assert all(ranking == rankings[0] for ranking in rankings)


def test_caps_hold_over_all_workers(many: list[Connection]) -> None:
    """A customer asked about over many connections at once sees the capped offer as often as it allows."""
    request = pb.DecideRequest(campaign="capped", customer_id="anna", consent=pb.CONSENT_GRANTED)
    asked = [many[number % CONNECTIONS].decisions.Decide.future(request) for number in range(CALLERS)]
    answers = [each.result(CALL_S) for each in asked]
    assert all(answer.recorded for answer in answers)
    assert Counter(answer.offer_id for answer in answers) == {"thrice": TIMES, "plain": CALLERS - TIMES}


def test_an_erasure_asked_of_any_worker_is_forgotten_by_all(service: Service, each: list[Connection]) -> None:
    """The worker that answers has learned anew when it does, the others within moments; then all agree."""
    for number, connection in enumerate(each):
        name = f"gone-{number}"
        request = question("rules", name, decision_id=f"of-{name}", consent=pb.CONSENT_GRANTED)
        connection.decisions.Decide(request)
        before = int(_model_version(connection, "rules").split(".")[1])
        connection.decisions.ReportOutcome(
            pb.ReportOutcomeRequest(campaign="rules", decision_id=f"of-{name}", outcome="bought")
        )
        until(lambda: _model_version(connection, "rules").split(".")[1] == str(before + 1))  # noqa: B023
        learned = _model_version(connection, "rules")
        erased = connection.customers.EraseCustomer(EraseCustomerRequest(customer_id=name))
        assert erased.removed_rows
        forgotten = _model_version(connection, "rules")
        assert forgotten.split(".")[0] != learned.split(".")[0]
        until(lambda: all(_model_version(other, "rules") == forgotten for other in each))  # noqa: B023
    rebuild(service)


def test_a_pause_set_through_one_worker_is_heeded_by_all(each: list[Connection]) -> None:
    """From the next decision on; and so is the resumption."""
    for setting, asking in (each, reversed(each)):
        setting.campaigns.PauseOffer(
            cpb.PauseOfferRequest(campaign="switched", offer_id="one", reason="Recalled")
        )
        for connection in (asking, setting):
            answer = connection.decisions.Decide(pb.DecideRequest(campaign="switched", include_ranking=True))
            assert [offer.offer_id for offer in answer.ranking] == ["two"]
        asking.campaigns.ResumeOffer(cpb.ResumeOfferRequest(campaign="switched", offer_id="one"))
        answer = setting.decisions.Decide(pb.DecideRequest(campaign="switched", include_ranking=True))
        assert len(answer.ranking) == 2


def test_files_loaded_by_one_worker_are_loaded_by_all(service: Service, each: list[Connection]) -> None:
    """ReloadCampaigns, asked of any worker, and SIGHUP reach every worker within moments."""
    file = service.files / "switched.yaml"
    wanted = ["one", "two"]
    for number, connection in enumerate(each):
        wanted.append(f"new-{number}")
        file.write_text(SWITCHED.replace("{id: two}", ", ".join(f"{{id: {name}}}" for name in wanted[1:])))
        changes = connection.campaigns.ReloadCampaigns(cpb.ReloadCampaignsRequest())
        assert list(changes.changed) == ["switched"]
        assert _offers(connection, "switched") == wanted
        until(lambda: all(_offers(other, "switched") == wanted for other in each))
    file.write_text(SWITCHED)
    service.process.send_signal(signal.SIGHUP)
    until(lambda: all(_offers(connection, "switched") == ["one", "two"] for connection in each))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_taken_port_is_a_sentence(service: Service, tmp_path: Path, workers: str) -> None:
    """Another service on the workers' port is refused with status 2, alone or with workers of its own."""
    ended = _serve(
        "--data",
        tmp_path,
        "--listen",
        service.target,
        "--http",
        "off",
        "--metrics",
        "127.0.0.1:0",
        "--workers",
        workers,
    )
    assert ended.returncode == 2
    assert f"cannot listen on {service.target}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_what_keeps_one_worker_from_serving_keeps_the_service(service: Service, tmp_path: Path) -> None:
    """A metrics port that is taken ends all workers with status 2 and the sentence of one it hit."""
    taken = service.metrics_sides[0].removeprefix("http://")
    ended = _serve(
        "--data", tmp_path, "--listen", "127.0.0.1:0", "--http", "off", "--metrics", taken, "--workers", "2"
    )
    assert ended.returncode == 2
    said = re.search(
        r"cannot listen on 127\.0\.0\.1:(\d+): Address already in use; choose another --metrics", ended.stderr
    )
    assert said, ended.stderr
    port = int(taken.rpartition(":")[2])
    assert int(said[1]) in {port, port + 1}, "the next one may be taken too"
    assert "Traceback" not in ended.stderr


def test_a_data_directory_has_one_service(service: Service, each: list[Connection]) -> None:
    """Another service is refused the directory that workers serve, with a sentence, and harms nothing."""
    for workers in ("1", "2"):
        ended = _serve("--data", service.data, "--listen", "127.0.0.1:0", "--workers", workers)
        assert ended.returncode == 2
        assert "another process serves" in ended.stderr
    assert each[0].decisions.Decide(pb.DecideRequest(campaign="switched")).recorded


@pytest.mark.parametrize("workers", ["1", "2"])
def test_problems_of_a_campaign_file_are_told_once(tmp_path: Path, workers: str) -> None:
    """A bad file ends the service with status 2 and each problem on a line, however many processes it has."""
    file = tmp_path / "rules.yaml"
    file.write_text(RULES.replace("channels: [app]", "chanels: [app]"))
    ended = _serve(
        "--campaigns",
        file,
        "--data",
        tmp_path / "data",
        "--listen",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        "--metrics",
        "127.0.0.1:0",
        "--workers",
        workers,
    )
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert "chanels: unknown key; did you mean `channels`?" in line


def test_a_stop_during_the_start_ends_it(tmp_path: Path) -> None:
    """SIGTERM to all processes at once, before or while they serve: status 0, without a word of a failure."""
    words = (
        "--data",
        tmp_path,
        "--listen",
        "127.0.0.1:0",
        "--http",
        "off",
        "--metrics",
        "127.0.0.1:0",
        *OPTIONS,
    )
    for workers in (0, 1, 2):
        with subprocess.Popen(
            [sys.executable, "-m", "tilbud", "serve", *map(str, words)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        ) as starting:  # fmt: skip
            assert starting.stderr is not None
            said = ""
            while said.count('"worker_started"') < max(workers, 1) or said.count('"serving"') < workers:
                line = starting.stderr.readline()
                assert line, said
                said += line
            os.killpg(starting.pid, signal.SIGTERM)
            said += starting.communicate(timeout=60)[1]
        assert starting.returncode == 0, said
        assert "ended with status" not in said
        assert "Traceback" not in said


def test_a_stop_drains_every_worker_and_leaves_none(tmp_path: Path) -> None:
    """SIGINT to all, as a terminal sends it, or SIGTERM: status 0, no process left, all found again."""
    with served(tmp_path, FILES, OPTIONS) as service:
        for number, ending in enumerate((signal.SIGINT, signal.SIGTERM)):
            request = pb.DecideRequest(campaign="rules", decision_id=f"kept-{number}")
            answer = service.decisions.Decide(request)
            pids = service.pids()
            assert all(alive(pid) for pid in pids)
            for pid in (*pids, service.process.pid) if ending is signal.SIGINT else (service.process.pid,):
                os.kill(pid, ending)
            assert service.process.wait(60) == 0
            assert not any(alive(pid) for pid in pids)
            service.start()
            assert service.decisions.Decide(request) == answer
        assert service.stop() == 0
        assert service.stopped() == {0: 3, 1: 3}
