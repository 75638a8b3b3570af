"""What a process that serves reads of its ledger's file, on the thread of its event loop.

What holds: an answer takes microseconds and comes without suspending, so that what is read in one go is read
of one state of model and customer. What each read says is in the ports; how it reads, in reader.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tilbud.domain.clock import Clocks, Now
from tilbud.domain.customer.customer import Customer, CustomerKey
from tilbud.domain.decision.facts import Facts, LookUp
from tilbud.domain.decision.records import Decision, Settlement
from tilbud.domain.limits import Limits
from tilbud.domain.pauses import Pause
from tilbud.ledger.answers import Standing
from tilbud.ledger.sqlite.reader import SqliteReading


class LoopReads:
    """The reads of every port, but those of a Reader."""

    def __init__(self, path: Path, *, limits: Limits) -> None:
        self._reading = SqliteReading(path, limits=limits)

    async def look_up(self, looks: Sequence[LookUp]) -> list[Facts]:
        """Return what decisions need to know, as it is at one moment."""
        return self._reading.look_up(looks)

    async def find(self, campaign: str, decision_id: str) -> Decision | None:
        """Return the recorded decision, or the earlier one that a repeat stands for."""
        return self._reading.find(campaign, decision_id)

    async def pauses(self, campaign: str) -> tuple[Pause, ...]:
        """Return the pauses of a campaign."""
        return self._reading.pauses(campaign)

    async def every_pause(self) -> tuple[Pause, ...]:
        """Return the pauses of every campaign."""
        return self._reading.every_pause()

    async def customer(self, key: CustomerKey) -> Customer:
        """Return what is known; UNKNOWN_CUSTOMER where nothing is."""
        return self._reading.customer(key)

    async def settlements(self, campaign: str, after: int, limit: int) -> list[Settlement]:
        """Return settlements with sequence > `after`, in order."""
        return self._reading.settlements(campaign, after, limit)

    async def sequences(self, campaign: str) -> tuple[int, int]:
        """Return the first and the last retained sequence."""
        return self._reading.sequences(campaign)

    async def erasures(self, campaign: str) -> int:
        """Return how many erasures removed settlements of the campaign."""
        return self._reading.erasures(campaign)

    async def standings(self) -> Mapping[str, Standing]:
        """Return where every campaign stands; what was read before where nobody committed since."""
        return self._reading.standings()

    async def campaigns(self) -> list[str]:
        """Return every campaign the ledger has rows of."""
        return self._reading.campaigns()

    async def pending(self, campaign: str) -> int:
        """Return how many decisions wait for activation or settlement."""
        return self._reading.pending(campaign)

    async def clocks(self, campaign: str, now: Now) -> Clocks:
        """Return the campaign's clocks."""
        return self._reading.clocks(campaign, now)

    async def oldest_due_service_us(self, campaign: str) -> int | None:
        """Return when the next decision settles or expires."""
        return self._reading.oldest_due_service_us(campaign)

    async def leased_until_us(self) -> int:
        """Return when the lease to settle runs out."""
        return self._reading.leased_until_us()
