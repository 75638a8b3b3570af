"""One service at a time has a data directory, its workers together."""

from __future__ import annotations

from pathlib import Path

import pytest

from tilbud.domain.limits import Limits
from tilbud.ledger.open import ledger_at
from tilbud.ledger.sqlite.adapter import SqliteLedger
from tilbud.runtime.data_directory import DataDirectory


def test_a_directory_is_made_and_held_until_the_lock_is_closed(tmp_path: Path) -> None:
    """Whoever comes meanwhile is refused by name, and leaves the lock as it is."""
    data = DataDirectory(tmp_path / "a" / "b")
    with data.hold():
        for _ in range(2):
            with pytest.raises(OSError, match=f"another process serves {data.path}"):
                data.hold()
        with pytest.raises(OSError, match="another process serves"):
            data.hold(shared=True)
    data.hold().close()


def test_workers_share_it_and_keep_others_out(tmp_path: Path) -> None:
    """Whoever began alone lets its workers in; while one of them lives no other service begins."""
    data = DataDirectory(tmp_path)
    began = data.hold()
    data.lock_as(began, shared=True)
    worker = data.hold(shared=True)
    began.close()
    with pytest.raises(OSError, match="another process serves"):
        data.hold()
    worker.close()
    data.hold().close()


def test_what_cannot_be_a_directory_is_said_with_the_remedy(tmp_path: Path) -> None:
    """A file has its name, for instance."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot be the data directory: .*choose another --data"):
        DataDirectory(tmp_path / "file").hold()


def test_its_ledger_is_the_file_that_tools_look_for(tmp_path: Path) -> None:
    """The address means a SQLite ledger at the place of the file."""
    data = DataDirectory(tmp_path)
    assert isinstance(ledger_at(data.ledger_address, limits=Limits()), SqliteLedger)
    assert data.ledger_address.endswith(f":{data.ledger}")
    assert data.ledger_log.name == f"{data.ledger.name}-wal"
