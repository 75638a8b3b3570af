"""Logged randomised data: a table where offers were given by chance and one column says what came of it.

What always holds:
 * A row is used as it is or refused with file, line and column; nothing is guessed or silently dropped.
 * An offer's id is the slug of its text: `Mens E-Mail` is `mens-e-mail`.
 * The outcome is a finite number; 0 means nothing happened. An empty cell means that nothing is known.
 * A row weighs 1 where offers were given with equal chance; where the log has each row's propensity, the
   probability with which its offer was given, 1 / propensity, at most `weight_max`. A mean weighted so is
   that of offers given with equal chance (inverse propensity weighting; Horvitz and Thompson, 1952),
   normalised by the weights (Hájek); clipping trades some bias for less variance, and is counted.
 * Rows keep the file's order. A log may drift, and replaying it as it happened shows the learner that
   drift; order luck is measured by asking `shuffled` for other orders.

What it does not do: check that the log was randomised (`LoggedData.looks_randomised` only says when the
counts contradict it).
"""

from __future__ import annotations

import math
import random
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from tilbud.client.questions import Feature
from tilbud.simulator.errors import LogError
from tilbud.simulator.log_file import columns_of, rows_of

CATEGORY_LENGTH_MAX = 128
"""Characters; the contract's limit for a category, a word and a customer's id."""
WEIGHT_MAX_PER_OFFER = 10.0
"""Where nobody says: the largest weight is so many times that of offers given with equal chance."""
_FLOAT32_MAX = 3.4028234663852886e38
_FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_RANDOMISED_Z_MAX = 4.0
"""Standard errors that an offer's count may be off before the log is called not randomised so."""
_SINCE_1970 = re.compile(r"([0-9]{9,10}|[0-9]{13})(\.[0-9]+)?")
"""Seconds of the years 1973 to 2286, or milliseconds from 2001; 202611010930 is none of the two."""
_YEARS = (1971, 9998)
"""Within the contract's, whatever the time zone."""
_MILLISECONDS_FROM = 1e11
"""Numbers beyond are milliseconds since 1970; as seconds they would be the year 5138."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column of a log holds what; empty: none does."""

    offer: str
    outcome: str
    propensity: str = ""
    time: str = ""
    customer: str = ""
    words: Mapping[str, str] = field(default_factory=dict)
    """By field of the contract's Context: device, channel, journey_stage, place, language, country."""
    features: Mapping[str, str] = field(default_factory=dict)
    """Of features whose column is not called as they are."""


@dataclass(frozen=True, slots=True)
class LoggedRow:
    """One customer, the offer they were given by chance, and what came of it."""

    line: int
    offer: str
    outcome: float
    features: Mapping[str, Feature]
    words: Mapping[str, str]
    time: datetime | None
    customer: str
    propensity: float
    """With which the offer was given."""


@dataclass(frozen=True, slots=True)
class LoggedRate:
    """The mean logged outcome of some rows."""

    rows: int
    rate: float
    error: float
    """Its standard error."""
    happened: int = 0
    """Rows whose outcome is not 0."""


@dataclass(frozen=True, slots=True)
class LoggedData:
    """The rows of one file, and what each offer earned in them."""

    file: Path
    rows: tuple[LoggedRow, ...]
    offers: tuple[str, ...]
    """The campaign's, in its order; each is in the log."""
    weighted: bool
    """The log has propensities; else its offers are taken to be given with equal chance."""
    weight_max: float
    absent: tuple[str, ...] = ()
    """Features of the campaign of which the log knows nothing."""

    def weight(self, row: LoggedRow) -> float:
        """How much a row counts."""
        return min(1 / row.propensity, self.weight_max) if self.weighted else 1.0

    @property
    def clipped(self) -> int:
        """How many rows would weigh more than they may."""
        return sum(self.weighted and 1 / row.propensity > self.weight_max for row in self.rows)

    def count(self, offer: str) -> int:
        """How many rows were given the offer."""
        return sum(row.offer == offer for row in self.rows)

    def rate(self, offer: str) -> LoggedRate:
        """The mean outcome of the rows that were given the offer."""
        return self.mean(row for row in self.rows if row.offer == offer)

    def mean(self, rows: Iterable[LoggedRow]) -> LoggedRate:
        """The weighted mean outcome of rows."""
        chosen = list(rows)
        return logged_rate([row.outcome for row in chosen], [self.weight(row) for row in chosen])

    def uniform(self) -> LoggedRate:
        """What offers given with equal chance earn: the mean over the offers of what each earned."""
        rates = [self.rate(offer) for offer in self.offers]
        error = math.sqrt(math.fsum(rate.error**2 for rate in rates)) / len(rates)
        happened = sum(rate.happened for rate in rates)
        return LoggedRate(
            len(self.rows), math.fsum(rate.rate for rate in rates) / len(rates), error, happened
        )

    def looks_randomised(self) -> bool:
        """False where some offer's rows, each for 1 / propensity rows, are not about as many as all rows."""
        for offer in self.offers:
            inverse = [1 / row.propensity for row in self.rows if row.offer == offer]
            error = math.sqrt(sum(one * (one - 1) for one in inverse))  # fsum refuses what is infinite
            if abs(sum(inverse) - len(self.rows)) > _RANDOMISED_Z_MAX * error:
                return False
        return True

    def undeclared(self, name: str, words: Collection[str]) -> Mapping[str, int]:
        """Return the words of a field that are none of these, and how many rows have each."""
        counts: dict[str, int] = {}
        for row in self.rows:
            if word := row.words.get(name, ""):
                counts[word] = counts.get(word, 0) + 1
        return {word: count for word, count in counts.items() if word not in words}

    def shuffled(self, seed: int) -> LoggedData:
        """The same rows in another order, the same for the same seed."""
        rows = list(self.rows)
        random.Random(seed).shuffle(rows)
        return replace(self, rows=tuple(rows))


def logged_rate(outcomes: Sequence[float], weights: Sequence[float]) -> LoggedRate:
    """The weighted mean of outcomes and its standard error; not numbers where there are none.

    The error is that of a ratio (delta method): with equal weights that of a mean.
    """
    rows, total = len(outcomes), math.fsum(weights)
    if not rows:
        return LoggedRate(0, math.nan, math.nan)
    rate = math.fsum(w * outcome for w, outcome in zip(weights, outcomes, strict=True)) / total
    squares = math.fsum((w * (outcome - rate)) ** 2 for w, outcome in zip(weights, outcomes, strict=True))
    error = math.sqrt(squares * rows / max(rows - 1, 1)) / total
    return LoggedRate(rows, rate, error, sum(outcome != 0 for outcome in outcomes))


def slug(text: str) -> str:
    """Lower case, every run of other characters one hyphen: `Mens E-Mail` → `mens-e-mail`."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def read_logged(
    file: Path,
    columns: Columns,
    *,
    offers: Sequence[str],
    features: Mapping[str, str],
    rows_max: int | None = None,
    weight_max: float | None = None,
) -> LoggedData:
    """Read and check a whole file.

    `offers` and `features` (name → category, number, flag or version) are the campaign's; a feature is read
    from the column of its name, or from the one that `columns` names, and is absent where there is none.
    Raises LogError.
    """
    logged_features = _logged_features(file, columns, features)
    reader = _Reader(file, columns, offers, logged_features)
    rows: list[LoggedRow] = []
    for line, cells in rows_of(file, reader.needed):
        if rows_max is not None and len(rows) >= rows_max:
            break
        rows.append(reader.row(line, cells))
    if not rows:
        raise LogError(file, None, None, "there are no rows")
    data = LoggedData(
        file,
        tuple(rows),
        tuple(offers),
        weighted=bool(columns.propensity),
        weight_max=weight_max or WEIGHT_MAX_PER_OFFER * len(offers),
        absent=tuple(feature for feature in features if feature not in logged_features),
    )
    for offer in offers:
        if not data.count(offer):
            problem = f"the campaign's offer {offer!r} was never given; replaying would be biased"
            raise LogError(file, None, columns.offer, problem)
    return data


def _logged_features(file: Path, columns: Columns, features: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return kind and column of each feature that the log has; raises LogError."""
    for feature in columns.features:
        if feature not in features:
            names = ", ".join(features) or "none"
            raise LogError(
                file, None, None, f"cannot rename {feature!r}: the campaign's features are {names}"
            )
    there = columns_of(file)
    return {
        feature: (kind, columns.features.get(feature, feature))
        for feature, kind in features.items()
        if feature in columns.features or feature in there
    }


class _Reader:
    """Makes rows of cells."""

    def __init__(
        self, file: Path, columns: Columns, offers: Sequence[str], features: Mapping[str, tuple[str, str]]
    ) -> None:
        self._file = file
        self._columns = columns
        self._offers = offers
        self._features = features
        named = (columns.propensity, columns.time, columns.customer, *columns.words.values())
        of_features = [column for _, column in features.values()]
        self.needed = [columns.offer, columns.outcome, *(column for column in named if column), *of_features]

    def row(self, line: int, cells: Mapping[str, str]) -> LoggedRow:
        columns = self._columns
        return LoggedRow(
            line=line,
            offer=self._offer(line, cells[columns.offer]),
            outcome=self._number(line, columns.outcome, cells[columns.outcome]),
            features={
                feature: self._feature(line, column, kind, cells[column])
                for feature, (kind, column) in self._features.items()
                if cells[column] != ""
            },
            words={name: self._word(line, column, cells[column]) for name, column in columns.words.items()},
            time=self._time(line, columns.time, cells[columns.time]) if columns.time else None,
            customer=self._word(line, columns.customer, cells[columns.customer]) if columns.customer else "",
            propensity=self._propensity(line, cells),
        )

    def _error(self, line: int, column: str, problem: str) -> LogError:
        return LogError(self._file, line, column, problem)

    def _offer(self, line: int, text: str) -> str:
        offer = slug(text)
        if text in self._offers:
            return text
        if offer not in self._offers:
            problem = f"{text!r} is offer {offer!r}; the campaign has {', '.join(self._offers)}"
            raise self._error(line, self._columns.offer, problem)
        return offer

    def _propensity(self, line: int, cells: Mapping[str, str]) -> float:
        column = self._columns.propensity
        if not column:
            return 1 / len(self._offers)
        propensity = self._number(line, column, cells[column])
        if not 0 < propensity <= 1:
            problem = f"{cells[column]!r} is no propensity: write a number above 0, and at most 1"
            raise self._error(line, column, problem)
        return propensity

    def _feature(self, line: int, column: str, kind: str, text: str) -> Feature:
        if kind == "number":
            return self._number(line, column, text)
        if kind == "flag":
            if text.lower() not in _FLAGS:
                raise self._error(line, column, f"{text!r} is not a flag: {', '.join(_FLAGS)}")
            return _FLAGS[text.lower()]
        return self._word(line, column, text)

    def _word(self, line: int, column: str, text: str) -> str:
        if len(text) > CATEGORY_LENGTH_MAX:
            raise self._error(line, column, f"{len(text)} characters; at most {CATEGORY_LENGTH_MAX}")
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
            raise self._error(line, column, f"{text!r} has control characters")
        return text

    def _number(self, line: int, column: str, text: str) -> float:
        try:
            number = float("" if "_" in text else text)  # 1_000 is Python's
        except ValueError:
            raise self._error(line, column, f"{text!r} is not a number") from None
        if not abs(number) <= _FLOAT32_MAX:
            raise self._error(line, column, f"{text!r} is not a finite 32-bit float")
        return number

    def _time(self, line: int, column: str, text: str) -> datetime | None:
        """Return a time as ISO 8601 or a number since 1970 says it; without a zone it is UTC's."""
        if not text:
            return None
        problem = f"{text!r} is no time: write 2026-11-01T09:30:00+01:00, or seconds since 1970"
        try:
            if _SINCE_1970.fullmatch(text):
                since = float(text)
                time = datetime.fromtimestamp(since / 1_000 if since > _MILLISECONDS_FROM else since, UTC)
            else:
                time = datetime.fromisoformat(text)
        except (ValueError, OverflowError, OSError):
            raise self._error(line, column, problem) from None
        if not _YEARS[0] <= time.year <= _YEARS[1]:
            raise self._error(line, column, problem)
        return time if time.tzinfo else time.replace(tzinfo=UTC)
