"""Logged randomised data from a CSV."""

from __future__ import annotations

import json
import math
import re
import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilbud.simulator.errors import LogError
from tilbud.simulator.logged import Columns, LoggedData, logged_rate, read_logged, slug

HEADER = "recency,mens,channel,segment,visit"
ROWS = ["10,1,Web,Mens E-Mail,1", "6,0,,No E-Mail,0", "2.5,yes,Phone,Mens E-Mail,0"]
FEATURES = {"recency": "number", "mens": "flag", "purchase_channel": "category"}
COLUMNS = Columns("segment", "visit", features={"purchase_channel": "channel"})
HILLSTROM = Path(__file__).resolve().parents[4] / "shared" / "data" / "hillstrom.csv"


def read(file: Path, **changed: object) -> LoggedData:
    """Read as most tests do, but for what is changed."""
    arguments: dict[str, Any] = {
        "columns": COLUMNS,
        "offers": ["mens-e-mail", "no-e-mail"],
        "features": FEATURES,
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
    with pytest.raises(LogError, match=re.escape(problem)) as caught:
        read(file)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert str(file) in str(caught.value)
    assert line is None or f"line {line}" in str(caught.value)
    assert column is None or repr(column) in str(caught.value)


def test_lines_count_what_an_editor_shows(tmp_path: Path):
    """A cell over two lines and a blank line shift the line number like in an editor."""
    file = written(tmp_path, HEADER, '1,1,Web,"No\nE-Mail",0', "", "x,1,Web,No E-Mail,0")
    with pytest.raises(LogError) as caught:
        read(file)
    assert caught.value.line == 5


def test_a_missing_file_says_so(tmp_path: Path):
    """A file that cannot be read is a LogError with its name, not a traceback."""
    with pytest.raises(LogError, match=r"nowhere\.csv: No such file"):
        read(tmp_path / "nowhere.csv")


def test_text_in_another_encoding_is_refused(tmp_path: Path):
    """Bytes that are not UTF-8 are refused with the file's name."""
    file = tmp_path / "log.csv"
    file.write_bytes(f"{HEADER}\n1,1,K\xf8benhavn,No E-Mail,0\n".encode("latin-1"))
    with pytest.raises(LogError, match="not UTF-8"):
        read(file)


def test_a_rename_of_nothing_is_refused(tmp_path: Path):
    """Renaming a feature that the campaign does not declare is refused, and its features are named."""
    with pytest.raises(LogError, match=r"'basket'.*recency, mens, purchase_channel"):
        read(
            written(tmp_path, HEADER, *ROWS), columns=Columns("segment", "visit", features={"basket": "mens"})
        )


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
    assert read(written(tmp_path, HEADER, *[mens] * 52, *[none] * 48)).looks_randomised()
    assert not read(written(tmp_path, HEADER, *[mens] * 80, *[none] * 20)).looks_randomised()


def test_json_lines_are_read_as_a_table_is(tmp_path: Path):
    """Text, numbers, flags and null; what a line leaves out is not known."""
    file = tmp_path / "log.jsonl"
    lines = [
        {"segment": "Mens E-Mail", "visit": 1, "recency": 2.5, "mens": True, "other": "x"},
        {"segment": "no-e-mail", "visit": 0, "mens": None, "channel": " Web "},
    ]
    file.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    data = read(file)
    assert [(row.line, row.offer, row.outcome) for row in data.rows] == [
        (1, "mens-e-mail", 1),
        (2, "no-e-mail", 0),
    ]
    assert [dict(row.features) for row in data.rows] == [
        {"recency": 2.5, "mens": True},
        {"purchase_channel": "Web"},
    ]


@pytest.mark.parametrize(
    ("line", "column", "problem"),
    [
        ("{]", None, "not JSON"),
        ("[1]", None, "write one JSON object a line"),
        ('{"segment": "no-e-mail", "visit": [1]}', "visit", "write text, a number"),
        ('{"segment": "no-e-mail"}', "visit", "'' is not a number"),
        ('{"segment": "no-e-mail", "visit": NaN}', "visit", "not a finite"),
    ],
)
def test_an_error_in_json_names_its_line(tmp_path: Path, line: str, column: str | None, problem: str):
    """The second line is refused, with file, line, key and what is wrong."""
    file = written(tmp_path, '{"segment": "Mens E-Mail", "visit": 1}', line)
    with pytest.raises(LogError, match=re.escape(problem)) as caught:
        read(file, columns=Columns("segment", "visit"))
    assert (caught.value.line, caught.value.column) == (2, column)


def test_a_key_that_no_line_has_is_refused(tmp_path: Path):
    """A misspelled key is told, rather than every row read without it."""
    file = written(tmp_path, '{"segment": "Mens E-Mail", "visit": 1}', '{"segment": "no-e-mail", "visit": 0}')
    with pytest.raises(LogError, match="column 'when': no row has this key"):
        read(file, columns=Columns("segment", "visit", time="when"))


def test_a_row_says_when_where_and_who(tmp_path: Path):
    """Words, customer and time by their columns; each may be unknown."""
    columns = Columns("offer", "visit", time="at", customer="who", words={"device": "phone", "place": "shop"})
    file = written(
        tmp_path,
        "offer,visit,at,who,phone,shop",
        "no-e-mail,0,2026-03-01T10:00:00+02:00,anna,ios,Oslo",
        "no-e-mail,0,2026-03-01 08:00,,,",
        "no-e-mail,0,1772352000,,,",
        "no-e-mail,0,1772352000000,,,",
        "Mens E-Mail,1,,,,",
    )
    rows = read(file, columns=columns).rows
    eight = datetime(2026, 3, 1, 8, tzinfo=UTC)
    assert [row.time for row in rows] == [eight, eight, eight, eight, None]
    assert (rows[0].customer, dict(rows[0].words)) == ("anna", {"device": "ios", "place": "Oslo"})
    assert (rows[4].customer, dict(rows[4].words)) == ("", {"device": "", "place": ""})


@pytest.mark.parametrize(
    ("cells", "column", "problem"),
    [
        ("yesterday,0.5", "at", "write 2026-11-01T09:30:00+01:00, or seconds since 1970"),
        ("1800-01-01,0.5", "at", "is no time"),
        ("202611010930,0.5", "at", "is no time"),  # not 1976, as milliseconds would be
        ("20261101093000,0.5", "at", "is no time"),
        ("2026-03-01,0_1", "p", "is not a number"),
        ("2026-03-01,0", "p", "write a number above 0, and at most 1"),
        ("2026-03-01,1.5", "p", "is no propensity"),
        ("2026-03-01,", "p", "is not a number"),
    ],
)
def test_a_bad_time_or_propensity_names_its_place(tmp_path: Path, cells: str, column: str, problem: str):
    """File, line, column, and how to write it."""
    file = written(tmp_path, "offer,visit,at,p", f"no-e-mail,0,{cells}")
    with pytest.raises(LogError, match=re.escape(problem)) as caught:
        read(file, columns=Columns("offer", "visit", time="at", propensity="p"))
    assert (caught.value.line, caught.value.column) == (2, column)


def test_features_without_a_column_are_told(tmp_path: Path):
    """A log may know less than the campaign; what it does not know is named."""
    data = read(written(tmp_path, "segment,visit,mens", "Mens E-Mail,1,1", "No E-Mail,0,0"),
                columns=Columns("segment", "visit"))  # fmt: skip
    assert data.absent == ("recency", "purchase_channel")
    assert dict(data.rows[0].features) == {"mens": True}


def preferring(folder: Path, **changed: object) -> LoggedData:
    """A log that gave men's e-mails to three of four: half of those who like them visited."""
    rows = [f"Mens E-Mail,{n % 2},0.75" for n in range(75)] + [
        f"No E-Mail,{n % 5 == 0:d},0.25" for n in range(25)
    ]
    columns = Columns("segment", "visit", propensity="p")
    return read(written(folder, "segment,visit,p", *rows), columns=columns, features={}, **changed)


def test_propensities_undo_what_a_log_preferred(tmp_path: Path):
    """The weighted mean of all rows is that of offers given evenly; counts that fit are called randomised."""
    data = preferring(tmp_path)
    assert data.looks_randomised()
    assert data.mean(data.rows).rate == pytest.approx((37 / 75 + 0.2) / 2)
    assert data.uniform().rate == pytest.approx((37 / 75 + 0.2) / 2)
    assert data.clipped == 0


def test_weights_are_clipped_and_counted(tmp_path: Path):
    """At most so much, or else ten times the number of offers."""
    data = preferring(tmp_path, weight_max=2.0)
    assert data.clipped == 25
    assert {data.weight(row) for row in data.rows} == {1 / 0.75, 2.0}
    assert preferring(tmp_path).weight_max == 20


def test_a_rate_has_its_standard_error():
    """With equal weights that of a mean, whatever the weight; a heavy row makes it larger."""
    outcomes = [0.0, 1.0, 1.0, 0.0, 1.0]
    rate = logged_rate(outcomes, [3.0] * 5)
    assert rate.rate == pytest.approx(0.6)
    assert rate.error == pytest.approx(statistics.stdev(outcomes) / math.sqrt(5))
    assert rate.happened == 3
    many = [0.0, 1.0] * 50
    assert logged_rate(many, [9.0, 9.0, 1.0, 1.0] * 25).error > logged_rate(many, [1.0] * 100).error


@given(st.text())
def test_a_slug_is_an_id_or_nothing(text: str):
    """Whatever the text, its slug is made of small letters, digits and single inner hyphens."""
    assert re.fullmatch(r"([a-z0-9]+(-[a-z0-9]+)*)?", slug(text))


@pytest.mark.skipif(not HILLSTROM.exists(), reason="hillstrom.csv is not beside this checkout")
def test_hillstrom_means_are_the_published_ones():
    """The visit rates of the public log come out as published."""
    data = read_logged(
        HILLSTROM,
        Columns("segment", "visit"),
        offers=["mens-e-mail", "womens-e-mail", "no-e-mail"],
        features={"history_segment": "category", "newbie": "flag", "history": "number"},
    )
    assert len(data.rows) == 64_000
    assert data.looks_randomised()
    assert [round(data.rate(offer).rate, 4) for offer in data.offers] == [0.1828, 0.1514, 0.1062]


def test_blanks_around_a_name_are_none_of_it(tmp_path: Path):
    """As in cells: `offer, visit` is how people write a header."""
    file = written(tmp_path, "segment , visit, mens", "Mens E-Mail,1,1", "No E-Mail,0,0")
    data = read(file, columns=Columns("segment", "visit"))
    assert [row.features for row in data.rows] == [{"mens": True}, {"mens": False}]


def test_a_key_that_stands_twice_in_a_row_is_refused(tmp_path: Path):
    """Either value could be meant."""
    file = written(tmp_path, '{"segment": "a", "visit": 1, "segment": "b"}')
    with pytest.raises(LogError, match="more than once") as caught:
        read(file, columns=Columns("segment", "visit"))
    assert (caught.value.line, caught.value.column) == (1, "segment")


def test_propensities_of_next_to_nothing_are_no_error(tmp_path: Path):
    """Their rows weigh as much as a row may, and nothing of them contradicts chance."""
    rows = ["Mens E-Mail,1,1e-154"] * 2 + ["No E-Mail,0,1e-308"] * 2
    data = read(
        written(tmp_path, "segment,visit,p", *rows), columns=Columns("segment", "visit", propensity="p")
    )
    assert data.clipped == 4
    assert data.looks_randomised()  # with errors so large, nothing says otherwise
