"""How far a model is that is learned anew, for whoever asks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a relearning is; `due_s` is when it will be done (Unix time, s), None while nobody knows."""

    settlements_left: int
    due_s: float | None = None
