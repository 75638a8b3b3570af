"""What a dashboard asks, without Grafana: its panels' queries, variables filled in, put to a Prometheus.

What holds: it reads the JSON that Grafana reads, so what is asked is what Grafana would ask. An answer that
is an error, or a variable nobody filled in, is raised, never taken for no data.
"""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]
DASHBOARDS = Path(__file__).parent / "dashboards"
_TIMEOUT_S = 30.0
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a panel: its legend, and (seconds since 1970, value) in order, with NaN."""

    legend: str
    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Asker:
    """A Prometheus at `url`, and what the reader chose: a value for each variable, by its name."""

    url: str
    chosen: Mapping[str, str]

    def ask(self, expr: str, legend: str) -> list[Series]:
        """Return what an expression gives now."""
        return _series(self._get("query", query=filled(expr, self.chosen)), legend)

    def ask_range(
        self, expr: str, legend: str, *, from_s: float, until_s: float, step_s: float
    ) -> list[Series]:
        """Return what an expression gave between two times, in seconds since 1970."""
        query = filled(expr, self.chosen)
        answer = self._get(
            "query_range", query=query, start=f"{from_s:.3f}", end=f"{until_s:.3f}", step=f"{step_s:g}"
        )
        return _series(answer, legend)

    def _get(self, path: str, **arguments: str) -> list[Json]:
        address = f"{self.url.rstrip('/')}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
        try:
            with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as response:
                result: list[Json] = json.load(response)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"{arguments['query']}: {error.read().decode()}") from error
        return result


def load(name: str) -> Json:
    """Return one of the dashboards, such as `service`."""
    dashboard: Json = json.loads((DASHBOARDS / f"{name}.json").read_text(encoding="utf-8"))
    return dashboard


def panels(dashboard: Json) -> Iterator[Json]:
    """Yield the panels that show something, in order."""
    return (panel for panel in dashboard["panels"] if panel["type"] != "row")


def filled(expr: str, chosen: Mapping[str, str]) -> str:
    """Return an expression with the value of each variable; KeyError on one nobody chose."""
    return _VARIABLE.sub(lambda found: chosen[found[1] or found[2]], expr)


def _series(result: list[Json], legend: str) -> list[Series]:
    return [
        Series(
            _LABEL.sub(lambda found: each["metric"].get(found[1], ""), legend).strip(),  # noqa: B023 - used at once
            each["metric"],
            tuple((float(at), float(value)) for at, value in each.get("values") or [each["value"]]),
        )
        for each in result
    ]
