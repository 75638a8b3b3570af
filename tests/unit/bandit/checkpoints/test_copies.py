"""Of checkpoints, those are copied that a service can load on the ledger that is copied with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.bandit.samples import LIMITS, campaign, encoded, model, offer_set, teach

from tilbud.bandit.checkpoints.copies import copy_checkpoints
from tilbud.bandit.checkpoints.manifest import Manifest
from tilbud.bandit.checkpoints.store import Checkpoints
from tilbud.domain.campaign.campaign import PERSONALIZED


@pytest.fixture
def saved(tmp_path: Path) -> Checkpoints:
    """Checkpoints at 100, 200 and 300."""
    checkpoints, taught = Checkpoints(tmp_path / "checkpoints", generations=3), model()
    for saved_us in (1, 2, 3):
        teach(taught, 100)
        checkpoints.save(taught, saved_us)
    return checkpoints


def copied(
    checkpoints: Checkpoints, to: Path, *, last: int = 300, erasures: int = 0, pass_over_missing: bool = False
) -> list[int]:
    """Copy, and return the sequences that are there then."""
    stands = {"shop": (last, erasures)}
    count = copy_checkpoints(checkpoints.manifests("shop"), to, stands, pass_over_missing=pass_over_missing)
    found = sorted(manifest.sequence for _, manifest in Checkpoints(to, 3).manifests("shop"))
    assert len(found) == count
    return found


def of(checkpoints: Checkpoints, sequence: int) -> tuple[Path, Manifest]:
    """Return the manifest of a sequence, and where it is."""
    [found] = [each for each in checkpoints.manifests("shop") if each[1].sequence == sequence]
    return found


def test_a_copy_is_loaded_as_the_checkpoint_was(saved: Checkpoints, tmp_path: Path) -> None:
    """Every generation is there, and predicts alike."""
    assert copied(saved, tmp_path / "copy") == [100, 200, 300]
    loaded = [
        each.load_newest(campaign(), PERSONALIZED, limits=LIMITS, up_to=300, erasures=0).model
        for each in (saved, Checkpoints(tmp_path / "copy", 3))
    ]
    ours, theirs = (each.predict(encoded(), offer_set()) for each in loaded if each is not None)
    assert ours == theirs


def test_none_knows_what_the_copied_ledger_does_not(saved: Checkpoints, tmp_path: Path) -> None:
    """Not of a settlement after its last, nor of a campaign that it never saw."""
    assert copied(saved, tmp_path / "copy", last=299) == [100, 200]
    assert copy_checkpoints(saved.manifests("shop"), tmp_path / "none", {}, pass_over_missing=False) == 0
    assert not (tmp_path / "none").exists()


def test_none_learned_what_was_erased(saved: Checkpoints, tmp_path: Path) -> None:
    """One of fewer erasures stays behind, also where it was not removed yet."""
    assert copied(saved, tmp_path / "copy", erasures=1) == []


def test_a_damaged_one_stays_behind(saved: Checkpoints, tmp_path: Path) -> None:
    """A model that was cut short, or a manifest that cannot be read."""
    path, manifest = of(saved, 300)
    cut = path.with_name(manifest.model_name)
    cut.write_bytes(cut.read_bytes()[:-1])
    of(saved, 100)[0].write_text("{")
    assert copied(saved, tmp_path / "copy") == [200]


def test_one_that_is_gone_is_told_or_passed_over(saved: Checkpoints, tmp_path: Path) -> None:
    """The newer ones are copied by then."""
    path, manifest = of(saved, 100)
    path.with_name(manifest.model_name).unlink()
    with pytest.raises(FileNotFoundError):
        copied(saved, tmp_path / "told")
    assert sorted(each[1].sequence for each in Checkpoints(tmp_path / "told", 3).manifests("shop")) == [
        200,
        300,
    ]
    assert copied(saved, tmp_path / "copy", pass_over_missing=True) == [200, 300]
