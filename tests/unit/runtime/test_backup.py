"""A backup is of one moment, whole or not at all, and refused with a remedy."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.unit.bandit.samples import model, teach
from tests.unit.ledger.sqlite.opened import ignore_commit, make

from tilbud.bandit.checkpoints.manifest import Manifest
from tilbud.bandit.checkpoints.store import Checkpoints
from tilbud.runtime.backup import BackupRefused, back_up
from tilbud.runtime.data_directory import CHECKPOINTS_DIRECTORY, LEDGER_FILE


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """A data directory whose ledger has settled 100, with a checkpoint at 100."""
    directory = tmp_path / "data"
    directory.mkdir()
    ledger = make(directory / LEDGER_FILE)
    await ledger.start(ignore_commit)
    await ledger.close()
    taught = model()
    teach(taught, 100)
    _settle(directory, 100)
    Checkpoints(directory / CHECKPOINTS_DIRECTORY, 1).save(taught, 1)
    return directory


def _settle(data: Path, last: int) -> None:
    with closing(sqlite3.connect(data / LEDGER_FILE)) as ledger, ledger:
        ledger.execute(
            "INSERT OR REPLACE INTO campaigns (no, id, last_sequence) VALUES (1, 'shop', ?)", (last,)
        )


def _last(data: Path) -> int:
    with closing(sqlite3.connect(data / LEDGER_FILE)) as ledger:
        [(last,)] = ledger.execute("SELECT last_sequence FROM campaigns")
    return int(last)


def _sequences(data: Path) -> list[int]:
    checkpoints = Checkpoints(data / CHECKPOINTS_DIRECTORY, 1)
    return [manifest.sequence for _, manifest in checkpoints.manifests("shop")]


def _reached(pipe: Path, backup: subprocess.Popen[str]) -> int:
    """Wait until a backup reads a named pipe; return the end that writes."""
    deadline_s = time.monotonic() + 60
    while True:
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads it yet
            assert backup.poll() is None, "it has ended"
            assert time.monotonic() < deadline_s


def test_a_checkpoint_that_is_replaced_meanwhile_begins_it_anew(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service saves the next and removes the listed one: the copy has the next, and its settlements."""
    listing = Checkpoints.manifests
    replaced: list[str] = []

    def replace_after(self: Checkpoints, campaign: str) -> list[tuple[Path, Manifest]]:
        listed = listing(self, campaign)
        if not replaced:
            replaced.append(campaign)
            taught = model()
            teach(taught, 200)
            _settle(data, 200)
            Checkpoints(data / CHECKPOINTS_DIRECTORY, 1).save(taught, 2)
        return listed

    monkeypatch.setattr(Checkpoints, "manifests", replace_after)
    made = back_up(data, tmp_path / "copy", lambda *_: None)
    monkeypatch.undo()
    assert (made.checkpoints, _sequences(tmp_path / "copy"), _last(tmp_path / "copy")) == (1, [200], 200)
    assert made.size_bytes == sum(file.stat().st_size for file in (tmp_path / "copy").rglob("*.*"))


def test_a_checkpoint_saved_after_the_ledgers_moment_is_not_in_it(data: Path, tmp_path: Path) -> None:
    """While the ledger is copied the service settles and saves on; the copy goes on from before."""
    taught = model()
    teach(taught, 200)

    def go_on(_done: int, _pages: int) -> None:
        _settle(data, 200)
        Checkpoints(data / CHECKPOINTS_DIRECTORY, 3).save(taught, 2)

    back_up(data, tmp_path / "copy", go_on)
    assert _sequences(data) != [100]
    assert (_sequences(tmp_path / "copy"), _last(tmp_path / "copy")) == ([100], 100)


def test_one_whose_model_is_missing_for_good_does_not_keep_the_rest(data: Path, tmp_path: Path) -> None:
    """After a few tries it is passed over."""
    [model_file] = (data / CHECKPOINTS_DIRECTORY).rglob("*.model")
    model_file.unlink()
    assert back_up(data, tmp_path / "copy", lambda *_: None).checkpoints == 0
    assert _last(tmp_path / "copy") == 100


def test_one_that_is_interrupted_leaves_nothing(data: Path, tmp_path: Path) -> None:
    """Neither the copy nor what was to become it; an empty directory stays empty."""

    def interrupt(_done: int, _pages: int) -> None:
        raise KeyboardInterrupt

    (tmp_path / "copy").mkdir()
    with pytest.raises(KeyboardInterrupt):
        back_up(data, tmp_path / "copy", interrupt)
    assert {path.name for path in tmp_path.iterdir()} == {"data", "copy"}
    assert not any((tmp_path / "copy").iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_that_is_told_to_end_leaves_nothing(data: Path, tmp_path: Path, number: signal.Signals) -> None:
    """In the middle, where it reads a model: what was begun is removed, and the status tells."""
    (tmp_path / "backups").mkdir()
    [model_file] = (data / CHECKPOINTS_DIRECTORY).rglob("*.model")
    model_file.unlink()
    os.mkfifo(model_file)
    words = [
        sys.executable,
        "-m",
        "tilbud",
        "backup",
        "--data",
        str(data),
        "--to",
        str(tmp_path / "backups/copy"),
    ]
    ours = signal.signal(number, lambda *_: None)  # else it would ignore what we ignore, under nohup
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as backup:
        signal.signal(number, ours)
        try:
            writing = _reached(model_file, backup)
            assert len(list((tmp_path / "backups").iterdir())) == 1
            backup.send_signal(number)
            # Python looks for signals between instructions: one that comes just before a read waits for its
            # end, which a file reaches by itself, and a pipe when it is closed.
            with suppress(subprocess.TimeoutExpired):
                backup.wait(2)
            os.close(writing)
            _, errors = backup.communicate(timeout=60)
        finally:
            backup.kill()
    assert backup.returncode == 128 + number, errors
    assert "Traceback" not in errors
    assert list((tmp_path / "backups").iterdir()) == []


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("data", "is in the data directory"),
        ("data/backup", "is in the data directory"),
        ("missing/copy", "make it, or mount it, first"),
        ("full", "is there already"),
        ("file", "is there already"),
    ],
)
def test_a_target_that_cannot_be_is_refused(data: Path, tmp_path: Path, to: str, said: str) -> None:
    """With the option and the remedy, and nothing is written."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BackupRefused, match=f"^--to: .*{said}"):
        back_up(data, tmp_path / to, lambda *_: None)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_target_without_room_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less than ledger, log and checkpoints have: nothing is written; as much is enough."""
    (data / f"{LEDGER_FILE}-wal").write_bytes(bytes(1_000))
    has_bytes = sum(path.stat().st_size for path in data.rglob("*") if path.name != CHECKPOINTS_DIRECTORY)
    free_bytes = has_bytes - 1
    asked: list[Path] = []

    def disk_usage(path: Path) -> SimpleNamespace:
        asked.append(path)
        return SimpleNamespace(free=free_bytes)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(
        BackupRefused, match=f"^--to: .* {free_bytes:,} bytes free, .* {has_bytes:,}; make room"
    ):
        back_up(data, tmp_path / "copy", lambda *_: None)
    assert sorted(tmp_path.rglob("*")) == before
    free_bytes += 1
    assert back_up(data, tmp_path / "copy", lambda *_: None).checkpoints == 1
    assert asked == [tmp_path, tmp_path]


def test_what_is_no_data_directory_is_refused(tmp_path: Path) -> None:
    """With the option and the remedy."""
    with pytest.raises(BackupRefused, match=r"^--data: .* has no ledger\.sqlite3"):
        back_up(tmp_path, tmp_path.parent / "copy", lambda *_: None)
