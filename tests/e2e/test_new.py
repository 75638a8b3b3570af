"""`tilbud new` writes a first campaign that is taken as it stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def _run(*words: str, where: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tilbud", *words], check=False, capture_output=True, text=True, timeout=60,
        cwd=where, env={"COLUMNS": "100"},
    )  # fmt: skip


def test_a_first_campaign_is_one_that_check_takes(tmp_path: Path) -> None:
    """The file has the name, says what to do next, and is valid; what is there already is not overwritten."""
    written = _run("new", "spring-sale", "--in", "campaigns", where=tmp_path)
    assert (written.returncode, written.stdout) == (
        0,
        "campaigns/spring-sale.yaml: written. Next: tilbud check campaigns/spring-sale.yaml\n",
    )
    text = (tmp_path / "campaigns" / "spring-sale.yaml").read_text()
    assert "tilbud decide spring-sale" in text
    checked = _run("check", "campaigns", "--strict", where=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "1 valid" in checked.stdout
    again = _run("new", "spring-sale", "--in", "campaigns", where=tmp_path)
    assert again.returncode == 2
    assert "is there already; choose another name" in again.stderr


@pytest.mark.parametrize("name", ["spring sale", "../sale", "true", "12", "x" * 200])
def test_a_name_that_no_campaign_may_have_is_refused(name: str, tmp_path: Path) -> None:
    """A sentence, status 2, and no file."""
    refused = _run("new", name, where=tmp_path)
    assert refused.returncode == 2, refused.stdout
    assert refused.stderr.strip()
    assert "Traceback" not in refused.stderr
    assert not list(tmp_path.iterdir())
