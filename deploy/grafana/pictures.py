"""Draw the dashboards without Grafana: `python deploy/grafana/pictures.py --prometheus URL --out FOLDER`.

What holds: one PNG for each dashboard, with every panel where Grafana puts it, asked of a live Prometheus as
Grafana asks, in its unit and with its legend. A panel without data says so; a query that fails ends the
drawing and is named. What it does not do: look like Grafana in detail.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from textwrap import shorten

import matplotlib as mpl
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import LinearLocator, MaxNLocator

from asking import DASHBOARDS, Asker, Json, Series, load

mpl.use("Agg")

POINTS = 200
CAMPAIGNS_MAX = 5
LEGENDS_MAX = 14
_LEGENDS_WIDE, _WITH_COMMAS = 6, 1000
_COLUMN_INCHES, _GRID_ROW_INCHES, _DPI = 0.72, 0.36, 100
_INK, _FAINT, _GREEN, _RED = "#222222", "#888888", "#2a7f3f", "#c0322b"
_SCALES = {
    "s": ((1e-6, "µs"), (1e-3, "ms"), (1.0, "s"), (60.0, "min"), (3600.0, "h"), (86_400.0, "d")),
    "bytes": ((1.0, "B"), (2.0**10, "KiB"), (2.0**20, "MiB"), (2.0**30, "GiB"), (2.0**40, "TiB")),
    "short": ((1.0, ""), (1e3, "K"), (1e6, "M")),
}
_SUFFIXES = {"reqps": " req/s", "cps": " /s", "none": "", "percentunit": " %"}


def written(value: float, unit: str, decimals: int | None = None) -> str:
    """Return a value as a person reads it, in Grafana's unit of that name."""
    if not math.isfinite(value):
        return "–"
    suffix = _SUFFIXES.get(unit, "")
    if unit in _SCALES:
        size, name = _scale(value, unit)
        value, suffix = value / size, f" {name}" if name else ""
    elif unit == "percentunit":
        value *= 100
    text = f"{value:,.3g}" if abs(value) < _WITH_COMMAS else f"{value:,.0f}"
    return f"{text if decimals is None else f'{value:,.{decimals}f}'}{suffix}"


def _scale(value: float, unit: str) -> tuple[float, str]:
    """Return the largest scale that a value fills; 0 is written in the plain one."""
    plain = next(scale for scale in _SCALES[unit] if scale[0] == 1)
    fits = [scale for scale in _SCALES[unit] if abs(value) >= scale[0]]
    return (fits or _SCALES[unit])[-1 if fits else 0] if value else plain


def draw(name: str, asker: Asker, *, from_s: float, until_s: float) -> Figure:
    """Draw one dashboard over a time range, in seconds since 1970."""
    dashboard = load(name)
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    figure = Figure(figsize=(24 * _COLUMN_INCHES, (rows + 2) * _GRID_ROW_INCHES), dpi=_DPI)
    span = f"{_clock(from_s)} to {_clock(until_s)} UTC"
    chosen = ", ".join(f"{key} {asker.chosen[key]}" for key in ("campaign", "window") if key in asker.chosen)
    figure.text(0.01, 1 - 1 / (rows + 2), f"{dashboard['title']}   {span}   {chosen}", va="center", size=13)
    for panel in dashboard["panels"]:
        left, bottom, width, height = box = _box(panel["gridPos"], rows)
        if panel["type"] == "row":
            figure.text(0.01, bottom + height * 0.3, panel["title"], weight="bold", size=12)
            continue
        figure.text(left + 0.01, bottom + height - 0.25 / (rows + 2), panel["title"], va="top", size=9.5)
        series = _asked(panel, asker, from_s, until_s)
        if not any(math.isfinite(value) for each in series for _, value in each.points):
            figure.text(left + width / 2, bottom + height / 2, "no data", ha="center", color=_FAINT, size=12)
            continue
        axes = figure.add_axes(_inside(box, panel))
        _DRAW[panel["type"]](axes, panel, series)
        if panel["type"] in {"timeseries", "heatmap"}:
            axes.set_xlim(*map(_moment, (from_s, until_s)))  # type: ignore[arg-type]  # times are taken
    return figure


def _moment(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)


def _clock(at_s: float) -> str:
    return _moment(at_s).strftime("%H:%M:%S")


def _asked(panel: Json, asker: Asker, from_s: float, until_s: float) -> list[Series]:
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
    ]


def _box(at: Json, rows: int) -> tuple[float, float, float, float]:
    """Left, bottom, width and height of a place in the grid, as shares of the figure."""
    high = rows + 2
    return at["x"] / 24, 1 - (at["y"] + at["h"] + 2) / high, at["w"] / 24, at["h"] / high


def _inside(box: tuple[float, float, float, float], panel: Json) -> tuple[float, float, float, float]:
    """The place of the axes in a panel's box: less room for title, ticks and legend."""
    left, bottom, width, height = box
    if panel["type"] in {"stat", "table"}:
        return left + 0.01, bottom + height * 0.08, width - 0.02, height * 0.68
    under = 0.30 if panel["type"] == "timeseries" else 0.12
    side = 0.13 if panel["type"] == "bargauge" else 0.04
    return left + side, bottom + height * under, width - side - 0.01, height * (0.86 - under)


def _unit(panel: Json) -> tuple[str, int | None]:
    defaults = panel["fieldConfig"]["defaults"]
    return defaults["unit"], defaults.get("decimals")


def _timeseries(axes: Axes, panel: Json, series: list[Series]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    unit, _ = _unit(panel)
    colours = colormaps["tab10" if len(series) <= 10 else "tab20"].colors  # type: ignore[attr-defined]  # noqa: PLR2004 - the palettes' sizes
    below: dict[float, float] = {}
    for number, each in enumerate(series):
        colour = colours[number % len(colours)]
        times = [_moment(at) for at, _ in each.points]
        values = [value for _, value in each.points]
        legend = shorten(f"{each.legend}: {written(values[-1], unit)}", 46, placeholder="…")
        if defaults["custom"]["stacking"]["mode"] == "normal":
            lows = [below.get(at, 0.0) for at, _ in each.points]
            highs = [
                low + (value if math.isfinite(value) else 0.0)
                for low, value in zip(lows, values, strict=True)
            ]
            below.update((at, high) for (at, _), high in zip(each.points, highs, strict=True))
            axes.fill_between(times, lows, highs, color=colour, alpha=0.75, linewidth=0, label=legend)  # type: ignore[arg-type]  # times are taken
        else:
            marker = "o" if sum(map(math.isfinite, values)) == 1 else ""
            axes.plot(times, values, color=colour, linewidth=1.2, marker=marker, label=legend)  # type: ignore[arg-type]  # times are taken
    low, high = axes.get_ylim()
    axes.set_ylim(defaults.get("min", low), defaults.get("max", high))
    _clock_below(axes)
    _units_beside(axes, unit)
    axes.tick_params(labelsize=7)
    axes.grid(color="#dddddd", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[:LEGENDS_MAX],
        labels[:LEGENDS_MAX],
        loc="upper left",
        bbox_to_anchor=(-0.03 / axes.get_position().width, -0.12),
        ncols=2 if len(labels) <= _LEGENDS_WIDE else 3,
        fontsize=6.5,
        frameon=False,
        columnspacing=1.0,
        handlelength=1.0,
        labelspacing=0.25,
    )


def _clock_below(axes: Axes) -> None:
    axes.xaxis.set_major_locator(LinearLocator(max(2, round(axes.get_position().width * 18))))
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M:%S"))  # type: ignore[no-untyped-call]  # the library's


def _units_beside(axes: Axes, unit: str) -> None:
    """Put the ticks at round numbers of what they are written in: 64 MiB, not 61.04 MiB."""
    low, high = axes.get_ylim()
    size = _scale(high, unit)[0] if unit in _SCALES else 1.0
    ticks = [
        tick * size for tick in MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low / size, high / size)
    ]
    axes.set_yticks([tick for tick in ticks if low <= tick <= high])
    axes.yaxis.set_major_formatter(lambda value, _: written(value, unit))


def _stat(axes: Axes, panel: Json, series: list[Series]) -> None:
    unit, decimals = _unit(panel)
    values = [value for _, value in series[0].points]
    newest = next(value for value in reversed(values) if math.isfinite(value))
    axes.set_axis_off()
    if len(values) > 1:
        axes.fill_between(range(len(values)), values, min(0.0, *values), color=_FAINT, alpha=0.15)
    axes.text(0.5, 0.45, written(newest, unit, decimals), transform=axes.transAxes, ha="center", va="center",
              size=20, color=_colour(panel, newest))  # fmt: skip


def _colour(panel: Json, value: float) -> str:
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return _RED if reached[-1] == "red" else _GREEN


def _bargauge(axes: Axes, panel: Json, series: list[Series]) -> None:
    unit, decimals = _unit(panel)
    bars = [(shorten(each.legend, 28, placeholder="…"), each.points[-1][1]) for each in reversed(series)]
    drawn = axes.barh([legend for legend, _ in bars], [value for _, value in bars], color=_GREEN, alpha=0.8)
    axes.bar_label(drawn, [written(value, unit, decimals) for _, value in bars], padding=3, fontsize=7.5)
    axes.margins(x=0.15)
    axes.tick_params(labelsize=7.5)
    axes.xaxis.set_visible(False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _heatmap(axes: Axes, panel: Json, series: list[Series]) -> None:
    """Prometheus counts what is up to each bound; what lies between two is the difference."""
    unit, _ = _unit(panel)
    buckets = sorted(series, key=lambda each: float(each.labels["le"]))
    times = sorted({at for each in buckets for at, _ in each.points})
    cells: list[list[float]] = []
    below = dict.fromkeys(times, 0.0)
    for bucket in buckets:
        up_to = {at: value if math.isfinite(value) else 0.0 for at, value in bucket.points}
        cells.append([max(0.0, up_to.get(at, below[at]) - below[at]) for at in times])
        below |= up_to
    moments = [_moment(at) for at in times]
    axes.pcolormesh(moments, range(len(buckets)), cells, cmap="Blues", shading="nearest")  # type: ignore[arg-type]  # times are taken
    axes.set_yticks(range(len(buckets)), [_bound(bucket.labels["le"], unit) for bucket in buckets])
    _clock_below(axes)
    axes.tick_params(labelsize=7)


def _bound(text: str, unit: str) -> str:
    return "more" if text == "+Inf" else f"≤ {written(float(text), unit)}"


def _table(axes: Axes, _: Json, series: list[Series]) -> None:
    axes.set_axis_off()
    names = sorted({name for each in series for name in each.labels})
    rows = [[shorten(each.labels.get(name, ""), 24, placeholder="…") for name in names] for each in series]
    table = axes.table(rows, colLabels=names, loc="upper left", cellLoc="left", edges="horizontal")
    table.auto_set_font_size(False)
    table.set_fontsize(7.5)


_DRAW: dict[str, Callable[[Axes, Json, list[Series]], None]] = {
    "timeseries": _timeseries, "stat": _stat, "bargauge": _bargauge, "heatmap": _heatmap, "table": _table,
}  # fmt: skip


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
