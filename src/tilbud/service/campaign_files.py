"""Campaign files: YAML in, valid campaigns out, or every problem with file, line, key and remedy.

What holds: all files load or none does. YAML is read strictly: a key may stand once, only `true` and
`false` are flags (a country stays NO), nothing is a number by surprise (21:30 stays text), and no
file makes the reader expand more than it holds. What a key means is `domain/campaign.py`'s business.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from tilbud.bandit.presets import arguments
from tilbud.domain import campaign as sections
from tilbud.domain.campaign import Campaign
from tilbud.domain.errors import CampaignInvalid, Problem
from tilbud.domain.limits import Limits

KeyPath = tuple[str | int, ...]
_SUFFIXES = (".yaml", ".yml")
_NODES_MAX = 200_000
_DEPTH_MAX = 40
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class CampaignFile:
    """A valid campaign and the file it came from."""

    campaign: Campaign
    file: str
    sha256: str


def load_campaigns(paths: Sequence[Path], limits: Limits) -> tuple[CampaignFile, ...]:
    """Read every campaign file of `paths` (files, or directories of .yaml files), by campaign id.

    Raises CampaignInvalid with every problem of every file.
    """
    loaded: dict[str, CampaignFile] = {}
    problems: list[Problem] = []
    for file in dict.fromkeys(_files(paths, problems)):
        try:
            found = load_campaign(file, limits)
        except CampaignInvalid as error:
            problems.extend(error.problems)
            continue
        twin = loaded.setdefault(found.campaign.campaign, found)
        if twin is not found:
            problems.append(Problem(str(file), 1, "campaign", f"{twin.file} has the same id; choose another"))
    if len(loaded) > limits.campaigns_max:
        problems.append(Problem(str(paths[0]), 0, "", f"at most {limits.campaigns_max} campaigns"))
    if problems:
        raise CampaignInvalid(tuple(problems))
    return tuple(loaded[name] for name in sorted(loaded))


def load_campaign(file: Path, limits: Limits) -> CampaignFile:
    """Read one campaign file; raises CampaignInvalid with all that is wrong with it."""
    name = str(file)
    try:
        with file.open("rb") as opened:
            content = opened.read(limits.campaign_file_bytes_max + 1)
    except OSError as error:
        raise CampaignInvalid((Problem(name, 0, "", f"cannot be read: {error.strerror}"),)) from None
    if len(content) > limits.campaign_file_bytes_max:
        problem = f"larger than {limits.campaign_file_bytes_max} bytes; split the campaign"
        raise CampaignInvalid((Problem(name, 0, "", problem),))
    campaign = parse_campaign(content, name)
    return CampaignFile(campaign, name, hashlib.sha256(content).hexdigest())


def parse_campaign(content: bytes, name: str) -> Campaign:
    """Read a campaign from YAML; `name` stands for the file in problems. Raises CampaignInvalid."""
    tree = _Tree(name)
    written = tree.read(content)
    try:
        campaign = Campaign.model_validate(written)
    except ValidationError as error:
        raise CampaignInvalid(tuple(tree.problem(*_told(each)) for each in error.errors())) from None
    try:
        arguments(campaign.exploration)
    except ValueError as error:
        raise CampaignInvalid((tree.problem(("exploration", "arguments"), str(error)),)) from None
    return campaign


def _files(paths: Sequence[Path], problems: list[Problem]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        try:
            if path.is_dir():
                found = sorted(each for each in path.iterdir() if each.suffix in _SUFFIXES and each.is_file())
                if not found:
                    problems.append(
                        Problem(str(path), 0, "", "the directory has no .yaml file; add a campaign")
                    )
                files += found
            elif path.is_file():
                files.append(path)
            else:
                problems.append(Problem(str(path), 0, "", "there is no such file or directory"))
        except OSError as error:
            problems.append(Problem(str(path), 0, "", f"cannot be read: {error.strerror}"))
    return files


class _Loader(yaml.SafeLoader):
    """YAML without its surprises: see the module's promise."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] in ("null", "timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PLAIN: tuple[tuple[str, str, str], ...] = (
    ("bool", r"true|false", "tf"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan",
        "-+.0123456789",
    ),
)
for _tag, _pattern, _first in _PLAIN:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))


class _Tree:
    """One file's YAML as plain values, with the line of every key."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lines: dict[KeyPath, int] = {(): 1}
        self._nodes = 0

    def read(self, content: bytes) -> object:
        """Return the plain values; raises CampaignInvalid where the YAML cannot be read."""
        text = self._text(content)
        loader: _Loader | None = None
        try:
            loader = _Loader(text)
            node = loader.get_single_node()
            if not isinstance(node, yaml.MappingNode):
                raise self._invalid((), "a campaign file is a map of keys; start with `campaign: its-id`")
            return self._plain(loader, node, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            said = ", ".join(each for each in (error.context, error.problem) if each)
            raise self._not_yaml(mark.line + 1 if mark else 1, said) from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise self._not_yaml(line, f"remove the character #x{error.character:02x}") from None
        except RecursionError:
            raise self._not_yaml(loader.line + 1 if loader else 1, "it nests too deep") from None
        except (ValueError, OverflowError) as error:  # an escape that is no character
            raise self._not_yaml(loader.line + 1 if loader else 1, str(error)) from None
        finally:
            if loader is not None:
                loader.dispose()

    def problem(self, path: KeyPath, problem: str) -> Problem:
        """Return a problem at the nearest key that the file has."""
        known = path
        while known not in self._lines:
            known = known[:-1]
        return Problem(self._name, self._lines[known], _dotted(path), problem)

    def _text(self, content: bytes) -> str:
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            problem = Problem(self._name, line, "", "is not UTF-8; save the file as UTF-8")
            raise CampaignInvalid((problem,)) from None

    def _not_yaml(self, line: int, said: str) -> CampaignInvalid:
        return CampaignInvalid((Problem(self._name, line, "", f"is not valid YAML: {said}"),))

    def _invalid(self, path: KeyPath, problem: str) -> CampaignInvalid:
        return CampaignInvalid((self.problem(path, problem),))

    def _plain(self, loader: _Loader, node: yaml.Node, path: KeyPath) -> Any:
        self._lines.setdefault(path, node.start_mark.line + 1)
        self._nodes += 1
        if self._nodes > _NODES_MAX or len(path) > _DEPTH_MAX:
            raise self._invalid(path, f"more than {_NODES_MAX} values or {_DEPTH_MAX} levels; write less")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(loader, each, (*path, number)) for number, each in enumerate(node.value)]
        return self._scalar(loader, node, path)

    def _scalar(self, loader: _Loader, node: yaml.Node, path: KeyPath) -> Any:
        try:
            value = loader.construct_object(node)
        except (ValueError, OverflowError, LookupError, AttributeError):  # 2026-13-01, !!int "", !!bool "x"
            kind = node.tag.rpartition(":")[2].replace("timestamp", "date")
            raise self._invalid(path, f"is not a valid {kind}; put it in quotes if it is text") from None
        if not _is_unicode(value):
            raise self._invalid(path, "has an escape that is no character; remove it")
        return value

    def _mapping(self, loader: _Loader, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for key_node, below in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._invalid(path, "keys must be plain text")
            key = str(key_node.value)
            if not _is_unicode(key):
                raise self._invalid(path, "a key has an escape that is no character; remove it")
            here = (*path, key)
            self._lines[here] = key_node.start_mark.line + 1
            if key in plain:
                raise self._invalid(here, "stands twice; remove one")
            plain[key] = self._plain(loader, below, here)
        return plain


def _is_unicode(value: object) -> bool:
    """Say that `value` is no text with half a surrogate pair, as an escape may make one."""
    return not isinstance(value, str) or not _SURROGATE.search(value)


_SECTIONS: tuple[tuple[tuple[str | type, ...], type[BaseModel]], ...] = (
    ((), Campaign),
    (("context",), sections.ContextSection),
    (("offers", int), sections.Offer),
    (("offers", int, "valid"), sections.Validity),
    (("fallback",), sections.Fallback),
    (("reward",), sections.RewardSection),
    (("reward", "outcomes", str), sections.OutcomeRule),
    (("exploration",), sections.Exploration),
    (("variants",), sections.Variants),
    (("variants", "control"), sections.Control),
)


_WRITE = {  # for pydantic's kinds of error whose own words are Python's
    "tuple_type": "write a list, such as [web, app]",
    "dict_type": "write a map of keys, such as {key: value}",
    "model_type": "write a map of keys, such as {key: value}",
    "model_attributes_type": "write a map of keys, such as {key: value}",
    "string_type": "write text, in quotes where it looks like a number or a date",
}
_LETTERS = "write letters, digits"
_PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$": f"{_LETTERS} and . _ - and begin with a letter or digit",
    r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$": f"{_LETTERS} and . _ - and begin with a letter or digit",
    r"^[A-Za-z][A-Za-z0-9_]*$": f"{_LETTERS} and _ and begin with a letter",
}


def _told(error: Mapping[str, Any]) -> tuple[KeyPath, str]:  # noqa: PLR0911 - one for each kind
    """Return where pydantic's error is, and what to do about it."""
    path: KeyPath = tuple(error["loc"])
    if path[-1:] == ("[key]",):  # of a map whose keys have a pattern
        path = path[:-1]
    kind = error["type"]
    if kind == "misplaced":
        below: KeyPath = error["ctx"]["path"]
        return (*path, *below), error["msg"]
    if kind == "extra_forbidden":
        return path, f"unknown key; {_known_keys(path[:-1], str(path[-1]))}"
    if kind == "missing":
        return path, f"is required; add `{path[-1]}: …`"
    if kind == "string_pattern_mismatch":
        pattern = error["ctx"]["pattern"]
        return path, f"{_PATTERNS.get(pattern, f'must match {pattern}')}, got {_short(error['input'])}"
    if kind == "model_type" and path[:2] == ("reward", "outcomes"):
        return path, f"write a number, or {{weight: 1.0, final: true}}, got {_short(error['input'])}"
    if kind in _WRITE:
        return path, f"{_WRITE[kind]}, got {_short(error['input'])}"
    message = str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    return path, f"{message}, got {_short(error['input'])}" if message.startswith("must be") else message


def _known_keys(section: KeyPath, key: str) -> str:
    for shape, model in _SECTIONS:
        if len(shape) == len(section) and all(
            part == want or (isinstance(want, type) and isinstance(part, want))
            for part, want in zip(section, shape, strict=True)
        ):
            known = [field.alias or name for name, field in model.model_fields.items()]
            close = difflib.get_close_matches(key, known, n=1)
            return f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(known)}"
    return "remove it"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - enough to recognise it


def _dotted(path: KeyPath) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")
