"""A replica: the latest checkpoint, then every settlement since, learned in sequence.

What holds: one mechanism serves a start, a changed algorithm, an erasure, a rebuild and every turn of
learning; each settlement is learned exactly once, in order; what was erased is learned by no model opened
afterwards; the event loop is never held longer than one slice. When decisions settle is `settling.py`'s
business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

import structlog

from tilbud.bandit.checkpoints import Checkpoints
from tilbud.bandit.model import Model
from tilbud.domain.campaign import Campaign
from tilbud.domain.decisions import Settlement
from tilbud.domain.errors import LedgerInvalid
from tilbud.domain.limits import Limits
from tilbud.domain.rewards import RewardRules
from tilbud.ledger.port import Ledger

OnLearned = Callable[[Settlement, bool], None]
OnSlice = Callable[[float], None]
_ROWS = 64


class Learned(Protocol):
    """What learning needs to know of a served campaign."""

    @property
    def id(self) -> str:
        """The campaign's id."""
        ...

    @property
    def model(self) -> Model:
        """Its model."""
        ...

    @property
    def reward_rules(self) -> RewardRules:
        """What outcomes are worth."""
        ...


async def open_model(
    campaign: Campaign,
    *,
    ledger: Ledger,
    checkpoints: Checkpoints,
    limits: Limits,
    log: structlog.typing.FilteringBoundLogger,
    on_bad_checkpoint: Callable[[], None] = lambda: None,
) -> Model:
    """Return the campaign's model from its newest good checkpoint, or one that learned nothing.

    A model without a checkpoint starts before the first settlement the ledger still has, so that a
    changed algorithm learns from all that happened, and one whose customers were erased from all that is
    left. Checkpoints from before an erasure, and those ahead of the ledger (an older one was restored), are
    removed, though none that another process saves meanwhile: to be called at the start or between turns.
    What waits for other processes does so in a thread.
    """

    def stands() -> tuple[int, int]:
        return ledger.sequences(campaign.campaign)[1], ledger.erasures(campaign.campaign)

    if dropped := checkpoints.drop_lost(campaign.campaign, stands):
        log.warning("checkpoints_ahead_of_ledger", campaign=campaign.campaign, dropped=dropped)
    erasures = ledger.erasures(campaign.campaign)
    try:
        if dropped := await asyncio.to_thread(checkpoints.drop_erased, campaign.campaign, erasures):
            log.info("erased_checkpoints_dropped", campaign=campaign.campaign, dropped=dropped)
    except OSError as error:  # of another lineage now: it stays unread, and is tried again
        log.warning("erased_checkpoints_stay", campaign=campaign.campaign, error=str(error))
    first, last = ledger.sequences(campaign.campaign)
    opened = checkpoints.load_newest(campaign, limits=limits, up_to=last, erasures=erasures)
    for reason in opened.refused:
        on_bad_checkpoint()
        log.warning("checkpoint_refused", campaign=campaign.campaign, reason=reason)
    model = opened.model
    if model is not None and first and model.sequence < first - 1:
        log.warning("checkpoint_too_old", campaign=campaign.campaign, sequence=model.sequence, first=first)
        model.close()
        model = None
    return model or Model(campaign, limits=limits, sequence=max(first - 1, 0), erasures=erasures)


async def catch_up(
    campaign: str,
    model: Model,
    *,
    ledger: Ledger,
    limits: Limits,
    on_learned: OnLearned | None = None,
    on_slice: OnSlice | None = None,
    hurry: bool = False,
) -> int:
    """Learn every settlement after the model's sequence; return how many there were.

    Gives way to other work after each slice of `limits.learn_slice_s`; what is not a backlog is learned with
    pauses between, in a quarter of the time there is, so that no call waits for a slice at its every step.
    `hurry` says that it is one. Raises LedgerInvalid where the ledger has forgotten the next settlement:
    such a model has to be opened anew.
    """
    learned = 0
    while rows := ledger.settlements(campaign, model.sequence, _ROWS):
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
                backlog = hurry or learned + _ROWS > limits.learn_paced_rows
                await asyncio.sleep(0 if backlog else limits.learn_pause_s)
                started = perf_counter()
        if on_slice is not None:
            on_slice(perf_counter() - started)
        learned += len(rows)
        await asyncio.sleep(0)
    return learned
