"""What a ledger in memory is asked, beside what it has of customers.

What holds: an answer is of what is there now, and changes nothing. What each read says is in the ports; what
writes say is in adapter.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from tilbud.domain.clock import Clocks, Now
from tilbud.domain.customer.customer import NOTHING_HAPPENED
from tilbud.domain.decision.facts import Facts, LookUp
from tilbud.domain.decision.records import Decision, Settlement
from tilbud.domain.limits import Limits
from tilbud.domain.pauses import Pause
from tilbud.ledger.answers import Standing
from tilbud.ledger.memory.customers import MemoryCustomers
from tilbud.ledger.memory.entries import Campaign, Lease


class MemoryReads(MemoryCustomers):
    """The reads of every port, for the ledger that is built on it."""

    def __init__(self, *, limits: Limits) -> None:
        super().__init__(limits=limits)
        self._away_max_us = int(limits.campaign_away_max_s * 1e6)
        self._pauses: dict[tuple[str, str], Pause] = {}
        self._lease = Lease()

    async def look_up(self, looks: Sequence[LookUp]) -> list[Facts]:
        """Return what decisions need to know."""
        return [self._look_up(look) for look in looks]

    def _look_up(self, look: LookUp) -> Facts:
        earlier = self._of(look.campaign).find(look.decision_id) if look.decision_id else None
        facts = Facts(self._paused(look.campaign), earlier)
        if not look.keys:
            return facts
        key = next((key for key in look.keys if key in self._customers), look.keys[0])
        facts = facts._replace(key=key)
        customer = self._customers.get(key)
        if customer is None:
            return facts
        return facts._replace(
            customer=customer.customer(),
            happened=customer.happened(look.campaign) if look.history else NOTHING_HAPPENED,
            exposures=customer.times(look.scopes.names, look.exposed_after_us) if look.scopes.names else {},
            sticky=customer.last_sticky(look.campaign, pending=look.pending) if look.sticky else None,
        )

    async def find(self, campaign: str, decision_id: str) -> Decision | None:
        """Return the recorded decision, or the earlier one that a repeat stands for."""
        return self._of(campaign).find(decision_id)

    async def settlements(self, campaign: str, after: int, limit: int) -> list[Settlement]:
        """Return settlements with sequence > `after`, in order."""
        first, last = self._of(campaign).sequences()
        settlements = self._of(campaign).settlements
        return [settlements[place] for place in islice(range(max(first, after + 1), last + 1), limit)]

    async def sequences(self, campaign: str) -> tuple[int, int]:
        """Return the first and the last retained sequence."""
        return self._of(campaign).sequences()

    async def pauses(self, campaign: str) -> tuple[Pause, ...]:
        """Return the pauses of a campaign."""
        return self._paused(campaign)

    def _paused(self, campaign: str) -> tuple[Pause, ...]:
        return tuple(pause for (name, _), pause in sorted(self._pauses.items()) if name == campaign)

    async def every_pause(self) -> tuple[Pause, ...]:
        """Return the pauses of every campaign."""
        return tuple(pause for _, pause in sorted(self._pauses.items()))

    async def erasures(self, campaign: str) -> int:
        """Return how many erasures removed settlements of the campaign."""
        return self._of(campaign).erasures

    async def campaigns(self) -> list[str]:
        """Return every campaign the ledger has rows of."""
        return sorted(self._campaigns)

    async def clocks(self, campaign: str, now: Now) -> Clocks:
        """Return the campaign's clocks."""
        return self._clocks(self._of(campaign), now)

    def _clocks(self, campaign: Campaign, now: Now) -> Clocks:
        return campaign.absence.clocks(now, self._away_max_us)

    async def pending(self, campaign: str) -> int:
        """Return how many decisions wait for activation or settlement."""
        return self._of(campaign).open

    async def oldest_due_service_us(self, campaign: str) -> int | None:
        """Return when the next decision settles or expires."""
        return _due_service_us(self._of(campaign))

    async def standings(self) -> dict[str, Standing]:
        """Return where every campaign stands."""
        return {name: _standing(of) for name, of in self._campaigns.items()}

    async def leased_until_us(self) -> int:
        """Return when the lease to settle runs out."""
        return self._lease.until_us

    def _of(self, campaign: str) -> Campaign:
        return self._campaigns.get(campaign) or Campaign()


def _due_service_us(campaign: Campaign) -> int | None:
    entry = campaign.next_due()
    return entry.window.due_service_us if entry else None


def _standing(campaign: Campaign) -> Standing:
    due_us = _due_service_us(campaign)
    if due_us is not None:
        due_us += campaign.absence.over_us
    return Standing(campaign.last_sequence, campaign.erasures, campaign.open, due_us)
