"""A replica: the latest checkpoint, then every settlement since, learned in sequence.

What holds: one mechanism serves a start, a changed algorithm, an erasure, a rebuild and every turn of
learning; each settlement is learned exactly once, in order; what was erased is learned by no model opened
afterwards; the event loop is never held longer than one slice. When decisions settle is `learner.py`'s
business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import NamedTuple, Protocol

import structlog

from tilbud.bandit.checkpoints.store import Checkpoints
from tilbud.bandit.model import Model, lineage_of, shape_of
from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.decision.records import Settlement
from tilbud.domain.decision.rewards import RewardRules
from tilbud.domain.errors import LedgerInvalid
from tilbud.domain.limits import Limits
from tilbud.ledger.ports import SettlementBounds, SettlementHistory

OnLearned = Callable[[Settlement, bool], None]
OnSlice = Callable[[float], None]


class Newest(NamedTuple):
    """A model, and why it is not that of a newer checkpoint."""

    model: Model
    refused: tuple[str, ...]  # checkpoints that are damaged
    too_old: int | None  # where the newest ends, if what comes next was purged


class Learned(Protocol):
    """What learning needs to know of a served campaign."""

    @property
    def id(self) -> str:
        """The campaign's id."""
        ...

    @property
    def models(self) -> Mapping[str, Model]:
        """The model of each policy that learns, by its name."""
        ...

    @property
    def reward_rules(self) -> RewardRules:
        """What outcomes are worth."""
        ...


async def open_model(
    campaign: Campaign,
    policy: str,
    *,
    history: SettlementHistory,
    checkpoints: Checkpoints,
    limits: Limits,
    log: structlog.typing.FilteringBoundLogger,
    on_bad_checkpoint: Callable[[], None] = lambda: None,
    erasures: int | None = None,
) -> Model:
    """Return the model of a policy from its newest good checkpoint, or one that learned nothing.

    It knows of so many `erasures`, None: of all there are by now. A model without a checkpoint starts before
    the first settlement the ledger still has, so that a changed algorithm learns from all that happened, and
    one whose customers were erased from all that is left. Checkpoints from before an erasure, and those ahead
    of the ledger (an older one was restored), are removed, though none that another process saves meanwhile:
    to be called at the start or between turns. What waits for other processes does so in a thread.
    """
    erasures = await history.erasures(campaign.campaign) if erasures is None else erasures
    await _drop_useless(campaign.campaign, erasures, history=history, checkpoints=checkpoints, log=log)
    newest = await newest_model(
        campaign, policy, history=history, checkpoints=checkpoints, limits=limits, erasures=erasures
    )
    for reason in newest.refused:
        on_bad_checkpoint()
        log.warning("checkpoint_refused", campaign=campaign.campaign, policy=policy, reason=reason)
    if newest.too_old is not None:
        log.warning("checkpoint_too_old", campaign=campaign.campaign, policy=policy, sequence=newest.too_old)
    return newest.model


async def open_stand_in(
    campaign: Campaign,
    policy: str,
    erasures: int,
    *,
    history: SettlementHistory,
    checkpoints: Checkpoints,
    limits: Limits,
    log: structlog.typing.FilteringBoundLogger,
) -> Model:
    """Return a model that answers until the policy's own has learned what it is far behind with.

    It is of the policy's checkpoint that has learned most, be it of another lineage; where none is good it
    has learned nothing, and finds all offers equal. To be called where `open_model` may be, and drops what
    that drops.
    """
    name = campaign.campaign
    await _drop_useless(name, erasures, history=history, checkpoints=checkpoints, log=log)
    first, last = await history.sequences(name)
    loaded = checkpoints.load_stand_in(campaign, policy, limits=limits, up_to=last, erasures=erasures)
    for reason in loaded.refused:
        log.warning("checkpoint_refused", campaign=name, policy=policy, reason=reason)
    if loaded.model is not None:
        return loaded.model
    return Model(
        campaign,
        limits=limits,
        policy=policy,
        sequence=max(first - 1, 0),
        erasures=erasures,
        stand_in=shape_of(campaign, erasures, policy),
    )


async def _drop_useless(
    campaign: str,
    erasures: int,
    *,
    history: SettlementHistory,
    checkpoints: Checkpoints,
    log: structlog.typing.FilteringBoundLogger,
) -> None:
    """Remove checkpoints that are ahead of the ledger, or learned what was erased."""

    async def stands() -> tuple[int, int]:
        return (await history.sequences(campaign))[1], await history.erasures(campaign)

    if dropped := await checkpoints.drop_lost(campaign, stands):
        log.warning("checkpoints_ahead_of_ledger", campaign=campaign, dropped=dropped)
    try:
        if dropped := await asyncio.to_thread(checkpoints.drop_erased, campaign, erasures):
            log.info("erased_checkpoints_dropped", campaign=campaign, dropped=dropped)
    except OSError as error:  # of another lineage now: it stays unread, and is tried again
        log.warning("erased_checkpoints_stay", campaign=campaign, error=str(error))


async def newest_model(
    campaign: Campaign,
    policy: str,
    *,
    history: SettlementBounds,
    checkpoints: Checkpoints,
    limits: Limits,
    erasures: int,
) -> Newest:
    """Return the model nearest to the ledger's end: one that learned nothing where no checkpoint is good."""
    first, last = await history.sequences(campaign.campaign)
    loaded = checkpoints.load_newest(campaign, policy, limits=limits, up_to=last, erasures=erasures)
    too_old = None
    if loaded.model is not None:
        if not first or loaded.model.sequence >= first - 1:
            return Newest(loaded.model, loaded.refused, None)
        too_old = loaded.model.sequence
        loaded.model.close()
    model = Model(campaign, limits=limits, policy=policy, sequence=max(first - 1, 0), erasures=erasures)
    return Newest(model, loaded.refused, too_old)


async def settlements_left(
    campaign: Campaign, policy: str, *, history: SettlementBounds, checkpoints: Checkpoints, erasures: int
) -> int:
    """Return how many settlements a model of the policy would have to learn that is opened now."""
    first, last = await history.sequences(campaign.campaign)
    saved = checkpoints.newest_sequence(campaign.campaign, lineage_of(campaign, erasures, policy)) or 0
    begin = saved if first - 1 <= saved <= last else max(first - 1, 0)
    return last - begin


async def catch_up(
    model: Model,
    *,
    history: SettlementHistory,
    limits: Limits,
    on_learned: OnLearned | None = None,
    on_slice: OnSlice | None = None,
    hurry: bool = False,
    unhurried: bool = False,
) -> int:
    """Learn every settlement after the model's sequence; return how many there were.

    Gives way to other work after each slice of `limits.learn_slice_s`; what is not a backlog is learned with
    pauses between, in a quarter of the time there is, so that no call waits for a slice at its every step.
    `hurry` says that it is one, `unhurried` that nothing is. Raises LedgerInvalid where the ledger has
    forgotten the next settlement: such a model has to be opened anew.
    """
    learned, campaign = 0, model.campaign
    while rows := await history.settlements(campaign, model.sequence, limits.learn_batch_rows):
        if rows[0].sequence != model.sequence + 1:
            raise LedgerInvalid(f"settlement {model.sequence + 1} of campaign {campaign!r} is purged already")
        started = perf_counter()
        for row in rows:
            did = model.learn(row)
            if on_learned is not None:
                on_learned(row, did)
            spent = perf_counter() - started
            if spent >= limits.learn_slice_s:
                if on_slice is not None:
                    on_slice(spent)
                backlog = hurry or (
                    not unhurried and learned + limits.learn_batch_rows > limits.learn_paced_rows
                )
                await asyncio.sleep(0 if backlog else limits.learn_pause_s)
                started = perf_counter()
        if on_slice is not None:
            on_slice(perf_counter() - started)
        learned += len(rows)
        await asyncio.sleep(0)
    return learned
