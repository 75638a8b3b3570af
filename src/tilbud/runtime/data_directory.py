"""The data directory of a service: what lies where in it, and which process has it.

    ledger.sqlite3     the ledger, with its log (-wal) beside it
    checkpoints/       models, by campaign
    serving.lock       held by whoever serves

What holds: one service at a time has the directory; its workers share the lock, and while one of them lives
no other service begins. A lock ends with the process that holds it.

What it does not do: open the ledger, or know what is in a file.
"""

from __future__ import annotations

import fcntl
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tilbud.ledger.open import sqlite_address

LEDGER_FILE = "ledger.sqlite3"
CHECKPOINTS_DIRECTORY = "checkpoints"
_LOCK_FILE = "serving.lock"


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """A directory that is a service's, or is to be."""

    path: Path

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.path / LEDGER_FILE

    @property
    def ledger_address(self) -> str:
        """The ledger, for `ledger.open`."""
        return sqlite_address(self.ledger)

    @property
    def ledger_log(self) -> Path:
        """The log of the ledger's file; what was committed may be in it alone."""
        return self.path / f"{LEDGER_FILE}-wal"

    @property
    def checkpoints(self) -> Path:
        """The directory of models."""
        return self.path / CHECKPOINTS_DIRECTORY

    def hold(self, *, shared: bool = False) -> IO[bytes]:
        """Make the directory and return a lock on it; raises OSError where another service has it.

        `shared` is the lock of a service's workers: while one of them lives, no other service begins.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / _LOCK_FILE).open("ab")
        except OSError as error:
            raise OSError(
                f"{self.path} cannot be the data directory: {error.strerror}; choose another --data"
            ) from error
        try:
            self.lock_as(lock, shared=shared)
        except OSError:
            lock.close()
            raise
        return lock

    def lock_as(self, lock: IO[bytes], *, shared: bool) -> None:
        """Lock the directory, or turn the lock on it into a shared one; raises OSError as `hold` does."""
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            raise OSError(f"another process serves {self.path}; stop it, or choose another --data") from None
