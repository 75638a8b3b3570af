"""What a load of campaign files tells people: in the log, and in the metrics.

What holds: nothing that is served depends on it. What changed is changes.py's to find, and what is served
loader.py's to decide.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from tilbud.campaigns.changes import Changes
from tilbud.campaigns.served import ServedCampaign
from tilbud.domain.errors import Problem, TilbudError
from tilbud.domain.limits import Limits
from tilbud.ledger.ports import SettlementLog
from tilbud.telemetry.metrics import Metrics


class Announcements:
    """Tells of loads."""

    def __init__(
        self,
        settlements: SettlementLog,
        *,
        metrics: Metrics,
        limits: Limits,
        log: structlog.typing.FilteringBoundLogger,
        speaks: bool = True,
    ) -> None:
        self._settlements = settlements
        self._metrics = metrics
        self._limits = limits
        self._log = log
        self._tell = log.error if speaks else log.debug

    async def changes(self, changes: Changes, served: Sequence[ServedCampaign]) -> None:
        """Show what is served now, and forget what is not any more."""
        for name in changes.removed:
            self._metrics.forget(name)
        news = {*changes.added, *changes.changed}
        for campaign in served:
            self._metrics.learning.stand_in.labels(campaign.id).set(campaign.stand_in)
            if campaign.id in news:
                self._metrics.served(campaign.campaign, self._limits.context_series_max)
                await asyncio.sleep(0)  # a large one makes thousands of series
        self._metrics.process.campaigns.set(len(served))
        self._metrics.process.reloads.labels("loaded").inc()
        self._log.info(
            "campaigns_loaded",
            added=changes.added, changed=changes.changed, removed=changes.removed,
            unchanged=len(changes.unchanged), under_older_rules=dict(changes.under_older_rules),
        )  # fmt: skip

    def other_units(
        self, before: Mapping[str, ServedCampaign], after: Sequence[ServedCampaign]
    ) -> tuple[str, ...]:
        """Warn of changed weights or ranges where rewards are settled: what was learned is not converted."""
        names = []
        for served in after:
            earlier = before.get(served.id)
            settled = max(model.sequence for model in served.models.values())
            if earlier is None or not settled:
                continue
            keys = served.campaign.reward.in_other_units(earlier.campaign.reward)
            if keys:
                names.append(served.id)
                self._log.warning(
                    "rewards_not_converted",
                    campaign=served.id,
                    changed=keys[: self._limits.files_reported_max],
                    settled=settled,
                    remedy="a change of unit wants a new campaign id",
                )
        return tuple(sorted(names))

    async def under_older_rules(
        self, before: Mapping[str, ServedCampaign], after: Sequence[ServedCampaign]
    ) -> dict[str, int]:
        """Return how many open decisions settle under other rules than those of the files just loaded."""
        older = {}
        for served in after:
            same = served is before.get(served.id)
            if not same and await self._settlements.pending(served.id):
                try:
                    older[served.id] = await self._settlements.under_other_rules(served.id, served.rules_text)
                except TilbudError as error:  # the files are loaded all the same
                    self._log.error("older_rules_not_counted", campaign=served.id, error=str(error))
        return {name: waiting for name, waiting in older.items() if waiting}

    def refusals(self, refused: tuple[Problem, ...]) -> None:
        """Say loudly which files are not served, and why: their callers hear of no such campaign.

        Of several processes that read the same files one says what is wrong, each how much it lacks.
        """
        files = len({problem.file for problem in refused})
        self._metrics.process.campaign_files_refused.set(files)
        for problem in refused[: self._limits.files_reported_max]:
            self._tell(
                "campaign_file_refused",
                file=problem.file, line=problem.line, key=problem.key, problem=problem.problem,
            )  # fmt: skip
        if refused:
            self._log.error("campaigns_missing", files=files, problems=len(refused))
