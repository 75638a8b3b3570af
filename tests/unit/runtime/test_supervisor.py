"""No worker's place stays empty unseen."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tilbud.domain.limits import Limits
from tilbud.runtime.settings import Settings, WorkerSlot
from tilbud.runtime.supervisor import StartWatchdog, Supervisor, Watchdog, WorkerEnded
from tilbud.runtime.worker import Beat, Serving, Worker, WorkerMessage

LOOPBACK = "127.0.0.1"
CAMPAIGN = """
campaign: c
offers: [{id: a}, {id: b}]
reward: {window: 1h, outcomes: {click: 1}}
consent: not_required
"""
Heard = Callable[[Worker, WorkerMessage], None]


class HandWorker:
    """A worker without a process: it serves as soon as it is started, and ends as the test says."""

    def __init__(self, _: Settings, place: WorkerSlot, heard: Heard) -> None:
        self.number = place.number
        self.pid = 1_000 + place.number
        self.metrics_port = 0
        self.reason = ""
        self.starts = 0
        self.strict = False
        self.surprise: Exception | None = None
        self.signals: list[signal.Signals] = []
        self.heard = heard
        self.files_refused = 0
        self._gone: asyncio.Future[int] | None = None

    def start(self) -> None:
        if self.surprise is not None:
            raise self.surprise
        self.starts += 1
        self._gone = asyncio.get_running_loop().create_future()
        self.metrics_port = 8_080 + self.number
        self.heard(self, Serving(self.metrics_port, self.files_refused))  # type: ignore[arg-type]

    def beat(self) -> None:
        """Tell that it lives, and what it serves by now."""
        self.heard(self, Beat(self.files_refused))  # type: ignore[arg-type]

    def worked_s(self) -> float:
        return 0.0

    async def ended(self) -> tuple[int, bool]:
        assert self._gone is not None
        return await self._gone, True

    def end(self, status: int) -> None:
        """End with a status."""
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(status)

    def signal(self, number: signal.Signals) -> None:
        self.signals.append(number)
        if number == signal.SIGTERM:
            self.end(0)


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[HandWorker]:
    """The workers of the supervisor, in order."""
    made: list[HandWorker] = []

    def worker(settings: Settings, place: WorkerSlot, heard: Heard) -> HandWorker:
        made.append(HandWorker(settings, place, heard))
        return made[-1]

    monkeypatch.setattr("tilbud.runtime.supervisor.Worker", worker)
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Two workers, which are started again shortly, and a campaign."""
    file = tmp_path / "c.yaml"
    file.write_text(CAMPAIGN)
    return Settings(
        campaigns=(file,),
        data=tmp_path / "data",
        listen="127.0.0.1:0",
        http="127.0.0.1:0",
        metrics="127.0.0.1:8080",
        workers=2,
        limits=Limits(worker_pause_min_s=0.001, worker_pause_max_s=0.004),
    )


async def _started_again(worker: HandWorker, starts: int) -> None:
    async with asyncio.timeout(60):
        while worker.starts < starts:  # noqa: ASYNC110 - gives way
            await asyncio.sleep(0)


async def test_a_worker_that_keeps_ending_is_started_again_ever_later(
    settings: Settings, workers: list[HandWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pause is twice the last, up to the longest; one that served a while is started at once again."""
    now_s = 0.0
    monkeypatch.setattr("tilbud.runtime.supervisor.monotonic", lambda: now_s)
    supervisor = Supervisor(settings)
    await supervisor.start()
    with capture_logs() as logged:
        for starts in range(1, 6):
            if starts == 5:
                now_s += settings.limits.worker_served_s
            workers[1].end(-9)
            await _started_again(workers[1], starts + 1)
    ended = [each for each in logged if each["event"] == "worker_ended"]
    assert [each["again_in_s"] for each in ended] == [0.001, 0.002, 0.004, 0.004, 0.001]
    assert {each["reason"] for each in ended} == {"worker 1 ended with status -9; see the log"}
    assert workers[0].starts == 1
    await supervisor.stop()


async def test_a_worker_that_serves_all_since_its_files_were_mended_counts_as_one_that_does(
    settings: Settings, workers: list[HandWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asked it to load them: beside it none may begin that would serve less."""
    real = HandWorker.start

    def start(worker: HandWorker) -> None:
        worker.files_refused = int(worker.starts == 0)
        real(worker)

    monkeypatch.setattr(HandWorker, "start", start)
    supervisor = Supervisor(settings)
    await supervisor.start()
    workers[0].end(-9)
    await _started_again(workers[0], 2)
    assert not workers[0].strict
    workers[1].files_refused = 0
    workers[1].beat()
    workers[0].end(-9)
    await _started_again(workers[0], 3)
    assert workers[0].strict
    await supervisor.stop()


async def test_whatever_befalls_a_worker_it_is_started_again(
    settings: Settings, workers: list[HandWorker]
) -> None:
    """What nobody expected is logged, and is not the end of the place."""
    supervisor = Supervisor(settings)
    await supervisor.start()
    with capture_logs() as logged:
        workers[0].surprise = AssertionError("for the test")
        workers[0].end(1)
        async with asyncio.timeout(60):
            while len(logged) < 3:  # noqa: ASYNC110 - gives way
                await asyncio.sleep(0)
        workers[0].surprise = None
        await _started_again(workers[0], 2)
    reasons = [each["reason"] for each in logged if each["event"] == "worker_ended"]
    assert reasons[1] == "worker 0 was lost: AssertionError('for the test')"
    assert signal.SIGKILL in workers[0].signals
    await supervisor.stop()


async def test_whatever_befalls_a_worker_at_the_start_ends_the_start(
    settings: Settings, workers: list[HandWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is raised as the end of a worker is, and the others are stopped."""
    real = HandWorker.start

    def surprise(worker: HandWorker) -> None:
        if worker.number == 1:
            raise AssertionError("for the test")
        real(worker)

    monkeypatch.setattr(HandWorker, "start", surprise)
    with pytest.raises(WorkerEnded, match="worker 1 was lost"):
        async with asyncio.timeout(60):
            await Supervisor(settings).start()
    assert workers[0].signals == [signal.SIGTERM]


async def test_a_start_can_be_cancelled(
    settings: Settings, workers: list[HandWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers that are there are stopped, and the data directory is free again."""
    real = HandWorker.start

    def slow(worker: HandWorker) -> None:
        if worker.number == 0:
            worker.heard = lambda *_: None
        real(worker)
        if worker.number == 0:
            worker.metrics_port = 0  # it does not serve yet

    monkeypatch.setattr(HandWorker, "start", slow)
    starting = asyncio.create_task(Supervisor(settings).start())
    async with asyncio.timeout(60):
        while not (len(workers) == 2 and workers[1].starts):  # noqa: ASYNC110 - gives way
            await asyncio.sleep(0)
    assert not starting.done()
    starting.cancel()
    with suppress(asyncio.CancelledError):
        await starting
    assert starting.cancelled()
    assert [each.signals for each in workers] == [[signal.SIGTERM]] * 2
    monkeypatch.setattr(HandWorker, "start", real)
    again = Supervisor(settings)
    await again.start()
    await again.stop()


async def test_workers_can_be_waited_for_where_their_end_was_to_be_ignored(
    settings: Settings, workers: list[HandWorker]
) -> None:
    """SIGCHLD ignored, which a service inherits from whoever starts it, would hide how a worker ended."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        supervisor = Supervisor(settings)
        await supervisor.start()
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
        await supervisor.stop()
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert all(each.signals == [signal.SIGTERM] for each in workers)


async def test_each_worker_has_a_port_of_its_own_for_metrics(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted from the one of --metrics; where that passes the last port there is a sentence."""
    places: list[WorkerSlot] = []

    def worker(settings: Settings, place: WorkerSlot, heard: Heard) -> HandWorker:
        places.append(place)
        return HandWorker(settings, place, heard)

    monkeypatch.setattr("tilbud.runtime.supervisor.Worker", worker)
    supervisor = Supervisor(replace(settings, workers=3, metrics="127.0.0.1:9000"))
    await supervisor.start()
    assert [each.metrics for each in places] == ["127.0.0.1:9000", "127.0.0.1:9001", "127.0.0.1:9002"]
    await supervisor.stop()
    with pytest.raises(OSError, match="65536 is no port: each worker has one, counted from --metrics"):
        await Supervisor(replace(settings, metrics="127.0.0.1:65535")).start()


def _watchdog() -> Watchdog:
    return Watchdog(silence_max_s=5.0, look_every_s=0.5)


def test_a_worker_that_is_silent_too_long_hangs_and_is_told_of_once() -> None:
    """Counted from its last beat; one that beats does not, and who never served is not expected to."""
    watchdog = _watchdog()
    watchdog.heard(0, 0.0)
    for step in range(1, 11):
        watchdog.heard(1, step / 2)
        assert not watchdog.look(step / 2)
    assert list(watchdog.look(5.5)) == [0]
    assert not watchdog.look(6.0)


def test_one_that_was_started_again_is_watched_again() -> None:
    """From when it serves."""
    watchdog = _watchdog()
    watchdog.heard(0, 0.0)
    watchdog.forget(0)
    looks = [step / 2 for step in range(40)]
    assert not [look for look in looks if watchdog.look(look)]
    watchdog.heard(0, 20.0)
    assert [look for look in (20 + step / 2 for step in range(20)) if watchdog.look(look)] == [25.5]


@given(away_s=st.floats(1.1, 1e6), silent_s=st.floats(0.0, 4.4))
def test_who_was_frozen_together_with_the_supervisor_is_not_blamed(away_s: float, silent_s: float) -> None:
    """However long it was: the time in which nobody looked does not count."""
    watchdog = _watchdog()
    watchdog.heard(0, 0.0)
    for step in range(int(silent_s / 0.5) + 1):
        watchdog.look(step * 0.5)
    back_s = int(silent_s / 0.5) * 0.5 + away_s
    assert not watchdog.look(back_s)
    watchdog.heard(0, back_s + 0.5)
    assert not watchdog.look(back_s + 0.5)


async def test_a_worker_that_hangs_is_killed(
    settings: Settings, workers: list[HandWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And started again as one that died is; the log says that it hung."""

    class Hanging(Watchdog):
        def look(self, _now_s: float) -> list[int]:
            return [] if workers[1].signals else [1]

    monkeypatch.setattr("tilbud.runtime.supervisor.Watchdog", Hanging)
    brisk = replace(settings.limits, worker_beat_every_s=0.001)
    supervisor = Supervisor(replace(settings, limits=brisk))
    with capture_logs() as logged:
        await supervisor.start()
        async with asyncio.timeout(60):
            while not workers[1].signals:  # noqa: ASYNC110 - gives way
                await asyncio.sleep(0)
        workers[1].end(-9)
        await _started_again(workers[1], 2)
    assert workers[1].signals == [signal.SIGKILL]
    assert [each["worker"] for each in logged if each["event"] == "worker_hangs"] == [1]
    assert workers[0].starts == 1
    await supervisor.stop()


def _starting() -> StartWatchdog:
    watchdog = StartWatchdog(idle_max_s=60.0, work_min_s=0.5, look_every_s=0.5)
    watchdog.begins(0, 0.0)
    return watchdog


def _told_at(
    watchdog: StartWatchdog, worked_s: Callable[[float], float | None], from_s: float = 0.0
) -> list[float]:
    """Look for some minutes at a worker that has worked so much by each time; return when it was told of."""
    told = []
    for step in range(1, 1_000):
        now_s = from_s + step / 2
        by_now_s = worked_s(now_s)
        if watchdog.look(now_s, lambda _: by_now_s):  # noqa: B023 - called at once
            told.append(now_s)
    return told


def test_a_worker_that_starts_and_no_longer_works_hangs() -> None:
    """Told once, a minute after it stopped; being asked how it is, is no work."""
    assert _told_at(_starting(), lambda now_s: min(now_s, 10.0) + 1e-4 * now_s) == [70.5]


@pytest.mark.parametrize("share", [0.02, None])
def test_a_worker_that_works_may_take_as_long_as_it_needs_to_start(share: float | None) -> None:
    """Be it a small share of a core; and where nobody tells how much it works."""
    assert not _told_at(_starting(), lambda now_s: share and share * now_s)


def test_a_worker_that_serves_is_no_more_watched_as_one_that_starts() -> None:
    """It need not work, until it starts again."""
    watchdog = _starting()
    watchdog.forget(0)
    assert not _told_at(watchdog, lambda _: 0.0)
    watchdog.begins(0, 500.0)
    assert _told_at(watchdog, lambda _: 0.0, from_s=500.0) == [560.5]


async def test_a_worker_that_hangs_while_it_starts_is_killed(
    settings: Settings, workers: list[HandWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And started again; the log says so. The others go on."""

    class Hanging(StartWatchdog):
        def look(self, now_s: float, worked_s: Callable[[int], float | None]) -> list[int]:
            del now_s
            return [1] if workers[1].starts == 2 and not workers[1].signals and worked_s(1) == 0.0 else []

    monkeypatch.setattr("tilbud.runtime.supervisor.StartWatchdog", Hanging)
    brisk = replace(settings.limits, worker_beat_every_s=0.001)
    supervisor = Supervisor(replace(settings, limits=brisk))
    with capture_logs() as logged:
        await supervisor.start()
        monkeypatch.setattr(workers[1], "heard", lambda *_: None)
        workers[1].end(-9)
        async with asyncio.timeout(60):
            while not workers[1].signals:  # noqa: ASYNC110 - gives way
                await asyncio.sleep(0)
        workers[1].end(-9)
        await _started_again(workers[1], 3)
    assert workers[1].signals == [signal.SIGKILL]
    assert [each["worker"] for each in logged if each["event"] == "worker_hangs_at_start"] == [1]
    assert workers[0].starts == 1
    await supervisor.stop()


def test_a_worker_is_known_to_work_by_what_it_takes_of_a_processor(settings: Settings) -> None:
    """As the machine counts it, whatever the process is at; of one that is not there nothing is known."""

    class Here(Worker):
        @property
        def pid(self) -> int:
            return os.getpid()

    place = WorkerSlot(number=0, listen="127.0.0.1:1", http="off", metrics="127.0.0.1:2", ledger=(0, 0))
    worker = Here(settings, place, lambda *_: None)
    before_s = worker.worked_s()
    assert before_s is not None
    until_s = time.process_time() + 0.1
    while time.process_time() < until_s:
        pass
    after_s = worker.worked_s()
    assert after_s is not None
    assert after_s - before_s >= 0.05
    assert Worker(settings, place, lambda *_: None).worked_s() is None
