"""Which campaigns a turn of the learner looks at: few of them, however many are served.

What holds: at first it is all of them, then each whose standing in the ledger changed or that has something
due. Who was looked at is looked at again at the next turn, until it is said to be `done`. It reads neither
the ledger nor a clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from tilbud.learning.replica import Learned
from tilbud.ledger.answers import Standing


class Agenda:
    """What a turn looks at, of the campaigns that are served."""

    def __init__(self) -> None:
        self._campaigns: Sequence[Learned] = ()
        self._by_name: dict[str, Learned] = {}
        self._standings: Mapping[str, Standing] = {}
        self._not_done: set[str] = set()

    def serve(self, campaigns: Sequence[Learned]) -> Collection[str]:
        """Go by these campaigns, and by all of them where they are others than before; return their names."""
        if campaigns is not self._campaigns:
            self._campaigns = campaigns
            self._by_name = {campaign.id: campaign for campaign in campaigns}
            self.look_at_all()
        return self._by_name.keys()

    def look_at_all(self) -> Sequence[Learned]:
        """Return every campaign, and forget what was done."""
        self._not_done = set(self._by_name)
        return self._campaigns

    def look_at(self, standings: Mapping[str, Standing], now_us: int) -> Sequence[Learned]:
        """Return the campaigns to look at, by where all of them stand at a time of the service clock."""
        served = self._by_name.keys()
        if standings is not self._standings:
            self._not_done.update(served & dict(standings.items() - self._standings.items()))
            self._standings = standings
        self._not_done.update(
            name
            for name, standing in standings.items()
            if standing.due_service_us is not None and standing.due_service_us <= now_us and name in served
        )
        return [self._by_name[name] for name in sorted(self._not_done)]

    def done(self, campaign: str) -> None:
        """Look at a campaign no more until its standing changes, or something is due."""
        self._not_done.discard(campaign)
