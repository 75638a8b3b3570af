"""Logged randomised data from a CSV."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilbud.simulator.errors import CsvError
from tilbud.simulator.logged import LoggedData, read_logged, slug

HEADER = "recency,mens,channel,segment,visit"
ROWS = ["10,1,Web,Mens E-Mail,1", "6,0,,No E-Mail,0", "2.5,yes,Phone,Mens E-Mail,0"]
FEATURES = {"recency": "number", "mens": "flag", "purchase_channel": "category"}
HILLSTROM = Path(__file__).resolve().parents[4] / "shared" / "data" / "hillstrom.csv"


def read(file: Path, **changed: object) -> LoggedData:
    """Read as most tests do, but for what is changed."""
    arguments: dict[str, Any] = {
        "offer_column": "segment",
        "outcome_column": "visit",
        "offers": ["mens-e-mail", "no-e-mail"],
        "features": FEATURES,
        "rename": {"purchase_channel": "channel"},
    }
    return read_logged(file, **(arguments | changed))


def written(folder: Path, *lines: str) -> Path:
    """A file of these lines."""
    file = folder / "log.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_rows_are_read_as_they_are(tmp_path: Path):
    """Features take the declared kinds, an empty cell is an absent feature, offers become slugs."""
    data = read(written(tmp_path, HEADER, *ROWS))
    assert [(row.line, row.offer, row.outcome) for row in data.rows] == [
        (2, "mens-e-mail", 1),
        (3, "no-e-mail", 0),
        (4, "mens-e-mail", 0),
    ]
    assert [dict(row.features) for row in data.rows] == [
        {"recency": 10.0, "mens": True, "purchase_channel": "Web"},
        {"recency": 6.0, "mens": False},
        {"recency": 2.5, "mens": True, "purchase_channel": "Phone"},
    ]
    assert (data.rate("mens-e-mail").rate, data.rate("no-e-mail").rate) == (0.5, 0)


@pytest.mark.parametrize(
    ("lines", "line", "column", "problem"),
    [
        ((HEADER, ROWS[0], "x,1,Web,No E-Mail,0"), 3, "recency", "'x' is not a number"),
        ((HEADER, "nan,1,Web,No E-Mail,0"), 2, "recency", "not a finite"),
        ((HEADER, "1e39,1,Web,No E-Mail,0"), 2, "recency", "not a finite"),
        ((HEADER, "1,maybe,Web,No E-Mail,0"), 2, "mens", "is not a flag"),
        ((HEADER, f"1,1,{'x' * 129},No E-Mail,0"), 2, "channel", "at most 128"),
        ((HEADER, "1,1,W\teb,No E-Mail,0"), 2, "channel", "control characters"),
        ((HEADER, *ROWS, "1,1,Web,Kids E-Mail,0"), 5, "segment", "the campaign has mens-e-mail, no-e-mail"),
        ((HEADER, "1,1,Web,No E-Mail,"), 2, "visit", "'' is not a number"),
        ((HEADER, ROWS[0], "1,1,Web"), 3, "channel", "3 cells, but the header has 5"),
        (("recency,mens,channel,segment", *ROWS), 1, "visit", "no such column"),
        ((HEADER + ",visit", *ROWS), 1, "visit", "more than once"),
        ((HEADER, '1,1,"Web,No E-Mail,0'), 2, None, "unexpected end of data"),
        ((HEADER, ROWS[0]), None, "segment", "'no-e-mail' was never given"),
        ((HEADER,), None, None, "there are no rows"),
        (("",), 1, "segment", "no such column"),
    ],
)
def test_an_error_names_its_place(
    tmp_path: Path, lines: tuple[str, ...], line: int | None, column: str | None, problem: str
):
    """What cannot be used is refused with file, line and column, and what is wrong there."""
    file = written(tmp_path, *lines)
    with pytest.raises(CsvError, match=re.escape(problem)) as caught:
        read(file)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert str(file) in str(caught.value)
    assert line is None or f"line {line}" in str(caught.value)
    assert column is None or repr(column) in str(caught.value)


def test_lines_count_what_an_editor_shows(tmp_path: Path):
    """A cell over two lines and a blank line shift the line number like in an editor."""
    file = written(tmp_path, HEADER, '1,1,Web,"No\nE-Mail",0', "", "x,1,Web,No E-Mail,0")
    with pytest.raises(CsvError) as caught:
        read(file)
    assert caught.value.line == 5


def test_a_missing_file_says_so(tmp_path: Path):
    """A file that cannot be read is a CsvError with its name, not a traceback."""
    with pytest.raises(CsvError, match=r"nowhere\.csv: No such file"):
        read(tmp_path / "nowhere.csv")


def test_text_in_another_encoding_is_refused(tmp_path: Path):
    """Bytes that are not UTF-8 are refused with the file's name."""
    file = tmp_path / "log.csv"
    file.write_bytes(f"{HEADER}\n1,1,K\xf8benhavn,No E-Mail,0\n".encode("latin-1"))
    with pytest.raises(CsvError, match="not UTF-8"):
        read(file)


def test_a_rename_of_nothing_is_refused(tmp_path: Path):
    """Renaming a feature that the campaign does not declare is refused, and its features are named."""
    with pytest.raises(CsvError, match=r"'basket'.*recency, mens, purchase_channel"):
        read(written(tmp_path, HEADER, *ROWS), rename={"basket": "channel"})


def test_a_seed_shuffles_and_keeps_every_row(tmp_path: Path):
    """Shuffling gives the same rows in another order, and the same order for the same seed."""
    rows = [f"{n},1,Web,{'Mens' if n % 2 else 'No'} E-Mail,0" for n in range(50)]
    data = read(written(tmp_path, HEADER, *rows))
    lines = [row.line for row in data.rows]
    once, again = ([row.line for row in data.shuffled(3).rows] for _ in range(2))
    assert once == again != lines
    assert sorted(once) == lines


def test_a_log_that_prefers_an_offer_is_noticed(tmp_path: Path):
    """Counts far from equal are not called uniform; counts off by chance are."""
    mens, none = "1,1,Web,Mens E-Mail,0", "1,1,Web,No E-Mail,0"
    assert read(written(tmp_path, HEADER, *[mens] * 52, *[none] * 48)).looks_uniform()
    assert not read(written(tmp_path, HEADER, *[mens] * 80, *[none] * 20)).looks_uniform()


@given(st.text())
def test_a_slug_is_an_id_or_nothing(text: str):
    """Whatever the text, its slug is made of small letters, digits and single inner hyphens."""
    assert re.fullmatch(r"([a-z0-9]+(-[a-z0-9]+)*)?", slug(text))


@pytest.mark.skipif(not HILLSTROM.exists(), reason="hillstrom.csv is not beside this checkout")
def test_hillstrom_means_are_the_published_ones():
    """The visit rates of the public log come out as published."""
    data = read_logged(
        HILLSTROM,
        offer_column="segment",
        outcome_column="visit",
        offers=["mens-e-mail", "womens-e-mail", "no-e-mail"],
        features={"history_segment": "category", "newbie": "flag", "history": "number"},
        rename={},
    )
    assert len(data.rows) == 64_000
    assert data.looks_uniform()
    assert [round(data.rate(offer).rate, 4) for offer in data.offers] == [0.1828, 0.1514, 0.1062]
