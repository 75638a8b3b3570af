"""The commands of the pages: which are run, which are only read, and why.

What holds: every line of a shell block is either run against a served service and must end well, or its words
are looked up: a command of `tilbud` and its options in the command line itself, an option of a script in its
source, a file where it lies, a target in the Makefile.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer
from tests.docs.pages import ROOT
from tests.running import CALL_S

from tilbud.cli import cli

Words = Sequence[str]
COMMAND_LINE: Any = typer.main.get_command(cli)
_SEPARATORS = {"&&", "||", "|", "&", ";"}
_SHELL = {"until", "do", "done", "while"}
_SUBSTITUTED = re.compile(r"\$\([^()]*\)")
_WRITES_TO = re.compile(r">>? *\S+")
_OPTION = re.compile(r"^--?[a-zA-Z][\w-]*")
_TARGET = re.compile(r"^([a-z]+):", re.MULTILINE)


def lines(block: str) -> list[str]:
    """Return the commands of a block, each on one line, without comments."""
    joined = block.replace("\\\n", " ")
    return [line for each in joined.splitlines() if (line := each.strip()) and not line.startswith("#")]


def simple(line: str) -> list[list[str]]:
    """Return the words of each simple command of a line, without substitutions and redirections."""
    lexer = shlex.shlex(_WRITES_TO.sub("", _SUBSTITUTED.sub("", line)), posix=True, punctuation_chars=True)
    lexer.wordchars += "{}$[]%@:,+"
    found: list[list[str]] = [[]]
    for word in lexer:
        if word in _SEPARATORS:
            found.append([])
        elif word not in _SHELL or found[-1]:
            found[-1].append(word)
    return [words for words in found if words]


def look_up(line: str) -> None:
    """Fail where a word of a command line is not there: a command, an option, a file, a target."""
    for words in simple(line):
        name = words[0].removeprefix(".venv/bin/")
        name = "python" if re.fullmatch(r"python3?(\.\d+)?", name) else name
        assert name in LOOKED_UP or name in ELSEWHERE, f"{line!r}: how is {name!r} checked?"
        if name in LOOKED_UP:
            LOOKED_UP[name](words[1:])


def is_run(line: str) -> bool:
    """Say whether a line is one that ends, here, and with what is here."""
    return all(_ends(words) for words in simple(line))


def _ends(words: Words) -> bool:
    return words[0].removeprefix(".venv/bin/") in {"tilbud", "curl", "grpcurl"} and words[1] != "serve"


def _tilbud(words: Words) -> None:
    """A command of the command line, with options that it has."""
    node: Any = COMMAND_LINE
    for word in words:
        if not hasattr(node, "commands") or word.startswith("-"):
            break
        assert word in node.commands, f"tilbud has no command {word!r}"
        node = node.commands[word]
    has = {name for param in node.params for name in (*param.opts, *param.secondary_opts)} | {"--help", "-h"}
    for word in words:
        if option := _OPTION.match(word):
            assert option[0] in has, f"tilbud {node.name} has no option {option[0]}"


def _make(words: Words) -> None:
    """Targets of the Makefile."""
    targets = set(_TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))
    wanted = {word for word in words if "=" not in word}
    assert wanted, "make without a target"
    assert wanted <= targets, f"no target: {wanted - targets}"


def _script(words: Words) -> None:
    """A program of this project, whose options stand in its source, or in what it imports beside it."""
    script = ROOT / words[0]
    assert script.is_file(), f"{words[0]} is not there"
    source = "".join(path.read_text(encoding="utf-8") for path in script.parent.glob("*.py"))
    for word in words[1:]:
        assert not word.startswith("--") or f'"{word}"' in source, f"{words[0]} has no option {word}"


def _files(words: Words) -> None:
    """What options name is there: `-f FILE`, `-k DIRECTORY`, `--config.file=FILE`."""
    named = [after for option, after in pairwise(words) if option in {"-f", "-k"}]
    named += [word.partition("=")[2] for word in words if word.startswith("--config.file=")]
    for name in named:
        path = ROOT / name
        assert path.is_file() or (path / "kustomization.yaml").is_file(), f"{name} is not there"


def _activate(words: Words) -> None:
    """What `make run` makes."""
    assert words == [".venv/bin/activate"]


LOOKED_UP: dict[str, Callable[[Words], None]] = {
    "tilbud": _tilbud,
    "make": _make,  # sets the machine up, serves without end, or runs these tests
    "python": _script,  # load tests take minutes; the pictures want a Prometheus
    "locust": _files,  # is in an extra that is not for tests
    "docker": _files,  # there is none here
    "kubectl": _files,  # there is no cluster here
    "prometheus": _files,  # runs without end; tests/deploy runs one
    ".": _activate,
}
ELSEWHERE = {"buf", "cp", "curl", "go", "grpcurl", "node", "npm", "npx", "protoc", "sleep"}
"""Programs of others; where they are not run, in the runbook, it is on a machine of its own."""


def for_service(text: str, *, target: str, http: str, metrics: str) -> str:
    """Put where a service of the tests listens in place of where the pages say one does."""
    text = text.replace("http://127.0.0.1:8000", http).replace("127.0.0.1:50051", target)
    text = text.replace(" Client()", f' Client("{target}")')
    text = re.sub(r"\bdefault=(?=[^\n]*[,)])", f"timeout_s={CALL_S}, default=", text)  # a machine may stall
    return text.replace("http://127.0.0.1:8080", metrics)


def hillstrom_log(path: Path) -> None:
    """Write a few rows such as those of the log that `tilbud replay` is shown with."""
    columns = "recency,history_segment,history,mens,womens,zip_code,newbie,channel,segment,visit"
    segments = ("Mens E-Mail", "Womens E-Mail", "No E-Mail")
    rows = [f"{n},1) $0 - $100,{n}.5,{n % 2},1,Urban,0,Web,{segments[n % 3]},{n % 2}" for n in range(1, 31)]
    path.write_text("\n".join([columns, *rows, ""]), encoding="utf-8")
