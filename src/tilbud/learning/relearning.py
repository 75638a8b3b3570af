"""A process that relearns a model from the ledger, beside the service: VW holds the interpreter meanwhile.

What holds: it reads the ledger, and writes nothing but checkpoints of the model it was asked for, which the
service then loads as it loads any; it knows of no lease. It ends with the process that started it, whose end
closes its standard input; the service goes first, since it is nicer. It learns on from the newest checkpoint
there is and saves now and then, so that another goes on where one was ended.

It hears one pickled `Task`, and says on standard output what became of it, a JSON object a line; any other
line is what a library had to say. Who starts it is `beside.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tilbud.bandit.checkpoints.store import Checkpoints
from tilbud.bandit.model import Model, lineage_of
from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.decision.records import Settlement
from tilbud.domain.errors import LedgerInvalid, TilbudError
from tilbud.domain.limits import Limits
from tilbud.learning.replica import newest_model
from tilbud.ledger.open import open_reader, sqlite_address
from tilbud.ledger.ports import Reader

ORPHANED = 3  # the status where the process that started it is gone
_NICE = 19  # next to nothing where there is not enough: decisions go first, and it ends all the same

Tell = Callable[[int, int], None]
"""Hears how many settlements were learned, and how many are left."""


@dataclass(frozen=True, slots=True)
class Task:
    """What to learn, at so many erasures, and where from and to."""

    campaign: Campaign
    policy: str
    erasures: int
    ledger: Path
    checkpoints: Path
    limits: Limits


def main() -> None:
    """Learn what standard input asks for; end with status 1, and say why, where that cannot be."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the service answers for all
    os.nice(_NICE)
    task = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the process that started this one
    assert isinstance(task, Task), type(task)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        sequence = asyncio.run(_relearn(task))
    except (TilbudError, OSError) as error:
        _say(failed=f"{type(error).__name__}: {error}")
        sys.exit(1)
    _say(done=sequence)


async def _relearn(task: Task) -> int:
    async with open_reader(sqlite_address(task.ledger), limits=task.limits) as reader:
        return await relearn(
            task,
            reader=reader,
            checkpoints=Checkpoints(task.checkpoints, task.limits.checkpoint_generations),
            tell=lambda learned, left: _say(learned=learned, left=left),
        )


async def relearn(task: Task, *, reader: Reader, checkpoints: Checkpoints, tell: Tell) -> int:
    """Learn nearly all that settled, and save it; return the last sequence learned.

    What settles meanwhile is learned too, as long as that brings the end nearer; the rest is for the service.
    Raises LedgerInvalid where what is next was purged, and OSError where the model cannot be saved.
    """
    name, limits = task.campaign.campaign, task.limits
    beside = [lineage_of(task.campaign, task.erasures, policy) for policy in task.campaign.policies]
    newest = await newest_model(
        task.campaign,
        task.policy,
        history=reader,
        checkpoints=checkpoints,
        limits=limits,
        erasures=task.erasures,
    )
    model = newest.model
    left, before, learned = await _left(model, reader), sys.maxsize, 0
    reported_s = saved_s = time.monotonic()
    tell(0, left)
    while Limits.relearn_batch_rows < left <= before // 2:
        before, last = left, model.sequence + left
        async for rows in reader.settlements(name, model.sequence):
            learned += _learn_some(model, name, rows)
            now_s = time.monotonic()
            if now_s >= reported_s + Limits.relearn_reported_every_s:
                reported_s = now_s
                tell(learned, await _left(model, reader))
            if now_s >= saved_s + limits.checkpoint_every_s:
                saved_s = now_s
                checkpoints.save(model, _wall_us(), beside)
            if model.sequence >= last:
                break
        if model.sequence < last:
            raise LedgerInvalid(f"settlement {model.sequence + 1} of campaign {name!r} is purged already")
        left = await _left(model, reader)
    checkpoints.save(model, _wall_us(), beside)
    return model.sequence


def _learn_some(model: Model, name: str, rows: Sequence[Settlement]) -> int:
    if rows[0].sequence != model.sequence + 1:
        raise LedgerInvalid(f"settlement {model.sequence + 1} of campaign {name!r} is purged already")
    for row in rows:
        model.learn(row)
    return len(rows)


async def _left(model: Model, reader: Reader) -> int:
    return (await reader.sequences(model.campaign))[1] - model.sequence


def _wall_us() -> int:
    return time.time_ns() // 1_000


def _say(**word: object) -> None:
    print(json.dumps(word), flush=True)  # noqa: T201 - to the process that started this one


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(ORPHANED)
