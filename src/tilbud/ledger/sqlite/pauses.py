"""What people pause and resume, within the writer's transaction.

What holds: there is one pause of an offer, or of a campaign; those that are over go with the next one. How
processes hear of it is pause_cache.py's.
"""

from __future__ import annotations

import sqlite3

from tilbud.domain.clock import Now
from tilbud.domain.pauses import Pause


class PauseStatements:
    """The calls about pauses on one connection; for one thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def pause(self, pause: Pause, now: Now) -> None:
        """Pause something; replaces an earlier pause of it. Those that are over go."""
        self._connection.execute("DELETE FROM switches WHERE until_us <= ?", (now.wall_us,))
        self._connection.execute(
            "INSERT OR REPLACE INTO switches VALUES (?, ?, ?, ?, ?)",
            (pause.campaign, pause.offer_id, pause.reason, pause.since_us, pause.until_us),
        )

    def resume(self, campaign: str, offer_id: str, now: Now) -> bool:
        """End a pause; return whether there was one."""
        rows = self._connection.execute(
            "DELETE FROM switches WHERE campaign = ? AND offer_id = ? RETURNING until_us",
            (campaign, offer_id),
        ).fetchall()
        return any(until_us is None or now.wall_us < until_us for (until_us,) in rows)
