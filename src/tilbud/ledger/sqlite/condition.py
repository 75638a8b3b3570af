"""How a ledger that serves is doing: can it commit, can it be read, is its file what it was.

What holds: any thread may ask, and gets one sentence. What is lost or damaged stays so until the process
ends, and nothing is written any more; what merely fails is over when it works again, for commits when one
is made that needs room on disk, for reads when one succeeds. A commit that goes on for too long is told while
it does. A sentence names no customer.
"""

from __future__ import annotations

import sqlite3
from time import monotonic

from tilbud.domain.limits import Limits

KINDS = (LOST, DAMAGED, NOT_COMMITTING, NOT_READING) = ("lost", "damaged", "not_committing", "not_reading")
_RESULT_CODE = 0xFF  # the rest is SQLite's extended code
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_REMEDY = "what was written since may be lost: stop the service, see the runbook, restore a backup"


def is_damage(error: sqlite3.Error) -> bool:
    """Say whether SQLite found what no commit of its own can have left."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & _RESULT_CODE in _DAMAGE


class Condition:
    """The condition of one open ledger; what it is told comes from several threads, a field at a time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lasting: tuple[str, str] | None = None
        self._commit_error = ""
        self._read_error = ""
        self._committing_since_s: float | None = None
        self.committed_at_s = monotonic()
        self.failed_reads = 0

    @property
    def refusal(self) -> str:
        """Why nothing may be read or written any more, or ""."""
        return self._lasting[1] if self._lasting else ""

    def trouble(self) -> tuple[str, str]:
        """Return a kind of KINDS and a sentence; two empty texts while all is well."""
        if self._lasting:
            return self._lasting
        if self._commit_error:
            return NOT_COMMITTING, self._commit_error
        since_s, now_s = self._committing_since_s, monotonic()
        if since_s is not None and now_s - since_s > self._limits.commit_overdue_s:
            return NOT_COMMITTING, f"a commit has not come back for {now_s - since_s:.1f} s"
        if now_s - self.committed_at_s > self._limits.proof_overdue_s:
            return NOT_COMMITTING, f"nothing was committed for {now_s - self.committed_at_s:.1f} s"
        if self._read_error:
            return NOT_READING, self._read_error
        return "", ""

    def stuck(self) -> bool:
        """Whether a commit has gone on for longer than it may wait for a lock."""
        since_s = self._committing_since_s
        return since_s is not None and monotonic() - since_s > 2 * self._limits.lock_wait_s

    def began(self) -> None:
        """A commit begins."""
        self._committing_since_s = monotonic()

    def ended(self, error: str) -> None:
        """A commit ended, with an error of the store or ""."""
        self._committing_since_s = None
        self._commit_error = error
        if not error:
            self.committed_at_s = monotonic()

    def lost(self, what: str) -> None:
        """The file is no longer the one opened."""
        self._lasting = self._lasting or (LOST, f"the ledger is lost: {what}; {_REMEDY}")

    def damaged(self, what: str) -> None:
        """SQLite found damage."""
        self._lasting = self._lasting or (DAMAGED, f"the ledger is damaged ({what}); {_REMEDY}")

    def read_failed(self, error: sqlite3.Error) -> None:
        """A read failed."""
        self.failed_reads += 1
        if is_damage(error):
            self.damaged(str(error))
        self._read_error = f"the ledger cannot be read: {error}"

    def read(self) -> None:
        """A read that was made to find out succeeded."""
        self._read_error = ""
