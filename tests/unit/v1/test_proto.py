"""The directory proto/ is all that a caller needs to compile the contract."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.test_house import ROOT, make

PROTO = ROOT / "proto"
GOOGLE = ("google/rpc/error_details.proto", "google/rpc/status.proto")
BREAKING = ("breaking", "--against", "released.binpb")


@pytest.fixture(scope="module")
def tools() -> Path:
    """The venv of what generates and lints the contract."""
    make("tools")
    return Path(sys.prefix) / "proto-tools"


@pytest.fixture
def proto(tmp_path: Path) -> Path:
    """A copy of the directory, as somebody has it who copied nothing else."""
    return Path(shutil.copytree(PROTO, tmp_path / "proto"))


def buf(tools: Path, proto: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run plain buf in a directory, with nothing cached and nobody to ask."""
    nobody = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment = {"PATH": os.environ["PATH"], "HOME": str(proto.parent), **nobody}
    command: list[str | Path] = [tools / "bin" / "buf", *words]
    return subprocess.run(
        command, cwd=proto, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("words", [("lint",), ("build",), BREAKING], ids=lambda words: words[0])
def test_plain_buf_is_content(tools: Path, proto: Path, words: tuple[str, ...]) -> None:
    """In a copy of proto/ alone, without a network, buf lints, builds and finds nothing broken."""
    done = buf(tools, proto, *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_would_break_callers_is_seen(tools: Path, proto: Path) -> None:
    """A field that has another name than in the last release is refused, and named."""
    file = proto / "tilbud" / "v1" / "decisions.proto"
    file.write_text(file.read_text().replace("double probability = 4;", "double chance = 4;"))
    done = buf(tools, proto, *BREAKING)
    assert done.returncode
    assert 'Field "4" on message "DecideResponse" changed name from "probability" to "chance".' in done.stdout


@pytest.mark.parametrize("name", GOOGLE)
def test_google_s_files_are_google_s(tools: Path, name: str) -> None:
    """What lies here of Google's is, word for word and with its licence, what its package has."""
    [original] = tools.glob(f"lib/python*/site-packages/{name}")
    text = (PROTO / name).read_text()
    assert text == original.read_text()
    assert "Apache License, Version 2.0" in text
