"""Logs are JSON lines, whoever writes them, and quote no call."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import io
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress

import pytest

from tilbud.domain.limits import Limits
from tilbud.telemetry.log import configure, logger
from tilbud.telemetry.log_lines import CLOSED, FAILED, FULL, NO_SPACE, REASONS, Lines


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


def test_a_value_that_cannot_be_shown_costs_nothing_but_itself(lines: io.StringIO) -> None:
    """The event is logged all the same, and whoever logs goes on: the learner logs what failed."""

    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError("customer-123")

    logger("test").error("something_failed", value=Hostile())
    (line,) = [json.loads(each) for each in lines.getvalue().splitlines()]
    assert (line["event"], line["level"], line["not_rendered"]) == (
        "something_failed",
        "error",
        "RuntimeError",
    )
    assert "customer-123" not in lines.getvalue()


def test_a_line_is_never_longer_than_it_may_be(lines: io.StringIO) -> None:
    """A long one is a JSON object still, with the event and how it begins."""
    logger("test").error("much", problems=["x" * 100] * 1_000)
    (text,) = lines.getvalue().splitlines()
    assert len(text) <= Limits().log_line_chars_max
    assert json.loads(text)["event"] == "much"
    assert json.loads(text)["chars"] > 100_000


def test_an_error_that_nobody_awaited_is_logged_without_its_text(lines: io.StringIO) -> None:
    """What asyncio says of a lost task quotes the error, which may quote a call."""

    async def lose() -> None:
        async def fail() -> None:
            raise ValueError("customer-123")

        task = asyncio.create_task(fail())
        await asyncio.wait([task])
        del task
        gc.collect()

    asyncio.run(lose())
    (line,) = [json.loads(each) for each in lines.getvalue().splitlines()]
    assert (line["logger"], line["kind"]) == ("asyncio", "ValueError")
    assert "customer-123" not in lines.getvalue()


def _told(dropped: Mapping[str, int]) -> str:
    return f"dropped {dict(dropped)}\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The ends of a pipe that holds one page."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, 1031, 4_096)
    yield reader, writer
    for end in (reader, writer):
        with suppress(OSError):
            os.close(end)


def _read(reader: int, ending: bytes) -> bytes:
    text = b""
    while not text.endswith(ending):
        text += os.read(reader, 65_536)
    return text


def test_lines_that_a_reader_does_not_take_are_dropped_counted_and_told(pipe: tuple[int, int]) -> None:
    """Nobody waits; when it reads again it finds whole lines, and how many are missing."""
    reader, writer = pipe
    os.write(writer, b"x" * 4_095 + b"\n")
    stream = Lines(writer, _told, lines_max=10)
    for number in range(30):
        stream.write(f"line {number}\n")
    dropped = stream.dropped()[FULL]
    assert 19 <= dropped <= 20  # one is being written
    assert not stream.wait(0.01)
    got = _read(reader, b"\n")
    while f"'full': {dropped}".encode() not in got:
        got += _read(reader, b"\n")
    assert stream.wait(10)
    lines = got.decode().splitlines()[1:]
    assert all(line.startswith(("line ", "dropped ")) for line in lines)
    assert stream.dropped() == {FULL: dropped, CLOSED: 0, NO_SPACE: 0, FAILED: 0}


def test_a_reader_that_is_gone_and_a_full_disk_are_counted_by_their_reason(pipe: tuple[int, int]) -> None:
    """Each line once; whoever writes hears nothing of it."""
    reader, writer = pipe
    os.close(reader)
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        for stream, reason in (
            (Lines(writer, _told, 10), CLOSED),
            (Lines(full.fileno(), _told, 10), NO_SPACE),
        ):
            for _ in range(3):
                stream.write("line\n")
            assert stream.wait(10)
            assert stream.dropped() == dict.fromkeys(REASONS, 0) | {reason: 3}


def test_a_line_after_a_torn_one_begins_anew(monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]) -> None:
    """A write that fails half-way spoils one line, not the next too."""
    reader, writer = pipe
    real, budget = os.write, [4]

    def write(descriptor: int, data: bytes) -> int:
        if budget and budget[0] == 0:
            budget.clear()
            raise OSError(28, "No space left on device")
        written = real(descriptor, data[: budget[0]] if budget else data)
        if budget:
            budget[0] -= written
        return written

    monkeypatch.setattr("tilbud.telemetry.log_lines.os.write", write)
    stream = Lines(writer, _told, 10)
    stream.write("first\n")
    stream.write("second\n")
    assert stream.wait(10)
    monkeypatch.undo()
    told = _told(dict.fromkeys(REASONS, 0) | {NO_SPACE: 1}).encode()
    assert os.read(reader, 65_536) == b"firs\n" + told + b"second\n"
