"""The rows of a log as a person wrote them: a CSV with a header, or JSON lines.

What always holds: each row comes with the line an editor shows, and its cells by column, as text without
blanks around it; "" where a cell is empty, null or left out. What cannot be read is a LogError with file
and line. A file whose first character is `{` is JSON lines.

What it does not do: know what a column means.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TextIO

from tilbud.simulator.errors import LogError

Row = tuple[int, Mapping[str, str]]


def rows_of(file: Path, needed: Sequence[str]) -> Iterator[Row]:
    """Yield (line, cells by column) of each row; blank lines are skipped. Raises LogError.

    A CSV must have the `needed` columns; of JSON lines some row must.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            is_json = stream.read(1) == "{"
            stream.seek(0)
            yield from _json_lines(file, stream, needed) if is_json else _csv(file, stream, needed)
    except UnicodeDecodeError as error:
        raise LogError(file, None, None, f"not UTF-8: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise LogError(file, None, None, error.strerror or str(error)) from error


def columns_of(file: Path) -> frozenset[str]:
    """Return the columns of a CSV's header, or the keys of all JSON lines. Raises LogError."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            is_json = stream.read(1) == "{"
            stream.seek(0)
            if not is_json:
                return frozenset(_header(csv.reader(stream, strict=True)))
            lines = (_object(file, number, line) for number, line in enumerate(stream, 1) if line.strip())
            return frozenset().union(*lines)
    except (csv.Error, UnicodeDecodeError):
        return frozenset()  # whoever reads the rows says what is wrong
    except OSError as error:
        raise LogError(file, None, None, error.strerror or str(error)) from error


def _csv(file: Path, stream: TextIO, needed: Sequence[str]) -> Iterator[Row]:
    reader = csv.reader(stream, strict=True)
    try:
        header = _header(reader)
        _check_header(file, header, needed)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                problem = f"{len(cells)} cells, but the header has {len(header)}"
                last = header[min(len(cells), len(header)) - 1]
                raise LogError(file, reader.line_num, last, problem)
            yield reader.line_num, dict(zip(header, (cell.strip() for cell in cells), strict=True))
    except csv.Error as error:
        raise LogError(file, reader.line_num, None, str(error)) from error


def _header(reader: Iterator[list[str]]) -> list[str]:
    return [cell.strip() for cell in next(reader, [])]


def _check_header(file: Path, header: Sequence[str], needed: Sequence[str]) -> None:
    for column in needed:
        if column not in header:
            raise LogError(file, 1, column, f"no such column; the header has {', '.join(header) or 'none'}")
        if header.count(column) > 1:
            raise LogError(file, 1, column, "the header has this column more than once")


def _json_lines(file: Path, stream: TextIO, needed: Sequence[str]) -> Iterator[Row]:
    unseen = set(needed)
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        cells = _object(file, number, line)
        unseen -= cells.keys()
        yield number, {column: cells.get(column, "") for column in needed}
    for column in sorted(unseen):
        raise LogError(file, None, column, "no row has this key")


def _once(file: Path, number: int, pairs: list[tuple[str, object]]) -> dict[str, object]:
    for column, times in Counter(name for name, _ in pairs).items():
        if times > 1:
            raise LogError(file, number, column, "the row has this key more than once")
    return dict(pairs)


def _object(file: Path, number: int, line: str) -> dict[str, str]:
    try:
        written = json.loads(line, object_pairs_hook=partial(_once, file, number))
    except (ValueError, RecursionError) as error:
        problem = f"not JSON: {error.msg}" if isinstance(error, json.JSONDecodeError) else "not JSON"
        raise LogError(file, number, None, problem) from error
    if not isinstance(written, dict):
        raise LogError(file, number, None, "write one JSON object a line")
    return {column: _text(file, number, column, value) for column, value in written.items()}


def _text(file: Path, number: int, column: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return value.strip()
    raise LogError(file, number, column, "write text, a number, true, false or null")
