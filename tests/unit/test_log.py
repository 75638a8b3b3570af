"""Logs are JSON lines, whoever writes them, and quote no call."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from tilbud.telemetry.log import configure, logger


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Where the log goes for one test."""
    stream = io.StringIO()
    configure("info", stream)
    yield stream
    configure("error", io.StringIO())


def test_libraries_log_json_without_the_text_of_errors(lines: io.StringIO) -> None:
    """What a library logs is a JSON line with its name; of an exception its kind and place, not its text."""
    try:
        raise ValueError("customer-123")
    except ValueError:
        logging.getLogger("asyncio").exception("a callback failed")
    (line,) = [json.loads(each) for each in lines.getvalue().splitlines()]
    assert (line["event"], line["logger"], line["kind"]) == ("a callback failed", "asyncio", "ValueError")
    assert "customer-123" not in lines.getvalue()


def test_our_own_lines_have_time_level_room_and_event(lines: io.StringIO) -> None:
    """One object a line; below the level nothing."""
    logger("test").info("something_happened", count=3)
    logger("test").debug("too_small")
    (line,) = [json.loads(each) for each in lines.getvalue().splitlines()]
    assert {"time", "level", "room", "event", "count"} == line.keys()


def test_an_unknown_level_is_refused() -> None:
    """A level that does not exist is a ValueError that names those that do."""
    with pytest.raises(ValueError, match="none of debug, info, warning, error"):
        configure("loud")


def test_a_line_is_one_write(lines: io.StringIO) -> None:
    """Processes that share a stream do not write into each other's lines, however it is buffered."""
    written: list[str] = []

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    configure("info", Stream())
    logger("test").info("first")
    logger("test").info("second")
    assert [json.loads(text)["event"] for text in written] == ["first", "second"]
    assert all(text.endswith("\n") for text in written)
