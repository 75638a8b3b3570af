"""What whoever installs the wheel gets."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from tests.unit.test_house import PACKAGE, PROJECT, ROOT, run
from tests.unit.v1.test_contract import FILES

ASSETS = (
    "proto/contract.binpb", "proto/google/**/*.proto", "proto/tilbud/**/*.proto",
    "deploy/prometheus/rules/*.yml", "deploy/grafana/dashboards/*.json", "deploy/RUNBOOK.md",
)  # fmt: skip
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


def test_assets(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """`tilbud assets` of a wheel writes contract, rules, dashboards and runbook, as they are here."""
    installed, written = tmp_path / "installed", tmp_path / "written"
    wheel.extractall(installed)
    for _ in range(2):  # the second is an upgrade
        said = subprocess.run(
            [sys.executable, "-m", "tilbud", "assets", written], env={"PYTHONPATH": str(installed)},
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert said.returncode == 0, said.stderr
    files = {str(file.relative_to(written)) for file in written.rglob("*") if file.is_file()}
    here = {str(file.relative_to(ROOT)) for pattern in ASSETS for file in ROOT.glob(pattern)}
    assert files == here == {line.removeprefix(f"{written}/") for line in said.stdout.splitlines()}
    assert all((written / file).read_bytes() == (ROOT / file).read_bytes() for file in files)


def test_the_descriptor_set_is_all_that_a_caller_needs(wheel: zipfile.ZipFile) -> None:
    """Every service, with all that their messages are made of, and what the details of errors are made of."""
    kept = FileDescriptorSet.FromString(wheel.read("tilbud/assets/proto/contract.binpb"))
    pool = DescriptorPool()
    for each in kept.file:  # each after those that it imports
        pool.Add(each)
    for file in FILES:
        for service in file.services_by_name.values():
            found = pool.FindServiceByName(service.full_name)
            assert [each.name for each in found.methods] == [each.name for each in service.methods]
    for name in ("BadRequest", "ErrorInfo", "RetryInfo"):
        assert pool.FindMessageTypeByName(f"google.rpc.{name}").full_name


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
