"""The house stays in order: the judges are content, and what is generated or shipped is what it should be."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ROOT / "src" / "tilbud" / "v1"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*command: str | Path) -> None:
    """Run a command at the root of the project; where it fails, so does the test, with what it printed."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"


def make(target: str) -> None:
    """Run a target of the Makefile on the venv that runs this test."""
    run("make", "--silent", "--no-print-directory", f"VENV={sys.prefix}", target)


@pytest.fixture(scope="module")
def contract_python() -> Path:
    """The Python of the venv that generates and lints the contract; `make tools` builds it where missing."""
    make("tools")
    return Path(sys.prefix) / "proto-tools" / "bin" / "python"


def version(text: str) -> tuple[int, ...]:
    """The numbers of a version such as 6.33.5."""
    return tuple(int(number) for number in text.split("."))


def floor(package: str) -> tuple[int, ...]:
    """The lowest version of a package that pyproject.toml allows."""
    [found] = [
        match[1] for line in PROJECT["dependencies"] if (match := re.match(rf"{package}>=([\d.]+)", line))
    ]
    return version(found)


def test_lint():
    """Ruff has nothing to say about rules or format."""
    make("lint")


def test_types():
    """Mypy, strict, finds no fault."""
    make("types")


def test_imports():
    """Imports between rooms run only along the arrows of the design."""
    make("imports")


def test_contract(contract_python):
    """The contract keeps buf's STANDARD rules."""
    make("contract")


def test_generated_code_is_current(contract_python, tmp_path):
    """The committed code is, byte for byte, what the contract generates; if not, `make proto` mends it."""
    run(contract_python, ROOT / "proto" / "generate.py", "code", tmp_path)
    fresh = {file.name: file.read_bytes() for file in (tmp_path / "tilbud" / "v1").iterdir()}
    committed = {file.name: file.read_bytes() for file in GENERATED.glob("*_pb2*.py*")}
    assert sorted(fresh) == sorted(committed)
    assert [name for name in sorted(fresh) if fresh[name] != committed[name]] == []


def test_every_message_of_the_contract_is_generated():
    """Each file of the contract has messages, servicers and the types of both."""
    contract = [file.stem for file in (ROOT / "proto" / "tilbud" / "v1").glob("*.proto")]
    assert contract
    expected = {
        f"{stem}{end}"
        for stem in contract
        for end in ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
    }
    assert expected == {file.name for file in GENERATED.glob("*_pb2*.py*")}


def test_generated_code_runs_on_the_floors():
    """Generated code asks for no newer protobuf or grpcio than the oldest that may be installed."""
    for file in GENERATED.glob("*_pb2.py"):
        [made_with] = re.findall(r"^# Protobuf Python Version: ([\d.]+)$", file.read_text(), re.MULTILINE)
        assert version(made_with) <= floor("protobuf"), file.name
    for file in GENERATED.glob("*_pb2_grpc.py"):
        [made_with] = re.findall(r"^GRPC_GENERATED_VERSION = '([\d.]+)'$", file.read_text(), re.MULTILINE)
        assert version(made_with) <= floor("grpcio"), file.name


def test_wheel(tmp_path):
    """The wheel holds every sample campaign, the marker of types and the stubs of the contract."""
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path)
    [wheel] = tmp_path.glob("*.whl")
    shipped = set(zipfile.ZipFile(wheel).namelist())
    samples = {f"tilbud/samples/{file.name}" for file in (ROOT / "src" / "tilbud" / "samples").glob("*.yaml")}
    assert samples
    assert (
        samples | {"tilbud/py.typed", "tilbud/v1/decisions_pb2.pyi", "tilbud/v1/service_config.json"}
        <= shipped
    )


@pytest.mark.parametrize("command", ["make run", "make test"])
def test_readme_names_the_commands(command):
    """The README says how to run the service and how to test it."""
    assert command in (ROOT / "README.md").read_text()
