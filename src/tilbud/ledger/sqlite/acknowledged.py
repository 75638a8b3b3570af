"""How many commits were acknowledged, kept beside the ledger's file, so that a loss cannot go unseen.

What holds: each commit has a number, which is in the ledger; before anybody is told of it, the number is in
this file too. SQLite reads a log up to its first bad frame and says nothing of the rest, and a file that was
replaced by an older one looks sound: where this file names a later commit than the ledger has, that many
are missing. It is written without waiting for the disk: a process that is killed loses nothing of it, a
machine that loses power may, and so may the log with durability `process`; the file says which of the
machine's starts wrote it (its boot id), so that such a loss is told and not taken for damage.

Each process of a service has a line of its own, of a fixed length; the largest number counts. A line that
cannot be read is passed over: it says nothing of the ledger. Whoever begins a service asks whether there is
one, says so, and makes the file anew.
"""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tilbud.ledger.durability import Durability

SUFFIX = "-acknowledged"
_LINE_BYTES = 96
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The last commit that anybody was told of, and under what it was made."""

    commits: int
    boot: str
    durability: str


def boot_id() -> str:
    """Return what names this start of the machine; "-" where it tells none."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip() or "-"
    except OSError:
        return "-"


def read(path: Path) -> Acknowledged | None:
    """Return what the file beside the ledger at `path` says; None where there is none, or nothing to read."""
    try:
        content = beside(path).read_bytes()
    except FileNotFoundError:
        return None
    return max(filter(None, map(_parse, _lines(content))), key=lambda line: line.commits, default=None)


def unreadable(path: Path) -> bool:
    """Say that the file beside the ledger at `path` is there and does not tell all that was written in it."""
    try:
        content = beside(path).read_bytes()
    except FileNotFoundError:
        return False
    # A place that no process has written yet is zeros.
    written = [line for line in _lines(content) if line.strip(b"\0")]
    return not written or not all(map(_parse, written))


def beside(path: Path) -> Path:
    """Return where the file is of the ledger at `path`."""
    return path.with_name(path.name + SUFFIX)


def _lines(content: bytes) -> list[bytes]:
    return [content[at : at + _LINE_BYTES] for at in range(0, len(content), _LINE_BYTES)]


def _parse(line: bytes) -> Acknowledged | None:
    with suppress(ValueError):
        text, check = line.decode("ascii").strip("\0\n ").rsplit(" ", 1)
        if zlib.crc32(text.encode()) == int(check, 16):
            commits, boot, durability = text.split()
            return Acknowledged(int(commits), boot, durability)
    return None


class AcknowledgedFile:
    """The line of one process; for its writer's thread."""

    def __init__(self, path: Path, place: int, durability: Durability) -> None:
        self._descriptor = os.open(beside(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._at = place * _LINE_BYTES
        self._rest = f" {boot_id()} {durability.value}"

    def begin(self, commits: int) -> None:
        """Forget what earlier services wrote."""
        os.ftruncate(self._descriptor, 0)
        self.write(commits)

    def write(self, commits: int) -> None:
        """Say that a commit may be told of. Raises OSError."""
        text = f"{commits:020d}{self._rest}"
        line = f"{text} {zlib.crc32(text.encode()):08x}".ljust(_LINE_BYTES - 1) + "\n"
        os.pwrite(self._descriptor, line.encode(), self._at)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)
