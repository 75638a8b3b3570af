"""Keeps the write-ahead log short, on a thread of its own, so that commits hardly pay for it.

What holds: once the log has grown it is copied into the database, while writers go on; then they wait
for the last few pages, so that the next of them starts the log anew in the space it has. Short logs
and a file that does not grow are what keeps the slowest commits quick: copied four times a second,
the slowest of a thousand took 5 ms, once a second 15, where it only grew 40. What fails is tried again
the next time: the log is as durable as the database. What an erasure removed stands in the log until it
is emptied: the keeper does that when it is asked, for as long as it takes, and whenever it starts, since
whoever was asked may have been killed.

How long the log is stands in its index, which SQLite shares between processes under locks that a process
loses when it closes the file, whoever opened it in there (https://sqlite.org/howtocorrupt.html, section 2.2).
So the keeper's own descriptor stays open for longer than any connection; otherwise another process takes the
index for abandoned and truncates it under us.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from threading import Event, Thread

from tilbud.domain.limits import Limits
from tilbud.ledger.sqlite.schema import connect


class WalKeeper:
    """Watches the log of one ledger file, which is open, until it is stopped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._index = os.open(path.with_name(path.name + "-shm"), os.O_RDONLY | os.O_CLOEXEC)
        self._stopping = False
        self._woken = Event()
        self._asked: list[Callable[[], object]] = [lambda: None]
        self._thread = Thread(target=self._run, name="ledger-wal", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and empty the log, where no other process uses it; takes a moment."""
        self._stopping = True
        self._woken.set()
        self._thread.join()

    def close(self) -> None:
        """Let go of the index; only when it was stopped, and no connection of the process is left."""
        os.close(self._index)

    def pages(self) -> int:
        """Return the committed pages in the log (https://sqlite.org/walformat.html, section 2.1: mxFrame)."""
        return int.from_bytes(os.pread(self._index, 4, 16), sys.byteorder)

    async def empty(self, patience_s: float) -> bool:
        """Wait until nothing committed before stands in the log; say whether that was so in time.

        Where a reader holds the log for longer, the keeper goes on until it is empty. Many may wait.
        """
        loop, emptied = asyncio.get_running_loop(), asyncio.Event()
        self._asked.append(lambda: loop.call_soon_threadsafe(emptied.set))
        self._woken.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(emptied.wait(), patience_s)
        return emptied.is_set()

    def _run(self) -> None:
        shortened = 0
        with closing(connect(self._path)) as connection:
            connection.execute(f"PRAGMA busy_timeout = {Limits.wal_lock_wait_ms}")
            while not self._stopping:
                with suppress(OSError, sqlite3.Error):
                    if self._asked:
                        self._empty(connection)
                    pages = self.pages()
                    if pages > Limits.wal_grown_pages and pages != shortened:
                        shortened = shorten(connection)
                self._woken.wait(Limits.wal_retry_s if self._asked else Limits.wal_look_every_s)
                self._woken.clear()
            with suppress(sqlite3.Error):
                self._empty(connection)

    def _empty(self, connection: sqlite3.Connection) -> None:
        """Empty the log, if no one holds it now, and tell those who asked before."""
        asked = len(self._asked)
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        held, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if not held:
            for emptied in self._asked[:asked]:
                with suppress(RuntimeError):  # the loop is gone, and with it whoever waited
                    emptied()
            del self._asked[:asked]


def shorten(connection: sqlite3.Connection) -> int:
    """Copy the log into the database and let the next writer start it anew; return the pages it had."""
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
    _, pages, _ = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
    return int(pages)
