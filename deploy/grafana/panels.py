"""The words dashboards are written in, and the JSON that Grafana reads them as.

What holds: every panel has a unit, a description and a legend; panels stand side by side in the order they
are written, in rows of 24 columns; the same dashboard gives the same JSON, which Grafana reads from version
10 on. What it does not do: say which panels there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["timeseries", "stat", "bargauge", "heatmap", "table"]
Json = dict[str, Any]

PER_SECOND = "cps"
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
}


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of Prometheus, and what each series is called: `{{label}}` stands for its value."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `unit` is Grafana's name of it; width and height are Grafana's columns and rows."""

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
) -> Panel:
    """Return one number."""
    return Panel(
        title,
        description,
        unit,
        [Query(expr, title)],
        kind="stat",
        width=4,
        height=4,
        decimals=decimals,
        red_below=red_below,
        red_from=red_from,
        minimum=minimum,
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
    defaults: Json = {"unit": panel.unit, "thresholds": _thresholds(panel)}
    for name, bound in (("min", panel.minimum), ("max", panel.maximum), ("decimals", panel.decimals)):
        if bound is not None:
            defaults[name] = bound
    told: Json = {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
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
    elif panel.kind in {"stat", "bargauge"}:
        defaults["color"] = {"mode": "thresholds"}
    elif panel.kind == "heatmap":
        told["options"] = told["options"] | {"yAxis": {"unit": panel.unit}}
    elif panel.kind == "table":
        hidden = {"excludeByName": {"Time": True, "Value": True}}
        told["transformations"] = [{"id": "organize", "options": hidden}]
    return told


def _thresholds(panel: Panel) -> Json:
    steps: list[Json] = [{"color": "green" if panel.red_below is None else "red", "value": None}]
    if panel.red_below is not None:
        steps.append({"color": "green", "value": panel.red_below})
    if panel.red_from is not None:
        steps.append({"color": "red", "value": panel.red_from})
    return {"mode": "absolute", "steps": steps}


def _target(kind: Kind, number: int, query: Query) -> Json:
    instant = kind in {"bargauge", "table"}
    return {
        "refId": chr(ord("A") + number),
        "datasource": _SOURCE,
        "expr": query.expr,
        "legendFormat": query.legend,
        "format": kind if kind in {"heatmap", "table"} else "time_series",
        "instant": instant,
        "range": not instant,
    }
