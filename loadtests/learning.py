"""How well does a preset learn, and how fast?

    python loadtests/learning.py --seeds 5 --preset balanced [--hillstrom hillstrom.csv]

In one process and without a server: the model and the draw, on a synthetic shop whose truth is known.
Each cell of the table is one kind of shop; its figure is the share of the possible uplift,

    (earned − uniform) / (best − uniform)

summed over all personalised decisions from the first on, in expected reward, so that luck in outcomes
does not count. `end` is the same over the last 5,000. LinUCB learns from the same visitors, as a
reference that is written down in 30 lines and knows nothing of Vowpal Wabbit. A twentieth of decisions
is uniform control, learned like the rest; LinUCB has no discovery share, the presets have.

With --hillstrom: 64,000 customers of a real e-mail experiment (three arms given at random; MineThatData,
2008), replayed by rejection sampling; the figure is the rate of visits in the last 5,000 matched rows.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import random
import statistics
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
from rich.console import Console
from rich.table import Table

from tilbud.bandit.features import encode_context, encode_offer
from tilbud.bandit.model import Model
from tilbud.bandit.vw import VW_VERSION
from tilbud.domain.campaign.campaign import Campaign, Preset
from tilbud.domain.context import ContextInput, read_context
from tilbud.domain.decision.draw import Choice, draw
from tilbud.domain.decision.records import OfferSet, Settlement
from tilbud.domain.limits import Limits
from tilbud.simulator.logged import read_logged
from tilbud.simulator.shop import Shop, ShopConfig, Visitor

LIMITS = Limits()
CONTROL_SHARE = 0.05
END_DECISIONS = 5_000
LINUCB = "LinUCB"
LINUCB_WIDTH = 0.2


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of shop."""

    name: str
    shop: ShopConfig = field(default_factory=ShopConfig)
    low: float = 0.0
    """The lower end of the campaign's range of rewards."""
    context_spread: float = 0.0
    """Standard deviation, in log-odds, of what a context's values do to every offer alike."""


def cells(decisions: int) -> list[Cell]:
    """Return the shops every preset must do well in."""
    many = tuple(f"offer-{number:02}" for number in range(50))
    return [
        Cell("10 %"),
        Cell("1 %", ShopConfig(base_rate=0.01)),
        Cell("3 %", ShopConfig(base_rate=0.03)),
        Cell("20 %", ShopConfig(base_rate=0.20)),
        Cell("small gap", ShopConfig(popularity_spread=0.1, taste_strength=0.15)),
        Cell("delay 2,000", ShopConfig(delay_decisions=2_000)),
        Cell("change at 1/3", ShopConfig(taste_change_at=decisions // 3)),
        Cell("50 offers", ShopConfig(offers=many)),
        Cell("range [-1, 1]", low=-1.0),
        Cell("warm, cold", context_spread=0.5),
    ]


@dataclass(slots=True)
class Shares:
    """What was earned, beside what was possible."""

    rows: list[tuple[float, float, float]] = field(default_factory=list)

    def add(self, expected: float, row: Sequence[float]) -> None:
        self.rows.append((expected, math.fsum(row) / len(row), max(row)))

    def share(self, last: int | None = None) -> float:
        earned, uniform, best = np.sum(self.rows[-last:] if last else self.rows, axis=0)
        return float((earned - uniform) / (best - uniform))


class Learner:
    """The campaign's model and the draw, as the service wires them."""

    def __init__(self, campaign: Campaign) -> None:
        self.vocabulary = campaign.vocabulary()
        self.offers = OfferSet.of(
            tuple(offer.id for offer in campaign.offers), tuple(map(encode_offer, campaign.offers))
        )
        self._discovery = campaign.exploration.discovery
        self._model = Model(campaign, limits=LIMITS)

    def encode(self, said: ContextInput) -> str:
        return encode_context(read_context(said, self.vocabulary, 0, LIMITS))

    def choose(self, features: str, u: float) -> Choice:
        return draw(self._model.predict(features, self.offers), len(self.offers.ids), self._discovery, u)

    def learn(self, features: str, choice: Choice, reward: float) -> None:
        self._model.learn(
            Settlement(
                campaign="bench", sequence=self._model.sequence + 1, decision_id="", variant="", offer_id="",
                device="", channel="", journey_stage="", offers=self.offers, drawn=choice.drawn,
                probability=choice.probability, features=features, reward=reward, clipped=False,
                due_service_us=0, settled_us=0,
            )
        )  # fmt: skip

    def close(self) -> None:
        self._model.close()


class LinUcb:
    """Disjoint LinUCB: a ridge regression for each offer (Li et al., 2010, WWW, algorithm 1), λ = 1."""

    def __init__(self, offers: int, axes: Sequence[int]) -> None:
        self._starts = np.cumsum([1, *axes[:-1]])
        size = 1 + sum(axes)
        self._inverse = np.stack([np.eye(size)] * offers)
        self._seen = np.zeros((offers, size))
        self._weights = np.zeros((offers, size))

    def encode(self, values: Sequence[int]) -> Any:
        features = np.zeros(self._seen.shape[1])
        features[0] = 1.0
        features[self._starts + np.asarray(values)] = 1.0
        return features

    def choose(self, features: Any) -> int:
        spread = np.sqrt((self._inverse @ features) @ features)
        return int(np.argmax(self._weights @ features + LINUCB_WIDTH * spread))

    def learn(self, features: Any, drawn: int, reward: float) -> None:
        direction = self._inverse[drawn] @ features
        self._inverse[drawn] -= np.outer(direction, direction) / (1 + direction @ features)
        self._seen[drawn] += reward * features
        self._weights[drawn] = self._inverse[drawn] @ self._seen[drawn]


def campaign_of(
    offers: Sequence[str], preset: str, arguments: str, discovery: float, **more: Any
) -> Campaign:
    """A campaign of these offers."""
    return Campaign.model_validate(
        {
            "campaign": "bench",
            "offers": [{"id": offer} for offer in offers],
            "reward": {"outcomes": {"purchase": 1.0}},
            "exploration": {"preset": preset, "arguments": arguments, "discovery": discovery},
            "consent": "not_required",
            **more,
        }
    )


def said(visitor: Visitor) -> ContextInput:
    """What a shop would say of its visitor."""
    return ContextInput(
        device=visitor.device,
        channel=visitor.channel,
        journey_stage=visitor.journey_stage,
        time_us=int(visitor.time.timestamp()) * 1_000_000,
        time_zone="UTC",
    )


def visits(cell: Cell, seed: int, decisions: int) -> Iterator[tuple[Visitor, tuple[float, ...], bool, float]]:
    """Yield each visitor, the truth, whether they are control, and the draw's random number."""
    shop = Shop(cell.shop, seed)
    generator = random.Random(seed)
    effects = np.random.default_rng([seed, 9]).normal(0, cell.context_spread, (4, 8))
    for number in range(decisions):
        visitor = shop.visitor(number)
        row = shop.probabilities(visitor)
        if cell.context_spread:
            shift = math.exp(math.fsum(effects[axis, value] for axis, value in enumerate(visitor.values)))
            row = tuple(p * shift / (1 - p + p * shift) for p in row)
        yield visitor, row, generator.random() < CONTROL_SHARE, generator.random()


def run_preset(cell: Cell, seed: int, options: argparse.Namespace, preset: str) -> Shares:
    """Let a preset serve a shop."""
    campaign = campaign_of(
        cell.shop.offers, preset, options.arguments, options.discovery,
        reward={"outcomes": {"purchase": 1.0}, "range": [cell.low, 1.0]},
    )  # fmt: skip
    learner, shares = Learner(campaign), Shares()
    waiting: deque[tuple[str, Choice, float]] = deque()
    for visitor, row, control, u in visits(cell, seed, options.decisions):
        features = learner.encode(said(visitor))
        if control:
            choice = draw([1.0] * len(row), len(row), 0.0, u)
        else:
            choice = learner.choose(features, u)
            shares.add(math.fsum(p * q for p, q in zip(choice.probabilities, row, strict=True)), row)
        waiting.append((features, choice, float(visitor.luck < row[choice.drawn])))
        if len(waiting) > cell.shop.delay_decisions:
            learner.learn(*waiting.popleft())
    learner.close()
    return shares


def run_linucb(cell: Cell, seed: int, options: argparse.Namespace) -> Shares:
    """Let LinUCB serve the same visitors."""
    config = cell.shop
    axes = (len(config.devices), len(config.channels), len(config.journey_stages), 4)
    learner, shares = LinUcb(len(config.offers), axes), Shares()
    waiting: deque[tuple[Any, int, float]] = deque()
    for visitor, row, control, u in visits(cell, seed, options.decisions):
        features = learner.encode(visitor.values)
        drawn = int(u * len(row)) if control else learner.choose(features)
        if not control:
            shares.add(row[drawn], row)
        waiting.append((features, drawn, float(visitor.luck < row[drawn])))
        if len(waiting) > config.delay_decisions:
            learner.learn(*waiting.popleft())
    return shares


def run_hillstrom(file: Path, seed: int, options: argparse.Namespace, preset: str) -> float:
    """Return the rate of visits in the last 5,000 rows whose offer was the drawn one."""
    features = {
        "recency": "number", "history": "number", "history_segment": "category", "mens": "flag",
        "womens": "flag", "zip_code": "category", "newbie": "flag", "shop_channel": "category",
    }  # fmt: skip
    offers = ("mens-e-mail", "womens-e-mail", "no-e-mail")
    campaign = campaign_of(
        offers, preset, options.arguments, options.discovery,
        context={"channels": ["email"], "features": features},
    )  # fmt: skip
    data = read_logged(
        file, offer_column="segment", outcome_column="visit", offers=offers, features=features,
        rename={"shop_channel": "channel"},
    ).shuffled(seed)  # fmt: skip
    learner, generator = Learner(campaign), random.Random(seed)
    matched: list[float] = []
    for row in data.rows:
        context = learner.encode(ContextInput(channel="email", features=row.features))
        choice = learner.choose(context, generator.random())
        if offers[choice.drawn] == row.offer:
            matched.append(row.outcome)
            learner.learn(context, choice, row.outcome)
    learner.close()
    return statistics.fmean(matched[-END_DECISIONS:])


def main() -> None:
    """Run the bench and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many shops of each kind")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--decisions", type=int, default=30_000)
    parser.add_argument("--discovery", type=float, default=0.02)
    parser.add_argument(
        "--preset", action="append", choices=get_args(Preset), help="may be repeated; default: all"
    )
    parser.add_argument(
        "--arguments", default="", help="VW arguments over the preset's, as in a campaign file"
    )
    parser.add_argument("--cell", action="append", help="only these kinds of shop; may be repeated")
    parser.add_argument("--hillstrom", type=Path, help="the e-mail experiment's CSV file")
    parser.add_argument("--no-linucb", action="store_true")
    options = parser.parse_args()
    learners = [*([] if options.no_linucb else [LINUCB]), *(options.preset or get_args(Preset))]
    chosen = [cell for cell in cells(options.decisions) if not options.cell or cell.name in options.cell]
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    console = Console(width=150)
    table = Table(title="share of the possible uplift: median (lowest) end")
    for column in ("shop", *learners):
        table.add_column(column)
    for cell in chosen:
        table.add_row(cell.name, *(_shop_figure(cell, seeds, options, learner) for learner in learners))
    if options.hillstrom:
        figures = [
            "" if learner == LINUCB else _hillstrom_figure(options.hillstrom, seeds, options, learner)
            for learner in learners
        ]
        table.add_row("Hillstrom visits", *figures)
    console.print(table)
    console.print(
        f"seeds {seeds[0]}-{seeds[-1]}, {options.decisions:,} decisions, discovery {options.discovery:g}, "
        f"control {CONTROL_SHARE:g}, VW {VW_VERSION}, Python {platform.python_version()}, "
        f"{_processor()}, {os.cpu_count()} cores"
    )


def _shop_figure(cell: Cell, seeds: Sequence[int], options: argparse.Namespace, learner: str) -> str:
    started = time.perf_counter()
    runs = [
        run_linucb(cell, seed, options) if learner == LINUCB else run_preset(cell, seed, options, learner)
        for seed in seeds
    ]
    all_of, end = [run.share() for run in runs], [run.share(END_DECISIONS) for run in runs]
    took_s = (time.perf_counter() - started) / len(runs)
    return f"{statistics.median(all_of):.3f} ({min(all_of):.3f}) {statistics.median(end):.3f}  {took_s:.1f} s"


def _hillstrom_figure(file: Path, seeds: Sequence[int], options: argparse.Namespace, learner: str) -> str:
    rates = [run_hillstrom(file, seed, options, learner) for seed in seeds]
    return f"{statistics.median(rates):.4f} ({min(rates):.4f})"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
