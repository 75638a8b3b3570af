"""YAML read strictly: plain values with the line of every key, or a problem that says how to mend it.

What holds: a key may stand once, only `true` and `false` are flags, also as True and TRUE (a country stays
NO), nothing is a number by surprise (21:30 stays text), `<<: *name` merges a map whose keys yield to those
beside it, no file makes the reader expand more than it may hold, and one of too many values is refused before
the rest of it is read. What a key means is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from tilbud.domain.errors import CampaignInvalid, Problem
from tilbud.domain.limits import Limits
from tilbud.domain.text import nfc

KeyPath = tuple[str | int, ...]
_TOO_MUCH = f"more than {Limits.yaml_values_max} values or {Limits.yaml_levels_max} levels; write less"
_MERGE = "<<"
_REMEDIES = (  # by what PyYAML says; the first that fits
    ("'\\t'", "indent with spaces"),
    ("that cannot start any token", "put the text in quotes"),
    ("unexpected end of stream", "close the quote"),
    ("unknown escape character", "write single quotes around what has a backslash"),
    ("'<stream end>'", "close the bracket"),
    ("'<scalar>'", "put the whole text in quotes, or close a quote before it"),
    ("expected ',' or", "put text that has one of : , { } [ ] in it in quotes, or mend the brackets"),
    ("mapping values are not allowed", "put text that has `: ` in it in quotes, or mend the indentation"),
    ("expected <block end>", "begin keys of one map, and items of one list, in one column"),
    ("could not find expected ':'", "write `key: value`"),
    ("while scanning an alias", "put the text in quotes"),
    ("undefined alias", "write the anchor, `&name`, before it, or put the text in quotes"),
    ("expected a single document", "write one campaign a file"),
)
_LOOK = "look for brackets and quotes that are not closed, and for uneven indentation, here or just before"
_OR_SAVE = "or save the file as UTF-8 where it is not"
_SURROGATE = re.compile("[\ud800-\udfff]")


class _TooMuchError(Exception):
    """There are more values than may be; `line` is where."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


class _Counted(Composer, SafeConstructor, Resolver):
    """Composes what is written, and no more of it than may be."""

    composed = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Count a value; what is named again is counted where it is read."""
        self.composed += 1
        if self.composed > 2 * Limits.yaml_values_max:  # keys are nodes too
            raise _TooMuchError(self.peek_event().start_mark.line + 1)  # type: ignore[attr-defined]
        return super().compose_node(parent, index)


class _Loader(_Counted, yaml.SafeLoader):
    """YAML without its surprises: see the module's promise."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] in ("null", "timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PLAIN: tuple[tuple[str, str, str], ...] = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
)
_CORE = "tag:yaml.org,2002:"
_FORMS = {f"{_CORE}null": re.compile(r"~|null|Null|NULL|")}
for _tag, _pattern, _first in _PLAIN:
    _FORMS[f"{_CORE}{_tag}"] = re.compile(_pattern)
    _Loader.add_implicit_resolver(f"{_CORE}{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))
_CALLED = {
    "bool": "true or false",
    "int": "whole number",
    "float": "number",
    "null": "null",
    "timestamp": "date",
}
_TAGS: Mapping[type[yaml.Node], Container[str]] = {
    yaml.MappingNode: {f"{_CORE}map"},
    yaml.SequenceNode: {f"{_CORE}seq"},
    yaml.ScalarNode: {f"{_CORE}str", f"{_CORE}timestamp", *_FORMS},
}
"""What a value may be called: only what it is without a tag, or text."""


def _quick(text: str) -> Any:
    """Return a loader that reads by libyaml, where there is one: the same in a sixth of the time.

    Its events are composed in Python, one by one: libyaml's own composing holds the interpreter to its end.
    """
    if not yaml.__with_libyaml__:
        return _Loader(text)
    return _QuickLoader(text)


if yaml.__with_libyaml__:
    from yaml._yaml import CParser  # it has no types

    class _QuickLoader(_Counted, CParser):
        """See `_quick`."""

        yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            Composer.__init__(self)
            SafeConstructor.__init__(self)
            Resolver.__init__(self)


class Tree:
    """One file's YAML as plain values, with the line of every key."""

    def __init__(self, name: str, empty: str) -> None:
        """`name` stands for the file in problems; `empty` says what to write where it is no map of keys."""
        self._name = name
        self._empty = empty
        self._lines: dict[KeyPath, int] = {(): 1}
        self._nodes = 0
        self._unread = False  # the last reader found no YAML in it

    def read(self, content: bytes) -> object:
        """Return the plain values; raises CampaignInvalid where the YAML cannot be read."""
        text = self._text(content)
        try:
            return self._read(text, _quick)
        except CampaignInvalid:
            if not self._unread or len(content) > Limits.yaml_explained_bytes_max:
                raise
        self._unread, self._nodes, self._lines = False, 0, {(): 1}
        return self._read(text, _Loader)

    def _read(self, text: str, kind: Callable[[str], Any]) -> object:
        loader: Any = None
        try:
            loader = kind(text)
            node = loader.get_single_node()
            if not isinstance(node, yaml.MappingNode):
                raise self._invalid((), self._empty)
            return self._plain(loader, node, ())
        except _TooMuchError as error:
            raise CampaignInvalid((Problem(self._name, error.line, "", _TOO_MUCH),)) from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise self._not_yaml(mark.line + 1 if mark else 1, _parser_message(error)) from None
        except yaml.reader.ReaderError as error:
            before = text[: error.position] if kind is _Loader else text.encode()[: error.position].decode()
            line = before.count("\n") + 1
            raise self._not_yaml(line, f"remove the character #x{error.character:02x}, {_OR_SAVE}") from None
        except RecursionError:
            raise self._not_yaml(_line(loader), "it nests too deep") from None
        except (ValueError, OverflowError):
            raise self._not_yaml(_line(loader), "an escape that is no character; remove it") from None
        finally:
            if loader is not None:
                loader.dispose()

    def problem(self, path: KeyPath, problem: str) -> Problem:
        """Return a problem at the nearest key that the file has."""
        place = path
        while place not in self._lines:
            place = place[:-1]
        return Problem(self._name, self._lines[place], _dotted(path), problem)

    def _text(self, content: bytes) -> str:
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            problem = Problem(self._name, line, "", "is not UTF-8; save the file as UTF-8")
            raise CampaignInvalid((problem,)) from None

    def _not_yaml(self, line: int, message: str) -> CampaignInvalid:
        self._unread = True
        return CampaignInvalid((Problem(self._name, line, "", f"is not valid YAML: {message}"),))

    def _invalid(self, path: KeyPath, problem: str) -> CampaignInvalid:
        return CampaignInvalid((self.problem(path, problem),))

    def _plain(self, loader: _Loader, node: yaml.Node, path: KeyPath) -> Any:
        self._lines.setdefault(path, node.start_mark.line + 1)
        self._nodes += 1
        if self._nodes > Limits.yaml_values_max or len(path) > Limits.yaml_levels_max:
            raise self._invalid(path, _TOO_MUCH)
        if node.tag not in _TAGS[type(node)]:
            raise self._invalid(path, f"has a tag, {node.tag.replace(_CORE, '!!'):.60}; remove it")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(loader, item, (*path, number)) for number, item in enumerate(node.value)]
        return self._scalar(loader, node, path)

    def _scalar(self, loader: _Loader, node: yaml.Node, path: KeyPath) -> Any:
        form = _FORMS.get(node.tag)
        try:
            if form is not None and not form.fullmatch(node.value):
                raise ValueError
            value = loader.construct_object(node)
        except (ValueError, OverflowError, LookupError, AttributeError):  # 2026-13-01, !!int "", !!bool "x"
            kind = _CALLED.get(node.tag.rpartition(":")[2], "value of its kind")
            raise self._invalid(path, f"is no {kind}; put it in quotes if it is text") from None
        if not _is_unicode(value):
            raise self._invalid(path, "has an escape that is no character; remove it")
        return value

    def _mapping(self, loader: _Loader, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        merged: dict[
            str, Any
        ] = {}  # filled in place: copied for each map, many empty ones would take minutes
        for key_node, below in node.value:
            if _merges(key_node):
                for mapping in self._merging(below, (*path, _MERGE), key_node.start_mark.line + 1):
                    for key, value in self._plain(loader, mapping, path).items():
                        merged.setdefault(key, value)
        plain: dict[str, Any] = {}
        seen: set[str] = set()
        for key_node, below in node.value:
            if _merges(key_node):
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._invalid(path, "keys must be plain text")
            key = str(key_node.value)
            if not _is_unicode(key):
                raise self._invalid(path, "a key has an escape that is no character; remove it")
            here = (*path, key)
            self._lines[here] = key_node.start_mark.line + 1
            if nfc(key) in seen:
                raise self._invalid(here, "stands twice; remove one")
            seen.add(nfc(key))
            plain[key] = self._plain(loader, below, here)
        return {**{key: value for key, value in merged.items() if nfc(key) not in seen}, **plain}

    def _merging(self, node: yaml.Node, path: KeyPath, line: int) -> list[yaml.Node]:
        """Return the maps that a `<<` names; of two that have one key the first counts."""
        maps = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not all(isinstance(mapping, yaml.MappingNode) for mapping in maps):
            self._lines[path] = line
            raise self._invalid(path, "merges maps: write `<<: *name`, or put it in quotes where it is a key")
        return list(maps)


def _line(loader: Any) -> int:
    """Return where a reader is; libyaml's does not tell."""
    return int(getattr(loader, "line", 0)) + 1


def _parser_message(error: yaml.MarkedYAMLError) -> str:
    """Return the remedy for what PyYAML found, and the line where what it is in begins."""
    began, problem = error.context_mark, error.problem_mark
    message = ", ".join(part for part in (error.context, error.problem) if part)
    remedy = next((remedy for words, remedy in _REMEDIES if words in message), _LOOK)
    if began and problem and began.line != problem.line:
        return f"{remedy}; what it belongs to begins in line {began.line + 1}"
    return remedy


def _merges(key: yaml.Node) -> bool:
    """Say whether a key merges maps; in quotes it is a key like any other."""
    return isinstance(key, yaml.ScalarNode) and key.value == _MERGE and not key.style


def _is_unicode(value: object) -> bool:
    """Say that `value` is no text with half a surrogate pair, as an escape may make one."""
    return not isinstance(value, str) or not _SURROGATE.search(value)


def _dotted(path: KeyPath) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part or repr(part)}" for part in path)
    return text.removeprefix(".")
