"""The unit for a plain host: systemd takes it, it is hardened, and the service lives with that."""

from __future__ import annotations

import ctypes.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.deploy.serving import DEPLOY, Started, options, stop_s

UNIT = DEPLOY / "systemd" / "tilbud.service"
EXPOSURE_MAX = 15  # tenths: 1.5 of 10, where a unit that says nothing has 9.6
# Refuses every call that is not listed, and memory that is written and executed, as the unit's lines do.
CONFINED = """
import ctypes, errno, os, sys
names, command = sys.argv[1].split(), sys.argv[2:]
filters = ctypes.CDLL("libseccomp.so.2")
filters.seccomp_init.restype = ctypes.c_void_p
context = ctypes.c_void_p(filters.seccomp_init(0x00050000 | errno.EPERM))
for name in names:
    number = filters.seccomp_syscall_resolve_name(name.encode())
    if number >= 0:
        assert filters.seccomp_rule_add(context, 0x7FFF0000, number, 0) == 0, name
LINUX = tuple(int(number) for number in os.uname().release.split(".")[:2])
DENY_WRITE_EXECUTE = 65  # since Linux 6.3; before it there is only the filter
assert ctypes.CDLL(None).prctl(DENY_WRITE_EXECUTE, 1, 0, 0, 0) == 0 or LINUX < (6, 3)
assert filters.seccomp_load(context) == 0
os.execv(command[0], command)
"""


@pytest.fixture(scope="module")
def analyze() -> str:
    """The program that judges units."""
    found = shutil.which("systemd-analyze")
    if not found:
        pytest.skip("no systemd-analyze here: install Debian's package systemd")
    return found


def said(key: str) -> list[str]:
    """Return the values of a key of the unit, in order."""
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.MULTILINE)


def run(*command: str | Path) -> str:
    """Run a command and return what it said; where it fails, so does the test."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_takes_the_unit(analyze: str, tmp_path: Path):
    """There is no unknown key and no wrong value, and the program can be run."""
    unit = tmp_path / UNIT.name
    tilbud = shutil.which("tilbud", path=Path(sys.executable).parent)
    unit.write_text(UNIT.read_text().replace("ExecStart=/opt/tilbud/bin/tilbud ", f"ExecStart={tilbud} "))
    assert str(unit) not in run(analyze, "verify", "--man=no", unit)


def test_hardened(analyze: str):
    """Systemd's own measure of what a unit may do to its host stays low."""
    if "--offline" not in run(analyze, "--help"):
        pytest.skip("this systemd cannot judge a unit that is not installed; from 250 on it can")
    run(analyze, "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE_MAX}", UNIT)


def test_options():
    """Every option that the unit writes or tells of is one of `tilbud serve`."""
    text = UNIT.read_text()
    written = set(re.findall(r"TILBUD_[A-Z_]+", text))
    assert {"TILBUD_CAMPAIGNS", "TILBUD_DATA", "TILBUD_DRAIN_GRACE_S"} <= written
    assert written <= options()
    assert "--" not in said("ExecStart")[0], "an option on the command line overrides the environment's"


def test_drains():
    """Systemd waits for the drain, tells the main process alone, and reloads by SIGHUP."""
    [patience] = said("TimeoutStopSec")
    assert stop_s({}) < float(patience.removesuffix("s")) < 2 * stop_s({})
    assert said("KillMode") == ["mixed"]
    assert said("KillSignal") == ["SIGTERM"]
    assert said("ExecReload") == ["/bin/kill -HUP $MAINPID"]


def expanded(analyze: str, names: str) -> set[str]:
    """Return the system calls that names and @groups stand for."""
    found: set[str] = set()
    for name in names.split():
        if name.startswith("@"):
            lines = run(analyze, "syscall-filter", "--no-pager", name).splitlines()[1:]
            inner = (line.strip() for line in lines)
            found |= expanded(analyze, " ".join(line for line in inner if line and line[0] != "#"))
        else:
            found.add(name)
    return found


@pytest.mark.skipif(not ctypes.util.find_library("seccomp"), reason="no libseccomp here: install libseccomp2")
def test_lives_with_its_filter(analyze: str, tmp_path: Path):
    """With no more of the kernel than the unit allows, it starts workers, decides and drains."""
    allowed: set[str] = set()
    for line in said("SystemCallFilter"):
        calls = expanded(analyze, line.removeprefix("~"))
        allowed = allowed - calls if line.startswith("~") else allowed | calls
    assert {"accept4", "futex"} <= allowed
    assert not {"mount", "ptrace", "chown"} & allowed
    names = " ".join(sorted(allowed | expanded(analyze, "@default")))
    service = Started(
        [
            sys.executable, "-c", CONFINED, names, sys.executable, "-m", "tilbud", "serve",
            "--data", tmp_path / "data", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0",
            "--http", "127.0.0.1:0", "--workers", "2", "--drain-notice-s", "0",
        ],
        dict(os.environ),
        tmp_path / "log",
    )  # fmt: skip
    try:
        assert 0 < service.decide() <= 1
    finally:
        status = service.stop()
    assert status == 0
