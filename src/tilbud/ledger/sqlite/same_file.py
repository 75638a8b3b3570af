"""Whether the files of the ledger are still those that were opened: who asks before each answer can tell.

What holds: a file that was removed, replaced, moved away or cut short is noticed, be it the database, its log
or the log's index, or a directory above them. A connection goes on writing into a file that has no name any
more, and what it writes is gone with the process: so whoever acknowledges a commit asks here after it.
The database never shrinks, and the log is as long as its index says; that is asked within a transaction,
when no other process can shorten the log.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

_SUFFIXES = ("", "-wal", "-shm")
_WAL_HEADER_BYTES = 32  # https://sqlite.org/walformat.html, section 1
_FRAME_HEADER_BYTES = 24

Identity = tuple[int, int]


def identity(path: Path) -> Identity:
    """Return what a file is, whatever it is called. Raises OSError."""
    status = path.stat()
    return status.st_dev, status.st_ino


class SameFiles:
    """The files of the ledger at `path`, as they are now, when it is open."""

    def __init__(self, path: Path, page_bytes: int, log_pages: Callable[[], int]) -> None:
        self._paths = tuple(f"{path}{suffix}" for suffix in _SUFFIXES)
        self._identities = tuple(identity(Path(name)) for name in self._paths)
        self._frame_bytes = page_bytes + _FRAME_HEADER_BYTES
        self._log_pages = log_pages
        self._size_bytes = 0

    def lost(self) -> str:
        """Say what is wrong with the files; "": they are those that were opened."""
        for path, opened in zip(self._paths, self._identities, strict=True):
            try:
                status = os.stat(path)  # noqa: PTH116 - at each commit
            except OSError as error:
                return f"{path} is gone ({error.strerror})"
            if (status.st_dev, status.st_ino) != opened:
                return f"{path} is another file than the one opened"
            if path is self._paths[0]:
                if status.st_size < self._size_bytes:
                    return f"{path} was cut short"
                self._size_bytes = status.st_size
        return ""

    def log_cut(self) -> str:
        """Say that the log is shorter than it was written; only within a transaction that writes."""
        pages = self._log_pages()
        try:
            size_bytes = os.stat(self._paths[1]).st_size  # noqa: PTH116
        except OSError as error:
            return f"{self._paths[1]} is gone ({error.strerror})"
        if pages and size_bytes < _WAL_HEADER_BYTES + pages * self._frame_bytes:
            return f"{self._paths[1]} was cut short"
        return ""
