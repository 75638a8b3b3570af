"""What stands in a panel's axes: lines with their bands, numbers, intervals, bars, heat and tables.

What holds: each value is written in the panel's unit, and an estimate with its interval; what stands in a
legend is in the picture. What it does not do: ask, or say where a panel is; that is for pictures.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from textwrap import shorten
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter
from matplotlib.lines import Line2D
from matplotlib.ticker import LinearLocator, MaxNLocator

from asking import Json, Series
from panels import AT_LEAST, AT_MOST, ERROR, VALUE

LEGENDS_MAX = 14
SMALL = 6.5
FAINT = "#777777"
_LEGENDS_WIDE, _WITH_COMMAS = 6, 1000
_INK, _GREEN, _RED, _BLUE = "#222222", "#2a7f3f", "#c0322b", "#1f77b4"
_COLOURS = {"text": _INK, "green": _GREEN, "red": _RED}
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


def kind(panel: Json) -> str:
    """Return what is drawn of a panel: Grafana's type of it, but an interval where Grafana has a table."""
    columns = {target["refId"] for target in panel["targets"]}
    return "interval" if {VALUE, ERROR} <= columns else str(panel["type"])


def moment(at_s: float) -> datetime:
    """Return a time in seconds since 1970 as what axes take."""
    return datetime.fromtimestamp(at_s, UTC)


def _unit(panel: Json) -> tuple[str, int | None]:
    defaults = panel["fieldConfig"]["defaults"]
    return defaults["unit"], defaults.get("decimals")


def _timeseries(axes: Axes, panel: Json, series: list[Series]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    unit, _ = _unit(panel)
    edges = {each.legend: each for each in series if each.legend.endswith((f" {AT_LEAST}", f" {AT_MOST}"))}
    series = [each for each in series if each.legend not in edges]
    colours = colormaps["tab10" if len(series) <= 10 else "tab20"].colors  # type: ignore[attr-defined]  # noqa: PLR2004 - the palettes' sizes
    below: dict[float, float] = {}
    for number, each in enumerate(series):
        colour = colours[number % len(colours)]
        times = [moment(at) for at, _ in each.points]
        values = [value for _, value in each.points]
        low, high = (edges.get(f"{each.legend} {edge}") for edge in (AT_LEAST, AT_MOST))
        legend = _legend(each, low, high, unit)
        if defaults["custom"]["stacking"]["mode"] == "normal":
            lows = [below.get(at, 0.0) for at, _ in each.points]
            highs = [
                low + (value if math.isfinite(value) else 0.0)
                for low, value in zip(lows, values, strict=True)
            ]
            below.update((at, high) for (at, _), high in zip(each.points, highs, strict=True))
            axes.fill_between(times, lows, highs, color=colour, alpha=0.75, linewidth=0, label=legend)  # type: ignore[arg-type]  # times are taken
        else:
            if low and high:
                axes.fill_between(times, *_edges(each, low, high), color=colour, alpha=0.18, linewidth=0)  # type: ignore[arg-type]  # times are taken
            marker = "o" if sum(map(math.isfinite, values)) == 1 else ""
            axes.plot(times, values, color=colour, linewidth=1.2, marker=marker, label=legend)  # type: ignore[arg-type]  # times are taken
    _bound_heights(axes, defaults, series, list(edges.values()))
    _clock_below(axes)
    _units_beside(axes, unit)
    axes.tick_params(labelsize=7)
    axes.grid(color="#dddddd", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = _legends(axes, series)
    axes.legend(
        handles,
        labels,
        loc="upper left",
        bbox_to_anchor=(-0.03 / axes.get_position().width, -0.12),
        ncols=2 if len(labels) <= _LEGENDS_WIDE else 3,
        fontsize=6.5,
        frameon=False,
        columnspacing=1.0,
        handlelength=1.0,
        labelspacing=0.25,
    )


def _legend(line: Series, low: Series | None, high: Series | None, unit: str) -> str:
    """Return what a line is called, with its newest number, and with its interval where it has one."""
    newest = written(line.points[-1][1], unit)
    if low and high:
        newest += f" ({written(low.points[-1][1], unit)} to {written(high.points[-1][1], unit)})"
    return shorten(f"{line.legend}: {newest}", 52, placeholder="…")


def _edges(line: Series, low: Series, high: Series) -> tuple[list[float], list[float]]:
    """Return the bounds at each time of a line; none where they are not known."""
    at_least, at_most = dict(low.points), dict(high.points)
    times = [at for at, _ in line.points]
    return [at_least.get(at, math.nan) for at in times], [at_most.get(at, math.nan) for at in times]


def _bound_heights(axes: Axes, defaults: Json, series: list[Series], edges: list[Series]) -> None:
    """Bound the axis as the panel says; where all is 0 say so, since the line is not to be seen."""
    low, high = _heights(series, edges) if edges else axes.get_ylim()
    if not any(value for each in series for _, value in each.points if math.isfinite(value)):
        low, high = 0.0, 1.0
        axes.text(0.5, 0.5, "0 all the time", transform=axes.transAxes, ha="center", color=FAINT, size=8)
        axes.yaxis.set_visible(False)
    if low < 0 < high and "min" not in defaults:
        axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.set_ylim(defaults.get("min", low), defaults.get("max", high))


def _heights(lines: list[Series], edges: list[Series]) -> tuple[float, float]:
    """Return bounds that have 0, all lines and the newest intervals in them: first ones may be far wider."""
    values = [
        0.0,
        *(value for each in lines for _, value in each.points),
        *(each.points[-1][1] for each in edges),
    ]
    finite = [value for value in values if math.isfinite(value)]
    room = 0.08 * (max(finite) - min(finite) or 1.0)
    return min(finite) - room, max(finite) + room


def _legends(axes: Axes, series: list[Series]) -> tuple[list[Any], list[str]]:
    """Return what stands in the legend: where there is no room for all, the largest, and how many more."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) <= LEGENDS_MAX:
        return list(handles), list(labels)
    newest = [each.points[-1][1] for each in series]
    order = sorted(range(len(labels)), key=lambda at: -math.inf if math.isnan(newest[at]) else newest[at])
    largest = sorted(order[1 - LEGENDS_MAX :])
    more = Line2D([], [], linestyle="")
    return (
        [*(handles[number] for number in largest), more],
        [*(labels[number] for number in largest), f"and {len(labels) - len(largest)} more"],
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
    axes.set_axis_off()
    newest = [next(value for _, value in reversed(each.points) if math.isfinite(value)) for each in series]
    if len(series) == 1:
        values = [value for _, value in series[0].points]
        if "mappings" not in panel["fieldConfig"]["defaults"]:
            axes.fill_between(range(len(values)), values, min(0.0, *values), color=FAINT, alpha=0.12)
        axes.text(0.5, 0.45, _worded(panel, newest[0]), transform=axes.transAxes, ha="center", va="center",
                  size=18, color=_colour(panel, newest[0]))  # fmt: skip
        return
    order = sorted(range(len(series)), key=newest.__getitem__)
    for place, number in enumerate(order):
        at, inner = (place + 0.5) / len(series), 0 < place < len(series) - 1
        axes.text(at, 0.5, _worded(panel, newest[number]), transform=axes.transAxes, ha="center", va="center",
                  size=18 if inner else 13, color=_INK if inner else FAINT)  # fmt: skip
        axes.text(at, 0.15, series[number].legend, transform=axes.transAxes, ha="center", va="center",
                  size=SMALL, color=FAINT)  # fmt: skip


def _mapping(panel: Json, value: float) -> Json:
    """Return the word that stands for a number, and its colour, or nothing."""
    defaults = panel["fieldConfig"]["defaults"]
    words: Json = next((each["options"] for each in defaults.get("mappings", [])), {})
    found: Json = words.get(f"{value:g}", {})
    return found


def _worded(panel: Json, value: float) -> str:
    return str(_mapping(panel, value).get("text", written(value, *_unit(panel))))


def _colour(panel: Json, value: float) -> str:
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return _COLOURS[_mapping(panel, value).get("color", reached[-1])]


def _interval(axes: Axes, panel: Json, series: list[Series]) -> None:
    """Draw each row as a point between whiskers, the largest value on top, its numbers beside it."""
    unit, decimals = _unit(panel)
    [counted] = {target["refId"] for target in panel["targets"]} - {VALUE, ERROR}
    columns: dict[str, dict[str, float]] = {}
    for each in series:
        row, column = next((each.legend[: -len(name) - 1], name) for name in (VALUE, ERROR, counted)
                           if each.legend.endswith(f" {name}"))  # fmt: skip
        columns.setdefault(row, {})[column] = each.points[-1][1]
    rows = sorted(
        ((row, found[VALUE], found[ERROR], found[counted]) for row, found in columns.items()
         if {VALUE, ERROR, counted} <= found.keys()),
        key=lambda row: row[1],
    )  # fmt: skip
    places = range(len(rows))
    axes.errorbar([row[1] for row in rows], places, xerr=[row[2] for row in rows], fmt="o", color=_BLUE,
                  markersize=4, capsize=3, linewidth=1.2)  # fmt: skip
    axes.set_yticks(places, [shorten(row[0], 24, placeholder="…") for row in rows])
    axes.set_ylim(-0.6, max(len(rows), 3) - 0.4)
    for place, (_, value, error, count) in zip(places, rows, strict=True):
        numbers = f"{written(value, unit, decimals)} ± {written(error, unit, decimals)}   {count:,.0f}"
        axes.text(1.02, place, numbers, transform=axes.get_yaxis_transform(), va="center", size=6.5)
    axes.text(
        1.02, 1.0, f"value ± 95 %, {counted}", transform=axes.transAxes, va="bottom", size=6, color=FAINT
    )
    axes.axvline(0, color=FAINT, linewidth=0.8)  # which is always in the picture
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(lambda tick, _: written(tick, unit))
    axes.tick_params(labelsize=7)
    axes.grid(axis="x", color="#dddddd", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)


def _bargauge(axes: Axes, panel: Json, series: list[Series]) -> None:
    unit, decimals = _unit(panel)
    bars = [(shorten(each.legend, 28, placeholder="…"), each.points[-1][1]) for each in reversed(series)]
    drawn = axes.barh([legend for legend, _ in bars], [value for _, value in bars], color=FAINT, alpha=0.6)
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
    if not any(map(any, cells)):
        axes.text(0.5, 0.5, "0 all the time", transform=axes.transAxes, ha="center", color=FAINT, size=8)
    moments = [moment(at) for at in times]
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


MARKS: dict[str, Callable[[Axes, Json, list[Series]], None]] = {
    "timeseries": _timeseries, "stat": _stat, "bargauge": _bargauge, "heatmap": _heatmap, "table": _table,
    "interval": _interval,
}  # fmt: skip
