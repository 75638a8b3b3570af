"""Where the model of a file's policy comes from: opened anew, learned beside first, or standing in.

What holds: nobody sees a model before it has learned all there is, but one that stands in. Which of them a
campaign is served with, and when it is replaced, is loader.py's to decide.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from tilbud.bandit.model import Model, lineage_of
from tilbud.campaigns.served import Catalog
from tilbud.campaigns.source import CampaignFile
from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.limits import Limits
from tilbud.learning.beside import Relearning
from tilbud.learning.learner import Learner
from tilbud.learning.replica import catch_up
from tilbud.ledger.ports import SettlementHistory

OpenModel = Callable[[Campaign, str, int], Awaitable[Model]]
"""Opens the model of a campaign's policy, at so many erasures."""


class ModelOpening:
    """Opens models; where nothing is served yet, in a hurry, and beside nothing."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        history: SettlementHistory,
        learner: Learner,
        open_model: OpenModel,
        open_stand_in: OpenModel | None,
        beside: Relearning | None,
        limits: Limits,
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._catalog = catalog
        self._history = history
        self._learner = learner
        self._open_model = open_model
        self._open_stand_in = open_stand_in
        self._beside = beside
        self._limits = limits
        self._log = log

    @property
    def may_stand_in(self) -> bool:
        """Whether models may stand in for others."""
        return self._open_stand_in is not None

    async def left(self, file: CampaignFile, policy: str, erasures: int) -> int:
        """Return how many settlements the policy's own model has yet to learn."""
        return 0 if self._beside is None else await self._beside.left(file.campaign, policy, erasures)

    def keeps(self, model: Model, file: CampaignFile, erasures: int, left: int) -> bool:
        """Whether a policy goes on with its model: it is the file's own, or is relearned anyway."""
        if not model.stand_in and model.lineage == lineage_of(file.campaign, erasures, model.policy):
            return True
        relearned = model.stand_in or model.lineage == lineage_of(file.campaign, model.erasures, model.policy)
        return relearned and left > self._limits.relearn_beside_rows

    async def stand_in(self, file: CampaignFile, policy: str, erasures: int, left: int) -> Model:
        """Return a model that answers at once, while the policy's own is relearned."""
        assert self._open_stand_in is not None, "who asks has looked"
        async with self._learner.between_turns():  # it may drop checkpoints
            model = await self._open_stand_in(file.campaign, policy, erasures)
        self._learner.opened(model)
        self._log.warning(
            "model_stood_in_for", campaign=model.campaign, policy=policy, lineage=model.lineage,
            sequence=model.sequence, settlements_left=left,
        )  # fmt: skip
        return model

    async def opened(self, file: CampaignFile, policy: str, erasures: int) -> Model:
        """Return a model opened anew that has learned all there is; nobody sees it yet."""
        async with self._learner.between_turns():  # it may drop checkpoints
            model = await self._open_model(file.campaign, policy, erasures)
        self._learner.opened(model)
        serves = bool(self._catalog.all())
        await catch_up(model, history=self._history, limits=self._limits, unhurried=serves, hurry=not serves)
        return model

    async def learn_beside(self, file: CampaignFile, policy: str, erasures: int) -> None:
        """Have a model that is far behind learned in a process of its own; it leaves a checkpoint."""
        if self._beside is not None and self._catalog.all():  # else nobody is held up
            await self._beside.learn(file.campaign, policy, erasures)
