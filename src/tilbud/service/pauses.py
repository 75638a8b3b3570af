"""Pauses: stop and resume an offer, or a campaign.

What holds: what is acknowledged acts on the next decision in every process, and outlives a restart. The log
has a line of each; the reason, which people wrote, stays in the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import structlog

from tilbud.campaigns.served import Catalog, ServedCampaign
from tilbud.domain.clock import Clock
from tilbud.domain.decision.records import check_id
from tilbud.domain.errors import InvalidField
from tilbud.domain.limits import Limits
from tilbud.domain.pauses import WHOLE_CAMPAIGN, Pause
from tilbud.domain.text import is_clean, nfc
from tilbud.ledger.ports import Pauses


class PauseService:
    """Pauses and resumes."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        pauses: Pauses,
        clock: Clock,
        limits: Limits,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._catalog = catalog
        self._pauses = pauses
        self._clock = clock
        self._limits = limits
        self._log = log

    async def pause_campaign(self, campaign: str, reason: str, until_us: int | None) -> None:
        """Answer with the fallback until then (wall clock, µs; None: until it is resumed).

        Raises InvalidField, UnknownCampaign, Overloaded, LedgerUnavailable.
        """
        await self._pause(self._served(campaign).id, WHOLE_CAMPAIGN, reason, until_us)

    async def pause_offer(self, campaign: str, offer_id: str, reason: str, until_us: int | None) -> None:
        """Take an offer out; see `pause_campaign`."""
        served = self._served(campaign)
        await self._pause(served.id, self._offer(served, offer_id), reason, until_us)

    async def resume_campaign(self, campaign: str) -> None:
        """Decide again; raises InvalidField, UnknownCampaign, Overloaded, LedgerUnavailable."""
        await self._resume(self._served(campaign).id, WHOLE_CAMPAIGN)

    async def resume_offer(self, campaign: str, offer_id: str) -> None:
        """Bring an offer back; see `resume_campaign`. One that a changed file dropped may be resumed too."""
        served = self._served(campaign)
        check_id("offer_id", offer_id, self._limits, required=True)
        if not await self._resume(served.id, offer_id):
            self._offer(served, offer_id)

    async def pauses(self, campaign: str) -> Sequence[Pause]:
        """Return what is paused now: the campaign first, then offers by id."""
        now_us = self._clock.now().wall_us
        pauses = await self._pauses.pauses(campaign)
        return sorted((pause for pause in pauses if pause.holds(now_us)), key=lambda pause: pause.offer_id)

    async def _pause(self, campaign: str, offer_id: str, reason: str, until_us: int | None) -> None:
        reason_max = self._limits.pause_reason_chars_max
        reason = nfc(reason, reason_max)
        if not reason.strip():
            raise InvalidField("reason", "is required: say why, for those who read it later")
        if len(reason) > reason_max or not is_clean(reason):
            raise InvalidField("reason", f"at most {reason_max} characters, none of them control characters")
        now = self._clock.now()
        if until_us is not None and until_us <= now.wall_us:
            raise InvalidField(
                "end_time", "lies in the past by the server's clock; leave it out or say a later one"
            )
        await self._pauses.pause(Pause(campaign, offer_id, reason, now.wall_us, until_us), now)
        until = None if until_us is None else datetime.fromtimestamp(until_us / 1e6, UTC).isoformat()
        self._log.info("paused", campaign=campaign, offer=offer_id, until=until)

    async def _resume(self, campaign: str, offer_id: str) -> bool:
        was_paused = await self._pauses.resume(campaign, offer_id, self._clock.now())
        if was_paused:
            self._log.info("resumed", campaign=campaign, offer=offer_id)
        return was_paused

    def _served(self, campaign: str) -> ServedCampaign:
        return self._catalog.get(check_id("campaign", campaign, self._limits, required=True))

    def _offer(self, served: ServedCampaign, offer_id: str) -> str:
        check_id("offer_id", offer_id, self._limits, required=True)
        if offer_id not in served.offer_ids:
            raise InvalidField("offer_id", f"the campaign has no offer {offer_id!r}")
        return offer_id
