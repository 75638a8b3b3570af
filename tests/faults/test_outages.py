"""Time in which nobody could report takes nothing from a deadline, and readiness tells the truth."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from tests.running import CALL_S, Service, served, until

from tilbud.ledger.durability import Durability
from tilbud.ledger.sqlite.acknowledged import AcknowledgedFile, read
from tilbud.transport.grpc.health_client import ask_health
from tilbud.v1 import decisions_pb2 as pb
from tilbud.v1.decisions_pb2_grpc import DecisionServiceStub

FILES = {
    "c.yaml": """
campaign: c
offers: [{id: a}, {id: b}]
reward: {window: 8s, grace: 0s, outcomes: {click: {weight: 1, final: true}}, learn: on_settlement}
consent: not_required
variants: {control: {share: 0}}
"""
}
AWAY_S = 10.0  # longer than the window, which is long enough for a machine that stalls for seconds
TRIES = 5
ACCEPTED = pb.OUTCOME_STATUS_ACCEPTED


def decide(service: Service, number: int) -> str:
    """Decide, and return the id."""
    return _decide(service.decisions, number)


def _decide(decisions: DecisionServiceStub, number: int) -> str:
    request = pb.DecideRequest(campaign="c", decision_id=f"d{number}")
    return decisions.Decide(request, timeout=CALL_S).decision_id


def refused(service: Service, numbers: Iterable[int]) -> None:
    """Check that none of these decisions is acknowledged."""
    with service.dial(retries=False) as channel:
        for number in numbers:
            with pytest.raises(grpc.RpcError) as raised:
                _decide(DecisionServiceStub(channel), number)
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


def report(service: Service, decision_id: str) -> int:
    """Report a click; return its status."""
    return _report(service.decisions, decision_id)


def _report(decisions: DecisionServiceStub, decision_id: str) -> int:
    request = pb.ReportOutcomeRequest(campaign="c", decision_id=decision_id, outcome="click")
    return decisions.ReportOutcome(request, timeout=CALL_S).status


def seconds_until(true: Callable[[], object]) -> float:
    """Wait until something is so; return how long that took."""
    began = time.monotonic()
    until(true)
    return time.monotonic() - began


def learned_well(service: Service, decisions: int) -> None:
    """Every decision settles with its click, and no failure was learned."""
    until(lambda: service.metric("tilbud_settlements_total") == decisions)
    assert service.metric("tilbud_reward_gain_total") == decisions


def test_a_frozen_service_takes_no_time_from_those_who_report(tmp_path: Path) -> None:
    """Frozen for longer than the window: what is reported right after is accepted and learned so."""
    with served(tmp_path, FILES) as service:
        ids = [decide(service, number) for number in range(20)]
        service.process.send_signal(signal.SIGSTOP)
        threading.Event().wait(AWAY_S)
        service.process.send_signal(signal.SIGCONT)
        assert {report(service, each) for each in ids} == {ACCEPTED}
        learned_well(service, 20)
        assert service.metric("tilbud_outages_total") >= 1
        assert service.stop() == 0


def test_a_ledger_locked_by_another_program_is_told_and_takes_no_time(tmp_path: Path) -> None:
    """Not ready within 2 s, calls are refused within their deadlines; then all that is reported counts."""
    with served(tmp_path, FILES) as service:
        ids = [decide(service, number) for number in range(20)]
        other = sqlite3.connect(service.data / "ledger.sqlite3", isolation_level=None)
        for _ in range(TRIES):  # a machine that stalls makes one slow, not each
            other.execute("BEGIN EXCLUSIVE")
            began = time.monotonic()
            if _told_and_refused_soon(service, ids[0]):
                break
            other.execute("ROLLBACK")
            service.wait_ready()
        else:
            pytest.fail("it is never told in time")
        threading.Event().wait(max(0.0, AWAY_S - (time.monotonic() - began)))
        other.execute("ROLLBACK")
        other.close()
        until(lambda: _accepted(service, ids[0]))
        assert {report(service, each) for each in ids[1:]} == {ACCEPTED}
        service.wait_ready()
        until(lambda: ask_health(service.target, "tilbud.v1.DecisionService", CALL_S) == "SERVING")
        learned_well(service, 20)


def _told_and_refused_soon(service: Service, decision_id: str) -> bool:
    """Wait until it is told everywhere and a call is refused; return whether each came soon."""
    unready_s = seconds_until(lambda: not service.ready())
    unhealthy_s = seconds_until(lambda: ask_health(service.target, "", CALL_S) == "NOT_SERVING")
    with service.dial(retries=False) as channel:
        began = time.monotonic()
        with pytest.raises(grpc.RpcError) as raised:
            _report(DecisionServiceStub(channel), decision_id)
        refused_s = time.monotonic() - began
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    return unready_s < 2.5 and unhealthy_s < 1.5 and refused_s < 4


def _accepted(service: Service, decision_id: str) -> bool:
    try:
        status = report(service, decision_id)
    except grpc.RpcError:
        return False
    assert status in (ACCEPTED, pb.OUTCOME_STATUS_DUPLICATE)
    return True


def test_a_full_disk_is_told_and_takes_no_time(tmp_path: Path) -> None:
    """While nothing can be written the service is not ready; with room again, what is reported counts."""
    with served(tmp_path, FILES) as service:
        ids = [decide(service, number) for number in range(20)]
        size = (service.data / "ledger.sqlite3-wal").stat().st_size
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        until(lambda: not service.ready())
        threading.Event().wait(AWAY_S)
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, unlimited)
        until(lambda: _accepted(service, ids[0]))
        assert {report(service, each) for each in ids[1:]} == {ACCEPTED}
        service.wait_ready()
        learned_well(service, 20)


@pytest.mark.parametrize("name", ["ledger.sqlite3", "ledger.sqlite3-wal", "ledger.sqlite3-shm"])
def test_a_ledger_that_was_deleted_acknowledges_nothing_more(tmp_path: Path, name: str) -> None:
    """Not one call after, not ready, one line of the log; and no second ledger is made."""
    with served(tmp_path, FILES) as service:
        decide(service, 0)
        (service.data / name).unlink()
        refused(service, range(1, 20))
        until(lambda: not service.ready())
        lost = until(lambda: [line for line in service.events("not_ready") if "is lost" in line["reason"]])
        assert len(lost) == 1
        assert service.metric("tilbud_ledger_trouble", kind="lost") == 1
        service.kill()
        if name == "ledger.sqlite3":
            with pytest.raises(AssertionError, match=r"is gone, but .* commits were acknowledged"):
                service.start()
            assert not (service.data / name).exists()


@pytest.mark.parametrize("how", ["log cut", "database cut", "directory moved", "database replaced"])
def test_a_ledger_that_was_changed_underneath_acknowledges_nothing_more(tmp_path: Path, how: str) -> None:
    """Whatever was done to its files, no call after it is told that it was recorded."""
    with served(tmp_path, FILES) as service:
        decide(service, 0)
        database = service.data / "ledger.sqlite3"
        other = sqlite3.connect(database)
        other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()  # or the database is too short to cut
        other.close()
        decide(service, 1)
        if how == "log cut":
            os.truncate(f"{database}-wal", 0)
        elif how == "database cut":
            os.truncate(database, database.stat().st_size // 2 // 4096 * 4096)
        elif how == "directory moved":
            service.data.rename(tmp_path / "moved")
        else:
            copy = database.with_name("copy")
            copy.write_bytes(database.read_bytes())
            copy.rename(database)
        refused(service, range(2, 12))
        until(lambda: not service.ready())


def test_workers_make_no_second_ledger(tmp_path: Path) -> None:
    """A worker that is started again refuses a ledger that is not there any more."""
    with served(tmp_path, FILES, ("--workers", "2")) as service:
        decide(service, 0)
        (service.data / "ledger.sqlite3").unlink()
        os.kill(service.pids()[0], signal.SIGKILL)
        until(lambda: service.events("worker_ended"))
        threading.Event().wait(1.0)
        assert not (service.data / "ledger.sqlite3").exists()


def test_each_worker_shows_what_the_ledger_lacked_when_the_service_began(tmp_path: Path) -> None:
    """The supervisor finds it; a worker that is started again shows it too."""
    with served(tmp_path, FILES, ("--workers", "2")) as service:
        assert service.stop() == 0
        ledger = service.data / "ledger.sqlite3"
        known = read(ledger)
        assert known is not None
        acknowledged = AcknowledgedFile(ledger, 1, Durability.PROCESS)
        acknowledged.write(known.commits + 7)
        acknowledged.close()
        service.options = (*service.options, "--accept-loss")
        service.start()
        assert service.metrics("tilbud_ledger_lost_commits") == [7, 7]
        first = service.pids()[0]
        os.kill(first, signal.SIGKILL)
        until(lambda: service.pids()[0] != first)
        until(lambda: _shown(service, 0) == 7)
        assert service.stop() == 0


def _shown(service: Service, worker: int) -> float:
    try:
        return service.metric("tilbud_ledger_lost_commits", worker)
    except OSError:
        return -1


@pytest.mark.parametrize("how", ["cut", "flipped"])
def test_a_log_that_lacks_acknowledged_commits_is_refused(tmp_path: Path, how: str) -> None:
    """A start says how many are missing, leaves the log as it is, and goes on only when that is accepted."""
    with served(tmp_path, FILES) as service:
        for number in range(10):
            decide(service, number)
        service.kill()
        log = service.data / "ledger.sqlite3-wal"
        content = bytearray(log.read_bytes())
        middle = 32 + (len(content) - 32) // 4120 // 2 * 4120 + 100
        if how == "cut":
            content = content[:middle]
        else:
            content[middle] ^= 1
        log.write_bytes(content)
        with pytest.raises(AssertionError, match=r"the last [\d,]+ are missing"):
            service.start()
        assert log.read_bytes() == content
        service.options = (*service.options, "--accept-loss")
        service.log.write_text("")
        service.start()
        assert service.events("acknowledged_lost")[0]["commits"] > 0
        assert service.metric("tilbud_ledger_lost_commits") > 0
        assert service.stop() == 0


def test_a_damaged_database_is_not_served(tmp_path: Path) -> None:
    """Half of its pages overwritten: a start refuses it, and names the remedy."""
    with served(tmp_path, FILES) as service:
        for number in range(50):
            decide(service, number)
        assert service.stop() == 0
        file = service.data / "ledger.sqlite3"
        content = bytearray(file.read_bytes())
        for page in range(1, len(content) // 4096, 2):
            content[page * 4096 : page * 4096 + 64] = b"\xa5" * 64
        file.write_bytes(content)
        with pytest.raises(AssertionError, match=r"damaged .*: restore a backup"):
            service.start()


def test_damage_while_it_serves_is_told(tmp_path: Path) -> None:
    """Pages overwritten underneath: not ready, one line of the log, nothing more is written."""
    with served(tmp_path, FILES) as service:
        for number in range(50):
            decide(service, number)
        other = sqlite3.connect(service.data / "ledger.sqlite3")
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        other.close()
        with (service.data / "ledger.sqlite3").open("r+b") as file:
            size = file.seek(0, 2)
            for page in range(1, size // 4096):
                file.seek(page * 4096)
                file.write(b"\xa5" * 64)

        def damaged() -> bool:
            with suppress(grpc.RpcError):
                decide(service, 99)
            return service.metric("tilbud_ledger_trouble", kind="damaged") == 1

        until(damaged)
        refused(service, [100])
        assert not service.ready()
        until(lambda: service.events("not_ready"))  # with the next beat
