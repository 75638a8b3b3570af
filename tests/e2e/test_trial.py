"""`tilbud simulate FILE` tries any campaign in a service of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tilbud.campaigns.source import CONTACT_FILE
from tilbud.runtime.settings import SAMPLES

TILBUD = [sys.executable, "-m", "tilbud"]
SAMPLE_CAMPAIGNS = {file.stem for file in SAMPLES.glob("*.yaml") if file.name != CONTACT_FILE}
EVERYTHING = """
campaign: everything
time_zone: Asia/Tokyo
sticky: 1h
context:
  devices: [mobile]
  channels: [email]
  journey_stages: []
  events: [visit]
  features: {age: number, app: version, tier: category, vip: flag}
offers:
  - {id: a, places: [Oslo, Bergen], when: {age: {gt: 18}}}
  - {id: b, countries: ["NO"], languages: [nb], requires: {visit: 1h}}
  - {id: c, caps: [{times: 1, per: 30d}], when: {tier: {in: [gold, "1e3"]}, app: {ge: "10.2"}}}
  - {id: d, sensitive_topic: health}
  - {id: over, valid: {until: 2020-03-01}}
reward:
  window: 14d
  activation_window: 30d
  range: [-20, 500]
  outcomes:
    opened: {weight: 0, shows: true}
    order: 1
    complaint: {weight: -5, final: true}
variants:
  control: {share: 0.2, serves: fallback}
fallback: {id: none}
consent: required
"""


def tried(file: Path, *words: str, decisions: int = 300) -> str:
    """Try a campaign, well; return what was printed."""
    ran = subprocess.run(
        [*TILBUD, "simulate", file, "--decisions", str(decisions), *words],
        check=False, capture_output=True, text=True, timeout=120, env={**os.environ, "COLUMNS": "80"},
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"{decisions} decisions asked = {decisions} answered + 0 refused" in ran.stdout
    assert "Refused" not in ran.stdout
    assert "did not follow" not in ran.stdout
    assert max(map(len, ran.stdout.splitlines())) <= 80
    return ran.stdout


def test_a_first_campaign_is_tried_as_its_header_says(tmp_path: Path) -> None:
    """What `tilbud new` writes is tried, each offer is shown, and nothing is left behind."""
    subprocess.run([*TILBUD, "new", "spring-sale", "--in", tmp_path], check=True, capture_output=True)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    ran = subprocess.run(
        [*TILBUD, "simulate", tmp_path / "spring-sale.yaml", "--decisions", "400"],
        check=False, capture_output=True, text=True, timeout=120,
        env={**os.environ, "COLUMNS": "80", "TMPDIR": str(temporary), "TILBUD_DRAW_KEY": "no key"},
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    for offer in ("free-shipping", "ten-percent-off", "new-arrivals"):
        assert re.search(rf"│ {offer} +│ +[1-9][0-9.]*% │ +[1-9]", ran.stdout), ran.stdout
    assert "It got " in ran.stdout
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("name", sorted(SAMPLE_CAMPAIGNS))
def test_each_sample_is_tried(name: str) -> None:
    """Sticky, deferred activation, events, consent that is required, learning on settlement."""
    assert "It got " in tried(SAMPLES / f"{name}.yaml")


def test_a_campaign_of_everything_is_tried_with_delayed_outcomes(tmp_path: Path) -> None:
    """Windows of days, amounts, places, versions, a control group of fallbacks: outcomes count."""
    file = tmp_path / "everything.yaml"
    file.write_text(EVERYTHING)
    shown = tried(file, "--delay", "100")
    assert "window of 14d" in shown
    assert "Rules never let these be shown to the invented visitors: over." in shown
    assert "served_again" in shown
    assert re.search(r"outcomes sent = [1-9]\d* accepted", shown)


def test_an_interrupt_shows_what_there_is_and_ends_the_service(tmp_path: Path) -> None:
    """SIGTERM stops asking, as Ctrl-C does, and prints the tables; the process started for it is gone."""
    with subprocess.Popen(
        [*TILBUD, "simulate", SAMPLES / "shop.yaml", "--decisions", "1000000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as running:  # fmt: skip
        assert running.stdout is not None
        while "decisions" not in running.stdout.readline():
            pass
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        running.send_signal(signal.SIGTERM)
        shown, _ = running.communicate(timeout=120)
    assert running.returncode == 1
    assert "By offer" in shown
    assert "Ended early: interrupted." in shown
    assert children
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert not list(tmp_path.iterdir())


def test_a_bad_file_is_told_before_anything_starts(tmp_path: Path) -> None:
    """Every problem with its line, as `check` tells them; so is an option that means another service."""
    file = tmp_path / "bad.yaml"
    file.write_text("campaign: bad\noffers: []\n")
    ran = subprocess.run([*TILBUD, "simulate", file], check=False, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2
    assert f"{file}:2: offers: name at least one offer" in ran.stderr
    ran = subprocess.run(
        [*TILBUD, "simulate", SAMPLES / "shop.yaml", "--target", "127.0.0.1:1"],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 2
    assert "--target is for a running service" in ran.stderr
