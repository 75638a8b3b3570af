"""How long campaigns were not served, within the writer's transaction, and what time it is for each.

What holds: a campaign's clocks stand while it is away, and go on from there when it comes back; what that
means for a deadline is `domain/clock.py`'s.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from tilbud.domain.clock import Absence, Clocks, Now
from tilbud.domain.limits import Limits

_ABSENCES = "SELECT no, id, absences_us, away_since_us FROM campaigns"
_ABSENCE = "SELECT absences_us, away_since_us FROM campaigns WHERE no = ?"
_SERVE = "UPDATE campaigns SET absences_us = ?, away_since_us = ? WHERE no = ?"


class Absences:
    """The absences of campaigns on one connection; for one thread."""

    def __init__(self, connection: sqlite3.Connection, limits: Limits) -> None:
        self._connection = connection
        self.away_max_us = int(limits.campaign_away_max_s * 1e6)

    def serve(self, campaigns: Collection[str], now: Now) -> None:
        """Let the clocks of these go, and those of all others stand."""
        absences = self._connection.execute(_ABSENCES).fetchall()
        for no, campaign, over_us, since_us in absences:
            before = Absence(over_us, since_us)
            after = before.after(now, self.away_max_us, served=campaign in campaigns)
            if after != before:
                self._connection.execute(_SERVE, (after.over_us, after.since_us, no))

    def clocks(self, campaign_no: int, now: Now) -> Clocks:
        """Return the clocks of a campaign."""
        row = self._connection.execute(_ABSENCE, (campaign_no,)).fetchone()
        return Absence(*(row or ())).clocks(now, self.away_max_us)
