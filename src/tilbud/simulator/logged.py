"""Logged randomised data: a CSV where offers were given at random and one column says what came of it.

What always holds:
 * A row is used as it is or refused with file, line and column; nothing is guessed or silently dropped.
 * An offer's id is the slug of its text: `Mens E-Mail` is `mens-e-mail`.
 * The outcome is a finite number; 0 means nothing happened. An empty cell means the feature is absent.
 * Rows keep the file's order. A log may drift, and replaying it as it happened shows the learner that
   drift; order luck is measured by asking `shuffled` for other orders.

What it does not do: check that the log was randomised (`LoggedData.looks_uniform` only says when the
counts contradict it), or know propensities other than uniform.
"""

from __future__ import annotations

import csv
import math
import random
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tilbud.simulator.errors import CsvError

CATEGORY_LENGTH_MAX = 128
"""Characters; the contract's limit for a category."""
_FLOAT32_MAX = 3.4028234663852886e38
_FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_UNIFORM_Z_MAX = 4.0
"""Standard errors that an offer's count may be off before the log is called not uniform."""

Feature = str | float | bool


@dataclass(frozen=True, slots=True)
class LoggedRow:
    """One customer, the offer they were given at random, and what came of it."""

    line: int
    offer: str
    outcome: float
    features: Mapping[str, Feature]


@dataclass(frozen=True, slots=True)
class LoggedRate:
    """The mean logged outcome of some rows."""

    rows: int
    rate: float
    error: float
    """Its standard error."""


@dataclass(frozen=True, slots=True)
class LoggedData:
    """The rows of one file, and what each offer earned in them."""

    file: Path
    rows: tuple[LoggedRow, ...]
    offers: tuple[str, ...]
    """The campaign's, in its order; each is in the log."""

    def count(self, offer: str) -> int:
        """How many rows were given the offer."""
        return sum(row.offer == offer for row in self.rows)

    def rate(self, offer: str) -> LoggedRate:
        """The mean outcome of the rows that were given the offer."""
        return logged_rate([row.outcome for row in self.rows if row.offer == offer])

    def looks_uniform(self) -> bool:
        """False where some offer's count is over four standard errors from an equal share."""
        rows, share = len(self.rows), 1 / len(self.offers)
        error = math.sqrt(rows * share * (1 - share))
        return all(abs(self.count(offer) - rows * share) <= _UNIFORM_Z_MAX * error for offer in self.offers)

    def shuffled(self, seed: int) -> LoggedData:
        """The same rows in another order, the same for the same seed."""
        rows = list(self.rows)
        random.Random(seed).shuffle(rows)
        return replace(self, rows=tuple(rows))


def logged_rate(outcomes: Collection[float]) -> LoggedRate:
    """The mean of outcomes and its standard error; not numbers where there are none."""
    rows = len(outcomes)
    if not rows:
        return LoggedRate(0, math.nan, math.nan)
    rate = math.fsum(outcomes) / rows
    variance = math.fsum((outcome - rate) ** 2 for outcome in outcomes) / max(rows - 1, 1)
    return LoggedRate(rows, rate, math.sqrt(variance / rows))


def slug(text: str) -> str:
    """Lower case, every run of other characters one hyphen: `Mens E-Mail` → `mens-e-mail`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def read_logged(
    file: Path,
    *,
    offer_column: str,
    outcome_column: str,
    offers: Sequence[str],
    features: Mapping[str, str],
    rename: Mapping[str, str],
    rows_max: int | None = None,
) -> LoggedData:
    """Read and check a whole file.

    `offers` and `features` (name → category, number or flag) are the campaign's; a feature is read from
    the column of its name, or from `rename[feature]`. Raises CsvError.
    """
    for feature in rename:
        if feature not in features:
            problem = (
                f"cannot rename {feature!r}: the campaign's features are {', '.join(features) or 'none'}"
            )
            raise CsvError(file, None, None, problem)
    columns = {feature: rename.get(feature, feature) for feature in features}
    rows: list[LoggedRow] = []
    for line, cells in _lines(file, [offer_column, outcome_column, *columns.values()]):
        if rows_max is not None and len(rows) >= rows_max:
            break
        offer = slug(cells[offer_column])
        if offer not in offers:
            text, names = cells[offer_column], ", ".join(offers)
            problem = f"{text!r} is offer {offer!r}; the campaign has {names}"
            raise CsvError(file, line, offer_column, problem)
        rows.append(
            LoggedRow(
                line=line,
                offer=offer,
                outcome=_number(file, line, outcome_column, cells[outcome_column]),
                features={
                    feature: _feature(file, line, columns[feature], kind, cells[columns[feature]])
                    for feature, kind in features.items()
                    if cells[columns[feature]] != ""
                },
            )
        )
    if not rows:
        raise CsvError(file, None, None, "there are no rows")
    data = LoggedData(file, tuple(rows), tuple(offers))
    for offer in offers:
        if not data.count(offer):
            problem = f"the campaign's offer {offer!r} was never given; replaying would be biased"
            raise CsvError(file, None, offer_column, problem)
    return data


def _lines(file: Path, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, cells by column) of each row; blank lines are skipped."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header: list[str] = []
            try:
                header = next(reader, [])
                _check_header(file, header, needed)
                for cells in reader:
                    if not cells:
                        continue
                    if len(cells) != len(header):
                        problem = f"{len(cells)} cells, but the header has {len(header)}"
                        last = header[min(len(cells), len(header)) - 1]
                        raise CsvError(file, reader.line_num, last, problem)
                    yield reader.line_num, dict(zip(header, (cell.strip() for cell in cells), strict=True))
            except csv.Error as error:
                raise CsvError(file, reader.line_num, None, str(error)) from error
    except UnicodeDecodeError as error:
        raise CsvError(file, None, None, f"not UTF-8: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise CsvError(file, None, None, error.strerror or str(error)) from error


def _check_header(file: Path, header: Sequence[str], needed: Sequence[str]) -> None:
    for column in needed:
        if column not in header:
            raise CsvError(file, 1, column, f"no such column; the header has {', '.join(header) or 'none'}")
        if header.count(column) > 1:
            raise CsvError(file, 1, column, "the header has this column more than once")


def _feature(file: Path, line: int, column: str, kind: str, text: str) -> Feature:
    if kind == "number":
        return _number(file, line, column, text)
    if kind == "flag":
        if text.lower() not in _FLAGS:
            raise CsvError(file, line, column, f"{text!r} is not a flag: {', '.join(_FLAGS)}")
        return _FLAGS[text.lower()]
    if len(text) > CATEGORY_LENGTH_MAX:
        raise CsvError(file, line, column, f"{len(text)} characters; at most {CATEGORY_LENGTH_MAX}")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise CsvError(file, line, column, f"{text!r} has control characters")
    return text


def _number(file: Path, line: int, column: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise CsvError(file, line, column, f"{text!r} is not a number") from None
    if not abs(number) <= _FLOAT32_MAX:
        raise CsvError(file, line, column, f"{text!r} is not a finite 32-bit float")
    return number
