"""How soon the service learns, by how often visitors buy: a line for each rate, from the first visitor on.

    (earned − uniform) / (best − uniform)     over each thousand decisions, in the mean of some seeds

What holds: worlds, learner and draws are those of the table's cells of these names, with the preset
`balanced`; a seed is one world for all of its thousands.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from learning_bench.cells import CELLS
from learning_bench.runs import live
from learning_bench.service import ServiceLearner
from learning_bench.worlds import Floats

RATES = ("1%", "3%", "10%", "20%")
BLOCK = 1_000
PRESET = "balanced"
SHARES = (0.5, 0.8)
COLOURS = ("#9a6700", "#2a7f3f", "#1f5fa8", "#7a3fa0")
LOWER = (4, 4, 10, 0)  # points by which the words of a line are lower than it ends, since two lie close


def curves(seeds: range) -> dict[str, Floats]:
    """Return, for each rate, the share of the possible uplift of each thousand decisions (blocks,)."""
    return {rate: np.mean([_curve(rate, seed) for seed in seeds], axis=0) for rate in RATES}


def _curve(rate: str, seed: int) -> Floats:
    world = CELLS[rate].build(seed)
    learner = ServiceLearner(world, PRESET)
    lived = live(world, learner)
    learner.close()
    earned, uniform, best = (
        values.reshape(-1, BLOCK).sum(axis=1) for values in (lived.earned, lived.uniform, lived.best)
    )
    share: Floats = (earned - uniform) / (best - uniform)
    return share


def lines(by_rate: dict[str, Floats]) -> list[str]:
    """Return a line for each rate: after how many decisions it has which part, and what it has at last."""
    return [
        f"{rate}: "
        + ", ".join(f"{share:.0%} of the possible uplift {_reached(curve, share)}" for share in SHARES)
        + f"; {curve[-5:].mean():.0%} in the last {5 * BLOCK:,}"
        for rate, curve in by_rate.items()
    ]


def _reached(curve: Floats, share: float) -> str:
    """Return when a share is reached and kept for the next thousand too, in the mean."""
    kept = np.minimum(curve[:-1], curve[1:]) >= share
    return f"after {(int(np.argmax(kept)) + 1) * BLOCK:,}" if kept.any() else f"not in {len(curve) * BLOCK:,}"


def draw(by_rate: dict[str, Floats], seeds: Sequence[int], file: Path) -> None:
    """Draw a line for each rate."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - only where it is asked for
    from matplotlib.figure import Figure  # noqa: PLC0415

    picture = Figure(figsize=(9, 4.2))
    FigureCanvasAgg(picture)
    axes = picture.add_axes((0.08, 0.21, 0.76, 0.68))
    for (rate, curve), colour, lower in zip(by_rate.items(), COLOURS, LOWER, strict=True):
        at = BLOCK * (1 + np.arange(len(curve)))
        axes.plot(at, curve, color=colour, linewidth=2)
        axes.annotate(
            f"{rate.rstrip('%')} in 100 buy", (at[-1], curve[-3:].mean()), (6, -lower),
            textcoords="offset points", color=colour,
        )  # fmt: skip
    axes.set_xlim(0, at[-1])
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_title("Part of the possible uplift, as it learns", loc="left", size=12)
    axes.set_xlabel("decisions")
    axes.grid(axis="y", alpha=0.4)
    axes.spines[["top", "right"]].set_visible(False)
    picture.text(
        0.08, 0.025,
        f"Ten offers, 30,000 invented visitors, preset balanced, mean of seeds {seeds[0]} to {seeds[-1]}. "
        "0: any offer, by chance. 100 %: every taste known.\nEvery point: a thousand decisions. "
        "The 2 % that are spread evenly over all offers keep 100 % out of reach.",
        size=8, color="#666666",
    )  # fmt: skip
    picture.savefig(file, dpi=90)
