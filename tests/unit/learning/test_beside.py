"""Relearning in a process of its own: how it is begun, heard, ended and begun again."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pickle
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.wiring import Wired

from tilbud.domain.campaign.campaign import PERSONALIZED
from tilbud.domain.decision.records import DecideRequest, Settlement
from tilbud.domain.errors import LedgerInvalid, ModelUnavailable
from tilbud.learning.beside import COMMAND, Beside
from tilbud.learning.relearning import ORPHANED, Task, relearn
from tilbud.ledger.memory.reader import MemoryReader
from tilbud.telemetry.log import logger

CAMPAIGN = """
campaign: c
offers: [{id: a}, {id: b}]
reward: {window: 10s, grace: 0s, outcomes: {click: 1}}
consent: not_required
"""
SETTLED = 600
HEARD = "import json, pickle, sys, time; task = pickle.load(sys.stdin.buffer); "
SAY = "say = lambda **word: print(json.dumps(word), flush=True); "


@pytest.fixture
async def wired(tmp_path: Path) -> Wired:
    """Campaign `c`, served from memory, with some settlements."""
    wired = await Wired(CAMPAIGN, tmp_path / "checkpoints").start()
    for number in range(SETTLED):
        await wired.decide.decide(DecideRequest("c", decision_id=f"d{number}"))
    wired.clock.pass_s(20)
    while await wired.learner.turn():
        pass
    wired.directory.mkdir(exist_ok=True)
    return wired


def _beside(wired: Wired, *command: str, **limits: Any) -> Beside:
    """Have relearning beside, of little already, by a Python program, or by another command."""
    return Beside(
        history=wired.ledger,
        ledger_file=Path("ledger"),
        checkpoints=wired.checkpoints,
        directory=wired.directory,
        metrics=wired.metrics.learning,
        limits=replace(wired.limits, **{"relearn_beside_rows": 300, "relearn_again_s": 0.0, **limits}),
        log=logger("test"),
        command=command if len(command) > 1 else (sys.executable, "-c", *command),
    )


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def _heard(beside: Beside, left: int) -> None:
    """Wait until a process told how many settlements are left."""
    async with asyncio.timeout(60):
        while (at := beside.progress("c")) is None or at.settlements_left != left:  # noqa: ASYNC110 - a process
            await asyncio.sleep(0.005)


async def test_it_says_how_far_it_is_and_when_it_is_due(wired: Wired) -> None:
    """While it works: what is left, and after a while the time it will be done; then nothing more."""
    enough = wired.directory / "enough"
    program = (
        f"{HEARD}{SAY}import os; say(learned=0, left=500); time.sleep(0.1); say(learned=400, left=100)\n"
        f"while not os.path.exists({str(enough)!r}): time.sleep(0.01)\nsay(done=600)"
    )
    beside = _beside(wired, program)
    learning = asyncio.create_task(beside.learn(wired.campaign, PERSONALIZED, 1))
    await _heard(beside, 100)
    progress = beside.progress("c")
    assert progress is not None
    assert progress.due_s is not None
    assert wired.metric("relearning_settlements_left", campaign="c") == 100
    assert wired.metric("relearning_due_timestamp_seconds", campaign="c") == progress.due_s
    enough.touch()
    await learning
    assert beside.progress("c") is None
    assert wired.metric("relearning_settlements_left", campaign="c") == 0


async def test_little_is_left_to_the_service(wired: Wired) -> None:
    """No process begins where a checkpoint is near enough."""
    await wired.learner.turn()
    await wired.learner.checkpoint_all()
    await _beside(wired, "raise SystemExit(1)").learn(wired.campaign, PERSONALIZED, 0)
    assert wired.metric("relearning_failures_total") == 0


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (f"{HEARD}{SAY}say(failed='for the test'); sys.exit(1)", "for the test"),
        ("raise SystemExit('no interpreter')", "status 1: no interpreter"),
        (f"{HEARD}import os; os.kill(os.getpid(), 9)", "status -9: no word"),
    ],
)
async def test_what_fails_is_begun_again_a_few_times(wired: Wired, program: str, reason: str) -> None:
    """Each failure is logged with its reason, and counted; then whoever waits hears of it."""
    with capture_logs() as logged, pytest.raises(ModelUnavailable, match=reason):
        await _beside(wired, program).learn(wired.campaign, PERSONALIZED, 1)
    failures = [each for each in logged if each["event"] == "relearning_process_failed"]
    assert [each["again"] for each in failures] == [True, True, False]
    assert all(reason in each["reason"] for each in failures)
    assert wired.metric("relearning_failures_total", campaign="c") == 3


async def test_a_machine_that_has_no_process_to_give_is_asked_again(wired: Wired) -> None:
    """As for a process that fails: a few times, told and counted, then whoever waits hears of it."""
    with pytest.raises(ModelUnavailable, match="could not be started: No such file"):
        await _beside(wired, "/no/such/interpreter", "-c").learn(wired.campaign, PERSONALIZED, 1)
    assert wired.metric("relearning_failures_total", campaign="c") == 3


async def test_a_process_that_hangs_is_replaced(wired: Wired) -> None:
    """One that was stopped says nothing any more: it is killed, and counts as one that failed."""
    program = f"{HEARD}{SAY}say(learned=0, left=77); import os; os.kill(os.getpid(), 19)"
    beside = _beside(wired, program, relearn_silent_max_s=2.0, relearn_tries_max=1)
    with capture_logs() as logged, pytest.raises(ModelUnavailable, match="has said nothing for 2 s"):
        await beside.learn(wired.campaign, PERSONALIZED, 1)
    [pid] = [each["pid"] for each in logged if each["event"] == "relearning_began"]
    assert _gone(pid)
    assert wired.metric("relearning_failures_total", campaign="c") == 1


@pytest.mark.parametrize("by", ["who waits", "the service"])
async def test_what_is_cut_short_leaves_no_process(wired: Wired, by: str) -> None:
    """Neither where nobody waits any more nor where the service stops; what stopped begins nothing more."""
    beside = _beside(wired, f"{HEARD}{SAY}say(learned=0, left=77); time.sleep(600)")
    with capture_logs() as logged:
        learning = asyncio.create_task(beside.learn(wired.campaign, PERSONALIZED, 1))
        await _heard(beside, 77)
        if by == "who waits":
            learning.cancel()
        else:
            await beside.stop()
        await asyncio.wait([learning])
    assert learning.cancelled() == (by == "who waits")
    [pid] = [each["pid"] for each in logged if each["event"] == "relearning_began"]
    assert _gone(pid)
    assert wired.metric("relearning_failures_total", campaign="c") == 0
    if by == "the service":
        with pytest.raises(ModelUnavailable, match="stopping"):
            await beside.learn(wired.campaign, PERSONALIZED, 1)


async def test_one_process_of_all_that_serve_relearns(wired: Wired) -> None:
    """Another waits for it, and begins none where what that saved is near enough."""
    beside = _beside(wired, "raise SystemExit(1)")
    lock = os.open(wired.directory / ".relearning", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    learning = asyncio.create_task(beside.learn(wired.campaign, PERSONALIZED, 0))
    await asyncio.sleep(0.01)
    progress = beside.progress("c")
    assert progress is not None
    assert (progress.settlements_left, progress.due_s) == (SETTLED, None)
    wired.checkpoints.save(wired.served.model, 0)
    os.close(lock)
    await learning


async def test_a_process_ends_with_the_one_that_started_it(wired: Wired) -> None:
    """Its standard input ends: so it does, whatever it is at."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    fifo = wired.directory / "fifo"
    os.mkfifo(fifo)  # to open it as a ledger hangs
    process.stdin.write(pickle.dumps(Task(wired.campaign, PERSONALIZED, 0, fifo, fifo, wired.limits)))
    process.stdin.close()
    async with asyncio.timeout(60):
        assert await process.wait() == ORPHANED


async def _relearn(wired: Wired, tell: Callable[[int, int], None]) -> int:
    """Learn in this process what another would; it is saved after each page."""
    task = Task(
        wired.campaign, PERSONALIZED, 0, Path(), Path(), replace(wired.limits, checkpoint_every_s=0.0)
    )
    async with wired.ledger.reader() as reader:
        return await relearn(task, reader=reader, checkpoints=wired.checkpoints, tell=tell)


async def test_what_is_relearned_is_what_the_service_learned(wired: Wired) -> None:
    """The checkpoint is near the end, predicts as the served model did there, and what is left is told."""
    told: list[tuple[int, int]] = []
    sequence = await _relearn(wired, lambda learned, left: told.append((learned, left)))
    assert told[0] == (0, SETTLED)
    assert sequence == SETTLED
    loaded = wired.checkpoints.load_newest(
        wired.campaign, PERSONALIZED, limits=wired.limits, up_to=SETTLED, erasures=0
    )
    assert loaded.model is not None
    assert loaded.model.sequence == SETTLED
    decision = await wired.ledger.find("c", "d0")
    assert decision is not None
    scores = [each.predict(decision.features, decision.offers) for each in (loaded.model, wired.served.model)]
    assert scores[0] == scores[1]


async def test_one_that_was_ended_is_gone_on_with(wired: Wired, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it saved on the way is where the next begins; a gap in the ledger is told and not passed over."""
    real, pages = MemoryReader.settlements, 0

    async def gap(reader: MemoryReader, campaign: str, after: int) -> AsyncIterator[Sequence[Settlement]]:
        nonlocal pages
        async for page in real(reader, campaign, after):
            pages += 1
            yield page[pages == 2 :]

    monkeypatch.setattr(MemoryReader, "settlements", gap)
    told: list[int] = []
    with pytest.raises(LedgerInvalid, match="settlement 257"):
        await _relearn(wired, lambda _learned, left: told.append(left))
    assert await _relearn(wired, lambda _learned, left: told.append(left)) == SETTLED
    assert told[0] == SETTLED
    assert SETTLED - 256 in told
