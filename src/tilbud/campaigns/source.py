"""Campaign files, and the contact policy beside them: YAML in, valid campaigns out, or every problem.

What holds: all files load or none does, unless the good ones are asked for; every problem says file, line,
key and remedy. `contact.yaml` is no campaign: it counts for all that are loaded together, and there is at
most one; a file that is nearly called so is refused, not passed over or read as a campaign. In a directory
names that begin with a dot are passed over: editors and Kubernetes keep their own things there. YAML is
`strict_yaml.py`'s business, what a key means that of `domain/campaign/`.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tilbud.bandit.presets import arguments
from tilbud.campaigns.strict_yaml import KeyPath, Tree
from tilbud.domain.campaign import campaign as sections
from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.campaign.contact_policy import NO_CONTACT_POLICY, ChannelRule, ContactPolicy
from tilbud.domain.campaign.fields import Cap
from tilbud.domain.errors import CampaignInvalid, Problem
from tilbud.domain.limits import Limits
from tilbud.domain.numbers import exact_text

CONTACT_FILE = "contact.yaml"
_SUFFIXES = (".yaml", ".yml")
_CONTACT_NAMES = tuple(f"contact{suffix}" for suffix in _SUFFIXES)  # in any letters: meant as one
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class CampaignFile:
    """A valid campaign, the file it came from, and the contact policy that holds for it."""

    campaign: Campaign
    file: str
    sha256: str
    contact: ContactPolicy = NO_CONTACT_POLICY


@dataclass(frozen=True, slots=True)
class Loaded:
    """What paths hold: campaigns by id, and their contact policy with its file ("": there is none).

    `refused` is what is wrong with the files that are not among the campaigns.
    """

    campaigns: tuple[CampaignFile, ...]
    contact: ContactPolicy
    contact_file: str
    refused: tuple[Problem, ...] = ()


def load_campaigns(paths: Sequence[Path], limits: Limits) -> tuple[CampaignFile, ...]:
    """Read every campaign file of `paths` (files, or directories of .yaml files), by campaign id.

    Raises CampaignInvalid with every problem of every file, or where there is no campaign at all.
    """
    campaigns = load_files(paths, limits).campaigns
    if not campaigns:
        raise CampaignInvalid((_no_campaign(paths),))
    return campaigns


def load_good(paths: Sequence[Path], limits: Limits) -> Loaded:
    """Read what is good of `paths`, and what is wrong with the rest: one bad file keeps no other away.

    Of files with one id neither is good. Raises CampaignInvalid with every problem where no campaign is good,
    or where the contact policy is not: without it the caps of channels would not hold, for anybody.
    """
    read = _read(paths, limits)
    files, refused = [], list(read.problems)
    for twins in read.campaigns.values():
        first, *others = twins
        files += [] if others else [first]
        if others:
            refused.append(_same_id(first.file, others[0]))
            refused += [_same_id(other.file, first) for other in others]
    refused += [_too_many(file.file, limits) for file in files[limits.campaigns_max :]]
    if read.policy_problems or not files:
        raise CampaignInvalid((*read.policy_problems, *refused) or (_no_campaign(paths),))
    return Loaded(tuple(files[: limits.campaigns_max]), read.contact, read.contact_file, tuple(refused))


def load_files(paths: Sequence[Path], limits: Limits) -> Loaded:
    """Read all that `paths` hold; there may be no campaign where a contact policy is named alone.

    A `contact.yaml` in a directory, or beside a file that is named itself, holds for every campaign of the
    load. Raises CampaignInvalid with every problem of every file.
    """
    read = _read(paths, limits)
    problems = [*read.policy_problems, *read.problems]
    for first, *others in read.campaigns.values():
        problems += [_same_id(other.file, first) for other in others]
    if len(read.campaigns) > limits.campaigns_max:
        problems.append(_too_many(str(paths[0]), limits))
    if problems:
        raise CampaignInvalid(tuple(problems))
    return Loaded(tuple(first for first, *_ in read.campaigns.values()), read.contact, read.contact_file)


@dataclass(slots=True)
class _Read:
    """What paths hold, good or not: campaigns by id, in its order, and every file that has the id."""

    contact: ContactPolicy
    contact_file: str
    policy_problems: list[Problem]
    problems: list[Problem]
    campaigns: dict[str, list[CampaignFile]] = field(default_factory=dict)


def _read(paths: Sequence[Path], limits: Limits) -> _Read:
    problems: list[Problem] = []
    policy_problems: list[Problem] = []
    files, policies = _files(paths, problems, policy_problems)
    contact, contact_file = _contact(policies, limits, policy_problems)
    read = _Read(contact, contact_file, policy_problems, problems)
    by_name: defaultdict[str, list[CampaignFile]] = defaultdict(list)
    for file in files:
        try:
            loaded = replace(load_campaign(file, limits), contact=contact)
        except CampaignInvalid as error:
            problems.extend(error.problems)
        else:
            by_name[loaded.campaign.campaign].append(loaded)
    read.campaigns = {name: by_name[name] for name in sorted(by_name)}
    return read


def _same_id(file: str, twin: CampaignFile) -> Problem:
    return Problem(file, 1, "campaign", f"{twin.file} has the same id; choose another")


def _too_many(file: str, limits: Limits) -> Problem:
    return Problem(file, 0, "", f"at most {limits.campaigns_max} campaigns")


def _no_campaign(paths: Sequence[Path]) -> Problem:
    return Problem(str(paths[0]), 0, "", "is no campaign; name a campaign file or a directory of them")


def load_campaign(file: Path, limits: Limits) -> CampaignFile:
    """Read one campaign file alone; raises CampaignInvalid with all that is wrong with it."""
    content = _content(file, limits)
    return CampaignFile(parse_campaign(content, str(file)), str(file), hashlib.sha256(content).hexdigest())


def placed(file: str, warned: Iterable[tuple[KeyPath, str]], limits: Limits) -> tuple[Problem, ...]:
    """Return what is odd about a valid file, with its lines; raises CampaignInvalid where it is gone."""
    tree = Tree(file, "")
    tree.read(_content(Path(file), limits))
    return tuple(tree.problem(path, text) for path, text in warned)


def parse_campaign(content: bytes, name: str) -> Campaign:
    """Read a campaign from YAML; `name` stands for the file in problems. Raises CampaignInvalid."""
    tree = Tree(name, "a campaign file is a map of keys; start with `campaign: its-id`")
    campaign = _parsed(tree, content, Campaign, _SECTIONS)
    try:
        arguments(campaign.exploration, len(campaign.offers))
    except ValueError as error:
        raise CampaignInvalid((tree.problem(("exploration", "arguments"), str(error)),)) from None
    return campaign


def parse_contact(content: bytes, name: str) -> ContactPolicy:
    """Read a contact policy from YAML; `name` stands for the file in problems. Raises CampaignInvalid."""
    tree = Tree(name, "a contact policy is a map of keys; start with `channels:` or `quiet_channels:`")
    return _parsed(tree, content, ContactPolicy, _CONTACT_SECTIONS)


def _parsed(tree: Tree, content: bytes, model: type[Model], shapes: Shapes) -> Model:
    written = tree.read(content)
    try:
        return model.model_validate(written)
    except ValidationError as error:
        raise CampaignInvalid(
            tuple(tree.problem(*_described(problem, shapes)) for problem in error.errors())
        ) from None


def _content(file: Path, limits: Limits) -> bytes:
    try:
        if file.exists() and not file.is_file():  # to open a pipe would wait for whoever writes it
            raise CampaignInvalid((Problem(str(file), 0, "", "is no file; remove it, or put a file there"),))
        with file.open("rb") as opened:
            content = opened.read(limits.campaign_file_bytes_max + 1)
    except OSError as error:
        raise CampaignInvalid((Problem(str(file), 0, "", f"cannot be read: {error.strerror}"),)) from None
    if len(content) > limits.campaign_file_bytes_max:
        problem = f"larger than {limits.campaign_file_bytes_max} bytes; split the campaign"
        raise CampaignInvalid((Problem(str(file), 0, "", problem),))
    return content


def _contact(policies: Sequence[Path], limits: Limits, problems: list[Problem]) -> tuple[ContactPolicy, str]:
    """Return the one contact policy and its file; tell what is wrong with it, and every further one."""
    if not policies:
        return NO_CONTACT_POLICY, ""
    first, *further = policies
    problems += [
        Problem(str(file), 1, "", f"{first} is a contact policy too; keep one for all campaigns")
        for file in further
    ]
    try:
        return parse_contact(_content(first, limits), str(first)), str(first)
    except CampaignInvalid as error:
        problems.extend(error.problems)
        return NO_CONTACT_POLICY, ""


def _files(
    paths: Sequence[Path], problems: list[Problem], policy_problems: list[Problem]
) -> tuple[list[Path], list[Path]]:
    """Return the campaign files and the contact policies of `paths`, each once; tell what is neither."""
    listed: list[Path] = []
    for path in paths:
        try:
            if path.is_dir():
                files = [file for file in sorted(path.iterdir()) if _counts(file)]
                if all(file.name == CONTACT_FILE for file in files):
                    problem = "the directory has no campaign; add one as a .yaml file"
                    problems.append(Problem(str(path), 0, "", problem))
                listed += files
            elif path.is_file():
                beside = path.with_name(CONTACT_FILE)
                listed += [path, beside] if os.path.lexists(beside) else [path]
            else:
                problems.append(Problem(str(path), 0, "", "there is no such file or directory"))
        except OSError as error:
            problems.append(Problem(str(path), 0, "", f"cannot be read: {error.strerror}"))
    policy_problems += [
        Problem(str(file), 0, "", f"a contact policy is called {CONTACT_FILE}; rename it")
        for file in _once(path for path in listed if _is_misnamed(path))
    ]
    policies = _once(path for path in listed if path.name == CONTACT_FILE)
    return list(dict.fromkeys(path for path in listed if not _is_contact(path))), policies


def _counts(file: Path) -> bool:
    """Say whether a file of a directory is meant for this service, by its name."""
    if file.name.startswith("."):
        return False
    return _is_contact(file) or (file.suffix in _SUFFIXES and not os.path.isdir(file))  # noqa: PTH112 - never raises


def _is_contact(file: Path) -> bool:
    return file.name.lower() in _CONTACT_NAMES


def _is_misnamed(file: Path) -> bool:
    return _is_contact(file) and file.name != CONTACT_FILE


def _once(files: Iterable[Path]) -> list[Path]:
    """Return each file once, as it was named first."""
    once: dict[str, Path] = {}
    for file in files:
        once.setdefault(os.path.realpath(file), file)  # of links in a circle too
    return list(once.values())


Shapes = tuple[tuple[tuple[str | type, ...], type[BaseModel]], ...]
_SECTIONS: Shapes = (
    ((), Campaign),
    (("context",), sections.ContextSection),
    (("context", "traits", str), sections.TraitRule),
    (("groups", str), sections.Group),
    (("groups", str, "caps", int), Cap),
    (("offers", int), sections.Offer),
    (("offers", int, "valid"), sections.Validity),
    (("offers", int, "caps", int), Cap),
    (("fallback",), sections.Fallback),
    (("explanations", str), sections.Explanation),
    (("reward",), sections.RewardSection),
    (("reward", "outcomes", str), sections.OutcomeRule),
    (("exploration",), sections.Exploration),
    (("variants",), sections.Variants),
    (("variants", "control"), sections.Control),
)
_CONTACT_SECTIONS: Shapes = (
    ((), ContactPolicy),
    (("channels", str), ChannelRule),
    (("channels", str, "caps", int), Cap),
)


_WRITE = {  # for pydantic's kinds of error whose own words are Python's
    "tuple_type": "write a list, such as [web, app]",
    "dict_type": "write a map of keys, such as {key: value}",
    "model_type": "write a map of keys, such as {key: value}",
    "model_attributes_type": "write a map of keys, such as {key: value}",
    "string_type": "write text, in quotes where it looks like a number or a date",
    "bool_type": "write true or false",
    "int_type": "write a whole number",
    "int_from_float": "write a whole number",
}
_WRITE_THERE = {  # where a better example is known
    ("tuple_type", "caps"): "write a list of caps, such as [{times: 3, per: 7d}]",
    ("float_type", "share"): "write a share from 0 to 1, such as 0.05 for 5 %",
    ("dict_type", "outcomes"): "write outcomes and what one is worth, such as {click: 1}",
    ("model_type", "outcomes"): "write a number, or {weight: 1.0, final: true}",
    ("model_type", "traits"): "write category, number, flag or version, or {kind: number, max_age: 30d}",
    ("model_type", "caps"): "write a cap, such as {times: 3, per: 7d}",
    ("model_type", "channels"): "write {caps: [{times: 2, per: 1d}]}",
    ("too_long", "range"): "write two numbers, such as [0, 1]",
    ("too_short", "offers"): "name at least one offer, such as `- id: free-shipping`",
    ("too_short", "outcomes"): "name at least one outcome, such as `click: 1.0`",
    ("dict_type", "requires"): "write events and durations, such as {add_to_cart: 2h}",
    ("dict_type", "suppress_after"): "write outcomes or events and durations, such as {purchase: 30d}",
}
_ADD = {"consent": "`consent: required`, or `consent: not_required` where silence is a yes"}
_AT_MOST = re.compile(
    r"^(?:String|List|Tuple|Dictionary|Value) should have at (most|least) (\d+) (\w+)"
    r"(?: after validation, not .*)?$"
)  # pydantic's words, of which the kind is Python's
_BOUNDS = {
    "greater_than_equal": ("ge", "more"),
    "less_than_equal": ("le", "less"),
}  # and where pydantic has it
_LETTERS = "write letters, digits"
_PATTERNS = {
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$": f"{_LETTERS} and . _ - and begin with a letter or digit",
    r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$": f"{_LETTERS} and . _ - and begin with a letter or digit",
    r"^[A-Za-z][A-Za-z0-9_]*$": f"{_LETTERS} and _ and begin with a letter",
    r"^[A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8})*$": "write a language such as en or da-DK",
}


def _described(error: Mapping[str, Any], shapes: Shapes) -> tuple[KeyPath, str]:
    """Return where pydantic's error is, and what to do about it."""
    path: KeyPath = tuple(error["loc"])
    if path[-1:] == ("[key]",):  # of a map whose keys have a pattern
        path = path[:-1]
    kind = error["type"]
    if kind == "misplaced":
        below: KeyPath = error["ctx"]["path"]
        return (*path, *below), error["msg"]
    if kind == "extra_forbidden":
        return path, f"unknown key; {_known_keys(path[:-1], str(path[-1]), shapes)}"
    if kind == "missing" and isinstance(path[-1], int):  # the one list of so many values is a range
        return path[:-1], "write two numbers, such as [0, 1]"
    if kind == "missing":
        return path, f"is required; add {_ADD.get(str(path[-1]), f'`{path[-1]}: …`')}"
    return path, _value_problem(error, path, kind)


def _value_problem(error: Mapping[str, Any], path: KeyPath, kind: str) -> str:
    got = f", got {_short(error['input'])}"
    if kind == "string_pattern_mismatch":
        pattern = error["ctx"]["pattern"]
        return f"{_PATTERNS.get(pattern, f'must match {pattern}')}{got}"
    there = [
        _WRITE_THERE[kind, part]
        for part in path[-2:]
        if isinstance(part, str) and (kind, part) in _WRITE_THERE
    ]
    if there or kind in _WRITE:
        return f"{there[-1] if there else _WRITE[kind]}{got}"
    if kind in _BOUNDS:
        bound, word = _BOUNDS[kind]
        return f"must be {exact_text(error['ctx'][bound])} or {word}{got}"
    if kind == "too_long" and isinstance(error["input"], str):
        return f"write at most {error['ctx']['max_length']} characters"
    if kind == "too_short" and isinstance(error["input"], str):
        return "write some text"
    message = _AT_MOST.sub(r"write at \1 \2 \3", str(error["msg"]).removeprefix("Value error, "))
    message = message.replace("Input should be", "must be").replace("a valid number", "a number")
    return f"{message}{got}" if message.startswith("must be") else message


def _known_keys(section: KeyPath, key: str, shapes: Shapes) -> str:
    for shape, model in shapes:
        if len(shape) == len(section) and all(
            part == want or (isinstance(want, type) and isinstance(part, want))
            for part, want in zip(section, shape, strict=True)
        ):
            keys = [field.alias or name for name, field in model.model_fields.items()]
            close = difflib.get_close_matches(key, keys, n=1)
            return f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(keys)}"
    return "remove it"


def _short(value: object) -> str:
    """Return a value as YAML has it, if it is short."""
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    if isinstance(value, dict | list | tuple):
        text = json.dumps(value, ensure_ascii=False, default=str)  # which is YAML
    elif isinstance(value, float):
        text = exact_text(value) if isfinite(value) else f".{value}".replace(".-", "-.")
    else:
        text = str(value) if isinstance(value, date) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - enough to recognise it
