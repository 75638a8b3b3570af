"""Which checkpoints stay after a save, judged by their listing alone."""

from __future__ import annotations

from pathlib import Path

from tilbud.bandit.checkpoints.manifest import Manifest
from tilbud.bandit.checkpoints.pruning import Listed, beyond, names_to_keep, split_by_erasures


def _listed(lineage: str, sequence: int, erasures: int = 0) -> Listed:
    manifest = Manifest("shop", lineage, sequence, "", "9", "1", "0" * 64, 1, sequence, erasures)
    return Listed(Path(manifest.name), lineage, sequence, manifest)


def _unreadable(lineage: str, sequence: int) -> Listed:
    return Listed(Path(f"{lineage}-{sequence:015}.json"), lineage, sequence, None)


def _kept(listing: list[Listed], *beside: str, generations: int = 2) -> set[tuple[str, int]]:
    newest = listing[-1].manifest
    assert newest is not None
    names = names_to_keep(listing, newest, beside, generations)
    for listed in listing:  # a model stays with its manifest
        if listed.manifest is not None:
            assert (listed.path.name in names) == (listed.manifest.model_name in names)
    return {(listed.lineage, listed.sequence) for listed in listing if listed.path.name in names}


def test_the_newest_of_a_lineage_stay_and_of_one_before_it():
    """So many of each; of lineages out of use only the one that was saved last."""
    listing = [_listed(lineage, sequence) for lineage, sequence in (
        ("a", 1), ("b", 2), ("b", 3), ("b", 4), ("c", 5), ("c", 6), ("c", 7),
    )]  # fmt: skip
    assert _kept(listing) == {("b", 3), ("b", 4), ("c", 6), ("c", 7)}
    assert _kept(listing, "a") == {("a", 1), ("b", 3), ("b", 4), ("c", 6), ("c", 7)}
    assert _kept(listing, generations=1) == {("b", 4), ("c", 7)}


def test_none_stays_of_before_an_erasure():
    """Not even as the lineage before; what cannot be read counts as one of its lineage."""
    assert _kept([_listed("a", 1), _listed("b", 2, 1)]) == {("b", 2)}
    assert _kept([_listed("b", 1), _unreadable("b", 2), _listed("b", 3)]) == {("b", 2), ("b", 3)}


def test_what_a_ledger_lacks_is_beyond_it():
    """By settlements or erasures; the sequence of one that cannot be read is in its name."""
    listing = [_listed("a", 9), _unreadable("a", 10), _listed("a", 11), _listed("a", 10, 2)]
    assert beyond(listing, 10, 1) == [_listed("a", 11), _listed("a", 10, 2)]
    assert beyond(listing, 9, 2) == listing[1:]


def test_manifests_of_fewer_erasures_are_told_from_the_others():
    """Those that cannot be read may be of fewer; the others are named with their models."""
    old, new, unreadable = _listed("a", 1), _listed("a", 2, 1), _unreadable("a", 3)
    stale, named = split_by_erasures([old, new, unreadable], 1)
    assert stale == [old.path, unreadable.path]
    assert new.manifest is not None
    assert named == {new.path.name, new.manifest.model_name}
