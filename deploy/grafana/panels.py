"""The words dashboards are written in, and the JSON that Grafana reads them as.

What holds: every panel has a unit, a legend, a description, whose first sentence is its caption, and what it
says where there is no data; panels stand side by side in the order they are written, in rows of 24 columns;
the same dashboard gives the same JSON, which Grafana reads from version 10 on. What it does not do: say which
panels there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["timeseries", "stat", "bargauge", "heatmap", "table", "interval"]
Json = dict[str, Any]

PER_SECOND = "cps"
NO_DATA = "no data: nothing of this happened, or Prometheus did not scrape it, in the time shown"
NO_DECISION = "no decision in the time shown"
LOW_AT_FIRST = "It reads low until the service has run for as long as it looks back."
VALUE, ERROR, AT_LEAST, AT_MOST = "value", "error", "at least", "at most"
COLUMNS = 24
_SCHEMA = 38  # Grafana 10.0
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_NEWEST = {"calcs": ["lastNotNull"], "fields": "", "values": False}
_OPTIONS: dict[Kind, Json] = {
    "timeseries": {
        "legend": {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {"reduceOptions": _NEWEST, "colorMode": "value", "graphMode": "area", "textMode": "auto"},
    "bargauge": {"reduceOptions": _NEWEST, "displayMode": "basic", "orientation": "horizontal"},
    "heatmap": {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Blues", "steps": 64},
        "tooltip": {"mode": "single", "yHistogram": True},
    },
    "table": {"showHeader": True},
    "interval": {"showHeader": True},
}


_FORMATS: dict[Kind, str] = {"heatmap": "heatmap", "table": "table", "interval": "table"}


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of Prometheus, and what each series is called: `{{label}}` stands for its value."""

    expr: str
    legend: str
    column: str = ""
    """Of an interval: `value`, `error` (half its length), or what else is said of each row."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `unit` is Grafana's name of it; width and height are Grafana's columns and rows.

    An interval is a row for each value of a label: in Grafana a table, largest value first. A line of which
    `bands` has the name lies between two others, called as it is and `at least` or `at most`.
    """

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    kind: Kind = "timeseries"
    width: int = 8
    height: int = 8
    stacked: bool = False
    minimum: float | None = 0.0
    maximum: float | None = None
    decimals: int | None = None
    red_below: float | None = None
    red_from: float | None = None
    empty: str = NO_DATA
    bands: Sequence[str] = ()
    words: Mapping[int, tuple[str, str]] | None = None
    """What stands for a number, and its colour."""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Variable:
    """What a reader chooses above the panels: values of a label, or one of a few words."""

    name: str
    label: str
    query: str = ""
    """The label's values, as Grafana asks for them; with `words` nothing."""
    words: Sequence[str] = ()
    many: bool = False
    """Several values at once, all of them to begin with."""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page."""

    uid: str
    title: str
    description: str
    variables: Sequence[Variable]
    rows: Sequence[Row]
    span: str
    """How far back it looks to begin with, such as 1h."""


def stat(
    title: str,
    description: str,
    unit: str,
    expr: str,
    *,
    decimals: int | None = None,
    red_below: float | None = None,
    red_from: float | None = None,
    minimum: float | None = 0.0,
    empty: str = NO_DATA,
    width: int = 4,
) -> Panel:
    """Return one number."""
    return Panel(
        title,
        description,
        unit,
        [Query(expr, title)],
        kind="stat",
        width=width,
        height=4,
        decimals=decimals,
        red_below=red_below,
        red_from=red_from,
        minimum=minimum,
        empty=empty,
    )


def dashboard_json(dashboard: Dashboard) -> Json:
    """Return what Grafana imports."""
    link = {
        "type": "dashboards",
        "title": "Tilbud",
        "tags": ["tilbud"],
        "keepTime": True,
        "includeVars": True,
    }
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["tilbud"],
        "schemaVersion": _SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,  # one crosshair over all panels
        "refresh": "10s",
        "time": {"from": f"now-{dashboard.span}", "to": "now"},
        "links": [link | {"asDropdown": False, "icon": "external link"}],
        "templating": {"list": [source, *map(_variable_json, dashboard.variables)]},
        "panels": list(_placed(dashboard.rows)),
    }


def _variable_json(variable: Variable) -> Json:
    known = {"name": variable.name, "label": variable.label}
    if variable.words:
        first = variable.words[0]
        options = [{"text": word, "value": word, "selected": word == first} for word in variable.words]
        choice = {"text": first, "value": first}
        return known | {
            "type": "custom", "query": ",".join(variable.words), "options": options, "current": choice
        }  # fmt: skip
    asked: Json = {
        "type": "query",
        "datasource": _SOURCE,
        "definition": variable.query,
        "query": {"query": variable.query, "refId": variable.name},
        "refresh": 2,  # whenever the time range changes
        "sort": 1,
        "multi": variable.many,
        "includeAll": variable.many,
    }
    if variable.many:
        asked["current"] = {"text": ["All"], "value": ["$__all"]}
    return known | asked


def _placed(rows: Sequence[Row]) -> Iterator[Json]:
    """Lay panels side by side, and the next below where the row is full."""
    number, y = 0, 0
    for row in rows:
        number, x, below = number + 1, 0, y + 1
        at = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": at,
            "panels": [],
        }
        y += 1
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y = 0, below
            number += 1
            at = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            yield {"id": number, "gridPos": at} | _panel_json(panel)
            x, below = x + panel.width, max(below, y + panel.height)
        y = below


def _panel_json(panel: Panel) -> Json:
    defaults: Json = {"unit": panel.unit, "thresholds": _thresholds(panel), "noValue": panel.empty}
    for name, bound in (("min", panel.minimum), ("max", panel.maximum), ("decimals", panel.decimals)):
        if bound is not None:
            defaults[name] = bound
    told: Json = {
        "type": "table" if panel.kind == "interval" else panel.kind,
        "title": panel.title,
        "description": _description(panel),
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _OPTIONS[panel.kind],
        "targets": [_target(panel.kind, number, query) for number, query in enumerate(panel.queries)],
    }
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "fillOpacity": 60 if panel.stacked else 8,
            "showPoints": "auto",
            "stacking": {"mode": "normal" if panel.stacked else "none"},
        }
        told["fieldConfig"]["overrides"] = [*_bands(panel)]
    elif panel.kind in {"stat", "bargauge"}:
        defaults["color"] = {"mode": "thresholds"}
        if panel.kind == "stat" and (panel.words or len(panel.queries) > 1):
            told["options"] = told["options"] | {"graphMode": "none"}
    elif panel.kind == "heatmap":
        told["options"] = told["options"] | {"yAxis": {"unit": panel.unit}}
    elif panel.kind == "table":
        hidden = {"excludeByName": {"Time": True, "Value": True}}
        told["transformations"] = [{"id": "organize", "options": hidden}]
    elif panel.kind == "interval":
        told["transformations"] = _interval(panel)
        told["fieldConfig"]["overrides"] = [*_counts(panel)]
    if panel.words:
        words = {str(value): {"text": text, "color": color} for value, (text, color) in panel.words.items()}
        defaults["mappings"] = [{"type": "value", "options": words}]
    return told


def _description(panel: Panel) -> str:
    """Return what is said of a panel, and of a rate how it begins."""
    is_rate = panel.unit in {PER_SECOND, "reqps"}
    return f"{panel.description} {LOW_AT_FIRST}" if is_rate else panel.description


def _bands(panel: Panel) -> Iterator[Json]:
    """Yield how the lines that bound another are drawn: as the edges of an area."""
    for name in panel.bands:
        low, high = (f"{name} {edge}" for edge in (AT_LEAST, AT_MOST))
        thin: list[Json] = [{"id": "custom.lineWidth", "value": 0}]
        below: list[Json] = [{"id": "custom.fillBelowTo", "value": low}]
        yield {"matcher": {"id": "byName", "options": low}, "properties": thin}
        yield {"matcher": {"id": "byName", "options": high}, "properties": thin + below}


def _counts(panel: Panel) -> Iterator[Json]:
    """Yield how the columns beside an interval are written: they count something."""
    for query in panel.queries:
        if query.column not in {VALUE, ERROR}:
            whole: list[Json] = [{"id": "decimals", "value": 0}]
            yield {"matcher": {"id": "byName", "options": query.column}, "properties": whole}


def _interval(panel: Panel) -> list[Json]:
    """Return how answers become the rows of one table: joined, named by column, the largest value first."""
    shown = {ERROR: "± 95 %"}
    names = {f"Value #{query.column}": shown.get(query.column, query.column) for query in panel.queries}
    named = {"excludeByName": {"Time": True}, "renameByName": names}
    order = {"fields": {}, "sort": [{"field": VALUE, "desc": True}]}
    return [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": named},
        {"id": "sortBy", "options": order},
    ]


def _thresholds(panel: Panel) -> Json:
    """Return the colours of numbers: none where nothing is said to be good or bad."""
    judged = panel.red_below is not None or panel.red_from is not None
    good = "green" if judged else "text"
    steps: list[Json] = [{"color": good if panel.red_below is None else "red", "value": None}]
    if panel.red_below is not None:
        steps.append({"color": "green", "value": panel.red_below})
    if panel.red_from is not None:
        steps.append({"color": "red", "value": panel.red_from})
    return {"mode": "absolute", "steps": steps}


def _target(kind: Kind, number: int, query: Query) -> Json:
    instant = kind in {"bargauge", "table", "interval"}
    return {
        "refId": query.column or chr(ord("A") + number),
        "datasource": _SOURCE,
        "expr": query.expr,
        "legendFormat": query.legend,
        "format": _FORMATS.get(kind, "time_series"),
        "instant": instant,
        "range": not instant,
    }
