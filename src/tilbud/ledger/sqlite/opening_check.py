"""What is asked of a ledger's file before a service begins on it, without changing a byte of it.

What holds: a file that SQLite finds damaged, within the time there is, is refused; so is one that lacks
commits which were acknowledged, or that is gone while what stands beside it says that there was one. One that
lacks pages is refused at once, however large it is: its length is compared with what it should have. An
operator may accept a loss, and then what was lost is told; so it is after a loss of power, which may take
the last commits where durability is `process`. The log is read as SQLite will read it, and stays as it is
for whoever wants to save more of it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from time import monotonic

from tilbud.domain.errors import LedgerInvalid
from tilbud.domain.limits import Limits
from tilbud.ledger.durability import Durability
from tilbud.ledger.sqlite.acknowledged import SUFFIX, Acknowledged, beside, boot_id, read, unreadable
from tilbud.ledger.sqlite.schema import connect

ACKNOWLEDGED_LOST = "acknowledged_lost"  # as `tell` hears of it, with how many `commits`
_WAL_FRAME_HEADER_BYTES = 24  # https://sqlite.org/fileformat2.html, section 4.1
Tell = Callable[[str, dict[str, object]], None]


def check(path: Path, *, accept_loss: bool, check_s: float, tell: Tell) -> None:
    """Raise LedgerInvalid where no service may begin on the file; `tell` hears what is worth a line.

    Takes about `check_s` seconds at most.
    """
    acknowledged = read(path)
    if unreadable(path):
        tell("acknowledged_unreadable", {"file": beside(path).name})
    if not path.exists():
        if acknowledged is not None and acknowledged.commits:
            _lacks(path, acknowledged, 0, accept_loss=accept_loss, tell=tell)
        return
    # One of no bytes was made and not written yet; SQLite opens none such for reading.
    commits = _looked_at(path, check_s, tell) if path.stat().st_size else 0
    if acknowledged is not None and acknowledged.commits > commits:
        _lacks(path, acknowledged, commits, accept_loss=accept_loss, tell=tell)


def _looked_at(path: Path, check_s: float, tell: Tell) -> int:
    """Return the number of the file's last commit, 0 of an older version."""
    with closing(connect(path, read_only=True)) as connection:
        if missing := _missing_pages(connection, path):
            raise LedgerInvalid(
                f"the ledger {path} is damaged (cut short: {missing:,} pages are missing): restore a backup"
            )
        until_s = monotonic() + check_s
        connection.set_progress_handler(lambda: monotonic() > until_s, Limits.check_look_every_instructions)
        try:
            [fault] = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_INTERRUPT:
                raise
            tell("ledger_check_unfinished", {"seconds": check_s, "bytes": path.stat().st_size})
            fault = "ok"
        connection.set_progress_handler(None, 0)
        if fault != "ok":
            raise LedgerInvalid(f"the ledger {path} is damaged ({fault}): restore a backup")
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'progress'").fetchall():
            return 0
        return int(connection.execute("SELECT commits FROM progress").fetchone()[0])


def _missing_pages(connection: sqlite3.Connection, path: Path) -> int:
    """Return how many pages there should be that are neither in the file nor can be in its log.

    SQLite compares the two itself where there is no log. Whoever was killed while the log was copied leaves
    pages that are in the log alone. The file's length is read last: when a log is cut, it has them all.
    """
    [page_bytes] = connection.execute("PRAGMA page_size").fetchone()
    [pages] = connection.execute("PRAGMA page_count").fetchone()
    log = path.with_name(path.name + "-wal")
    in_log = log.stat().st_size // (page_bytes + _WAL_FRAME_HEADER_BYTES) if log.exists() else 0
    return max(0, int(pages) - path.stat().st_size // int(page_bytes) - in_log)


def _lacks(path: Path, acknowledged: Acknowledged, commits: int, *, accept_loss: bool, tell: Tell) -> None:
    lost = acknowledged.commits - commits
    power_cut = (
        acknowledged.durability == Durability.PROCESS.value and commits > 0 and acknowledged.boot != boot_id()
    )
    if accept_loss or power_cut:
        tell(ACKNOWLEDGED_LOST, {"commits": lost, "accepted": accept_loss, "power_cut": power_cut})
        return
    what = "is gone" if not path.exists() else f"ends at commit {commits:,}"
    raise LedgerInvalid(
        f"the ledger {path} {what}, but {acknowledged.commits:,} commits were acknowledged: the last "
        f"{lost:,} are missing (each may be many rows). Restore the newest backup; to serve "
        f"what is left, and lose them, start with --accept-loss, which is also what to do after an older "
        f"ledger was put here on purpose (or remove {path.name}{SUFFIX})"
    )
