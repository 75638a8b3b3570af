"""Logs of offers that were given at random to real people, as evidence for a learner.

Two ways, by how many offers there are. `replayed`, with few: a row counts, and is learned, where the learner
draws what was given (Li et al., 2011, WSDM), so what it earns is what it would have earned. `weighted`, with
many, where such rows would be too few: every row is learned as it was given, and before that counts with the
weight p/q of what was given, p the learner's probability and q the log's; the figure is the weighted mean,
its error by the delta method.

The files are the caller's; none is part of this project. What they hold is read into a World of which only
the visitors and the offers are known, not what others would have been worth.
"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from learning_bench.references import REFERENCES, Learner
from learning_bench.report import Mean
from learning_bench.service import ServiceLearner
from learning_bench.shops import world
from learning_bench.worlds import DISCOVERY, SHOP_AXES, Floats, Integers, World
from tilbud.bandit.presets import PRESETS
from tilbud.domain.decision.draw import Choice, draw
from tilbud.simulator.logged import Columns, read_logged

LAST_MATCHED = 5_000
HILLSTROM_OFFERS = ("mens-e-mail", "womens-e-mail", "no-e-mail")
HILLSTROM_FEATURES = {
    "recency": "number", "history": "number", "history_segment": "category", "mens": "flag",
    "womens": "flag", "zip_code": "category", "newbie": "flag", "shop_channel": "category",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Log:
    """Rows of a log in their order: who, what was given, what came of it, and how likely it was given."""

    visitors: World
    given: Integers
    outcomes: Floats
    propensities: Floats


def figures(
    hillstrom: Path | None, open_bandit: Sequence[Path], methods: Sequence[str], seeds: range
) -> Iterator[str]:
    """Yield a line for each log and method, as they come."""
    if hillstrom:
        for method in methods:
            rates = []
            for seed in seeds:
                log = read_hillstrom(hillstrom, seed)
                matched = replayed(log, learner_of(method, log.visitors))
                rates.append(statistics.fmean(matched[-LAST_MATCHED:]))
            yield f"Hillstrom, visits, last {LAST_MATCHED:,} matched, {method}: {_four(Mean.of(rates))}"
    for file in open_bandit:
        log = read_open_bandit(file)
        logged = Mean.of(log.outcomes.tolist())
        yield f"Open Bandit {file.stem}, clicks, as logged: {_four(logged)}"
        for method in methods:
            earned = weighted(log, learner_of(method, log.visitors))
            yield f"Open Bandit {file.stem}, clicks, {method}: {_four(earned)}"


def learner_of(method: str, visitors: World) -> Learner:
    """Return a preset's learner or a reference; best fixed is not known from a log."""
    return ServiceLearner(visitors, method) if method in PRESETS else REFERENCES[method](visitors)


def replayed(log: Log, learner: Learner) -> list[float]:
    """Return the outcomes of the rows in which the learner drew what was given, which it learned."""
    offers, draws = tuple(range(len(log.visitors.offers))), log.visitors.draws.tolist()
    matched = []
    for row, (given, outcome) in enumerate(zip(log.given.tolist(), log.outcomes.tolist(), strict=True)):
        choice = draw(learner.scores(row, offers), len(offers), DISCOVERY, draws[row])
        if choice.drawn == given:
            matched.append(outcome)
            learner.learn(row, offers, choice, outcome)
    learner.close()
    return matched


def weighted(log: Log, learner: Learner) -> Mean:
    """Return the weighted mean of outcomes, and its standard error."""
    offers = tuple(range(len(log.visitors.offers)))
    weights = np.zeros(len(log.given))
    for row, given in enumerate(log.given.tolist()):
        choice = draw(learner.scores(row, offers), len(offers), DISCOVERY, 0.0)
        weights[row] = choice.probabilities[given] / log.propensities[row]
        learned = Choice(given, (float(log.propensities[row]),) * len(offers))
        learner.learn(row, offers, learned, float(log.outcomes[row]))
    learner.close()
    mean = float(weights @ log.outcomes / weights.sum())
    error = float(np.sqrt((weights**2 * (log.outcomes - mean) ** 2).sum()) / weights.sum())
    return Mean(mean, error)


def read_hillstrom(file: Path, seed: int) -> Log:
    """Read the MineThatData e-mail experiment (2008), its rows in an order that the seed decides."""
    rows = (
        read_logged(
            file, Columns("segment", "visit", features={"shop_channel": "channel"}),
            offers=HILLSTROM_OFFERS, features=HILLSTROM_FEATURES,
        )
        .shuffled(seed)
        .rows
    )  # fmt: skip
    by_kind = {
        kind: {
            name: [row.features.get(name) for row in rows]
            for name, of_kind in HILLSTROM_FEATURES.items()
            if of_kind == kind
        }
        for kind in ("number", "category", "flag")
    }
    return Log(
        _visitors(
            seed,
            len(rows),
            {name: _numbered(column) for name, column in by_kind["category"].items()},
            numbers={name: np.array(column, np.float64) for name, column in by_kind["number"].items()},
            flags={name: np.array(column, np.bool_) for name, column in by_kind["flag"].items()},
            offers=({},) * len(HILLSTROM_OFFERS),
        ),
        np.array([HILLSTROM_OFFERS.index(row.offer) for row in rows]),
        np.array([row.outcome for row in rows]),
        np.full(len(rows), 1 / len(HILLSTROM_OFFERS)),
    )


def read_open_bandit(file: Path) -> Log:
    """Read one campaign of the Open Bandit Dataset (Saito et al., 2021); its items lie beside it."""
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    with (file.parent / "item_context.csv").open(newline="") as lines:
        items = {int(row["item_id"]): row for row in csv.DictReader(lines)}
    offers = tuple(
        {f"feature_{number}": items[item][f"item_feature_{number}"] for number in (1, 2, 3)}
        for item in sorted(items)
    )
    columns = ("position", *(f"user_feature_{number}" for number in range(4)))
    words = {name: _numbered([row[name] for row in rows]) for name in columns}
    return Log(
        _visitors(1, len(rows), words, offers=offers),
        np.array([int(row["item_id"]) for row in rows]),
        np.array([float(row["click"]) for row in rows]),
        np.array([float(row["propensity_score"]) for row in rows]),
    )


def _visitors(seed: int, rows: int, words: dict[str, Integers], **more: object) -> World:
    constant = {axis: np.zeros(rows, np.int64) for axis in SHOP_AXES}
    offers = more["offers"]
    assert isinstance(offers, tuple)
    return world(seed, constant | words, np.zeros((rows, len(offers))), **more)


def _numbered(column: Sequence[object]) -> Integers:
    return np.unique([str(cell) for cell in column], return_inverse=True)[1]


def _four(mean: Mean) -> str:
    return f"{mean.mean:.4f} ±{mean.error:.4f}"
