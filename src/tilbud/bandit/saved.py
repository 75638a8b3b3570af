"""The file of a model: what VW wrote, and what the service knows beside it.

    tilbud model 1 ⏎        what it is, and its version
    {"parts": [...], ...} ⏎  the state in JSON, and how many bytes each of the parts has that follow
    the parts

What holds: a file of another kind or version, or of other lengths than it says, is refused. That nobody
changed it since is the checkpoint's business (`checkpoints/manifest.py`): VW takes anything.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_KIND = b"tilbud model 1\n"


def pack(state: dict[str, Any], parts: Sequence[bytes]) -> bytes:
    """Return a file's content."""
    head = json.dumps({**state, "parts": [len(part) for part in parts]}, separators=(",", ":"))
    return b"".join([_KIND, head.encode(), b"\n", *parts])


def unpack(content: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Return the state and the parts; ValueError where it is no such file."""
    if not content.startswith(_KIND):
        raise ValueError("it is not a model file of this version")
    end = content.find(b"\n", len(_KIND))
    if end < 0:
        raise ValueError("the model file is cut short")
    try:
        state = dict(json.loads(content[len(_KIND) : end]))
        lengths = [int(length) for length in state.pop("parts")]
    except (TypeError, KeyError):
        raise ValueError("the model file has no parts") from None
    at, parts = end + 1, []
    for length in lengths:
        parts.append(content[at : at + length])
        at += length
    if at != len(content):
        raise ValueError("the model file is not as long as it says")
    return state, parts


@contextmanager
def in_memory(content: bytes) -> Iterator[Path]:
    """Give bytes a path, for a library that reads files alone; nothing is written to a disk."""
    descriptor = os.memfd_create("tilbud-model", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
