"""How an answer of the service is printed: JSON for programs, a table for people.

What holds: JSON is the message of the contract, field by field, under the names that the contract has; a
table says the same for a person, shorter. Which of the two is by the option, else by who reads it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from enum import StrEnum
from typing import TYPE_CHECKING

from tilbud.domain.numbers import exact_text

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

    from tilbud.v1.decisions_pb2 import FeatureValue

Row = tuple[str, str]


class Format(StrEnum):
    """What an answer is printed as."""

    JSON = "json"
    TABLE = "table"


def wants_json(chosen: Format | None) -> bool:
    """Return whether to print JSON: as was chosen, else where no person reads."""
    return chosen is Format.JSON if chosen else not sys.stdout.isatty()


def print_json(message: Message) -> None:
    """Print a message as one JSON object, every field of it."""
    from google.protobuf.json_format import MessageToDict

    whole = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    _line(json.dumps(whole, ensure_ascii=False, indent=2))


def print_rows(rows: Iterable[Row]) -> None:
    """Print names and texts in two columns; what has no text is left out."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        if text:
            table.add_row(Text(name, style="bold"), Text(text))
    Console(highlight=False).print(table)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under a heading each."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)


def print_line(text: str) -> None:
    """Print a line as it is."""
    _line(text)


def _line(text: str) -> None:
    print(text)  # noqa: T201 - an answer goes to standard output


def word(name: str, prefix: str) -> str:
    """Return the word of a contract's constant: DECISION_REASON_NO_TIME, DECISION_REASON_ → no time."""
    return name.removeprefix(prefix).lower().replace("_", " ")


def number_text(number: float) -> str:
    """Return a probability or an effect in four digits."""
    return f"{number:.4g}"


def value_text(value: FeatureValue) -> str:
    """Return a value as it would be written for --feature."""
    kind = value.WhichOneof("kind")
    if kind == "flag":
        return "true" if value.flag else "false"
    return exact_text(value.number) if kind == "number" else value.category


def values_text(values: Mapping[str, FeatureValue]) -> str:
    """Return values by name, in the names' order."""
    return ", ".join(f"{name}={value_text(values[name])}" for name in sorted(values))


def time_text(time: Timestamp) -> str:
    """Return a time by UTC to the second."""
    return time.ToDatetime(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
