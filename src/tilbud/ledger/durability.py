"""How durable a ledger is: one word, apart from all else, for the settings and the command line."""

from __future__ import annotations

from enum import StrEnum


class Durability(StrEnum):
    """What acknowledged rows survive: the end of the process, or also the loss of power."""

    PROCESS = "process"
    POWER = "power"
