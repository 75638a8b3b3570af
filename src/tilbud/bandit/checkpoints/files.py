"""The files of checkpoints: temporary ones, those in place, and the lock under which names change.

What holds:
 * What is renamed into place is on disk before, and its name when `place` returns.
 * Several processes may share the directory: names change, and files that any of them may use go, only under
   `lock`, which ends with the process that has it. What a living process has reserved stays.
 * Waiting for that lock, and for the disk, is for threads that keep nobody waiting.

What it does not do: know what a checkpoint is good for, or which of them stay (`store.py`, `pruning.py`).
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from tilbud.bandit.checkpoints.manifest import Manifest, parse, parse_name, verify_model
from tilbud.bandit.checkpoints.pruning import Listed
from tilbud.domain.errors import CheckpointInvalid
from tilbud.domain.limits import Limits

_TEMPORARY = re.compile(r"\.new-(([1-9][0-9]{0,8})-[0-9]+)-[0-9]+")
_WRITING = ".writing"  # what VW adds to a name until it has written all
_LOCK = ".lock"
_BEGAN = 19  # of what /proc/PID/stat tells after the command: ticks since the machine began


class CheckpointFiles:
    """The files below one directory, which has a directory for each campaign."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process = process_key(os.getpid())
        self._numbers = count()
        self._reserved: set[str] = set()  # the temporary files of this process

    def of(self, campaign: str) -> Path:
        """Return the directory of a campaign, there or not."""
        return self._directory / campaign

    def campaigns(self) -> list[str]:
        """Return every campaign that has a directory here, served or not."""
        if not self._directory.is_dir():
            return []
        return sorted(path.name for path in self._directory.iterdir() if path.is_dir())

    def reserve(self, campaign: str) -> Path:
        """Return where to write what is not in place yet; `release` it in the end."""
        directory = self.of(campaign)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = directory / f".new-{self._process}-{next(self._numbers)}"
        self._reserved.add(temporary.name)
        return temporary

    def release(self, temporary: Path) -> None:
        """Remove a temporary file that is done with, if it is there; what stays is removed with the old."""
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        self._reserved.discard(temporary.name)

    def is_reserved(self, path: Path) -> bool:
        """Whether a file is a temporary one that this process, or another that lives, works on.

        Any other is what a crash left, also where this process has the number of the one that crashed.
        """
        name = path.name.removesuffix(_WRITING)
        match = _TEMPORARY.fullmatch(name)
        if match is None:
            return False
        return name in self._reserved if match[1] == self._process else match[1] == process_key(int(match[2]))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from renaming and removing; not within itself. OSError where one holds on."""
        descriptor = os.open(self._directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(descriptor)
            yield
        finally:
            os.close(descriptor)  # which frees it, as the end of a process does


def list_files(directory: Path) -> list[Path]:
    """Return all there is in the directory of a campaign."""
    return list(directory.iterdir()) if directory.is_dir() else []


def list_names(directory: Path) -> list[tuple[Path, str, int]]:
    """Return where each manifest is, its lineage and its sequence, by the names alone."""
    names = ((path, parse_name(path.name)) for path in list_files(directory))
    return [(path, *name) for path, name in names if name]


def list_manifests(directory: Path) -> list[Listed]:
    """Return every manifest with what it says."""
    return [
        Listed(path, lineage, sequence, _manifest_or_none(path))
        for path, lineage, sequence in list_names(directory)
    ]


def read_manifest(path: Path) -> Manifest:
    """Return what a manifest says; CheckpointInvalid or OSError where it cannot be read."""
    with path.open("rb") as file:
        return parse(file.read(Limits.checkpoint_manifest_bytes_max))


def verified_model(path: Path, manifest: Manifest) -> Path:
    """Return where the model of a manifest is; CheckpointInvalid where it is not the one that was saved."""
    saved = path.with_name(manifest.model_name)
    verify_model(manifest, saved.read_bytes())
    return saved


def place(temporary: Path, name: str) -> None:
    """Give a temporary file, whose content is on disk, its name beside it."""
    temporary.rename(temporary.with_name(name))
    sync(temporary.parent)


def remove(directory: Path, paths: Iterable[Path]) -> None:
    """Remove files of a directory in this order, for good; those that are missing are no harm."""
    removed = False
    for path in paths:
        path.unlink(missing_ok=True)
        removed = True
    if removed:
        sync(directory)


def sync(path: Path) -> None:
    """Wait until a file's content, or a directory's names, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def process_key(pid: int) -> str:
    """Return the number of a process and when it began, which no other has; "" where there is none.

    The number alone comes back, in a container with the next start.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return f"{pid}-{stat.rpartition(')')[2].split()[_BEGAN]}"


def _manifest_or_none(path: Path) -> Manifest | None:
    try:
        return read_manifest(path)
    except (CheckpointInvalid, OSError):
        return None


def _lock(descriptor: int) -> None:
    """Lock a file; TimeoutError, which is an OSError, where a process that hangs has it for long."""
    for _ in range(Limits.checkpoint_lock_tries_max):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(Limits.checkpoint_lock_retry_s)
        else:
            return
    raise TimeoutError("another process has held the lock of the checkpoints for too long")
