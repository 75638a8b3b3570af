"""Draw the README's picture: what a decision earns while a running service learns a simulated shop.

    tilbud serve --data EMPTY        # the sample campaigns
    python loadtests/draw_learning.py --out docs/pictures/learning.png

What holds: every point is the mean over the personalized decisions since the point before it, of what their
offers earn by the shop's known tastes; the other lines are what three policies that know those tastes would
have earned from the same visitors. What it does not do: smooth, or leave a point out.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from PIL import Image

from tilbud.simulator.driver import Driver
from tilbud.simulator.shop import ShopConfig
from tilbud.simulator.simulate import run_simulation
from tilbud.simulator.tally import PERSONALIZED, Rates, WorldTally

mpl.use("Agg")

POINT_DECISIONS = 1_000
LOOK_EVERY_S = 0.01
COLOURS = 32  # a quarter of the bytes, and nobody sees it
_LINES = (
    ("best", "the best offer for each visitor", "#2a7f3f", (0, (5, 2))),
    ("best_single", "the best single offer for everybody", "#9a6700", (0, (5, 2))),
    ("uniform", "any offer, by chance", "#888888", (0, (5, 2))),
    ("achieved", "Tilbud", "#1f5fa8", "-"),
)


@dataclass(frozen=True, slots=True)
class Point:
    """Means per decision over the personalized decisions between two looks."""

    at: int  # personalized decisions so far
    rates: dict[str, float]


class Curve:
    """Points of one run, made of the differences between its running sums."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self._before: tuple[int, dict[str, float]] = 0, {name: 0.0 for name, *_ in _LINES}

    def look(self, rates: Rates) -> None:
        """Add a point once there are enough decisions since the last one."""
        count, before = self._before
        if rates.decisions - count < POINT_DECISIONS:
            return
        sums = {name: getattr(rates, name) * rates.decisions for name, *_ in _LINES}
        new = rates.decisions - count
        self.points.append(Point(rates.decisions, {name: (sums[name] - before[name]) / new for name in sums}))
        self._before = rates.decisions, sums


async def run(options: argparse.Namespace) -> Curve:
    """Send the visitors and watch."""
    curve = Curve()

    @asynccontextmanager
    async def watch(_: Driver, tally: WorldTally) -> AsyncIterator[None]:
        async def looking() -> None:
            while True:
                curve.look(tally.variants[PERSONALIZED])
                await asyncio.sleep(LOOK_EVERY_S)

        task = asyncio.create_task(looking())
        try:
            yield
        finally:
            task.cancel()

    await run_simulation(
        options.target,
        "shop",
        run=secrets.token_hex(4),
        seed=options.seed,
        decisions=options.decisions,
        shop=ShopConfig(taste_change_at=options.change_at or None),
        watch=watch,
    )
    return curve


def draw(curve: Curve, options: argparse.Namespace) -> Figure:
    """Draw the curve with its caption in the picture."""
    figure = Figure(figsize=(9, 4.2), dpi=130)
    axes = figure.add_axes((0.075, 0.2, 0.9, 0.69))
    at = [point.at for point in curve.points]
    there = len(at) // 2 - 2 if options.change_at else -1  # where lines lie apart
    for name, label, colour, dashes in _LINES:
        values = [point.rates[name] for point in curve.points]
        axes.plot(at, values, color=colour, linestyle=dashes, linewidth=2.4 if name == "achieved" else 1.4)
        place = {"best": 8, "best_single": -16, "uniform": -16, "achieved": -18}[name]
        axes.annotate(
            label, (at[there], values[there]), (0, place), textcoords="offset points", ha="right",
            color=colour, size=10, weight="bold" if name == "achieved" else "normal",
        )  # fmt: skip
    if options.change_at:
        change = options.change_at * at[-1] / options.decisions  # of all decisions, control's among them
        axes.axvline(change, color="#bbbbbb", linewidth=1)
        axes.text(change, 0.012, " tastes change", color="#666666", size=10)
    axes.set_xlim(0, at[-1])
    axes.set_ylim(bottom=0)
    axes.set_title("Purchases a decision, as it learns", loc="left", size=12)
    axes.set_xlabel("personalized decisions")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    figure.text(
        0.075, 0.025,
        f"The sample campaign shop, simulated visitors, seed {options.seed}, one run. Every point: the mean "
        f"over {POINT_DECISIONS:,} decisions or a few more,\nexpected by the shop's known tastes. Dashed: "
        "what policies that know these tastes would earn from the same visitors.",
        size=8, color="#666666",
    )  # fmt: skip
    return figure


def main() -> None:
    """Read the command line, run and draw."""
    parser = argparse.ArgumentParser(description="Draw what a decision earns while a service learns.")
    parser.add_argument("--target", default="127.0.0.1:50051", help="a service that has not learned yet")
    parser.add_argument("--decisions", type=int, default=40_000)
    parser.add_argument("--change-at", type=int, default=20_000, help="decisions before it; 0: none")
    parser.add_argument("--seed", type=int, default=1, help="of the shop's tastes")
    parser.add_argument("--out", type=Path, default=Path("learning.png"), help="a PNG file")
    options = parser.parse_args()
    curve = asyncio.run(run(options))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    draw(curve, options).savefig(drawn)
    Image.open(drawn).convert("RGB").quantize(COLOURS).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
