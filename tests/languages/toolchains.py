"""Go, Java and Node, as far as they are here: they compile what proto/ generates, and run programs.

What holds: what is missing skips the test that asked for it and says how it is had. Only proto/ itself is
read, as it lies, with what each language's protoc brings.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"
PROGRAMS = Path(__file__).parent / "programs"
LANGUAGES = Path(sys.prefix) / "languages"
DEBIAN = LANGUAGES / "debian"
NODE_MAJOR = 20
BUILD_S = 600
RUN_S = 90


def run(*command: str | Path, cwd: Path, timeout_s: float = BUILD_S, **environment: str) -> str:
    """Run a command and return what it said; where it fails, so does the test."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True,
        timeout=timeout_s, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def contract_files(*, google: bool = False) -> list[str]:
    """Name the files of the contract below proto/, with those of Google's where asked."""
    found = [*PROTO.glob("tilbud/**/*.proto"), *(PROTO.glob("google/**/*.proto") if google else ())]
    return sorted(str(file.relative_to(PROTO)) for file in found)


def protoc(directory: Path, *options: str, files: list[str]) -> None:
    """Generate code into a directory with Debian's protoc and its plugins."""
    if not (DEBIAN / "usr/bin/protoc-gen-go-grpc").exists():
        pytest.skip("no protoc, Go and packages for Java here: `make languages` gets them where apt-get can")
    libraries = [str(each.parent) for each in DEBIAN.glob("usr/lib/*/libprotoc.so.*")]
    run(
        DEBIAN / "usr/bin/protoc", f"-I{PROTO}", f"-I{DEBIAN / 'usr/include'}", *options, *files,
        cwd=directory,
        PATH=f"{DEBIAN / 'usr/bin'}:{os.environ['PATH']}",
        LD_LIBRARY_PATH=":".join(libraries),
    )  # fmt: skip


def go(directory: Path, program: Path) -> Path:
    """Compile a Go program and the contract below a directory; return the binary."""
    source = directory / "src"
    (source / "program").mkdir(parents=True)
    protoc(directory, "--go_out=src", "--go-grpc_out=src", files=contract_files())
    shutil.copy(program, source / "program" / "main.go")
    root = DEBIAN / "usr/lib/go-1.19"
    run(
        root / "bin/go", "build", "-o", "program", "program",
        cwd=directory, GOROOT=str(root), GOPATH=f"{directory}:{DEBIAN / 'usr/share/gocode'}",
        GO111MODULE="off", GOFLAGS="", CGO_ENABLED="0",
        GOCACHE=str(LANGUAGES / "go-cache"),  # gRPC itself takes a minute, once
    )  # fmt: skip
    return directory / "program"


def java(directory: Path, program: Path) -> list[str | Path]:
    """Compile a Java program and the contract below a directory; return the command that runs it."""
    compiler, machine = shutil.which("javac"), shutil.which("java")
    if compiler is None or machine is None:
        pytest.skip("no Java here: install Debian's default-jdk-headless")
    plugin = f"--plugin=protoc-gen-grpc-java={DEBIAN / 'usr/bin/grpc_java_plugin'}"
    protoc(directory, plugin, "--java_out=.", "--grpc-java_out=.", files=contract_files(google=True))
    packages = f"{DEBIAN / 'usr/share/java'}/*"
    sources = [str(each) for each in directory.rglob("*.java")]
    (directory / "classes").mkdir()
    run(compiler, "-d", "classes", "-cp", packages, *sources, program, cwd=directory)
    return [machine, "-cp", f"{packages}:{directory / 'classes'}", program.stem]


def node(directory: Path, program: Path) -> list[str | Path]:
    """Put a program beside the packages it imports; return the command that runs it."""
    found = shutil.which("node")
    said = found and run(found, "--version", cwd=directory)
    major = re.match(r"v(\d+)", said or "")
    if found is None or major is None or int(major[1]) < NODE_MAJOR:
        pytest.skip(f"no Node {NODE_MAJOR} here: install it")
    if not (LANGUAGES / "node/.installed").exists():
        pytest.skip("no packages for Node here: `make languages` gets them where npm can")
    for name in ("node_modules", "package.json"):
        (directory / name).symlink_to(LANGUAGES / "node" / name)
    shutil.copy(program, directory)
    return [found, directory / program.name]


def says(command: list[str | Path], directory: Path, **environment: str) -> str:
    """Return the one line that a program says, once it has ended well."""
    [line] = run(*command, cwd=directory, timeout_s=RUN_S, **environment).splitlines()
    return line
