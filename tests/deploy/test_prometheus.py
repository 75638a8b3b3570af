"""Prometheus takes what deploy/prometheus has, and every alert is proven, explained and fed."""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conftest import Serve
from tests.e2e.campaigns import SLOW

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "deploy" / "prometheus"
RUNBOOK = ROOT / "deploy" / "RUNBOOK.md"
TESTS = sorted((HERE / "tests").glob("*.yml"))
SEVERITIES = {"page", "ticket"}
TOOL_S = 300.0
SUMMARY_CHARS_MAX = 120  # as written, names and values left open
_METRIC = re.compile(r"(?<![\w:])(?:tilbud|process)_\w+(?![\w:])")
_RECORDED = re.compile(r"\b\w+:tilbud_\w+:\w+\b")
_TYPE = re.compile(r"^# TYPE (\S+) (\S+)$", re.MULTILINE)
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count")}


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _groups() -> list[dict[str, Any]]:
    return [group for path in sorted((HERE / "rules").glob("*.yml")) for group in _read(path)["groups"]]


RULES = [rule for group in _groups() for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=TOOL_S, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"


def test_prometheus_takes_configuration_and_rules(promtool: Path) -> None:
    """Promtool finds no fault in the configuration, nor in the rules it names."""
    _run(promtool, "check", "config", "prometheus.yml")
    assert _read(HERE / "prometheus.yml")["rule_files"] == ["rules/*.yml"]
    _run(promtool, "check", "rules", *sorted((HERE / "rules").glob("*.yml")))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_and_are_silent_as_told(promtool: Path, path: Path, tmp_path: Path) -> None:
    """Each alert with its words on made-up series where it must fire, and none where it must not."""
    _run(promtool, "test", "rules", _with_its_rules(path, tmp_path))


def _with_its_rules(path: Path, directory: Path) -> Path:
    """Copy a test beside the rules it judges and those they ask: all others would take most of its time."""
    content = _read(path)
    needed = {case["alertname"] for test in content["tests"] for case in test["alert_rule_test"]}
    needed |= set(_RECORDED.findall(path.read_text(encoding="utf-8")))
    while True:
        rules = [rule for rule in RULES if (rule.get("record") or rule["alert"]) in needed]
        asked = {name for rule in rules for name in _RECORDED.findall(rule["expr"])}
        if asked <= needed:
            break
        needed |= asked
    groups = [group | {"rules": [rule for rule in group["rules"] if rule in rules]} for group in _groups()]
    (directory / "rules.yml").write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")
    copy = directory / path.name
    copy.write_text(yaml.safe_dump(content | {"rule_files": ["rules.yml"]}), encoding="utf-8")
    return copy


def test_every_alert_is_tested_firing_and_silent() -> None:
    """In a test that is called so; and every group is evaluated in order, recorded ones first."""
    seen: dict[str, set[str]] = defaultdict(set)
    groups = [group["name"] for group in _groups()]
    for path in TESTS:
        content = _read(path)
        assert sorted(content["group_eval_order"]) == sorted(groups), path.name
        assert content["group_eval_order"] == sorted(
            content["group_eval_order"], key=lambda name: "alerts" in name
        ), path.name
        for test in content["tests"]:
            for case in test["alert_rule_test"]:
                says = "fires" if case["exp_alerts"] else "is silent"
                assert test["name"].startswith(f"{case['alertname']} {says}"), test["name"]
                seen[case["alertname"]].add(says)
    assert dict(seen) == {name: {"fires", "is silent"} for name in ALERTS}


def test_every_alert_says_how_bad_it_is_and_where_to_read_on() -> None:
    """A severity, a summary, a description, and a link to a section of the runbook; no section without."""
    titles = re.findall(r"^#+ (Tilbud\w+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(titles) == sorted(ALERTS)
    for name, alert in ALERTS.items():
        assert alert["labels"]["severity"] in SEVERITIES, name
        said = alert["annotations"]
        assert said.keys() == {"summary", "description", "runbook_url"}, name
        assert len(said["summary"]) <= SUMMARY_CHARS_MAX, name
        assert said["runbook_url"] == f"deploy/RUNBOOK.md#{name.lower()}", name


def test_every_metric_of_a_rule_is_exported(serve: Serve) -> None:
    """By a running service, under that name; and what rules ask of rules, a rule records."""
    exported = {
        name + suffix
        for name, kind in _TYPE.findall(serve(SLOW).get("/metrics")[1])
        for suffix in _SUFFIXES.get(kind, ("",))
    }
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    for rule in RULES:
        expression = re.sub(r'"[^"]*"', '""', rule["expr"])
        named = set(_METRIC.findall(expression))
        assert named <= exported, rule
        assert set(_RECORDED.findall(expression)) <= recorded, rule
        assert named or _RECORDED.search(expression) or "up{" in expression, rule
