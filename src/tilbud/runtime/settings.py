"""Settings of a service, read once and frozen. Every one is an option of `tilbud serve`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tilbud.domain.limits import Limits
from tilbud.ledger.durability import Durability

OFF = "off"  # in place of an address
SAMPLES = Path(__file__).parents[1] / "samples"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that is decided before the service starts. Port 0 of an address is any."""

    campaigns: tuple[Path, ...] = (SAMPLES,)
    data: Path = field(default_factory=lambda: Path("tilbud-data").absolute())
    listen: str = "127.0.0.1:50051"
    http: str = "127.0.0.1:8000"  # OFF: not at all
    cors_origins: tuple[str, ...] = ()  # whose pages may call over HTTP
    metrics: str = "127.0.0.1:8080"
    durability: Durability = Durability.PROCESS
    drain_notice_s: float = 1.0
    drain_grace_s: float = 10.0
    draw_key: bytes | None = None  # None: the ledger's own
    accept_loss: bool = False  # begin on a ledger that lacks what was acknowledged
    workers: int = 1  # processes that answer; more than one have a supervisor
    log_level: str = "info"
    otel: bool = False  # traces, as the variables of OpenTelemetry say
    strict: bool = False  # do not start where a campaign file is bad
    limits: Limits = field(default_factory=Limits)

    @property
    def shutdown_timeout_s(self) -> float:
        """How long a process may take to stop; past it something hangs, and it ends all the same."""
        return self.drain_notice_s + 3 * self.drain_grace_s + self.limits.shutdown_hanging_s


@dataclass(frozen=True, slots=True)
class WorkerSlot:
    """What a worker has beside the settings: which one it is, where it serves, and from which ledger."""

    number: int  # from 0
    listen: str  # HOST:PORT that all workers share; no unix socket, since one process alone can have that
    http: str  # likewise, or OFF
    metrics: str  # HOST:PORT of its own, port 0: any
    ledger: tuple[int, int]  # the ledger's file, see ledger/sqlite/same_file.py; a worker makes no other
    lost_commits: int = 0  # acknowledged ones that the ledger lacked when the service began


def check_origins(origins: Iterable[str]) -> None:
    """Raise ValueError for what is no origin as browsers write it, nor `*`."""
    for origin in origins:
        if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s]+", origin):
            raise ValueError(f"--cors-origin: {origin!r} is no origin, such as https://shop.example")
