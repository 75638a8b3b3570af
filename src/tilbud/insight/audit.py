"""Rebuild: the model again from the ledger alone, held against what the running one did.

What holds: nothing is written. Two witnesses speak for the running model: its newest checkpoint, and
every recorded decision, which says at which sequence it was drawn and with which probabilities. What was
drawn before an erasure, by a model that is gone, is no witness: an erasure begins another lineage.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass

from tilbud.bandit.checkpoints.store import Checkpoints
from tilbud.bandit.model import Model
from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.decision.draw import mixed, rounded
from tilbud.domain.decision.records import Decision, Settlement
from tilbud.domain.errors import CheckpointInvalid, ModelUnavailable
from tilbud.domain.limits import Limits
from tilbud.ledger.ports import Reader

Progress = Callable[[int, int], None]
_TOLERANCE = 1e-9  # float64 sums of float32 scores; a different model is off by far more


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild found. `from_sequence` is where it began; differences are of probabilities."""

    campaign: str
    lineage: str
    erasures: int  # those that took settlements out of what is learned
    from_sequence: int
    sequence: int
    decisions_checked: int
    decisions_equal: int
    decisions_passed_over: int  # recorded after one of a later sequence: the model had moved on
    difference_max: float
    checkpoint_sequence: int | None  # None: there is no checkpoint to compare with
    checkpoint_checked: int
    checkpoint_equal: int
    checkpoints_refused: tuple[str, ...]  # newer ones that are damaged, and why

    @property
    def compared(self) -> bool:
        """Whether there was anything to compare with."""
        return self.decisions_checked + self.checkpoint_checked > 0

    @property
    def agrees(self) -> bool:
        """Whether every comparison came out equal."""
        return (
            self.decisions_equal == self.decisions_checked
            and self.checkpoint_equal == self.checkpoint_checked
        )


async def rebuild(
    campaign: Campaign,
    policy: str,
    *,
    reader: Reader,
    checkpoints: Checkpoints,
    limits: Limits,
    progress: Progress = lambda _done, _all: None,
) -> Rebuilt:
    """Learn all retained settlements anew, as a policy does, and compare decision by decision.

    Begins with the first settlement if the ledger still has it, else with the oldest checkpoint.
    Raises CheckpointInvalid where neither is there, and where a customer is erased meanwhile.
    """
    name = campaign.campaign
    erasures = await reader.erasures(name)
    first, last = await reader.sequences(name)
    model = _oldest(campaign, policy, checkpoints, limits=limits, first=first, erasures=erasures)
    begin = model.sequence
    loaded = checkpoints.load_newest(campaign, policy, limits=limits, up_to=last, erasures=erasures)
    newest = loaded.model
    checkpoint_sequence = newest.sequence if newest is not None else None
    audit = _Audit(policy)
    probes: list[Decision] = []
    lessons = _Lessons(reader, model)
    async for decisions in _in_order(reader, name, model.lineage):
        for decision in decisions:
            if model.sequence <= decision.sequence <= last:
                await lessons.learn_to(decision.sequence)
                audit.check(model, decision)
                probes.append(decision)
            elif begin <= decision.sequence < model.sequence:
                audit.passed_over += 1
        del probes[: -Limits.audit_probes]
        progress(model.sequence - begin, last - begin)
        await asyncio.sleep(0)
    await lessons.learn_to(last)
    progress(last - begin, last - begin)
    checkpoint_equal = 0
    if newest is not None:
        await _Lessons(reader, newest).learn_to(last)
        checkpoint_equal = sum(_scores(model, probe) == _scores(newest, probe) for probe in probes)
    if await reader.erasures(name) != erasures:
        raise CheckpointInvalid(f"campaign {name!r}: a customer was erased meanwhile; run it again")
    return Rebuilt(
        campaign=name,
        lineage=model.lineage,
        erasures=erasures,
        from_sequence=begin,
        sequence=model.sequence,
        decisions_checked=audit.checked,
        decisions_equal=audit.equal,
        decisions_passed_over=audit.passed_over,
        difference_max=audit.difference_max,
        checkpoint_sequence=checkpoint_sequence,
        checkpoint_checked=len(probes) if newest is not None else 0,
        checkpoint_equal=checkpoint_equal,
        checkpoints_refused=loaded.refused,
    )


class _Audit:
    """Holds decisions against the model as it was when they were drawn."""

    def __init__(self, policy: str) -> None:
        self._policy = policy
        self.checked = 0
        self.passed_over = 0
        self.equal = 0
        self.difference_max = 0.0

    def check(self, model: Model, decision: Decision) -> None:
        """Compare what the decision was drawn with to what `model` says now; nothing of other variants."""
        if decision.variant != self._policy:
            return
        scores = _scores(model, decision)
        # Those of many offers were not rounded once.
        ways = (
            (mixed(rounded(scores), decision.discovery), mixed(scores, decision.discovery)) if scores else ()
        )
        difference = min(
            (
                max(abs(was - now) for was, now in zip(decision.probabilities, again, strict=False))
                for again in ways
            ),
            default=1.0,
        )
        self.checked += 1
        self.equal += difference <= _TOLERANCE
        self.difference_max = max(self.difference_max, difference)


async def _in_order(reader: Reader, campaign: str, lineage: str) -> AsyncIterator[list[Decision]]:
    """Yield decisions a page at a time, in order of the sequence they were drawn at.

    They are recorded nearly in that order: a large batch may be overtaken by single calls.
    """
    waiting: list[tuple[int, int, Decision]] = []
    recorded = itertools.count()
    async for page in reader.drawn(campaign, lineage):
        for decision in page:
            heapq.heappush(waiting, (decision.sequence, next(recorded), decision))
        ready = max(0, len(waiting) - Limits.audit_overtaken_rows_max)
        yield [heapq.heappop(waiting)[2] for _ in range(ready)]
    yield [heapq.heappop(waiting)[2] for _ in range(len(waiting))]


def _oldest(
    campaign: Campaign, policy: str, checkpoints: Checkpoints, *, limits: Limits, first: int, erasures: int
) -> Model:
    if first <= 1:
        return Model(campaign, limits=limits, policy=policy, erasures=erasures)
    model = checkpoints.load_oldest(campaign, policy, limits=limits, erasures=erasures).model
    if model is None or model.sequence < first - 1:
        raise CheckpointInvalid(
            f"campaign {campaign.campaign!r}: the ledger begins at settlement {first} and no good checkpoint "
            f"reaches it; the model cannot be rebuilt from what is retained"
        )
    return model


class _Lessons:
    """What settled after a model's sequence, for that model to learn as far as it is told."""

    def __init__(self, reader: Reader, model: Model) -> None:
        self._model = model
        self._pages = reader.settlements(model.campaign, model.sequence)
        self._rows: Iterator[Settlement] = iter(())

    async def learn_to(self, sequence: int) -> None:
        """Learn up to a sequence; raises CheckpointInvalid where the ledger does not reach it any more."""
        while self._model.sequence < sequence:
            row = next(self._rows, None)
            if row is not None:
                self._model.learn(row)
                continue
            page = await anext(self._pages, None)
            if page is None:
                raise CheckpointInvalid(
                    f"settlement {self._model.sequence + 1} is gone from the ledger; run it again"
                )
            self._rows = iter(page)


def _scores(model: Model, decision: Decision) -> Sequence[float]:
    try:
        return model.predict(decision.features, decision.offers)
    except ModelUnavailable:
        return []
