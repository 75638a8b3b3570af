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
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from tilbud.bandit.model import Model
from tilbud.campaigns.announcements import Announcements
from tilbud.campaigns.changes import Changes, changes_between, is_same
from tilbud.campaigns.model_opening import ModelOpening, OpenModel
from tilbud.campaigns.served import Catalog, ServedCampaign
from tilbud.campaigns.source import CampaignFile, load_campaigns, load_good
from tilbud.domain.clock import Clock
from tilbud.domain.errors import CampaignInvalid, ModelUnavailable, Problem, TilbudError, UnknownCampaign
from tilbud.domain.limits import Limits
from tilbud.domain.relearning import Progress
from tilbud.learning.beside import Relearning
from tilbud.learning.learner import Learner
from tilbud.learning.replica import catch_up
from tilbud.ledger.ports import Coordination, SettlementLog
from tilbud.telemetry.metrics import Metrics


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
        speaks: bool = True,
    ) -> None:
        """`speaks`: whether this process says which files are not served, or another of the service does."""
        self._paths = tuple(paths)
        self._catalog = catalog
        self._settlements = settlement_log
        self._coordination = coordination
        self._clock = clock
        self._learner = learner
        self._beside = beside
        self._metrics = metrics
        self._limits = limits
        self._log = log
        self._models = ModelOpening(
            catalog=catalog,
            history=settlement_log,
            learner=learner,
            open_model=open_model,
            open_stand_in=open_stand_in,
            beside=beside,
            limits=limits,
            log=log,
        )
        self._announce = Announcements(settlement_log, metrics=metrics, limits=limits, log=log, speaks=speaks)
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
        Raises CampaignInvalid where no file is good, or what holds for all of them is not; whoever started
        it says so.
        """
        async with self._one_at_a_time:
            await self._reload(strict=strict)
        self._start_rows = self._limits.stand_in_rows

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
            return Progress(
                sum([await self._models.left(served.file, policy, erasures) for policy in stood_in_for])
            )
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
        await self._models.learn_beside(self._catalog.get(name).file, policy, erasures)
        async with self._one_at_a_time:
            before = self._catalog.get(name)
            if (name, policy) not in await self._learner.behind():
                return  # a reload has seen to it
            await self._models.learn_beside(before.file, policy, erasures)  # where a reload brought another
            model = await self._models.opened(before.file, policy, erasures)
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
        self._under_older_rules = await self._announce.under_older_rules(before, after)
        self._not_converted = self._announce.other_units(before, after)
        earlier = {name: served.file for name, served in before.items()}
        await self._announce.changes(
            changes_between(earlier, self._files(), self._under_older_rules, self._not_converted), after
        )
        self.refused = tuple(refused)
        self._announce.refusals(self.refused)

    def _read(self, strict: bool) -> tuple[tuple[CampaignFile, ...], list[Problem]]:
        if strict:
            return load_campaigns(self._paths, self._limits), []
        good = load_good(self._paths, self._limits)
        return good.campaigns, list(good.refused)

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
        left = await self._models.left(file, policy, erasures)
        if before is None:
            if self._models.may_stand_in and left > self._start_rows:
                return await self._models.stand_in(file, policy, erasures, left)
            if not self._catalog.all():
                self._start_rows -= left
        elif (model := before.models.get(policy)) and self._models.keeps(model, file, erasures, left):
            return model
        await self._learn_unless_changed(file, policy, erasures, files)
        try:
            return await self._models.opened(file, policy, erasures)
        except ModelUnavailable as error:
            problem = Problem(file.file, 1, "exploration.arguments", f"cannot be served: {error}")
            raise CampaignInvalid((problem,)) from error

    async def _learn_unless_changed(
        self, file: CampaignFile, policy: str, erasures: int, files: Sequence[CampaignFile]
    ) -> None:
        """Learn beside; give up, and raise _OtherFiles, when a reload is asked for that would find others."""
        learning = asyncio.create_task(self._models.learn_beside(file, policy, erasures))
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
