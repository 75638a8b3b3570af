"""Loading campaigns, at the start, on ReloadCampaigns and on SIGHUP; learning them anew after an erasure.

What holds: all files load, with their models up to date, before anything is replaced; otherwise the
running campaigns stay exactly as they are. At a start, where nothing runs that could stay, the good files are
served and the others told, unless it is to be strict. A changed file keeps its model as long as the lineage
is the same; a new lineage learns from all the ledger still has before it answers anyone. After an erasure
the old model answers until the new one has learned all but what was erased; so it does where a model fell so
far back that what it has to learn next was purged. What could not be finished — a failure, a cancelled
call, a crash — is begun again, by `run` or at the next start. A reload is the loader's own task: it outlives
whoever asked for it, and whoever asks meanwhile joins the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from tilbud.bandit.model import Model, lineage_of
from tilbud.domain.campaign import Campaign
from tilbud.domain.clock import Clock
from tilbud.domain.errors import CampaignInvalid, ModelUnavailable, Problem, TilbudError
from tilbud.domain.limits import Limits
from tilbud.learning.replica import catch_up
from tilbud.learning.settling import Learner
from tilbud.ledger.port import Ledger
from tilbud.service.campaign_files import CampaignFile, load_campaigns, load_good
from tilbud.service.catalog import Catalog, ServedCampaign
from tilbud.telemetry.metrics import Metrics

_LOOK_EVERY_S = 1.0
_AFTER_FAILURE_S = 30.0
_TOLD_MAX = 100


@dataclass(frozen=True, slots=True)
class Changes:
    """Campaign ids by what a reload did to them, each sorted."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: tuple[str, ...]
    under_older_rules: Mapping[str, int]  # open decisions that settle by other rules than the file's


class CampaignLoader:
    """Keeps the catalog as the campaign files say."""

    def __init__(
        self,
        *,
        paths: Sequence[Path],
        catalog: Catalog,
        ledger: Ledger,
        clock: Clock,
        learner: Learner,
        open_model: Callable[[Campaign], Awaitable[Model]],
        metrics: Metrics,
        limits: Limits,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._paths = tuple(paths)
        self._catalog = catalog
        self._ledger = ledger
        self._clock = clock
        self._learner = learner
        self._open_model = open_model
        self._metrics = metrics
        self._limits = limits
        self._log = log
        self._one_at_a_time = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None  # a reload that has not begun
        self._reloads: set[asyncio.Task[None]] = set()
        self._unfinished = False  # checkpoints may be left that learned what was erased
        self._under_older_rules: dict[str, int] = {}  # by what the last reload added or changed
        self.refused: tuple[Problem, ...] = ()  # what is wrong with files that are not served

    @property
    def files_refused(self) -> int:
        """How many files are not served since the start, for what is wrong with them."""
        return len({problem.file for problem in self.refused})

    async def start(self, *, strict: bool) -> None:
        """Serve what the files say: where one is bad the others, and say so; `strict`: none.

        Raises CampaignInvalid where no file is good, or what holds for all of them is not.
        """
        try:
            async with self._one_at_a_time:
                await self._reload(strict=strict)
        except TilbudError as error:
            self._log.error("campaigns_refused", problems=str(error).splitlines())
            raise

    async def reload(self) -> Changes:
        """Read the files and serve what they say; raises CampaignInvalid and changes nothing.

        Returns what is served otherwise than when it was called. Being cancelled ends the waiting and not the
        work. Calls that come while another's work goes on wait for it, then read the files once for all.
        """
        before = self._files()
        if self._next is None:
            self._next = task = asyncio.create_task(self._reload_next(), name="reload")
            self._reloads.add(task)
            task.add_done_callback(self._over)
        await asyncio.shield(self._next)
        return _changes(before, self._files(), self._under_older_rules)

    async def stop(self) -> None:
        """End reloads that are under way; what they would have changed stays as it is."""
        for task in self._reloads:
            task.cancel()
        if self._reloads:
            await asyncio.wait(self._reloads)

    def _files(self) -> dict[str, CampaignFile]:
        return {served.id: served.file for served in self._catalog.all()}

    def _over(self, task: asyncio.Task[None]) -> None:
        self._reloads.discard(task)
        if not task.cancelled():
            task.exception()  # it was logged; perhaps nobody waits for it any more

    async def _reload_next(self) -> None:
        try:
            async with self._one_at_a_time:
                self._next = None
                await self._reload()
        except TilbudError as error:
            self._metrics.reloads.labels("refused").inc()
            self._log.error("campaigns_refused", problems=str(error).splitlines())
            raise
        except Exception as error:
            self._log.error("reload_failed", error=str(error), kind=type(error).__name__)
            raise

    async def relearn(self) -> tuple[str, ...]:
        """Learn anew, from what the ledger still has, every model that is behind; return their campaigns.

        When it returns, no served model and no checkpoint has learned what was erased before the call. Old
        models answer meanwhile. A call beside another waits, and finds nothing left to do. May be
        cancelled: `run` begins again. Raises TilbudError or OSError where a campaign failed, when all were
        seen to.
        """
        async with self._one_at_a_time:
            try:
                behind = await self._relearn_all()
            except BaseException:
                self._unfinished = True
                raise
            self._unfinished = False
            return behind

    async def run(self) -> None:
        """Relearn, until cancelled, what another process erased or purged and what was left unfinished."""
        while True:
            pause_s = _LOOK_EVERY_S
            try:
                if self._unfinished or self._learner.behind():
                    await self.relearn()
            except Exception as error:  # noqa: BLE001 - it outlives any surprise, and tries again
                self._log.error("relearning_postponed", error=str(error), kind=type(error).__name__)
                pause_s = _AFTER_FAILURE_S
            await asyncio.sleep(pause_s)

    async def _relearn_all(self) -> tuple[str, ...]:
        failed: TilbudError | OSError | None = None
        behind = self._learner.behind()
        for name in behind:
            try:
                await self._relearn(self._catalog.get(name))
            except (TilbudError, OSError) as error:
                self._log.error("relearning_failed", campaign=name, error=str(error))
                failed = error
        async with self._learner.between_turns():
            await self._learner.drop_erased()
        if failed is not None:
            raise failed
        return behind

    async def _relearn(self, before: ServedCampaign) -> None:
        after = await self._opened(before.file)
        async with self._learner.between_turns():
            await self._bring_up_to_date({before.id: before}, [after])
            self._catalog.replace([*(each for each in self._catalog.all() if each.id != after.id), after])
            self._learner.replaced(before)
            await self._learner.checkpoint(after)
        self._log.info(
            "model_learned_anew",
            campaign=after.id,
            erasures=after.model.erasures,
            lineage=after.model.lineage,
        )

    async def _reload(self, *, strict: bool = True) -> None:
        files, refused = await asyncio.to_thread(self._read, strict)
        before = {served.id: served for served in self._catalog.all()}
        after = []
        for file in files:
            try:
                after.append(await self._served(file, before.get(file.campaign.campaign)))
            except CampaignInvalid as error:
                refused += error.problems
                if strict:
                    raise
            await asyncio.sleep(0)
        if not after:
            raise CampaignInvalid(tuple(refused))
        async with self._learner.between_turns():
            await self._bring_up_to_date(before, after)
            await self._ledger.serve({served.id for served in after}, self._clock.now())
            self._catalog.replace(after)
            self._retire(before, after)
            await self._drop_erased()
        self._under_older_rules = await self._count_older(before, after)
        earlier = {name: served.file for name, served in before.items()}
        self._announce(_changes(earlier, self._files(), self._under_older_rules))
        self._tell_refused(tuple(refused))

    async def _count_older(
        self, before: Mapping[str, ServedCampaign], after: Sequence[ServedCampaign]
    ) -> dict[str, int]:
        """Return how many open decisions settle under other rules than those of the files just loaded."""
        older = {}
        for served in after:
            same = served is before.get(served.id)
            if not same and self._ledger.pending(served.id):
                try:
                    older[served.id] = await self._ledger.under_other_rules(served.id, served.rules_text)
                except TilbudError as error:  # the files are loaded all the same
                    self._log.error("older_rules_not_counted", campaign=served.id, error=str(error))
        return {name: waiting for name, waiting in older.items() if waiting}

    def _read(self, strict: bool) -> tuple[tuple[CampaignFile, ...], list[Problem]]:
        if strict:
            return load_campaigns(self._paths, self._limits), []
        good = load_good(self._paths, self._limits)
        return good.campaigns, list(good.refused)

    def _tell_refused(self, refused: tuple[Problem, ...]) -> None:
        """Say loudly which files are not served, and why: their callers hear of no such campaign."""
        self.refused = refused
        self._metrics.campaign_files_refused.set(self.files_refused)
        for problem in refused[:_TOLD_MAX]:
            self._log.error(
                "campaign_file_refused",
                file=problem.file, line=problem.line, key=problem.key, problem=problem.problem,
            )  # fmt: skip
        if refused:
            self._log.error("campaigns_missing", files=self.files_refused, problems=len(refused))

    async def _served(self, file: CampaignFile, before: ServedCampaign | None) -> ServedCampaign:
        erasures = self._ledger.erasures(file.campaign.campaign)
        if before is not None and before.model.lineage == lineage_of(file.campaign, erasures):
            same = _same(before.file, file)
            return before if same else ServedCampaign(file, before.model, self._limits)
        try:
            return await self._opened(file)
        except ModelUnavailable as error:
            problem = Problem(file.file, 1, "exploration.arguments", f"cannot be served: {error}")
            raise CampaignInvalid((problem,)) from error

    async def _opened(self, file: CampaignFile) -> ServedCampaign:
        """Return a campaign with a model opened anew that has learned all there is; nobody sees it yet."""
        async with self._learner.between_turns():  # it may drop checkpoints
            model = await self._open_model(file.campaign)
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

    def _retire(self, before: Mapping[str, ServedCampaign], after: Sequence[ServedCampaign]) -> None:
        kept = {id(served.model) for served in after}
        for served in before.values():
            if id(served.model) not in kept:
                self._learner.replaced(served)

    async def _drop_erased(self) -> None:
        """Remove what a crash may have left; files that stay are no reason to refuse campaigns."""
        try:
            await self._learner.drop_erased()
        except (TilbudError, OSError):
            self._unfinished = True

    def _announce(self, changes: Changes) -> None:
        for name in changes.removed:
            self._metrics.forget(name)
        self._metrics.campaigns.set(len(self._catalog.all()))
        self._metrics.reloads.labels("loaded").inc()
        self._log.info(
            "campaigns_loaded",
            added=changes.added, changed=changes.changed, removed=changes.removed,
            unchanged=len(changes.unchanged), under_older_rules=dict(changes.under_older_rules),
        )  # fmt: skip


def _same(before: CampaignFile, after: CampaignFile) -> bool:
    return (before.sha256, before.contact) == (after.sha256, after.contact)


def _changes(
    before: Mapping[str, CampaignFile],
    after: Mapping[str, CampaignFile],
    under_older_rules: Mapping[str, int],
) -> Changes:
    both = sorted(before.keys() & after.keys())
    return Changes(
        added=tuple(sorted(after.keys() - before.keys())),
        changed=tuple(name for name in both if not _same(before[name], after[name])),
        removed=tuple(sorted(before.keys() - after.keys())),
        unchanged=tuple(name for name in both if _same(before[name], after[name])),
        under_older_rules={name: under_older_rules[name] for name in sorted(under_older_rules)},
    )
