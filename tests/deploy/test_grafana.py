"""The dashboards are what their source says, and each panel tells what it shows."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from asking import DASHBOARDS, Asker, Series, filled, load, panels
from tilbud.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
NO_MATPLOTLIB = "no matplotlib here; `pip install --editable '.[watch]'` gets it"
NAMES = ("campaign", "learning", "service")
UNITS = {"none", "short", "percentunit", "s", "bytes", "reqps", "cps"}
CHOSEN = {"job": ".+", "instance": ".+", "campaign": "shop", "window": "1h", "__rate_interval": "1m"}
SAMPLE = re.compile(r"_(?:total|bucket|sum|count)$")


def _expressions() -> list[str]:
    return [target["expr"] for name in NAMES for panel in panels(load(name)) for target in panel["targets"]]


def test_the_committed_dashboards_are_what_their_source_writes(tmp_path: Path) -> None:
    """Each file, byte for byte; if not, `python deploy/grafana/build.py` mends it."""
    subprocess.run([sys.executable, GRAFANA / "build.py", tmp_path], check=True, timeout=60)
    written = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert written == {file.name: file.read_text() for file in DASHBOARDS.iterdir()}
    assert sorted(written) == [f"{name}.json" for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_says_what_it_shows(name: str) -> None:
    """A title, a sentence, a unit, a query with a legend, each title once on a page."""
    shown = list(panels(load(name)))
    assert len({panel["title"] for panel in shown}) == len(shown)
    for panel in shown:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert panel["targets"], panel["title"]
        assert all(target["legendFormat"] and target["expr"] for target in panel["targets"]), panel["title"]


@pytest.mark.parametrize("name", NAMES)
def test_panels_fill_the_page_without_covering_each_other(name: str) -> None:
    """Every place of the grid has at most one panel, and none hangs over the edge."""
    taken: set[tuple[int, int]] = set()
    for panel in load(name)["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_has_the_variables_its_queries_use(name: str) -> None:
    """None is missing, and a reader is offered none that changes nothing."""
    dashboard = load(name)
    offered = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard)))
    assert used - {"__rate_interval", "__all"} == offered


def test_every_metric_of_the_service_is_on_a_panel() -> None:
    """Or in a rule that a panel asks: what is exported and shown nowhere would be found by nobody."""
    registry = CollectorRegistry()
    Metrics(registry, version="1", vw_version="2")
    exported = {family.name for family in registry.collect() if family.name.startswith("tilbud_")}
    groups = yaml.safe_load((ROOT / "deploy/prometheus/rules/recording.yml").read_text())["groups"]
    recorded = {
        rule["record"]: rule["expr"] for group in groups for rule in group["rules"] if "record" in rule
    }
    shown = [filled(expr, CHOSEN) for expr in _expressions()]
    shown += [recorded[name] for expr in shown for name in re.findall(r"\w+:tilbud_\w+:\w+", expr)]
    used = {SAMPLE.sub("", word) for expr in shown for word in re.findall(r"tilbud_\w+", expr)}
    assert exported - used == set()


def test_a_variable_nobody_chose_is_an_error() -> None:
    """It is not taken for a metric without data."""
    assert all("$" not in filled(expr, CHOSEN) for expr in _expressions())
    with pytest.raises(KeyError):
        filled("rate(metric[$window])", {})


def test_provisioning_names_what_there_is() -> None:
    """The data source knows how often Prometheus scrapes; the folder is where compose mounts it."""
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["global"][
        "scrape_interval"
    ]
    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/tilbud.yaml").read_text())["datasources"]
    [provider] = yaml.safe_load((GRAFANA / "provisioning/dashboards/tilbud.yaml").read_text())["providers"]
    grafana = yaml.safe_load((ROOT / "deploy/docker/compose.yaml").read_text())["services"]["grafana"]
    assert source["jsonData"]["timeInterval"] == scraped
    assert source["url"].removeprefix("$") in grafana["environment"]
    assert f"../grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]


@pytest.mark.parametrize(
    ("value", "unit", "decimals", "said"),
    [
        (0.0, "s", None, "0 s"),
        (0.00025, "s", None, "250 µs"),
        (90.0, "s", None, "1.5 min"),
        (64 * 2**20, "bytes", None, "64 MiB"),
        (0.0, "bytes", None, "0 B"),
        (0.9995, "percentunit", 2, "99.95 %"),
        (12_345.0, "none", None, "12,345"),
        (12_345.0, "short", None, "12.3 K"),
        (0.25, "short", None, "0.25"),
        (-0.5, "short", None, "-0.5"),
        (7.0, "cps", 1, "7.0 /s"),
        (math.nan, "s", None, "–"),
    ],
)
def test_pictures_write_values_in_their_unit(
    value: float, unit: str, decimals: int | None, said: str
) -> None:
    """As a person reads them."""
    marks = pytest.importorskip("marks", reason=NO_MATPLOTLIB)
    assert marks.written(value, unit, decimals) == said


def test_pictures_draw_every_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind, with gaps and without data: the page has all titles, and says where there is no data."""
    pictures = pytest.importorskip("pictures", reason=NO_MATPLOTLIB)
    labels = {"le": "+Inf", "instance": "a", "version": "1", "offer": "one"}

    def some(self: Asker, expr: str, legend: str, **_: Any) -> list[Series]:
        if "paused" in expr:
            return []
        return [Series(legend, labels, ((1.0, math.nan), (2.0, 0.5), (3.0, 0.7)))]

    monkeypatch.setattr(Asker, "ask", some)
    monkeypatch.setattr(Asker, "ask_range", some)
    for name in NAMES:
        figure = pictures.draw(name, Asker("", CHOSEN), from_s=0.0, until_s=3.0)
        texts = [" ".join(text.get_text().split()) for text in figure.texts]
        empty = [panel for panel in panels(load(name)) if "tilbud_paused" in panel["targets"][0]["expr"]]
        assert {panel["title"] for panel in panels(load(name))} <= set(texts)
        assert {" ".join(pictures.caption(panel)) for panel in panels(load(name))} <= set(texts)
        assert {panel["fieldConfig"]["defaults"]["noValue"] for panel in empty} <= set(texts)
        assert len(figure.axes) == len(list(panels(load(name)))) - len(empty)


@pytest.mark.parametrize("name", NAMES)
def test_captions_have_room(name: str) -> None:
    """The first sentence of a description stands under the title of each panel, in a few lines."""
    pictures = pytest.importorskip("pictures", reason=NO_MATPLOTLIB)
    for panel in panels(load(name)):
        lines = pictures.caption(panel)
        assert lines[-1].endswith("."), panel["title"]
        assert len(lines) <= pictures.CAPTION_LINES_MAX, panel["title"]


@pytest.mark.parametrize("name", ["learning", "campaign"])
def test_an_interval_is_a_row_of_one_table(name: str) -> None:
    """Grafana calls an answer by its query's refId: all are renamed, and rows sorted by what is estimated."""
    tables = [panel for panel in panels(load(name)) if panel["targets"][0]["refId"] == "value"]
    assert tables
    for panel in tables:
        merge, organize, order = panel["transformations"]
        renamed = organize["options"]["renameByName"]
        assert merge["id"] == "merge"
        assert list(renamed) == [f"Value #{target['refId']}" for target in panel["targets"]]
        assert order["options"]["sort"] == [{"field": renamed["Value #value"], "desc": True}]


def test_no_reward_is_compared_without_its_interval() -> None:
    """Lift, lead and verdict have an interval in them, offers are ranked by what everybody would bring."""
    learning = {panel["title"]: panel for panel in panels(load("learning"))}
    for title in ("Lift over control", "Lift over time", "Lead over control"):
        legends = [target["legendFormat"] for target in learning[title]["targets"]]
        assert [legend.partition(" ")[2] for legend in legends] == ["", "at least", "at most"], title
    assert [target["refId"] for target in learning["Value by offer"]["targets"]][:2] == ["value", "error"]
    verdicts = learning["Does it earn more than control?"]["fieldConfig"]["defaults"]["mappings"]
    words = {option["text"] for mapping in verdicts for option in mapping["options"].values()}
    assert words == {"worse", "not yet", "better"}


def test_watching_ends_all_it_started(prometheus: Path, tmp_path: Path) -> None:
    """It says where to look, and Ctrl-C ends it with status 0, a last drawing and nothing left running."""
    pytest.importorskip("matplotlib", reason=NO_MATPLOTLIB)
    anywhere = [f"--{option}=127.0.0.1:0" for option in ("listen", "metrics", "prometheus")]
    with subprocess.Popen(
        [sys.executable, GRAFANA / "watch.py", "--out", tmp_path / "out", *anywhere],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(tmp_path)},
    ) as watching:  # fmt: skip
        assert watching.stdout is not None
        said = ""
        while "pictures " not in said:
            line = watching.stdout.readline()
            assert line, said
            said += line
        addresses = re.findall(r"http://[\w.:]+/(?:metrics|api/v1/alerts)", said)
        assert len(addresses) == 2
        for address in addresses:
            urllib.request.urlopen(address, timeout=60).close()
        watching.send_signal(signal.SIGINT)
        said += watching.communicate(timeout=120)[0]
    assert watching.returncode == 0, said
    assert (tmp_path / "out" / "service.png").read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    for address in addresses:
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(address, timeout=60)
