"""The distribution `tilbud-client`: the client without the service, and without what only that needs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from sysconfig import get_paths

import pytest
from tests.conftest import Serve
from tests.unit.test_house import PACKAGE, PROJECT, ROOT, run

from tilbud.runtime.settings import SAMPLES

CLIENT = ROOT / "deploy" / "client"
NEEDED = (
    "google",
    "grpc",
    "typing_extensions.py",
)  # the packages of what it depends on, and what grpcio needs
NAME = re.compile(r"^[\w-]+")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this tree as `make client` does."""
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", directory],
        cwd=CLIENT, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    [built] = directory.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel in it, what it depends on, and nothing else."""
    directory = tmp_path_factory.mktemp("installed")
    run(
        sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index",
        "--no-deps", "--target", directory, wheel,
    )  # fmt: skip
    for name in NEEDED:
        (directory / name).symlink_to(Path(get_paths()["platlib"]) / name)
    return directory


def test_its_first_page_runs(serve: Serve, installed: Path) -> None:
    """Installed alone, without any other package, it decides and reports as its README says."""
    [code] = re.findall(r"```python\n(.*?)```", (CLIENT / "README.md").read_text(), re.DOTALL)
    service = serve(SAMPLES)
    asked = code.replace("127.0.0.1:50051", service.target)
    asked += "    assert client.flush(60) and client.outcomes.delivered == 1, client.outcomes\n"
    asked += "print(decision.served, __import__('tilbud').__file__)\n"
    asked = asked.replace('default="house"', 'default="house", timeout_s=60')
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", asked],
        env={"PYTHONPATH": str(installed), "PATH": os.environ["PATH"]},
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.stdout == f"True {installed}/tilbud/__init__.py\n", done.stderr


def test_its_files_are_those_of_the_whole(wheel: Path) -> None:
    """Every file is the same in both distributions, so that either may be installed over the other."""
    with zipfile.ZipFile(wheel) as opened:
        files = {name: opened.read(name) for name in opened.namelist() if name.startswith("tilbud/")}
    assert files == {name: (ROOT / "src" / name).read_bytes() for name in files}
    for room in ("client", "v1"):
        here = (each for each in (PACKAGE / room).iterdir() if each.is_file())
        assert {f"tilbud/{room}/{each.name}" for each in here} <= set(files)


def test_it_asks_for_what_the_whole_asks_for(wheel: Path) -> None:
    """The same version and licence, and of its dependencies the same floors."""
    with zipfile.ZipFile(wheel) as opened:
        [name] = [each for each in opened.namelist() if each.endswith("/METADATA")]
        metadata = HeaderParser().parsestr(opened.read(name).decode())
        licence = opened.read(name.replace("METADATA", "licenses/LICENSE"))
    assert metadata["Version"] == PROJECT["version"]
    assert metadata["License-Expression"] == PROJECT["license"]
    assert licence == (ROOT / "LICENSE").read_bytes()

    def floors(requirements: list[str]) -> dict[str, set[str]]:
        return {NAME.findall(each)[0]: set(NAME.sub("", each).split(",")) for each in requirements}

    whole, alone = floors(PROJECT["dependencies"]), floors(metadata.get_all("Requires-Dist") or [])
    assert set(alone) == {"googleapis-common-protos", "grpcio", "protobuf"}
    assert alone == {name: whole[name] for name in alone}
