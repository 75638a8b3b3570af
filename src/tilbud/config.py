"""Settings of a service, read once and frozen. Every one is an option of `tilbud serve`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tilbud.domain.limits import Limits
from tilbud.ledger.port import Durability

SAMPLES = Path(__file__).parent / "samples"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that is decided before the service starts. Addresses are HOST:PORT, port 0: any."""

    campaigns: tuple[Path, ...] = (SAMPLES,)
    data: Path = Path("tilbud-data")
    listen: str = "127.0.0.1:50051"
    http: str = "127.0.0.1:8080"
    durability: Durability = Durability.PROCESS
    drain_notice_s: float = 1.0
    drain_grace_s: float = 10.0
    draw_key: bytes | None = None  # None: the ledger's own
    limits: Limits = field(default_factory=Limits)


def host_and_port(address: str) -> tuple[str, int]:
    """Return the parts of HOST:PORT; ValueError on anything else."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65_535:  # noqa: PLR2004 - the last port
        raise ValueError(f"{address!r} is not HOST:PORT, such as 127.0.0.1:50051")
    return host.strip("[]"), int(port)
