"""Learning beside the service: starts the process that relearns, hears how far it is, and ends it.

What holds: one such process runs at a time, of all that serve from one data directory, so that what it saved
serves all of them; none is left when the service ends, however it ends. One that fails, or falls silent, is
started again, a few times and after pauses, and each failure is logged and counted. What it learns, and how,
is `relearning.py`'s business; what is far behind, and what answers meanwhile, that of who asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from time import monotonic, time
from typing import Any, Protocol

import structlog

from tilbud.bandit.checkpoints.store import Checkpoints
from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.errors import ModelUnavailable
from tilbud.domain.limits import Limits
from tilbud.domain.relearning import Progress
from tilbud.learning.relearning import Task
from tilbud.learning.replica import settlements_left
from tilbud.ledger.ports import SettlementBounds
from tilbud.telemetry.learning import LearningMetrics

COMMAND = (sys.executable, "-P", "-c", "from tilbud.learning.relearning import main; main()")
_LOCK = ".relearning"
_STOPPING = "the service is stopping"


class Relearning(Protocol):
    """Learns beside the service."""

    async def learn(self, campaign: Campaign, policy: str, erasures: int) -> None:
        """Return when a model of the policy, at so many erasures, would be opened near the ledger's end.

        Raises ModelUnavailable where that cannot be.
        """
        ...

    async def left(self, campaign: Campaign, policy: str, erasures: int) -> int:
        """Return how many settlements a model of the policy would have to learn that is opened now."""
        ...

    def progress(self, campaign: str) -> Progress | None:
        """Return how far a campaign is, None where it is not being relearned."""
        ...

    async def stop(self) -> None:
        """End what is under way, and begin nothing more."""
        ...


class Beside:
    """Relearns in a process of its own, one at a time."""

    def __init__(
        self,
        *,
        history: SettlementBounds,
        ledger_file: Path,
        checkpoints: Checkpoints,
        directory: Path,
        metrics: LearningMetrics,
        limits: Limits,
        log: structlog.typing.FilteringBoundLogger,
        command: Sequence[str] = COMMAND,
    ) -> None:
        """`directory` is where `checkpoints` are; `command` begins the process."""
        self._history = history
        self._ledger_file = ledger_file
        self._checkpoints = checkpoints
        self._directory = directory
        self._metrics = metrics
        self._limits = limits
        self._log = log
        self._command = command
        self._one_at_a_time = asyncio.Lock()
        self._tries: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._progress: dict[str, Progress] = {}

    def progress(self, campaign: str) -> Progress | None:
        """Return how far a campaign is, None where it is not being relearned."""
        return self._progress.get(campaign)

    async def learn(self, campaign: Campaign, policy: str, erasures: int) -> None:
        """Learn a policy's model nearly up to date, unless another process just did; see `Relearning`."""
        name = campaign.campaign
        if (left := await self.left(campaign, policy, erasures)) <= self._limits.relearn_beside_rows:
            return
        self._show(name, Progress(left))
        try:
            async with self._one_at_a_time, self._alone():
                await self._learn(campaign, policy, erasures)
        finally:
            self._show(name, None)

    async def stop(self) -> None:
        """End what is under way, and begin nothing more."""
        self._stopped = True
        for running in self._tries:
            running.cancel()
        if self._tries:
            await asyncio.wait(self._tries)

    async def _learn(self, campaign: Campaign, policy: str, erasures: int) -> None:
        name, tries = campaign.campaign, 0
        pause_s = self._limits.relearn_again_s
        while await self.left(campaign, policy, erasures) > self._limits.relearn_beside_rows:
            tries += 1
            if not (reason := await self._try(campaign, policy, erasures)):
                return
            self._metrics.relearning_failures.labels(name).inc()
            again = tries < self._limits.relearn_tries_max
            self._log.error(
                "relearning_process_failed", campaign=name, policy=policy, reason=reason, again=again
            )
            if not again:
                raise ModelUnavailable(f"campaign {name!r} could not be relearned: {reason}")
            await asyncio.sleep(pause_s)
            pause_s *= 2

    async def _try(self, campaign: Campaign, policy: str, erasures: int) -> str:
        """Run a process to its end; return why it failed, "" where it did not."""
        if self._stopped:
            raise ModelUnavailable(_STOPPING)
        running = asyncio.create_task(self._run(campaign, policy, erasures, report := _ProcessReport()))
        self._tries.add(running)
        try:
            await running
        except asyncio.CancelledError:
            if self._stopped:
                raise ModelUnavailable(_STOPPING) from None
            running.cancel()
            await asyncio.wait([running])
            raise
        finally:
            self._tries.discard(running)
        return report.reason

    async def _run(self, campaign: Campaign, policy: str, erasures: int, report: _ProcessReport) -> None:
        name, began_s = campaign.campaign, monotonic()
        task = Task(campaign, policy, erasures, self._ledger_file, self._directory, self._limits)
        try:
            process = _start(self._command)
        except OSError as error:
            report.reason = f"the process could not be started: {error.strerror or error}"
            return
        self._log.info(
            "relearning_began", campaign=name, policy=policy, pid=process.pid, erasures=erasures,
            settlements_left=await self.left(campaign, policy, erasures),
        )  # fmt: skip
        loop = asyncio.get_running_loop()

        def hear(word: dict[str, Any]) -> None:
            loop.call_soon_threadsafe(report.hear, word, lambda progress: self._show(name, progress))

        talking = asyncio.ensure_future(asyncio.to_thread(_talk, process, pickle.dumps(task), hear))
        try:
            if await self._falls_silent(talking, report):
                process.kill()
            status, last_words = await asyncio.shield(talking)
        except asyncio.CancelledError:
            process.kill()
            await asyncio.wait([talking])
            self._log.info("relearning_ended_early", campaign=name)
            raise
        if report.sequence is None and not report.reason:
            report.reason = f"the process ended with status {status}: {last_words or 'no word'}"
        if report.sequence is not None:
            self._log.info(
                "relearning_done",
                campaign=name,
                sequence=report.sequence,
                seconds=round(monotonic() - began_s, 3),
            )

    async def _falls_silent(self, talking: asyncio.Future[tuple[int, str]], report: _ProcessReport) -> bool:
        """Wait for the end of a process; return early, and True, where it hangs.

        Looks are counted and not the time, in which the service may have been frozen together with it.
        """
        looks = words = 0
        while not talking.done() and looks < self._limits.relearn_silent_looks:
            await asyncio.wait(
                [talking], timeout=self._limits.relearn_silent_max_s / self._limits.relearn_silent_looks
            )
            looks, words = (looks + 1 if report.words == words else 0), report.words
        if not talking.done():
            report.reason = f"it has said nothing for {self._limits.relearn_silent_max_s:g} s"
        return not talking.done()

    async def left(self, campaign: Campaign, policy: str, erasures: int) -> int:
        """Return how many settlements a model of the policy would have to learn that is opened now."""
        return await settlements_left(
            campaign, policy, history=self._history, checkpoints=self._checkpoints, erasures=erasures
        )

    def _show(self, campaign: str, progress: Progress | None) -> None:
        if progress is None:
            self._progress.pop(campaign, None)
        else:
            self._progress[campaign] = progress
        self._metrics.relearning_left.labels(campaign).set(progress.settlements_left if progress else 0)
        due_s = progress.due_s if progress else None
        self._metrics.relearning_due.labels(campaign).set(due_s or 0.0)

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Keep other processes that serve the same ledger from relearning; ends with this process."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _locked(descriptor):
                if self._stopped:
                    raise ModelUnavailable(_STOPPING)
                await asyncio.sleep(self._limits.relearn_look_every_s)
            yield
        finally:
            os.close(descriptor)


class _ProcessReport:
    """What a process reported."""

    def __init__(self) -> None:
        self.sequence: int | None = None  # it is done, up to here
        self.reason = ""  # why it failed, in its own words
        self.words = 0
        self._began: tuple[float, int] | None = None

    def hear(self, word: dict[str, Any], show: Callable[[Progress], None]) -> None:
        """Take in a word; `show` hears of the progress it tells."""
        self.words += 1
        if "done" in word:
            self.sequence = int(word["done"])
        elif "failed" in word:
            self.reason = str(word["failed"])
        elif "left" in word:
            learned, left, now_s = int(word["learned"]), int(word["left"]), monotonic()
            if self._began is None:
                self._began = now_s, learned
            since_s, first = self._began
            rate = (learned - first) / max(now_s - since_s, 1e-9)
            show(Progress(left, time() + left / rate if rate > 0.0 else None))


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a process that finds the modules this one finds. Python makes it by vfork: gRPC has threads."""
    paths = [path or os.getcwd() for path in sys.path]  # noqa: PTH109 - a text among texts
    return subprocess.Popen(  # noqa: S603 - our own module, see COMMAND
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )


def _talk(
    process: subprocess.Popen[bytes], task: bytes, hear: Callable[[dict[str, Any]], None]
) -> tuple[int, str]:
    """Tell a process its task, hear it to its end; return its status and what else it wrote last."""
    assert process.stdin is not None, "it was started with a pipe"
    assert process.stdout is not None, "it was started with a pipe"
    last_words: deque[str] = deque(maxlen=Limits.relearn_last_words_lines)
    with contextlib.closing(process.stdin), process.stdout as lines:
        with contextlib.suppress(OSError):  # it ended before it heard all; its status says more
            process.stdin.write(task)
            process.stdin.flush()
        for line in lines:
            try:
                hear(json.loads(line))
            except ValueError:
                last_words.append(line.decode(errors="replace").strip())
        status = process.wait()
    return status, " | ".join(last_words)[-2_000:]
