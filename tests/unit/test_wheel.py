"""What whoever installs the wheel gets."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import HeaderParser

import pytest
from tests.unit.test_house import PACKAGE, PROJECT, ROOT, run

APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"  # as apache.org gives it


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel, built from this tree."""
    directory = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", directory)
    [file] = directory.glob("*.whl")
    with zipfile.ZipFile(file) as opened:
        yield opened


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    """What the wheel says of itself."""
    return HeaderParser().parsestr(wheel.read(f"tilbud-{PROJECT['version']}.dist-info/METADATA").decode())


def test_samples_types_and_stubs(wheel: zipfile.ZipFile) -> None:
    """The wheel holds every sample campaign, the marker of types and the stubs of the contract."""
    samples = {f"tilbud/samples/{file.name}" for file in (PACKAGE / "samples").glob("*.yaml")}
    assert samples
    others = {"tilbud/py.typed", "tilbud/v1/decisions_pb2.pyi", "tilbud/v1/service_config.json"}
    assert samples | others <= set(wheel.namelist())


def test_licence(wheel: zipfile.ZipFile, metadata: Message) -> None:
    """The licence is Apache-2.0, in its own words, and the wheel says so and brings it."""
    text = (ROOT / "LICENSE").read_bytes()
    assert hashlib.sha256(text).hexdigest() == APACHE_2
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert wheel.read(f"tilbud-{PROJECT['version']}.dist-info/licenses/LICENSE") == text


def test_the_change_log_has_this_version() -> None:
    """Its newest heading is the version that pyproject.toml says."""
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    assert headings[0].split()[1] == PROJECT["version"]
