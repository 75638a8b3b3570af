"""The port that workers share is one service's own, and no worker's place stays empty unseen."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tilbud.config import Place, Settings
from tilbud.supervisor import Supervisor, WorkerEnded, reserve
from tilbud.worker import Serving, Word, Worker

LOOPBACK = "127.0.0.1"
NOWHERE = "192.0.2.1"  # set aside for documents: an address of no machine
_getaddrinfo = socket.getaddrinfo
CAMPAIGN = """
campaign: c
offers: [{id: a}, {id: b}]
reward: {window: 1h, outcomes: {click: 1}}
consent: not_required
"""
Heard = Callable[[Worker, Word], None]


@pytest.fixture
def undo() -> Iterator[ExitStack]:
    """Closes what is entered."""
    with ExitStack() as stack:
        yield stack


def _reserved(undo: ExitStack, port: int) -> int:
    [reserved] = reserve(LOOPBACK, port)
    return int(undo.enter_context(closing(reserved)).getsockname()[1])


def _listening(undo: ExitStack, port: int, *options: int) -> int:
    listening = undo.enter_context(closing(socket.socket()))
    for option in options:
        listening.setsockopt(socket.SOL_SOCKET, option, 1)
    listening.bind((LOOPBACK, port))
    listening.listen()
    return int(listening.getsockname()[1])


def test_workers_may_listen_on_a_reserved_port(undo: ExitStack) -> None:
    """As many as share it, as gRPC does; any port where none was asked for."""
    port = _reserved(undo, 0)
    assert port
    for _ in range(2):
        assert _listening(undo, port, socket.SO_REUSEADDR, socket.SO_REUSEPORT) == port


@pytest.mark.parametrize("options", [(), (socket.SO_REUSEADDR,), (socket.SO_REUSEADDR, socket.SO_REUSEPORT)])
def test_a_port_where_somebody_listens_is_refused(undo: ExitStack, options: tuple[int, ...]) -> None:
    """Also where they would share it: then their callers and ours would meet either service."""
    port = _listening(undo, 0, *options)
    with pytest.raises(OSError, match="in use"):
        reserve(LOOPBACK, port)


def test_a_port_that_another_service_reserved_is_refused(undo: ExitStack) -> None:
    """Also while none of its workers listens yet."""
    port = _reserved(undo, 0)
    with pytest.raises(OSError, match="in use"):
        reserve(LOOPBACK, port)


def _named(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let every name stand for these addresses."""
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda _, port, **how: [each for name in addresses for each in _getaddrinfo(name, port, **how)],
    )


def test_every_address_of_a_name_is_reserved(undo: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """At one port; and one where somebody listens at any of them is refused, leaving none reserved."""
    other = "127.0.0.2"
    _named(monkeypatch, LOOPBACK, other, LOOPBACK)
    reserved = [undo.enter_context(each) for each in reserve("localhost", 0)]
    [port] = {each.getsockname()[1] for each in reserved}
    assert [each.getsockname()[0] for each in reserved] == [LOOPBACK, other]
    for each in reserved:
        each.close()
    _named(monkeypatch, other, LOOPBACK)
    listening = _listening(undo, port)
    with pytest.raises(OSError, match="in use"):
        reserve("localhost", listening)
    undo.enter_context(_bound(other, listening))


def _bound(host: str, port: int) -> socket.socket:
    bound = socket.socket()
    bound.bind((host, port))
    return bound


@pytest.mark.parametrize("absent", [NOWHERE, "2001:db8::1"])
def test_an_address_this_machine_lacks_is_passed_over(
    undo: ExitStack, monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    """A name may have one of a family that is off; where it has no other it is refused."""
    _named(monkeypatch, absent, LOOPBACK)
    assert [undo.enter_context(each).getsockname()[0] for each in reserve("localhost", 0)] == [LOOPBACK]
    _named(monkeypatch, absent)
    with pytest.raises(OSError, match=r"assign requested address|not supported"):
        reserve("localhost", 0)


@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::"])  # noqa: S104 - for a moment
def test_a_wildcard_is_reserved_for_both_families(undo: ExitStack, wildcard: str) -> None:
    """As gRPC listens: whoever has the port of one family, also sharing it, is not let in."""
    reserved = [undo.enter_context(each) for each in reserve(wildcard, 0)]
    port = reserved[0].getsockname()[1]
    with pytest.raises(OSError, match="in use"):
        reserve(LOOPBACK, port)
    for each in reserved:
        each.close()
    _listening(undo, port, socket.SO_REUSEADDR, socket.SO_REUSEPORT)
    with pytest.raises(OSError, match="in use"):
        reserve(wildcard, port)


def test_a_port_with_connections_that_time_out_is_free(undo: ExitStack) -> None:
    """A service may start where one just stopped, whether that one shared its port or not."""
    with ExitStack() as ended:
        listening = ended.enter_context(closing(socket.socket()))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((LOOPBACK, 0))
        listening.listen()
        port = int(listening.getsockname()[1])
        caller = ended.enter_context(closing(socket.create_connection((LOOPBACK, port))))
        listening.accept()[0].close()  # who closes first has to wait
        caller.recv(1)
    assert _reserved(undo, port) == port


class HandWorker:
    """A worker without a process: it serves as soon as it is started, and ends as the test says."""

    def __init__(self, _: Settings, place: Place, heard: Heard) -> None:
        self.number = place.number
        self.pid = 1_000 + place.number
        self.http_port = 0
        self.reason = ""
        self.starts = 0
        self.surprise: Exception | None = None
        self.signals: list[signal.Signals] = []
        self._heard = heard
        self._gone: asyncio.Future[int] | None = None

    def start(self) -> None:
        if self.surprise is not None:
            raise self.surprise
        self.starts += 1
        self._gone = asyncio.get_running_loop().create_future()
        self.http_port = 8_080 + self.number
        self._heard(self, Serving(self.http_port))  # type: ignore[arg-type]

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
    """The workers of the supervisor, in order, which pauses shortly."""
    made: list[HandWorker] = []

    def worker(settings: Settings, place: Place, heard: Heard) -> HandWorker:
        made.append(HandWorker(settings, place, heard))
        return made[-1]

    monkeypatch.setattr("tilbud.supervisor.Worker", worker)
    monkeypatch.setattr("tilbud.supervisor._PAUSE_MIN_S", 0.001)
    monkeypatch.setattr("tilbud.supervisor._PAUSE_MAX_S", 0.004)
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Two workers, and a campaign."""
    file = tmp_path / "c.yaml"
    file.write_text(CAMPAIGN)
    return Settings(
        campaigns=(file,), data=tmp_path / "data", listen="127.0.0.1:0", http="127.0.0.1:8080", workers=2
    )


async def _started_again(worker: HandWorker, starts: int) -> None:
    async with asyncio.timeout(30):
        while worker.starts < starts:  # noqa: ASYNC110 - gives way
            await asyncio.sleep(0)


async def test_a_worker_that_keeps_ending_is_started_again_ever_later(
    settings: Settings, workers: list[HandWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pause is twice the last, up to the longest; one that served a while is started at once again."""
    supervisor = Supervisor(settings)
    await supervisor.start()
    with capture_logs() as logged:
        for starts in range(1, 6):
            if starts == 5:
                monkeypatch.setattr("tilbud.supervisor._SERVED_A_WHILE_S", 0.0)
            workers[1].end(-9)
            await _started_again(workers[1], starts + 1)
    ended = [each for each in logged if each["event"] == "worker_ended"]
    assert [each["again_in_s"] for each in ended] == [0.001, 0.002, 0.004, 0.004, 0.001]
    assert {each["reason"] for each in ended} == {"worker 1 ended with status -9; see the log"}
    assert workers[0].starts == 1
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
        async with asyncio.timeout(30):
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
        async with asyncio.timeout(30):
            await Supervisor(settings).start()
    assert workers[0].signals == [signal.SIGTERM]


async def test_a_start_can_be_cancelled(
    settings: Settings, workers: list[HandWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers that are there are stopped, and the data directory is free again."""
    real = HandWorker.start

    def slow(worker: HandWorker) -> None:
        if worker.number == 0:
            worker._heard = lambda *_: None
        real(worker)
        if worker.number == 0:
            worker.http_port = 0  # it does not serve yet

    monkeypatch.setattr(HandWorker, "start", slow)
    starting = asyncio.create_task(Supervisor(settings).start())
    async with asyncio.timeout(30):
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
    """Counted from the one of --http; where that passes the last port there is a sentence."""
    places: list[Place] = []

    def worker(settings: Settings, place: Place, heard: Heard) -> HandWorker:
        places.append(place)
        return HandWorker(settings, place, heard)

    monkeypatch.setattr("tilbud.supervisor.Worker", worker)
    supervisor = Supervisor(replace(settings, workers=3, http="127.0.0.1:9000"))
    await supervisor.start()
    assert [each.http for each in places] == ["127.0.0.1:9000", "127.0.0.1:9001", "127.0.0.1:9002"]
    await supervisor.stop()
    with pytest.raises(OSError, match="65536 is no port: each worker has one, counted from --http"):
        await Supervisor(replace(settings, http="127.0.0.1:65535")).start()
