"""The life of a process that serves, with real signals, in a process of its own."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tilbud.runtime.process import raise_descriptors

Begin = Callable[..., "subprocess.Popen[str]"]
SCRIPT = """
import asyncio, sys, threading
threading.Thread(target=threading.Event().wait, daemon=True).start()  # a signal may meet any thread
from tilbud.runtime.process import start_or_undo, run

START, UNDO, PATIENCE_S = sys.argv[1], sys.argv[2], float(sys.argv[3])

async def say(word):
    print(word, flush=True)

async def a_line():
    asked, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(sys.stdin, asked.set)
    await asked.wait()
    loop.remove_reader(sys.stdin)
    sys.stdin.readline()

class Service:
    async def start(self):
        await start_or_undo(self._start(), self._undo)
    async def _start(self):
        await say("starting")
        await a_line()
        if START == "fails":
            raise OSError("for the test")
    async def _undo(self):
        await say("undoing")
        if UNDO == "waits":
            await a_line()
        for _ in range(10):
            await asyncio.sleep(0)
        await say("undone")
    async def stop(self):
        await say("stopped")
    async def reload(self):
        await say("loaded anew")

async def main():
    serving = lambda: print("serving", flush=True)
    await run(Service(), shutdown_timeout_s=PATIENCE_S, started=serving, stopping=asyncio.Event())

asyncio.run(main())
"""


@pytest.fixture
def process() -> Iterator[Begin]:
    """Begins a process whose start waits for a line; and ends it."""
    with ExitStack() as undo:

        def begin(
            start: str = "works", undoing: str = "works", shutdown_timeout_s: float = 60.0
        ) -> subprocess.Popen[str]:
            running = undo.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", SCRIPT, start, undoing, str(shutdown_timeout_s)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            undo.callback(running.kill)
            assert _next(running) == "starting"
            return running

        yield begin


def _next(running: subprocess.Popen[str]) -> str:
    assert running.stdout is not None
    return running.stdout.readline().strip()


def _go_on(running: subprocess.Popen[str]) -> None:
    assert running.stdin is not None
    running.stdin.write("go\n")
    running.stdin.flush()


def _rest(running: subprocess.Popen[str]) -> tuple[list[str], int]:
    assert running.stdout is not None
    return running.stdout.read().split("\n")[:-1], running.wait(60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains(process: Begin, number: signal.Signals) -> None:
    """Once it serves it is stopped, not undone, and ends with 0."""
    running = process()
    _go_on(running)
    assert _next(running) == "serving"
    running.send_signal(number)
    assert _rest(running) == (["stopped"], 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_start(process: Begin, number: signal.Signals) -> None:
    """What was begun is undone, and the status is 0: nobody waits for a start that is not wanted."""
    running = process()
    running.send_signal(number)
    assert _rest(running) == (["undoing", "undone"], 0)


def test_a_signal_does_not_cut_the_undoing_short(process: Begin) -> None:
    """A start that fails and is told to stop while it undoes what it began undoes all of it."""
    running = process(start="fails", undoing="waits")
    _go_on(running)
    assert _next(running) == "undoing"
    running.send_signal(signal.SIGTERM)
    _go_on(running)
    assert _rest(running) == (["undone"], 0)


def test_a_start_that_fails_is_undone_and_raised(process: Begin) -> None:
    """As it is where nobody told it to stop."""
    running = process(start="fails")
    _go_on(running)
    said, errors = running.communicate(timeout=60)
    assert said.split() == ["undoing", "undone"]
    assert running.returncode == 1
    assert "OSError: for the test" in errors


def test_an_undoing_that_hangs_does_not_keep_the_process(process: Begin) -> None:
    """Told to stop, it ends with 1 when its time is over, also where the start was not done."""
    running = process(undoing="waits", shutdown_timeout_s=0.2)
    running.send_signal(signal.SIGTERM)
    assert _rest(running) == (["undoing"], 1)


def test_files_that_change_during_the_start_are_loaded_after_it(process: Begin) -> None:
    """SIGHUP before it serves ends nothing, and is heeded once it does; so is every later one."""
    running = process()
    running.send_signal(signal.SIGHUP)
    _go_on(running)
    assert {_next(running), _next(running)} == {"serving", "loaded anew"}
    running.send_signal(signal.SIGHUP)
    assert _next(running) == "loaded anew"
    running.send_signal(signal.SIGTERM)
    assert _rest(running) == (["stopped"], 0)


def test_a_process_has_as_many_descriptors_as_the_machine_lets_it() -> None:
    """The soft limit that a shell sets becomes the hard one; where they are the same it stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, hard), hard))
        for _ in range(2):
            raise_descriptors()
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
