"""What the log says of a service that serves: which version, from which paths, how durable, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version

from tilbud.runtime.settings import Settings


def serving_line(settings: Settings, grpc: str, http: str, metrics: Sequence[str]) -> Mapping[str, object]:
    """Return the fields of the line; addresses have their ports by now, paths are absolute."""
    return {
        "version": version("tilbud"),
        "campaigns": [str(path.absolute()) for path in settings.campaigns],
        "data": str(settings.data.absolute()),
        "durability": settings.durability.value,
        "grpc": grpc,
        "http": http,
        "metrics": list(metrics),
        "workers": settings.workers,
    }
