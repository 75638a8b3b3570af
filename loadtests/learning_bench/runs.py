"""One learner in one world: decide, draw, wait, settle, learn; and what came of it.

The figure is the share of the possible uplift over the judged decisions,

    (earned − uniform) / (best − uniform),

in expected reward under the whole distribution that was drawn from, discovery included. Uniform is 0 and the
best that could be known of each visitor 1, which discovery alone keeps out of reach.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from learning_bench.cells import Cell
from learning_bench.references import ONLY_NUMBERS, REFERENCES, Learner
from learning_bench.service import ServiceLearner, code_digest
from learning_bench.worlds import DISCOVERY, Flags, Floats, Integers, World
from tilbud.bandit.presets import PRESETS
from tilbud.domain.decision.draw import Choice, draw

WORLDS = "1"
"""Raise it where worlds or references change: figures of before are then measured again."""
NEWCOMER_SETTLEMENTS = (200, 1_000)
NEWCOMER_LOOK = 500
"""Decisions after so many settlements, over which a newcomer's share is taken."""
AT_ONCE = 500
"""Decisions whose earnings are reckoned together."""


@dataclass(frozen=True, slots=True)
class Run:
    """One learner in one world, by name."""

    cell: str
    method: str
    """A preset, or a reference."""
    seed: int
    arguments: str = ""
    """VW arguments over the preset's."""

    @property
    def is_service(self) -> bool:
        """Whether the service's own rooms run it."""
        return self.method in PRESETS

    @property
    def label(self) -> str:
        """What the table calls the method."""
        return f"{self.method} {self.arguments}".strip() if self.is_service else self.method

    def key(self) -> str:
        """Return what equal runs have in common; what was measured with other code has another."""
        code = code_digest() if self.is_service else "numpy"
        return "|".join((WORLDS, code, self.cell, self.label, str(self.seed)))


@dataclass(frozen=True, slots=True)
class Figure:
    """What came of a run."""

    run: Run
    share: float
    """Of the possible uplift, over the judged decisions."""
    whole: float
    """The same over all decisions from the first on."""
    rate: float
    """The mean expected reward over the judged decisions, in the campaign's units."""
    seconds: float
    newcomers: tuple[float, ...] = ()
    """Their share as a multiple of an even one: before any settlement of theirs, after 200, after 1,000."""

    def as_row(self) -> dict[str, Any]:
        """Return it as the results file has it."""
        return {"key": self.run.key(), **asdict(self)}

    @classmethod
    def of_row(cls, row: dict[str, Any]) -> Figure:
        """Return it from a row of the results file."""
        return cls(
            Run(**row["run"]),
            row["share"],
            row["whole"],
            row["rate"],
            row["seconds"],
            tuple(row["newcomers"]),
        )


def runs(cells: Sequence[Cell], methods: Sequence[str], seeds: range, arguments: str) -> list[Run]:
    """Return every run there is to do, seed by seed, so that a table is even wherever it ends."""
    return [
        Run(cell.name, method, seed, arguments if method in PRESETS else "")
        for seed in seeds
        for cell in cells
        for method in methods
        if cell.has_numbers or method not in ONLY_NUMBERS
    ]


def measure(run: Run, world: World) -> Figure:
    """Let the learner of a run live through its world."""
    began = time.process_time()
    learner: Learner = (
        ServiceLearner(world, run.method, run.arguments) if run.is_service else REFERENCES[run.method](world)
    )
    lived = live(world, learner)
    learner.close()
    uniform, best = lived.uniform, lived.best
    judged = world.judged
    return Figure(
        run,
        share=_share(lived.earned[judged], uniform[judged], best[judged]),
        whole=_share(lived.earned, uniform, best),
        rate=float(lived.earned[judged].mean()),
        seconds=round(time.process_time() - began, 2),
        newcomers=lived.newcomer_shares(world),
    )


@dataclass(frozen=True, slots=True)
class Life:
    """What was earned in each decision, beside what could have been, in expected reward (T)."""

    earned: Floats
    uniform: Floats
    best: Floats
    newcomer_probability: Floats
    """Of all newcomers together."""
    newcomer_settlements: Integers
    """Of all newcomers together, learned before the decision."""

    def newcomer_shares(self, world: World) -> tuple[float, ...]:
        """Return `Figure.newcomers`; NaN where so many settlements did not come."""
        new = world.newcomers
        if new is None:
            return ()
        even = len(new.offers) / len(world.offers)
        since = np.arange(world.decisions) >= new.since
        settled = self.newcomer_settlements
        looks: list[Flags] = [since & (settled == 0)]
        for settlements in NEWCOMER_SETTLEMENTS:
            of_all = settlements * len(new.offers)
            reached = int(np.argmax(settled >= of_all)) if settled[-1] >= of_all else world.decisions
            decisions = np.arange(world.decisions)
            looks.append((decisions >= reached) & (decisions < reached + NEWCOMER_LOOK))
        return tuple(
            float(self.newcomer_probability[look].mean() / even) if look.any() else float("nan")
            for look in looks
        )


def live(world: World, learner: Learner) -> Life:
    """Let a learner decide and learn through all of a world, and return what it earned."""
    none = np.zeros(world.decisions)
    lived = Life(none.copy(), none.copy(), none.copy(), none.copy(), np.zeros(world.decisions, np.int64))
    new = set(world.newcomers.offers) if world.newcomers else set()
    waiting: deque[tuple[int, tuple[int, ...], Choice]] = deque()
    draws, every, learned = world.draws.tolist(), tuple(range(len(world.offers))), 0
    for first in range(0, world.decisions, AT_ONCE):
        some = range(first, min(first + AT_ONCE, world.decisions))
        probabilities = np.zeros((len(some), len(every)))
        for row, decision in enumerate(some):
            offers = every if world.eligible is None else world.offers_at(decision)
            lived.newcomer_settlements[decision] = learned
            choice = draw(learner.scores(decision, offers), len(offers), DISCOVERY, draws[decision])
            probabilities[row, offers if len(offers) < len(every) else slice(None)] = choice.probabilities
            waiting.append((decision, offers, choice))
            if len(waiting) > world.delay:
                settled, of_offers, its_choice = waiting.popleft()
                drawn = of_offers[its_choice.drawn]
                learner.learn(settled, of_offers, its_choice, world.reward(settled, drawn))
                learned += drawn in new
        _earn(lived, world, slice(some.start, some.stop), probabilities)
    return lived


def _earn(lived: Life, world: World, some: slice, probabilities: Floats) -> None:
    """Reckon what was earned in some decisions, by the probabilities they were drawn with."""
    expected = world.expected(some)
    eligible = np.ones(expected.shape, np.bool_) if world.eligible is None else world.eligible[some]
    lived.earned[some] = (probabilities * expected).sum(axis=1)
    lived.uniform[some] = (expected * eligible).sum(axis=1) / eligible.sum(axis=1)
    lived.best[some] = np.where(eligible, expected, -np.inf).max(axis=1)
    if world.newcomers:
        lived.newcomer_probability[some] = probabilities[:, world.newcomers.offers].sum(axis=1)


def _share(earned: Floats, uniform: Floats, best: Floats) -> float:
    return float((earned.sum() - uniform.sum()) / (best.sum() - uniform.sum()))
