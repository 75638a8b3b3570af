"""What is paused, as every process of the machine knows it, without asking the file each time.

Every decision looks at the pauses, and a read just after another connection's commit costs 60 µs where a
look at a file's length costs 2. What holds: the marker beside the ledger grows by a byte after each commit
that changed a pause, before it is acknowledged; while it is as long as it was, what was read still holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from tilbud.domain.pauses import Pause

_SUFFIX = "-switches"


class PauseCache:
    """The pauses of the ledger at `path`; for one thread."""

    def __init__(self, path: Path, read: Callable[[], Iterable[Pause]]) -> None:
        self._marker = path.with_name(path.name + _SUFFIX)
        self._read = read
        self._length = -1  # of the marker, when the pauses were read
        self._pauses: dict[str, tuple[Pause, ...]] = {}

    def of(self, campaign: str) -> tuple[Pause, ...]:
        """Return the pauses of a campaign, in order of their offers."""
        try:
            length = self._marker.stat().st_size
        except FileNotFoundError:
            length = 0
        if length != self._length:
            by_campaign: dict[str, list[Pause]] = {}
            for pause in self._read():
                by_campaign.setdefault(pause.campaign, []).append(pause)
            self._pauses = {name: tuple(pauses) for name, pauses in by_campaign.items()}
            self._length = length
        return self._pauses.get(campaign, ())

    def changed(self) -> None:
        """Tell every process that a pause changed; raises OSError where the disk refuses."""
        self._length = -1
        with self._marker.open("ab") as marker:
            marker.write(b".")
