"""What a container is, without a container engine: a Dockerfile's steps done by hand, and a root of its own.

What holds: the build stage's COPY and RUN lines are done as they are written, but for the place of what they
make, and for dependencies: these come from where the tests run, and are only what the wheel asks for. What
runs in the end does so as the Dockerfile's user in its working directory, on a root file system of which
nothing but the data can be written. It proves nothing of the base image.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

_PLACE = "/opt/tilbud"
# Arguments: the new root, the data, two folders to show at their own place, then the command.
_ENTER = """
set -eu; umask 022
root=$1 data=$2 first=$3 second=$4; shift 4
show() { mkdir -p "$root$2"; mount --rbind "$1" "$root$2"; }
mount -t tmpfs -o mode=0755 none "$root"
for each in /bin /lib /lib64 /sbin; do
  if [ -L $each ]; then cp -P $each "$root$each"; elif [ -d $each ]; then show $each $each; fi
done
for each in /usr /etc /proc /dev "$first" "$second"; do show "$each" "$each"; done
show "$data" /data
mount -o remount,bind,ro "$root$first"
mount -o remount,bind,ro "$root"
exec /usr/sbin/chroot "$root" "$@"
"""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of a Dockerfile, and the stage that it belongs to, from 1."""

    stage: int
    name: str
    text: str


def instructions(dockerfile: Path) -> list[Instruction]:
    """Read a Dockerfile without here-documents."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.lstrip().startswith("#")]
    read: list[Instruction] = []
    stage = 0
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, text = line.partition(" ")
        stage += name == "FROM"
        if name:
            read.append(Instruction(stage, name, " ".join(text.split())))
    return read


def environment(read: Sequence[Instruction], name: str = "ENV") -> dict[str, str]:
    """Return what the last stage's ENV (or LABEL, or ARG) lines set."""
    last = read[-1].stage
    lines = [each.text for each in read if each.stage == last and each.name == name]
    pairs = (word.partition("=") for line in lines for word in shlex.split(line))
    return {key: value for key, _, value in pairs}


def context(root: Path, source: str) -> Iterator[Path]:
    """Yield the files below `root` that COPY `source` gets: those that .dockerignore lets through."""
    patterns = (root / ".dockerignore").read_text().splitlines()
    start = root / source
    for file in sorted(start.rglob("*")) if start.is_dir() else [start]:
        path = file.relative_to(root)
        if file.is_file() and not _ignored(path, patterns):
            yield path


def _ignored(path: Path, patterns: Sequence[str]) -> bool:
    """The last pattern that matches a path, or a folder that it is in, decides."""
    ignored = False
    names = [str(path), *map(str, path.parents)][:-1]
    for pattern in patterns:
        wanted = re.escape(pattern.removeprefix("!")).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        if pattern and not pattern.startswith("#") and any(re.fullmatch(wanted, name) for name in names):
            ignored = not pattern.startswith("!")
    return ignored


def build(read: Sequence[Instruction], root: Path, directory: Path) -> Path:
    """Do the first stage's steps below `directory`; return the folder that stands for /opt/tilbud."""
    work, made = directory / "build", directory / "opt" / "tilbud"
    pip_offline = {
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
    }  # "0" is: no isolation
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for step in read:
        if step.stage == 1 and step.name == "COPY":
            *sources, target = step.text.split()
            for source in sources:
                for file in context(root, source):
                    below = file.name if str(file) == source else file.relative_to(source)
                    inside = file if target in {"./", "."} else target / Path(below)
                    (work / inside).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(root / file, work / inside)
        elif step.stage == 1 and step.name == "RUN":
            steps = re.sub(r"--mount=\S+", "", step.text).replace(_PLACE, str(made)).split("&&")
            command = "&&".join(each for each in steps if "--require-hashes" not in each)
            done = subprocess.run(
                ["sh", "-c", command], cwd=work, env=os.environ | pip_offline | {"PATH": path},
                capture_output=True, text=True, timeout=300, check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    [packages] = (made / "lib").glob("python*/site-packages")
    _add_dependencies(packages)
    return made


def _add_dependencies(packages: Path) -> None:
    """Copy what the wheel `tilbud` requires, and what that requires, from where this test runs."""
    wanted, added = ["tilbud"], set()
    while wanted:
        name = wanted.pop().lower().replace("_", "-")
        if name in added:
            continue
        added.add(name)
        found = distribution(name)
        requirements = map(Requirement, found.requires or ())
        wanted += [
            each.name for each in requirements if not each.marker or each.marker.evaluate({"extra": ""})
        ]
        for file in found.files or () if name != "tilbud" else ():
            if ".." not in file.parts:  # the rest is programs, which stand beside the packages
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                _link(Path(str(found.locate_file(file))), packages / file)


def _link(file: Path, to: Path) -> None:
    """Show a file in another place too, which costs no disk; a copy where that cannot be."""
    try:
        to.hardlink_to(file)
    except OSError:
        shutil.copy2(file, to)  # with its time: it was compiled


@dataclass(frozen=True, slots=True)
class Container:
    """A root of its own for commands: the folder it is mounted on, what was built, and where data is kept."""

    read: Sequence[Instruction]
    root: Path
    made: Path
    data: Path

    def command(self, *words: str, **variables: str) -> list[str | Path]:
        """Return the command that runs these words in it, with its environment and these variables."""
        kept = {key: value.replace(_PLACE, str(self.made)) for key, value in environment(self.read).items()}
        kept["PATH"] = kept["PATH"].replace("$PATH", "/usr/bin:/bin")
        variables = kept | variables
        [user] = [each.text for each in self.read if each.name == "USER"]
        last = [each.text for each in self.read if each.name == "WORKDIR"][-1]
        owner, _, group = user.partition(":")
        nobody = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
        enter = ["unshare", "--mount"]
        if os.geteuid() == 0:
            nobody = [f"--reuid={owner}", f"--regid={group}", "--clear-groups", *nobody]
            os.chown(self.data, int(owner), int(group))
        else:  # a user of its own, who is root in there alone
            enter += ["--user", "--map-root-user"]
        return [
            *enter, "sh", "-c", _ENTER, "sh", self.root, self.data, self.made, sys.base_prefix,
            "setpriv", *nobody, "env", "-i", f"--chdir={last}",
            *(f"{key}={value}" for key, value in variables.items()), *words,
        ]  # fmt: skip
