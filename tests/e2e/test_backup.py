"""A backup made while the service serves: restored, nothing that was acknowledged is missing."""

from __future__ import annotations

import random
import re
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.conftest import Serve
from tests.e2e.campaigns import RULES
from tests.e2e.customers import decide, erase, found, rebuild, report, rows_of, sequence
from tests.e2e.lives import CAMPAIGNS, Life
from tests.running import PATIENCE_S, served, until

from tilbud.v1 import decisions_pb2 as pb
from tilbud.v1.decisions_pb2_grpc import DecisionServiceStub

CALLERS = 4
PAUSE_S = 0.02  # of a caller between two decisions: each is asked for again in the end
WARM_UP_CALLS = 100
CALLS_BEFORE = 200
CALLS_AFTER = 100
SAID = re.compile(
    r"([\d,]+) decisions, ([\d,]+) outcomes, ([\d,]+) settlements, ([\d,]+) checkpoints; ([\d,]+) bytes in"
)


def back_up(data: Path, to: Path, *, file_blocks_max: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run `tilbud backup`, where no file may be longer than so many blocks."""
    words = [sys.executable, "-m", "tilbud", "backup", "--data", data, "--to", to]
    if file_blocks_max is not None:
        words = ["sh", "-c", f'ulimit -f {file_blocks_max}; exec "$@"', "sh", *words]
    return subprocess.run(
        words, check=False, capture_output=True, text=True, timeout=2 * PATIENCE_S, env={"COLUMNS": "100"}
    )


@dataclass
class _Load:
    """Callers that decide and report, and remember every acknowledgement and when it was asked for."""

    decisions: dict[str, tuple[pb.DecideRequest, bytes]] = field(default_factory=dict)
    outcomes: dict[str, pb.ReportOutcomeRequest] = field(default_factory=dict)
    calls_s: list[tuple[float, float]] = field(default_factory=list)  # asked, answered
    failures: list[grpc.RpcError] = field(default_factory=list)
    reported: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def on(self, channels: Sequence[grpc.Channel], name: str):
        """Load these connections for as long as the context lasts."""
        stopping = threading.Event()
        callers = [
            threading.Thread(
                target=self._call, args=(channels[number % len(channels)], f"{name}-{number}", stopping)
            )
            for number in range(CALLERS)
        ]
        for caller in callers:
            caller.start()
        try:
            yield
        finally:
            stopping.set()
            for caller in callers:
                caller.join(PATIENCE_S)
        assert not any(caller.is_alive() for caller in callers)
        assert not self.failures

    def until(self, outcomes: int) -> None:
        """Wait until so many outcomes were acknowledged."""
        with self.reported:
            assert self.reported.wait_for(lambda: len(self.outcomes) >= outcomes, PATIENCE_S), self.failures

    def _call(self, channel: grpc.Channel, name: str, stopping: threading.Event) -> None:
        draw, stub = random.Random(name), DecisionServiceStub(channel)
        number = 0
        try:
            while not stopping.is_set():
                number += 1
                asked_s = time.monotonic()
                request = pb.DecideRequest(
                    campaign="rules",
                    decision_id=f"{name}-{number}",
                    include_ranking=True,
                    context=pb.Context(
                        channel=draw.choice(["web", "app"]), device=draw.choice(["mobile", "desktop"])
                    ),
                )
                answer = stub.Decide(request)
                self.calls_s.append((asked_s, time.monotonic()))
                self.decisions[request.decision_id] = (request, answer.SerializeToString(deterministic=True))
                outcome = outcome_of(request.decision_id)
                stub.ReportOutcome(outcome)
                with self.reported:
                    self.outcomes[request.decision_id] = outcome
                    self.reported.notify_all()
                stopping.wait(PAUSE_S)
        except grpc.RpcError as error:
            self.failures.append(error)


def outcome_of(decision_id: str) -> pb.ReportOutcomeRequest:
    """What comes of a decision: known by its id, so that every report of it says the same."""
    outcome = "bought" if random.Random(decision_id).random() < 0.3 else "left"
    return pb.ReportOutcomeRequest(campaign="rules", decision_id=decision_id, outcome=outcome)


def rows(data: Path, query: str) -> list[tuple[Any, ...]]:
    """Ask a ledger's file that nobody writes."""
    with closing(sqlite3.connect(data / "ledger.sqlite3")) as ledger:
        return ledger.execute(query).fetchall()


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one process", "two workers"])
def test_a_backup_under_load_has_all_that_was_acknowledged_before_it_began(
    serve: Serve, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """Decisions are made meanwhile; served from the copy, retries get the same answers word for word.

    The model goes on from its checkpoint and learns each settlement once; no outcome is lost or counts twice.
    """
    service, load, copy = serve(RULES, options=options), _Load(), tmp_path / "copy"
    with load.on([service.channel], "early"):
        load.until(WARM_UP_CALLS)
    service.stop()  # which leaves a checkpoint
    service.start()
    learned = sequence(service, "rules")
    assert learned >= WARM_UP_CALLS
    channels = service.dial_each()
    with load.on(channels, "late"):
        load.until(len(load.outcomes) + CALLS_BEFORE)
        decisions, outcomes, began_s = dict(load.decisions), dict(load.outcomes), time.monotonic()
        made = back_up(service.data, copy)
        ended_s = time.monotonic()
        load.until(len(load.outcomes) + CALLS_AFTER)
    for channel in channels:
        channel.close()
    assert made.returncode == 0, made.stderr
    said = SAID.search(made.stdout)
    assert said, made.stdout
    kept, kept_outcomes, settled, checkpoints, _ = (int(each.replace(",", "")) for each in said.groups())
    assert len(decisions) <= kept <= len(load.decisions)
    assert len(outcomes) <= kept_outcomes <= kept
    assert checkpoints
    assert any(began_s < asked_s and answered_s < ended_s for asked_s, answered_s in load.calls_s)
    service.close()

    restored = serve(service.files, data=copy, options=options)
    assert sequence(restored, "rules") >= settled
    assert not restored.events("checkpoints_ahead_of_ledger")
    assert not restored.events("checkpoint_refused")
    for request, answer in decisions.values():
        assert restored.decisions.Decide(request).SerializeToString(deterministic=True) == answer
    statuses = {each: restored.decisions.ReportOutcome(outcome_of(each)).status for each in decisions}
    assert {statuses[each] for each in outcomes} == {pb.OUTCOME_STATUS_DUPLICATE}
    assert set(statuses.values()) <= {pb.OUTCOME_STATUS_DUPLICATE, pb.OUTCOME_STATUS_ACCEPTED}
    [(in_all,)] = rows(copy, "SELECT count(*) FROM outcomes")
    until(lambda: sequence(restored, "rules") >= in_all)
    assert sequence(restored, "rules") == in_all
    rebuild(restored)
    restored.stop()
    rewards = rows(
        copy,
        "SELECT decision_id, reward FROM settlements s JOIN decisions d ON d.no = s.decision_no",
    )
    assert len(rewards) == len(dict(rewards)) == in_all
    assert all(reward == (outcome_of(each).outcome == "bought") for each, reward in rewards)


def test_a_backup_of_a_stopped_service_is_whole_and_its_owners_alone(serve: Serve, tmp_path: Path) -> None:
    """Nothing but ledger and checkpoints is in it, an empty directory gives way, the source is as it was."""
    service, copy = serve(RULES), tmp_path / "copy"
    for number in range(20):
        decide(service, "rules", decision_id=f"d{number}")
        report(service, "rules", f"d{number}", "bought")
    until(lambda: sequence(service, "rules") == 20)
    service.kill()  # so that what was acknowledged stands in the log alone
    before = (service.data / "ledger.sqlite3").read_bytes()
    copy.mkdir()
    made = back_up(service.data, copy)
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith(f"{copy}: 20 decisions, 20 outcomes, 20 settlements, 0 checkpoints; ")
    assert (service.data / "ledger.sqlite3").read_bytes() == before
    service.start()
    decide(service, "rules", decision_id="last")
    report(service, "rules", "last", "bought")
    until(lambda: sequence(service, "rules") == 21)  # by now it settles, so that it leaves a checkpoint
    service.stop()
    assert ", 1 checkpoints; " in back_up(service.data, tmp_path / "second").stdout
    checkpoints = {path.name for path in (service.data / "checkpoints" / "rules").iterdir()}
    files = {path.relative_to(tmp_path / "second") for path in (tmp_path / "second").rglob("*.*")}
    assert files == {Path("ledger.sqlite3"), *(Path("checkpoints/rules") / name for name in checkpoints)}
    for path in [tmp_path / "second", *(tmp_path / "second").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_who_was_erased_before_is_not_in_the_copy(tmp_path: Path) -> None:
    """A backup from before has the customer's words, so they would be found; one from after has none."""
    gone, stays = Life("erasable"), Life("staying")
    with served(tmp_path / "service", CAMPAIGNS) as service:
        for life in (gone, stays):
            life.live(service, 24)
            life.settled(service)
        service.stop()  # which leaves checkpoints that learned from both
        service.start()
        assert back_up(service.data, tmp_path / "before").returncode == 0
        words = [word for word in gone.words() if word != gone.customer_id]
        assert found(words, tmp_path / "before").keys() == set(words)
        assert erase(service, gone.customer_id)
        made = back_up(service.data, tmp_path / "after")
    assert made.returncode == 0, made.stderr
    assert found(gone.words(), tmp_path / "after") == {}
    models = {path.read_bytes() for path in (tmp_path / "before").rglob("*.model")}
    assert models
    assert not models & {path.read_bytes() for path in (tmp_path / "after").rglob("*.model")}
    with served(tmp_path / "restored", CAMPAIGNS, ("--data", str(tmp_path / "after"))) as restored:
        assert decide(restored, "shop").reason == pb.DECISION_REASON_FALLBACK_NO_CONSENT
        assert rows_of(restored, gone.customer_id, "decision") == []
        assert len(rows_of(restored, stays.customer_id, "decision")) == len(stays.decision_ids)


def test_a_backup_that_cannot_be_written_leaves_nothing(serve: Serve, tmp_path: Path) -> None:
    """A disk without room: status 2, a sentence, and no file of the copy, whole or half."""
    service, target = serve(RULES), tmp_path / "backups"
    target.mkdir()
    made = back_up(service.data, target / "copy", file_blocks_max=8)
    assert made.returncode == 2
    assert "the ledger cannot be copied" in made.stderr
    assert "Traceback" not in made.stderr
    assert list(target.iterdir()) == []
    assert back_up(service.data, target / "copy").returncode == 0
    assert [path.name for path in target.iterdir()] == ["copy"]
    again = back_up(service.data, target / "copy")
    assert again.returncode == 2
    assert "is there already" in again.stderr
