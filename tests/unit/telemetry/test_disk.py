"""What a scrape reads of the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from tilbud.telemetry.disk import Disk


def _watched(data: Path) -> CollectorRegistry:
    registry = CollectorRegistry()
    Disk(data, {"database": data / "ledger", "log": data / "ledger-wal"}, registry)
    return registry


def test_a_scrape_reads_the_sizes_of_that_moment(tmp_path: Path) -> None:
    """The ledger's files as they are now, not as they were; the file system as statvfs has it."""
    registry = _watched(tmp_path)
    (tmp_path / "ledger").write_bytes(b"x" * 1_000)
    (tmp_path / "ledger-wal").write_bytes(b"x" * 10)
    assert registry.get_sample_value("tilbud_ledger_bytes", {"file": "database"}) == 1_000
    (tmp_path / "ledger").write_bytes(b"x" * 3_000)
    assert registry.get_sample_value("tilbud_ledger_bytes", {"file": "database"}) == 3_000
    assert registry.get_sample_value("tilbud_ledger_bytes", {"file": "log"}) == 10
    size = registry.get_sample_value("tilbud_data_size_bytes")
    free = registry.get_sample_value("tilbud_data_free_bytes")
    assert size is not None
    assert size == os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
    assert free is not None
    assert 0 <= free < size


def test_free_is_what_the_service_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks kept back for root are not free, whatever the file system has left in all."""
    told = os.statvfs_result((4_096, 512, 1_000, 300, 250, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _path: told)
    registry = _watched(tmp_path)
    assert registry.get_sample_value("tilbud_data_free_bytes") == 250 * 512
    assert registry.get_sample_value("tilbud_data_size_bytes") == 1_000 * 512


def test_a_scrape_leaves_out_what_cannot_be_read(tmp_path: Path) -> None:
    """A log that is not there yet, or a directory that is gone, takes nothing else with it."""
    (tmp_path / "ledger").write_bytes(b"x")
    registry = _watched(tmp_path)
    assert registry.get_sample_value("tilbud_ledger_bytes", {"file": "log"}) is None
    assert registry.get_sample_value("tilbud_ledger_bytes", {"file": "database"}) == 1
    gone = _watched(tmp_path / "gone")
    assert {sample.name for family in gone.collect() for sample in family.samples} == set()
