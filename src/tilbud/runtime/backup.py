"""A backup: the data directory of a service, copied while it serves.

What holds: every decision and outcome acknowledged before it began is in the copy, and the copy is of one
moment, so that serving from it is a restart. The source is only read; while its ledger is copied its log
cannot be shortened, and commits may wait 20 ms now and then where that is tried (ledger/sqlite/wal.py). The
copy comes into being whole, on disk, or not at all.

What only processes that run need is not copied: the lock, and the file that tells them of pauses.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tilbud.bandit.checkpoints.copies import copy_checkpoints
from tilbud.bandit.checkpoints.files import sync
from tilbud.bandit.checkpoints.store import Checkpoints
from tilbud.domain.errors import TilbudError
from tilbud.domain.limits import Limits
from tilbud.ledger.sqlite.snapshot import Copied, Progress, at_this_moment, check_copy
from tilbud.runtime.data_directory import LEDGER_FILE, DataDirectory
from tilbud.runtime.settings import Settings


class BackupRefused(TilbudError):
    """What was asked for cannot be done; nothing was copied."""


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What a backup has."""

    ledger: Copied
    checkpoints: int
    size_bytes: int


def back_up(data: Path, to: Path, progress: Progress) -> BackedUp:
    """Copy a data directory to a new one; `progress` hears of (pages done, all pages) of the ledger.

    Raises BackupRefused, LedgerInvalid, LedgerUnavailable, or OSError where the copy cannot be written.
    """
    source, to = DataDirectory(data.resolve()), to.resolve()
    _check(source, to)
    try:
        making = Path(tempfile.mkdtemp(prefix=f".{to.name}-", dir=to.parent))
    except OSError as error:
        raise BackupRefused(
            f"--to: no directory can be made in {to.parent}: {error.strerror}; choose another place"
        ) from error
    try:
        checkpoints = _copy(source, DataDirectory(making), progress)
        copied = check_copy(DataDirectory(making).ledger)
        size_bytes = _sync_all(making)
        try:
            making.rename(to)
        except OSError as error:
            raise BackupRefused(
                f"--to: {to} cannot be made: {error.strerror}; name a directory that is not there yet"
            ) from error
        sync(to.parent)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return BackedUp(copied, checkpoints, size_bytes)


def _check(data: DataDirectory, to: Path) -> None:
    if not data.ledger.is_file():
        raise BackupRefused(f"--data: {data.path} has no {LEDGER_FILE}; name the data directory of a service")
    if to.is_relative_to(data.path):
        raise BackupRefused(f"--to: {to} is in the data directory; choose another place")
    if not to.parent.is_dir():
        raise BackupRefused(f"--to: there is no directory {to.parent}; make it, or mount it, first")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise BackupRefused(f"--to: {to} is there already; name a new directory, or an empty one")
    # On a disk that the copy filled, where the service's is the same, its commits would fail.
    free_bytes, needed_bytes = shutil.disk_usage(to.parent).free, _size_bytes(data)
    if free_bytes < needed_bytes:
        raise BackupRefused(
            f"--to: {to.parent} has {free_bytes:,} bytes free, and the copy may take {needed_bytes:,}; "
            f"make room, or choose another place"
        )


def _size_bytes(data: DataDirectory) -> int:
    """Return the bytes of what is copied, and of the log, whose pages the copy may have too."""
    size_bytes = 0
    for path in (data.ledger, data.ledger_log, *data.checkpoints.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # a running service removes what it needs no longer
            size_bytes += path.stat().st_size
    return size_bytes


def _copy(data: DataDirectory, to: DataDirectory, progress: Progress) -> int:
    """Copy checkpoints and ledger of one moment; return how many checkpoints.

    Why in this order: see bandit/checkpoints/copies.py.
    """
    checkpoints = Checkpoints(data.checkpoints, Settings().limits.checkpoint_generations)
    tries = 0
    while True:
        tries += 1
        listed = [file for name in checkpoints.campaigns() for file in checkpoints.manifests(name)]
        with at_this_moment(data.ledger) as ledger:
            try:
                copied = copy_checkpoints(
                    listed, to.checkpoints, ledger.stands, pass_over_missing=tries == Limits.backup_tries_max
                )
            except FileNotFoundError:  # removed since it was listed, and the ledger may have gone on too
                shutil.rmtree(to.checkpoints, ignore_errors=True)
            else:
                ledger.copy_to(to.ledger, progress)
                return copied


def _sync_all(directory: Path) -> int:
    """Wait until all below a directory is on disk; return the bytes of its files."""
    size_bytes = 0
    for where, _, names in os.walk(directory, topdown=False):
        for path in [*(Path(where, name) for name in names), Path(where)]:
            sync(path)
            size_bytes += path.stat().st_size if path.is_file() else 0
    return size_bytes
