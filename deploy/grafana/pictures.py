"""Draw the dashboards without Grafana: `python deploy/grafana/pictures.py --prometheus URL --out FOLDER`.

What holds: one PNG for each dashboard, with every panel where Grafana puts it, asked of a live Prometheus as
Grafana asks, in its unit, with its caption and its legend; what has an interval is drawn with it. A panel
without data says what is lacking; a query that fails ends the drawing and is named. What it does not do: look
like Grafana in detail.
"""

from __future__ import annotations

import argparse
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

import matplotlib as mpl
from matplotlib.figure import Figure

from asking import DASHBOARDS, Asker, Json, Series, load
from marks import FAINT, MARKS, SMALL, kind, moment
from panels import LOW_AT_FIRST

mpl.use("Agg")

POINTS = 200
CAMPAIGNS_MAX = 5
_COLUMN_INCHES, _GRID_ROW_INCHES, _DPI = 0.72, 0.36, 100
_CHARS_A_COLUMN = 14  # of small ones, in a column of the grid
CAPTION_LINES, CAPTION_LINES_MAX = 2, 3
_TITLE, _CAPTION_LINE, _GAP = 0.75, 0.34, 0.15  # rows of the grid
_FIRST = "Rates a second read low, and means swing, until the service has run for as long as they look back."


def draw(name: str, asker: Asker, *, from_s: float, until_s: float) -> Figure:
    """Draw one dashboard over a time range, in seconds since 1970."""
    dashboard = load(name)
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    figure = Figure(figsize=(24 * _COLUMN_INCHES, (rows + 2) * _GRID_ROW_INCHES), dpi=_DPI)
    span = f"{_clock(from_s)} to {_clock(until_s)} UTC"
    variables = [variable["name"] for variable in dashboard["templating"]["list"]]
    chosen = ", ".join(f"{key} {asker.chosen[key]}" for key in ("campaign", "window") if key in variables)
    figure.text(0.01, 1 - 0.8 / (rows + 2), f"{dashboard['title']}   {span}   {chosen}", va="center", size=13)
    figure.text(0.01, 1 - 1.5 / (rows + 2), _FIRST, va="center", size=SMALL + 1, color=FAINT)
    for panel in dashboard["panels"]:
        left, bottom, width, height = box = _box(panel["gridPos"], rows)
        if panel["type"] == "row":
            figure.text(0.01, bottom + height * 0.3, panel["title"], weight="bold", size=12)
            continue
        top, line = bottom + height - 0.2 / (rows + 2), 1 / (rows + 2)
        figure.text(left + 0.01, top, panel["title"], va="top", size=9.5)
        said = "\n".join(caption(panel))
        figure.text(left + 0.01, top - 0.55 * line, said, va="top", size=SMALL, color=FAINT)
        under_title = bottom + height - (_TITLE + len(caption(panel)) * _CAPTION_LINE + _GAP) * line
        series = _asked(panel, asker, from_s, until_s)
        if not series:
            lacking = "\n".join(wrap(panel["fieldConfig"]["defaults"]["noValue"], _chars(panel) * 2 // 3))
            figure.text(left + width / 2, bottom + height * 0.4, lacking, ha="center", va="center",
                        color=FAINT, size=8.5)  # fmt: skip
            continue
        axes = figure.add_axes(_inside(box, panel, under_title))
        MARKS[kind(panel)](axes, panel, series)
        if panel["type"] in {"timeseries", "heatmap"}:
            axes.set_xlim(*map(moment, (from_s, until_s)))  # type: ignore[arg-type]  # times are taken
    return figure


def caption(panel: Json) -> list[str]:
    """Return the lines below a panel's title: as many sentences of its description as there is room for."""
    said = panel["description"].removesuffix(LOW_AT_FIRST).rstrip()  # the page says it once for all
    sentences = re.split(r"(?<=\.)\s", said)
    lines = [wrap(" ".join(sentences[:number]), _chars(panel)) for number in range(1, len(sentences) + 1)]
    return next((each for each in reversed(lines) if len(each) <= CAPTION_LINES), lines[0])


def _chars(panel: Json) -> int:
    return int(panel["gridPos"]["w"]) * _CHARS_A_COLUMN - 4


def _clock(at_s: float) -> str:
    return moment(at_s).strftime("%H:%M:%S")


def _asked(panel: Json, asker: Asker, from_s: float, until_s: float) -> list[Series]:
    """Return the lines of a panel that have a number anywhere."""
    step_s = max(1.0, (until_s - from_s) / POINTS)
    return [
        each
        for target in panel["targets"]
        for each in (
            asker.ask(target["expr"], target["legendFormat"])
            if target["instant"]
            else asker.ask_range(
                target["expr"], target["legendFormat"], from_s=from_s, until_s=until_s, step_s=step_s
            )
        )
        if any(math.isfinite(value) for _, value in each.points)
    ]


def _box(at: Json, rows: int) -> tuple[float, float, float, float]:
    """Left, bottom, width and height of a place in the grid, as shares of the figure."""
    high = rows + 2
    return at["x"] / 24, 1 - (at["y"] + at["h"] + 2) / high, at["w"] / 24, at["h"] / high


def _inside(
    box: tuple[float, float, float, float], panel: Json, top: float
) -> tuple[float, float, float, float]:
    """The place of the axes in a panel's box, below `top`: less room for ticks and legend."""
    left, bottom, width, height = box
    drawn, high = kind(panel), top - bottom
    if drawn in {"stat", "table"}:
        return left + 0.01, bottom + height * 0.06, width - 0.02, high - height * 0.06
    if drawn == "interval":
        high -= height * 0.04  # what its numbers are
    under = {"timeseries": 0.30, "bargauge": 0.05}.get(drawn, 0.12)
    side = 0.10 if drawn in {"bargauge", "interval"} else 0.04
    beside = 0.105 if drawn == "interval" else 0.025
    return left + side, bottom + height * under, width - side - beside, high - height * under


def draw_all(
    url: str, out: Path, *, campaigns: Sequence[str], choice: dict[str, str], from_s: float, until_s: float
) -> list[Path]:
    """Draw every dashboard into `out`, where it is about one campaign once for each; return the files.

    Without `campaigns`, those with the most decisions. A picture replaces the one before in one step.
    """
    out.mkdir(parents=True, exist_ok=True)
    chosen = {"job": ".+", "instance": ".+"} | choice
    if not campaigns:
        busiest = f"topk({CAMPAIGNS_MAX}, sum by (campaign) (tilbud_decisions_total))"
        campaigns = [each.legend for each in Asker(url, {}).ask(busiest, "{{campaign}}")]
    drawn = []
    for name in sorted(file.stem for file in DASHBOARDS.glob("*.json")):
        variables = {variable["name"] for variable in load(name)["templating"]["list"]}
        for campaign in campaigns if "campaign" in variables else [""]:
            file = out / (f"{name}-{campaign}.png" if campaign else f"{name}.png")
            half = file.with_suffix(".part")
            asker = Asker(url, chosen | ({"campaign": campaign} if campaign else {}))
            draw(name, asker, from_s=from_s, until_s=until_s).savefig(half, format="png")
            drawn.append(half.replace(file))
    return drawn


def main(words: Sequence[str] | None = None) -> None:
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser(description="Draw the dashboards from a live Prometheus, as PNG.")
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", help="its address")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--campaign", action="append", default=[], help="only this one; repeatable")
    parser.add_argument("--window", default="5m", help="over how long rewards are averaged")
    parser.add_argument("--rate-interval", default="1m", help="at least four scrapes")
    parser.add_argument("--last-s", type=float, default=900.0, help="how far back to look, in seconds")
    asked = parser.parse_args(words)
    now = time.time()
    drawn = draw_all(
        asked.prometheus,
        asked.out,
        campaigns=asked.campaign,
        choice={"window": asked.window, "__rate_interval": asked.rate_interval},
        from_s=now - asked.last_s,
        until_s=now,
    )
    for file in drawn:
        print(file)  # noqa: T201 - to a person


if __name__ == "__main__":
    main()
