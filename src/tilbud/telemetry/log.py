"""Structured logs: one JSON object a line, on standard error, without ids or customer data.

What holds: an event has a fixed name and a few plain fields. Values that came with a call (ids,
context, payloads) are never among them; a correlation id stands in where a call must be found again. A
line is one write, since workers share the stream. In a process that serves, logging never waits, never fails
(see `log_lines.py`), and every line on standard error is JSON, whoever writes it, unless people read it.
"""

from __future__ import annotations

import atexit
import io
import json
import logging
import os
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from traceback import extract_tb
from types import TracebackType
from typing import Any, TextIO

import structlog

from tilbud.domain.limits import Limits
from tilbud.telemetry.log_lines import REASONS, Lines

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_STANDARD_ERROR = 2
_lines: Lines | None = None  # of a process that serves


def _without_text(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Drop an exception's text from what a library logs, and all but its first line: it may quote a call."""
    error = event.pop("exc_info", None)
    if isinstance(error, tuple) and error[0] is not None:
        event["kind"] = error[0].__name__
        event["where"] = where(error[2])
    event["event"] = str(event.get("event", "")).partition("\n")[0]
    return event


def where(traceback: TracebackType | None) -> list[str]:
    """Return file, line and function of each step to an error; not its text, which may quote a call."""
    return [f"{step.filename}:{step.lineno} {step.name}" for step in extract_tb(traceback)]


def configure(level: str = "info", stream: TextIO | None = None, *, pretty: bool = False) -> None:
    """Send every log of the process as JSON lines to `stream` (standard error); `pretty` for people.

    Libraries' logs and Python's warnings too, from warnings on. Raises ValueError on an unknown level.
    """
    number = LEVELS.get(level)
    if number is None:
        raise ValueError(f"--log-level: {level!r} is none of {', '.join(LEVELS)}")
    render = _Rendering(pretty=pretty)
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    libraries = logging.StreamHandler(stream or sys.stderr)
    libraries.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared, _without_text],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    logging.raiseExceptions = False  # what cannot be logged is no reason to write to standard error
    logging.captureWarnings(capture=True)
    logging.basicConfig(handlers=[libraries], level=max(number, logging.WARNING), force=True)
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )


def serve_log(level: str = "info") -> None:
    """Send all that this process has to say to standard error without waiting for it; for one that serves.

    Where that is a terminal, for people; elsewhere every line is JSON: also what is written to `sys.stderr`,
    and what nobody caught. Raises ValueError on an unknown level.
    """
    global _lines  # noqa: PLW0603 - a process has one standard error
    _open_standard_streams()
    pretty = os.isatty(_STANDARD_ERROR)
    if _lines is None:
        _lines = Lines(_STANDARD_ERROR, _dropped_line, Limits.log_lines_waiting_max)
        atexit.register(_lines.wait, Limits.log_last_words_s)
    configure(level, _lines, pretty=pretty)  # type: ignore[arg-type]  # has what is used of a TextIO
    if not pretty:
        sys.stderr = _StandardError()
        sys.excepthook = _uncaught
        threading.excepthook = lambda arguments: _uncaught(
            arguments.exc_type, arguments.exc_value, arguments.exc_traceback
        )
        sys.unraisablehook = lambda arguments: _uncaught(
            arguments.exc_type, arguments.exc_value, arguments.exc_traceback
        )


def last_words() -> None:
    """Wait a little until what was logged has left, before the process shows or ends something."""
    if _lines is not None:
        _lines.wait(Limits.log_last_words_s)


def lines_dropped() -> Mapping[str, int]:
    """Return how many lines of the log were dropped, by reason; every reason is there."""
    return dict.fromkeys(REASONS, 0) if _lines is None else _lines.dropped()


def logger(room: str) -> structlog.typing.FilteringBoundLogger:
    """Return the logger of one room."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger(room=room)
    return bound


class _Rendering:
    """Renders an event, whatever is in it, as a line that is not too long."""

    def __init__(self, *, pretty: bool) -> None:
        self._render: Any = (
            structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer(sort_keys=True)
        )
        self._chars_max = Limits.log_line_chars_max

    def __call__(self, bound: Any, name: str, event: structlog.typing.EventDict) -> str:
        try:
            line = str(self._render(bound, name, dict(event)))
        except Exception as error:  # noqa: BLE001 - a value may fail in any way, and logging must not
            return self._short(event, not_rendered=type(error).__name__)
        if len(line) > self._chars_max:
            return self._short(event, begins=line[: self._chars_max // 4], chars=len(line))
        return line

    def _short(self, event: structlog.typing.EventDict, **more: str | int) -> str:
        fields = {
            key: event[key] for key in ("time", "level", "room", "event") if type(event.get(key)) is str
        }
        return json.dumps({key: value[: self._chars_max // 4] for key, value in fields.items()} | more)


class _StandardError(io.TextIOBase):
    """What is written to `sys.stderr` line by line, each an event of its own."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self) -> None:
        self._begun = threading.local()  # of each thread the line that has no end yet

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return _STANDARD_ERROR

    def write(self, text: str) -> int:
        *lines, rest = (getattr(self._begun, "text", "") + text).split("\n")
        self._begun.text = rest[: Limits.log_line_chars_max]
        for line in lines:
            if line.strip():
                logger("telemetry").error("standard_error", text=line)
        return len(text)


def _uncaught(
    kind: type[BaseException], _error: BaseException | None, traceback: TracebackType | None
) -> None:
    """Log what nobody caught: its kind and place, not its text, which may quote a call."""
    if not issubclass(kind, SystemExit):
        logger("telemetry").error("uncaught", kind=kind.__name__, where=where(traceback))


def _dropped_line(dropped: Mapping[str, int]) -> str:
    """Return the line that tells how many lines are missing."""
    event = {"event": "log_lines_dropped", "level": "warning", "room": "telemetry"}
    counts = {reason: count for reason, count in dropped.items() if count}
    return json.dumps({**event, "time": datetime.now(UTC).isoformat(), **counts}, sort_keys=True) + "\n"


def _open_standard_streams() -> None:
    """Lead the standard streams nowhere that are closed: else a file that is opened would become one."""
    for descriptor in range(_STANDARD_ERROR + 1):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - as long as the process lives
