"""Space on disk, read at each scrape: of the file system below the data directory, and of the ledger's files.

What holds: it only asks for sizes and opens nothing, so it disturbs no lock; what cannot be read is left out
and never fails a scrape. It is given the files there are, and knows nothing of what is in them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Disk(Collector):
    """The space of `data`, and the bytes of `ledger_files`, by the name each has as a label."""

    def __init__(self, data: Path, ledger_files: Mapping[str, Path], registry: CollectorRegistry) -> None:
        self._data = data
        self._ledger_files = ledger_files
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield what the file system says now."""
        free = GaugeMetricFamily(
            "tilbud_data_free_bytes", "Bytes the service may still write to the data directory's file system"
        )
        size = GaugeMetricFamily("tilbud_data_size_bytes", "Bytes of the data directory's file system")
        ledger = GaugeMetricFamily("tilbud_ledger_bytes", "Bytes of the ledger's files", labels=["file"])
        with suppress(OSError):
            system = os.statvfs(self._data)
            free.add_metric([], float(system.f_bavail * system.f_frsize))
            size.add_metric([], float(system.f_blocks * system.f_frsize))
        for name, path in self._ledger_files.items():
            with suppress(OSError):
                ledger.add_metric([name], float(path.stat().st_size))
        yield from (free, size, ledger)
