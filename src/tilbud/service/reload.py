"""Loading campaigns: at the start, on ReloadCampaigns and on SIGHUP.

What holds: all files load, with their models up to date, before anything is replaced; otherwise the
running campaigns stay exactly as they are. A changed file keeps its model as long as the lineage is
the same; a new lineage learns from all the ledger still has before it answers anyone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from tilbud.bandit.model import Model, lineage_of
from tilbud.domain.campaign import Campaign
from tilbud.domain.errors import CampaignInvalid, ModelUnavailable, Problem, TilbudError
from tilbud.domain.limits import Limits
from tilbud.learning.replica import catch_up
from tilbud.learning.settling import Learner
from tilbud.ledger.port import Ledger
from tilbud.service.campaign_files import CampaignFile, load_campaigns
from tilbud.service.catalog import Catalog, ServedCampaign
from tilbud.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Changes:
    """Campaign ids by what a reload did to them, each sorted."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: tuple[str, ...]


class CampaignLoader:
    """Keeps the catalog as the campaign files say."""

    def __init__(
        self,
        *,
        paths: Sequence[Path],
        catalog: Catalog,
        ledger: Ledger,
        learner: Learner,
        open_model: Callable[[Campaign], Model],
        metrics: Metrics,
        limits: Limits,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._paths = tuple(paths)
        self._catalog = catalog
        self._ledger = ledger
        self._learner = learner
        self._open_model = open_model
        self._metrics = metrics
        self._limits = limits
        self._log = log
        self._one_at_a_time = asyncio.Lock()

    async def reload(self) -> Changes:
        """Read the files and serve what they say; raises CampaignInvalid and changes nothing."""
        async with self._one_at_a_time:
            try:
                return await self._reload()
            except TilbudError as error:
                self._metrics.reloads.labels("refused").inc()
                self._log.error("campaigns_refused", problems=str(error).splitlines())
                raise

    async def _reload(self) -> Changes:
        loaded = await asyncio.to_thread(load_campaigns, self._paths, self._limits)
        before = {served.id: served for served in self._catalog.all()}
        after = []
        for file in loaded:
            after.append(await self._served(file, before.get(file.campaign.campaign)))
            await asyncio.sleep(0)
        async with self._learner.between_turns():
            await self._bring_up_to_date(before, after)
            self._catalog.replace(after)
        changes = _changes(before, {served.id: served for served in after})
        self._announce(changes)
        return changes

    async def _served(self, file: CampaignFile, before: ServedCampaign | None) -> ServedCampaign:
        if before is not None and before.file_sha256 == file.sha256:
            return before
        if before is not None and before.model.lineage == lineage_of(file.campaign):
            return ServedCampaign(file, before.model, self._limits)
        try:
            model = self._open_model(file.campaign)
        except ModelUnavailable as error:
            problem = Problem(file.file, 1, "exploration.arguments", f"cannot be served: {error}")
            raise CampaignInvalid((problem,)) from error
        served = ServedCampaign(file, model, self._limits)
        self._learner.opened(served)
        served.warm()
        await catch_up(served.id, served.model, ledger=self._ledger, limits=self._limits)
        return served

    async def _bring_up_to_date(
        self, before: dict[str, ServedCampaign], after: Sequence[ServedCampaign]
    ) -> None:
        """Let old models count what settled meanwhile, and new ones learn it too.

        An old model that cannot is no reason to refuse the files that may replace it.
        """
        for served in before.values():
            try:
                await self._learner.learn(served)
            except TilbudError as error:
                self._log.error("old_model_left_behind", campaign=served.id, error=str(error))
        old = {id(served.model) for served in before.values()}
        for served in after:
            if id(served.model) not in old:
                await catch_up(served.id, served.model, ledger=self._ledger, limits=self._limits)

    def _announce(self, changes: Changes) -> None:
        for name in changes.removed:
            self._metrics.forget(name)
        self._metrics.campaigns.set(len(self._catalog.all()))
        self._metrics.reloads.labels("loaded").inc()
        self._log.info(
            "campaigns_loaded",
            added=changes.added, changed=changes.changed, removed=changes.removed,
            unchanged=len(changes.unchanged),
        )  # fmt: skip


def _changes(before: dict[str, ServedCampaign], after: dict[str, ServedCampaign]) -> Changes:
    both = sorted(before.keys() & after.keys())
    return Changes(
        added=tuple(sorted(after.keys() - before.keys())),
        changed=tuple(name for name in both if before[name] is not after[name]),
        removed=tuple(sorted(before.keys() - after.keys())),
        unchanged=tuple(name for name in both if before[name] is after[name]),
    )
