"""Killed and frozen workers: another settles, they come back, and nothing is lost or learned twice."""

from __future__ import annotations

import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Self

import grpc
from tests.e2e.campaigns import RULES
from tests.running import PATIENCE_S, Service, alive, served, until

from tilbud.domain.limits import Limits
from tilbud.v1 import decisions_pb2 as pb
from tilbud.v1.decisions_pb2_grpc import DecisionServiceStub

CALLERS = 4
PAUSE_S = 0.005  # of a caller between two decisions: each is asked for again in the end
KILLS = 2
ANSWERED = 50  # under load, before and after each kill
FILES = {"rules.yaml": RULES}
OPTIONS = ("--workers", "2")
_TRANSIENT = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


class _Load:
    """Callers that decide and report until told to stop, trying again whatever failed, under the same id."""

    def __init__(self, service: Service) -> None:
        self.answers: dict[str, tuple[pb.DecideRequest, bytes]] = {}
        self._service = service
        self._enough = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(f"c{each}",)) for each in range(CALLERS)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let each caller finish what it is at."""
        self._enough.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()

    def go_on(self) -> None:
        """Wait until some more were answered."""
        before = len(self.answers)
        until(lambda: len(self.answers) >= before + ANSWERED)

    def _call(self, name: str) -> None:
        draw = random.Random(name)
        with self._service.dial() as channel:
            stub, number = DecisionServiceStub(channel), 0
            while not self._enough.is_set():
                number += 1
                request = pb.DecideRequest(
                    campaign="rules",
                    decision_id=f"{name}-{number}",
                    include_ranking=True,
                    context=pb.Context(channel=draw.choice(["web", "app"])),
                )
                answer = self._until_answered(lambda: stub.Decide(request))  # noqa: B023 - called at once
                self.answers[answer.decision_id] = (request, answer.SerializeToString(deterministic=True))
                outcome = pb.ReportOutcomeRequest(
                    campaign="rules",
                    decision_id=answer.decision_id,
                    outcome="bought" if draw.random() < 0.3 else "left",
                )
                self._until_answered(lambda: stub.ReportOutcome(outcome))  # noqa: B023 - called at once
                self._enough.wait(PAUSE_S)

    def _until_answered(self, call):
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return call()
            except grpc.RpcError as error:
                assert error.code() in _TRANSIENT, error
                assert time.monotonic() < deadline
                self._enough.wait(0.01)


def _holder(service: Service) -> int:
    leases: list[float] = []

    def one_has_it() -> bool:
        leases[:] = service.metrics("tilbud_settling_lease")
        return sum(leases) == 1

    until(one_has_it)
    return leases.index(1.0)


def _kill_holder(service: Service) -> float:
    """Kill the worker that settles; return after how many seconds another process did."""
    holder, pids = _holder(service), service.pids()
    os.kill(pids[holder], signal.SIGKILL)
    killed_at = time.monotonic()
    until(lambda: not alive(pids[holder]))
    until(lambda: any(_settles(service, worker) for worker in (1 - holder, holder)))  # or who comes back
    passed_s = time.monotonic() - killed_at
    until(lambda: service.pids()[holder] != pids[holder])  # it comes back,
    until(lambda: service.ready(holder))  # where it was
    return passed_s


def _settles(service: Service, worker: int) -> bool:
    try:
        return service.metric("tilbud_settling_lease", worker) == 1
    except OSError:
        return False


def _rebuilt(service: Service) -> str:
    ended = subprocess.run(
        [sys.executable, "-m", "tilbud", "rebuild", "--campaigns", service.files, "--data", service.data],
        check=False, capture_output=True, text=True, timeout=2 * PATIENCE_S, env={"COLUMNS": "200"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_lease_passes_when_its_holder_is_killed_and_nothing_is_lost_or_learned_twice(
    tmp_path: Path,
) -> None:
    """Twice under load: another process settles, the killed worker comes back and learns what it missed.

    Every acknowledged decision answers the same again, every decision is settled once, and `rebuild` agrees.
    """
    with served(tmp_path, FILES, OPTIONS) as service:
        with _Load(service) as load:
            for _ in range(KILLS):
                load.go_on()
                passed_s = _kill_holder(service)
                print(f"the lease passed {passed_s:.2f} s after its holder was killed")  # noqa: T201 - for -s
            load.go_on()
        decisions = len(load.answers)
        assert decisions >= (KILLS + 1) * ANSWERED
        until(lambda: service.metrics("tilbud_model_sequence", campaign="rules") == [decisions, decisions])
        for request, answer in load.answers.values():
            assert service.decisions.Decide(request).SerializeToString(deterministic=True) == answer
        for running in (True, False):
            if not running:
                assert service.stop() == 0
            told = _rebuilt(service)
            assert re.search(r"verdict +equal", told), told
            assert f".{decisions}\n" in re.sub(" +\n", "\n", told), told
            alike = re.search(r"decisions drawn alike +([\d,]+) of ([\d,]+)", told)
            assert alike, told
            assert alike[1] == alike[2]


def _freeze_in_a_transaction(service: Service, pid: int) -> None:
    """Stop a worker at a moment at which it holds the ledger's lock: by trial, under load."""
    [ledger] = service.data.glob("*.sqlite3")
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        os.kill(pid, signal.SIGSTOP)
        with closing(sqlite3.connect(ledger, timeout=0.3, isolation_level=None)) as rival:
            try:
                rival.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return
            rival.execute("ROLLBACK")
        os.kill(pid, signal.SIGCONT)
        threading.Event().wait(random.random() * 0.02)
    raise AssertionError("it was never within a transaction")


def test_a_worker_frozen_within_a_transaction_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    """It keeps every other from committing until it is killed; then all go on, and all answers stay."""
    with served(tmp_path, FILES, OPTIONS) as service:
        frozen = service.pids()[0]
        with _Load(service) as load:
            until(lambda: len(load.answers) > CALLERS)
            _freeze_in_a_transaction(service, frozen)
            answered = len(load.answers)
            until(lambda: not alive(frozen))
            until(lambda: len(load.answers) > answered + CALLERS)
        assert [line["worker"] for line in service.events("worker_hangs")] == [0]
        until(lambda: service.ready(0) and service.ready(1))
        for request, answer in load.answers.values():
            assert service.decisions.Decide(request).SerializeToString(deterministic=True) == answer
        assert service.stop() == 0


def test_a_service_that_was_frozen_whole_keeps_its_workers(tmp_path: Path) -> None:
    """As a container or a machine is, for longer than a hanging worker is given."""
    with served(tmp_path, FILES, OPTIONS) as service:
        everyone = [service.process.pid, *service.pids()]
        for pid in everyone:
            os.kill(pid, signal.SIGSTOP)
        threading.Event().wait(Limits().worker_silent_max_s + 1)  # frozen time is real time
        for pid in everyone:
            os.kill(pid, signal.SIGCONT)
        request = pb.DecideRequest(campaign="rules", decision_id="after")
        assert service.decisions.Decide(request).decision_id == "after"
        threading.Event().wait(1.5)  # looked at twice since
        assert service.pids() == everyone[1:]
        assert not service.events("worker_hangs")
        assert service.stop() == 0


def test_workers_end_by_themselves_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    """They drain and stop, and hold the directory until then; a new service starts there and finds all."""
    with served(tmp_path, FILES, OPTIONS) as service:
        request = pb.DecideRequest(campaign="rules", decision_id="kept")
        answer = service.decisions.Decide(request)
        pids = service.pids()
        service.kill()
        until(lambda: not any(alive(pid) for pid in pids))
        assert {line["worker"] for line in service.events("supervisor_gone")} == {0, 1}
        assert service.stopped() == {0: 1, 1: 1}
        service.start()
        assert service.decisions.Decide(request) == answer
        assert service.stop() == 0


def test_a_worker_that_hangs_does_not_keep_the_service_from_stopping(tmp_path: Path) -> None:
    """It is killed when its time is over, the other drains, and the status says that not all did."""
    with served(tmp_path, FILES, (*OPTIONS, "--drain-grace-s", "5")) as service:
        hanging, _ = pids = service.pids()
        os.kill(hanging, signal.SIGSTOP)
        assert service.stop() == 2
        assert not any(alive(pid) for pid in pids)
        assert service.stopped() == {1: 1}
        assert "worker 0 ended with status -9" in service.log.read_text()
