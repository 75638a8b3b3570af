"""Structured logs: one JSON object a line, on standard error, without ids or customer data.

What holds: an event has a fixed name and a few plain fields. Values that came with a call (ids,
context, payloads) are never among them; a correlation id stands in where a call must be found again. A
line is one write, since workers share the stream.
"""

from __future__ import annotations

import logging
import sys
from traceback import extract_tb
from types import TracebackType
from typing import Any, TextIO

import structlog

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def _without_text(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Drop an exception's text from what a library logs: it may quote a call."""
    error = event.pop("exc_info", None)
    if isinstance(error, tuple) and error[0] is not None:
        event["kind"] = error[0].__name__
        event["where"] = where(error[2])
    return event


def where(traceback: TracebackType | None) -> list[str]:
    """Return file, line and function of each step to an error; not its text, which may quote a call."""
    return [f"{step.filename}:{step.lineno} {step.name}" for step in extract_tb(traceback)]


def configure(level: str = "info", stream: TextIO | None = None, *, pretty: bool = False) -> None:
    """Send every log of the process as JSON lines to `stream` (standard error); `pretty` for people.

    Libraries' logs too, from warnings on. Raises ValueError on an unknown level.
    """
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer(sort_keys=True)
    )
    number = LEVELS.get(level)
    if number is None:
        raise ValueError(f"--log-level: {level!r} is none of {', '.join(LEVELS)}")
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    libraries = logging.StreamHandler(stream or sys.stderr)
    libraries.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared, _without_text],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[libraries], level=max(number, logging.WARNING), force=True)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )


def logger(room: str) -> structlog.typing.FilteringBoundLogger:
    """Return the logger of one room."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger(room=room)
    return bound
