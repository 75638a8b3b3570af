"""Standard error, written by a thread of its own: whoever logs never waits for it and never fails on it.

What holds: a line is handed over at once or dropped, and what is dropped is counted by its reason; the
stream says so as soon as it takes lines again. A reader that does not read, one that left and a disk that
is full therefore cost lines and nothing else. As many lines wait as `lines_max`. A line is one write where
the stream takes it whole, since processes share the stream, and begins a line of its own even where the one
before was torn. The stream's own flags are left alone: they are those of every process that has it.
"""

from __future__ import annotations

import errno
import os
import select
import threading
from collections.abc import Callable, Mapping
from queue import SimpleQueue

from tilbud.domain.limits import Limits

FULL, CLOSED, NO_SPACE, FAILED = "full", "closed", "no_space", "failed"
REASONS = (FULL, CLOSED, NO_SPACE, FAILED)
_REASON_OF = {errno.EPIPE: CLOSED, errno.EBADF: CLOSED, errno.ENOSPC: NO_SPACE, errno.EDQUOT: NO_SPACE}


class Lines:
    """A stream of lines to a file descriptor. `report` renders the line that says what was dropped."""

    def __init__(self, descriptor: int, report: Callable[[Mapping[str, int]], str], lines_max: int) -> None:
        self._descriptor = descriptor
        self._report = report
        self._lines_max = lines_max
        self._waiting: SimpleQueue[str | threading.Event] = (
            SimpleQueue()
        )  # reentrant: a finalizer may log too
        self._counting = threading.RLock()
        self._dropped = dict.fromkeys(REASONS, 0)
        self._dropped_reported = dict.fromkeys(REASONS, 0)
        self._torn = False  # the last line ends in its middle
        self._thread: threading.Thread | None = None

    def write(self, text: str) -> int:
        """Take a line, with its end; never raises and never waits."""
        if self._waiting.qsize() >= self._lines_max or not self._runs():
            self._drop(FULL)
        else:
            self._waiting.put(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing: see `wait`."""

    def wait(self, seconds: float) -> bool:
        """Wait until what was written by now has left, no longer than this; return whether it has."""
        if self._thread is None:
            return True
        left = threading.Event()
        self._waiting.put(left)
        return left.wait(seconds)

    def dropped(self) -> Mapping[str, int]:
        """Return how many lines were dropped, by reason; every reason is there."""
        with self._counting:
            return dict(self._dropped)

    def _drop(self, reason: str) -> None:
        with self._counting:
            self._dropped[reason] += 1

    def _runs(self) -> bool:
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="log", daemon=True)
            self._thread = thread  # before its start, lest a line that is logged meanwhile starts another
            try:
                thread.start()
            except RuntimeError:  # there are too many, or the interpreter ends
                self._thread = None
                return False
        return True

    def _work(self) -> None:
        while True:
            line = self._waiting.get()
            if isinstance(line, threading.Event):
                line.set()
                continue
            self._tell_dropped()
            if reason := self._put(line):
                self._drop(reason)

    def _tell_dropped(self) -> None:
        now = self.dropped()
        news = {reason: now[reason] - before for reason, before in self._dropped_reported.items()}
        if any(news.values()) and not self._put(self._report(news)):
            self._dropped_reported = dict(now)

    def _put(self, line: str) -> str:
        """Write a line; return why it could not be, or ""."""
        left = memoryview(("\n" * self._torn + line).encode(errors="backslashreplace"))
        try:
            while left:
                try:
                    written = os.write(self._descriptor, left)
                except BlockingIOError:  # somebody who shares the stream has made it so
                    select.select([], [self._descriptor], [], Limits.log_look_every_ms / 1_000)
                    continue
                left = left[written:]
                self._torn = bool(left)
        except (OSError, ValueError) as error:
            return _REASON_OF.get(getattr(error, "errno", 0) or 0, FAILED)
        return ""
