"""Loading campaigns, at the start, on ReloadCampaigns and on SIGHUP; learning them anew after an erasure.

What holds: all files load, with their models up to date, before anything is replaced; otherwise the running
campaigns stay exactly as they are. At a start, where nothing runs that could stay, the good files are served
and the others logged, unless it is to be strict. A changed file keeps the model of each policy whose lineage
is the same; a new lineage learns from all the ledger still has before it answers anyone. After an erasure the
old model answers until the new one has learned all but what was erased; so it does where a model fell so far
back that what it has to learn next was purged. What could not be finished — a failure, a cancelled call, a
crash — is begun again, by `run` or at the next start. A reload is the loader's own task: it outlives whoever
asked for it, and whoever asks meanwhile joins the next one. While one waits for a model that is relearned,
and files were changed since, it begins anew with those when it is asked for: so what was a mistake can be
taken back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import structlog

from tilbud.bandit.model import Model, lineage_of
from tilbud.campaigns.changes import Changes, changes_between, is_same
from tilbud.campaigns.served import Catalog, ServedCampaign
from tilbud.campaigns.source import CampaignFile, load_campaigns, load_good
from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.clock import Clock
from tilbud.domain.errors import CampaignInvalid, ModelUnavailable, Problem, TilbudError, UnknownCampaign
from tilbud.domain.limits import Limits
from tilbud.domain.relearning import Progress
from tilbud.learning.beside import Relearning
from tilbud.learning.learner import Learner
from tilbud.learning.replica import catch_up
from tilbud.ledger.ports import Coordination, SettlementLog
from tilbud.telemetry.metrics import Metrics

OpenModel = Callable[[Campaign, str, int], Awaitable[Model]]
"""Opens the model of a campaign's policy, at so many erasures."""


class _OtherFiles(Exception):
    """The files say something else by now than what is being loaded."""


class CampaignLoader:
    """Keeps the catalog as the campaign files say."""

    def __init__(
        self,
        *,
        paths: Sequence[Path],
        catalog: Catalog,
        settlement_log: SettlementLog,
        coordination: Coordination,
        clock: Clock,
        learner: Learner,
        open_model: OpenModel,
        open_stand_in: OpenModel | None = None,
        beside: Relearning | None = None,
        metrics: Metrics,
        limits: Limits,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._paths = tuple(paths)
        self._catalog = catalog
        self._settlements = settlement_log
        self._coordination = coordination
        self._clock = clock
        self._learner = learner
        self._open_model = open_model
        self._open_stand_in = open_stand_in
        self._beside = beside
        self._metrics = metrics
        self._limits = limits
        self._log = log
        self._one_at_a_time = asyncio.Lock()  # reloads, and whatever else replaces campaigns
        self._relearn_one_at_a_time = asyncio.Lock()
        self._next: asyncio.Task[None] | None = None  # a reload that has not begun
        self._reloads: set[asyncio.Task[None]] = set()
        self._start_rows = limits.stand_in_rows  # that may yet be learned before the service answers
        self._asked_again = asyncio.Event()  # since the files were last read
        self._unfinished = False  # checkpoints may be left that learned what was erased
        self._under_older_rules: dict[str, int] = {}  # by what the last reload added or changed
        self._not_converted: tuple[str, ...] = ()  # campaigns whose rewards it may have given another unit
        self.refused: tuple[Problem, ...] = ()  # what is wrong with files that are not served

    @property
    def files_refused(self) -> int:
        """How many files are not served since the start, for what is wrong with them."""
        return len({problem.file for problem in self.refused})

    async def start(self, *, strict: bool) -> None:
        """Serve what the files say: where one is bad the others, and say so; `strict`: none.

        However many campaigns have much to learn, it takes about as long: they get other models meanwhile.
        Raises CampaignInvalid where no file is good, or what holds for all of them is not.
        """
        try:
            async with self._one_at_a_time:
                await self._reload(strict=strict)
            self._start_rows = self._limits.stand_in_rows
        except TilbudError as error:
            self._log.error("campaigns_refused", problems=str(error).splitlines())
            raise

    async def reload(self) -> Changes:
        """Read the files and serve what they say; raises CampaignInvalid and changes nothing.

        Returns what is served otherwise than when it was called. Being cancelled ends the waiting and not the
        work. Calls that come while another's work goes on wait for it, then read the files once for all.
        """
        before = self._files()
        self._asked_again.set()
        if (task := self._next) is None:
            waits = self._one_at_a_time.locked()
            self._next = task = asyncio.create_task(self._reload_next(), name="reload")
            self._reloads.add(task)
            task.add_done_callback(self._over)
            if waits:
                self._log.info("reload_waits", relearning=await self._relearning_left())
        await asyncio.shield(task)
        return changes_between(before, self._files(), self._under_older_rules, self._not_converted)

    async def relearning(self, campaign: str) -> Progress | None:
        """Return how far the model is that replaces the one that answers now, None where none does."""
        if self._beside is None:
            return None
        progress = self._beside.progress(campaign)
        served = self._catalog.get(campaign)
        if progress is None and served.stand_in:
            erasures = await self._settlements.erasures(campaign)
            stood_in_for = [policy for policy, model in served.models.items() if model.stand_in]
            return Progress(sum([await self._left(served.file, policy, erasures) for policy in stood_in_for]))
        return progress

    async def _relearning_left(self) -> dict[str, int]:
        """Return how many settlements are left of each served campaign that is being relearned."""
        by_campaign = {served.id: await self.relearning(served.id) for served in self._catalog.all()}
        return {
            name: progress.settlements_left for name, progress in by_campaign.items() if progress is not None
        }

    async def stop(self) -> None:
        """End what is under way; what it would have changed stays as it is."""
        if self._beside is not None:
            await self._beside.stop()
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
                while not await self._reload_unless_changed():
                    self._log.info("reload_began_anew", reason="campaign files were changed meanwhile")
        except TilbudError as error:
            self._metrics.process.reloads.labels("refused").inc()
            self._log.error("campaigns_refused", problems=str(error).splitlines())
            raise
        except Exception as error:
            self._log.error("reload_failed", error=str(error), kind=type(error).__name__)
            raise

    async def _reload_unless_changed(self) -> bool:
        self._asked_again.clear()
        try:
            await self._reload()
        except _OtherFiles:
            return False
        return True

    async def relearn(self) -> tuple[str, ...]:
        """Learn anew, from what the ledger still has, every model that is behind; return their campaigns.

        When it returns, no served model and no checkpoint has learned what was erased before the call. Old
        models answer meanwhile, and reloads go on. Calls beside another wait for it, and for one more that
        does for all of them. May be cancelled: `run` begins again. Raises TilbudError or OSError where a
        campaign failed, when all were seen to.
        """
        async with self._relearn_one_at_a_time:
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
            pause_s = self._limits.files_look_every_s
            try:
                if self._unfinished or await self._learner.behind():
                    await self.relearn()
            except Exception as error:  # noqa: BLE001 - it outlives any surprise, and tries again
                self._log.error("relearning_postponed", error=str(error), kind=type(error).__name__)
                pause_s = self._limits.files_look_after_failure_s
            await asyncio.sleep(pause_s)

    async def _relearn_all(self) -> tuple[str, ...]:
        failed: TilbudError | OSError | None = None
        behind = await self._learner.behind()
        for name, policy in behind:
            try:
                await self._relearn(name, policy)
            except UnknownCampaign:
                continue  # a reload took it away meanwhile
            except (TilbudError, OSError) as error:
                self._log.error("relearning_failed", campaign=name, policy=policy, error=str(error))
                failed = error
        async with self._learner.between_turns():
            await self._learner.drop_erased()
        if failed is not None:
            raise failed
        return tuple(dict.fromkeys(name for name, _ in behind))

    async def _relearn(self, name: str, policy: str) -> None:
        erasures = await self._settlements.erasures(name)  # more may come meanwhile: the next time is theirs
        await self._learn_beside(self._catalog.get(name).file, policy, erasures)
        async with self._one_at_a_time:
            before = self._catalog.get(name)
            if (name, policy) not in await self._learner.behind():
                return  # a reload has seen to it
            await self._learn_beside(before.file, policy, erasures)  # where a reload brought another
            model = await self._opened(before.file, policy, erasures)
            after = ServedCampaign(before.file, {**before.models, policy: model}, self._limits)
            after.warm()
            async with self._learner.between_turns():
                await self._bring_up_to_date({before.id: before}, [after])
                self._catalog.replace(
                    [*(served for served in self._catalog.all() if served.id != name), after]
                )
                self._learner.replaced(before.models[policy])
                await self._learner.checkpoint(after)
        self._metrics.learning.stand_in.labels(name).set(after.stand_in)
        self._log.info(
            "model_learned_anew",
            campaign=after.id,
            policy=policy,
            erasures=model.erasures,
            lineage=model.lineage,
        )

    async def _reload(self, *, strict: bool = True) -> None:
        files, refused = await asyncio.to_thread(self._read, strict)
        before = {served.id: served for served in self._catalog.all()}
        after = []
        for file in files:
            try:
                after.append(await self._served(file, before.get(file.campaign.campaign), files))
            except CampaignInvalid as error:
                refused += error.problems
                if strict:
                    raise
            await asyncio.sleep(0)
        if not after:
            raise CampaignInvalid(tuple(refused))
        async with self._learner.between_turns():
            await self._bring_up_to_date(before, after)
            await self._coordination.serve({served.id for served in after}, self._clock.now())
            self._catalog.replace(after)
            self._retire(before, after)
            await self._drop_erased()
        self._under_older_rules = await self._count_older(before, after)
        self._not_converted = self._tell_other_units(before, after)
        earlier = {name: served.file for name, served in before.items()}
        await self._announce(
            changes_between(earlier, self._files(), self._under_older_rules, self._not_converted)
        )
        self._tell_refused(tuple(refused))

    def _tell_other_units(
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
                    changed=keys[: self._limits.files_told_max],
                    settled=settled,
                    remedy="a change of unit wants a new campaign id",
                )
        return tuple(sorted(names))

    async def _count_older(
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

    def _read(self, strict: bool) -> tuple[tuple[CampaignFile, ...], list[Problem]]:
        if strict:
            return load_campaigns(self._paths, self._limits), []
        good = load_good(self._paths, self._limits)
        return good.campaigns, list(good.refused)

    def _tell_refused(self, refused: tuple[Problem, ...]) -> None:
        """Say loudly which files are not served, and why: their callers hear of no such campaign."""
        self.refused = refused
        self._metrics.process.campaign_files_refused.set(self.files_refused)
        for problem in refused[: self._limits.files_told_max]:
            self._log.error(
                "campaign_file_refused",
                file=problem.file, line=problem.line, key=problem.key, problem=problem.problem,
            )  # fmt: skip
        if refused:
            self._log.error("campaigns_missing", files=self.files_refused, problems=len(refused))

    async def _served(
        self, file: CampaignFile, before: ServedCampaign | None, files: Sequence[CampaignFile]
    ) -> ServedCampaign:
        """Return the campaign of one of the `files` that are loaded together, ready to be served."""
        erasures = await self._settlements.erasures(file.campaign.campaign)
        models = {
            policy: await self._model(file, policy, erasures, before, files)
            for policy in file.campaign.policies
        }
        kept = before is not None and before.models == models
        if before is not None and kept and is_same(before.file, file):
            return before
        served = ServedCampaign(file, models, self._limits)
        if not kept:
            served.warm()
        return served

    async def _model(
        self,
        file: CampaignFile,
        policy: str,
        erasures: int,
        before: ServedCampaign | None,
        files: Sequence[CampaignFile],
    ) -> Model:
        """Return the model of a policy: the one it has, one that stands in, or one opened anew."""
        left = await self._left(file, policy, erasures)
        if before is None:
            if self._open_stand_in is not None and left > self._start_rows:
                return await self._stood_in_for(self._open_stand_in, file, policy, erasures, left)
            if not self._catalog.all():
                self._start_rows -= left
        elif (model := before.models.get(policy)) and self._keeps_model(model, file, erasures, left):
            return model
        await self._learn_unless_changed(file, policy, erasures, files)
        try:
            return await self._opened(file, policy, erasures)
        except ModelUnavailable as error:
            problem = Problem(file.file, 1, "exploration.arguments", f"cannot be served: {error}")
            raise CampaignInvalid((problem,)) from error

    async def _left(self, file: CampaignFile, policy: str, erasures: int) -> int:
        return 0 if self._beside is None else await self._beside.left(file.campaign, policy, erasures)

    def _keeps_model(self, model: Model, file: CampaignFile, erasures: int, left: int) -> bool:
        """Whether a policy goes on with its model: it is the file's own, or is relearned anyway."""
        if not model.stand_in and model.lineage == lineage_of(file.campaign, erasures, model.policy):
            return True
        relearned = model.stand_in or model.lineage == lineage_of(file.campaign, model.erasures, model.policy)
        return relearned and left > self._limits.relearn_beside_rows

    async def _stood_in_for(
        self, open_stand_in: OpenModel, file: CampaignFile, policy: str, erasures: int, left: int
    ) -> Model:
        """Return a model that answers at once; `run` has the policy's own learned."""
        async with self._learner.between_turns():  # it may drop checkpoints
            model = await open_stand_in(file.campaign, policy, erasures)
        self._learner.opened(model)
        self._log.warning(
            "model_stood_in_for", campaign=model.campaign, policy=policy, lineage=model.lineage,
            sequence=model.sequence, settlements_left=left,
        )  # fmt: skip
        return model

    async def _opened(self, file: CampaignFile, policy: str, erasures: int) -> Model:
        """Return a model opened anew that has learned all there is; nobody sees it yet."""
        async with self._learner.between_turns():  # it may drop checkpoints
            model = await self._open_model(file.campaign, policy, erasures)
        self._learner.opened(model)
        serves = bool(self._catalog.all())
        await catch_up(
            model, history=self._settlements, limits=self._limits, unhurried=serves, hurry=not serves
        )
        return model

    async def _learn_beside(self, file: CampaignFile, policy: str, erasures: int) -> None:
        """Have a model that is far behind learned in a process of its own; it leaves a checkpoint."""
        if self._beside is not None and self._catalog.all():  # else nobody is held up
            await self._beside.learn(file.campaign, policy, erasures)

    async def _learn_unless_changed(
        self, file: CampaignFile, policy: str, erasures: int, files: Sequence[CampaignFile]
    ) -> None:
        """Learn beside; give up, and raise _OtherFiles, when a reload is asked for that would find others."""
        learning = asyncio.create_task(self._learn_beside(file, policy, erasures))
        try:
            while not learning.done():
                asked = asyncio.create_task(self._asked_again.wait())
                await asyncio.wait([learning, asked], return_when=asyncio.FIRST_COMPLETED)
                asked.cancel()
                if not learning.done() and await self._others_than(files):
                    raise _OtherFiles
        finally:
            learning.cancel()
            await asyncio.wait([learning])
        learning.result()

    async def _others_than(self, files: Sequence[CampaignFile]) -> bool:
        """Say whether the files are good and not these any more; of bad ones their own reload tells."""
        self._asked_again.clear()
        try:
            now, _ = await asyncio.to_thread(self._read, strict=True)
        except CampaignInvalid:
            return False
        loading = {file.campaign.campaign: file for file in files}
        return loading.keys() != {file.campaign.campaign for file in now} or not all(
            is_same(loading[file.campaign.campaign], file) for file in now
        )

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
        old = {id(model) for served in before.values() for model in served.models.values()}
        for model in [model for served in after for model in served.models.values()]:
            if id(model) not in old and not model.stand_in:
                await catch_up(model, history=self._settlements, limits=self._limits)

    def _retire(self, before: Mapping[str, ServedCampaign], after: Sequence[ServedCampaign]) -> None:
        serving = {id(model) for served in after for model in served.models.values()}
        for model in [model for served in before.values() for model in served.models.values()]:
            if id(model) not in serving:
                self._learner.replaced(model)

    async def _drop_erased(self) -> None:
        """Remove what a crash may have left; files that stay are no reason to refuse campaigns."""
        try:
            await self._learner.drop_erased()
        except (TilbudError, OSError):
            self._unfinished = True

    async def _announce(self, changes: Changes) -> None:
        for name in changes.removed:
            self._metrics.forget(name)
        news = {*changes.added, *changes.changed}
        for served in self._catalog.all():
            self._metrics.learning.stand_in.labels(served.id).set(served.stand_in)
            if served.id in news:
                self._metrics.served(served.campaign, self._limits.context_series_max)
                await asyncio.sleep(0)  # a large one makes thousands of series
        self._metrics.process.campaigns.set(len(self._catalog.all()))
        self._metrics.process.reloads.labels("loaded").inc()
        self._log.info(
            "campaigns_loaded",
            added=changes.added, changed=changes.changed, removed=changes.removed,
            unchanged=len(changes.unchanged), under_older_rules=dict(changes.under_older_rules),
        )  # fmt: skip
