"""Which checkpoints of a campaign stay, and which go. Pure: it judges a listing.

What holds: the newest `generations` of the lineage saved last stay, of those beside it that are in use, and
of as many lineages before them as are in use, so that a campaign file can be taken back. None stays that
knows of fewer erasures than the one saved last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from tilbud.bandit.checkpoints.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Listed:
    """A manifest's file, by its name, and what it says; None: it cannot be read."""

    path: Path
    lineage: str
    sequence: int
    manifest: Manifest | None


def names_to_keep(
    listing: Iterable[Listed], newest: Manifest, beside: Collection[str], generations: int
) -> set[str]:
    """Return the files that stay when `newest` was saved: manifests, and the models they name.

    `beside` are the lineages of the campaign's other policies; naming that of `newest` too is no harm.
    """
    saved_us: dict[str, int] = {}
    by_lineage: dict[str, list[Listed]] = {}
    for listed in listing:
        manifest = listed.manifest
        if manifest is not None and manifest.erasures < newest.erasures:
            continue  # it learned what was erased since
        by_lineage.setdefault(listed.lineage, []).append(listed)
        if manifest is not None:
            saved_us[listed.lineage] = max(saved_us.get(listed.lineage, 0), manifest.saved_us)
    in_use = {newest.lineage, *beside}
    others = sorted(set(saved_us) - in_use, key=lambda lineage: saved_us[lineage])
    names = {newest.name, newest.model_name}
    for lineage in (*in_use, *others[-len(in_use) :]):
        in_order = sorted(by_lineage.get(lineage, ()), key=lambda listed: listed.sequence)
        for listed in in_order[-generations:]:
            names.add(listed.path.name)
            if listed.manifest is not None:
                names.add(listed.manifest.model_name)
    return names


def beyond(listing: Iterable[Listed], last: int, erasures: int) -> list[Listed]:
    """Return those that have learned more settlements, or know of more erasures, than a ledger has."""
    return [
        listed
        for listed in listing
        if listed.sequence > last or (listed.manifest is not None and listed.manifest.erasures > erasures)
    ]


def split_by_erasures(listing: Iterable[Listed], erasures: int) -> tuple[list[Path], set[str]]:
    """Return manifests of fewer erasures, or unreadable, and the names of the others and their models."""
    stale, names = [], set()
    for listed in listing:
        if listed.manifest is None or listed.manifest.erasures < erasures:
            stale.append(listed.path)
        else:
            names |= {listed.path.name, listed.manifest.model_name}
    return stale, names
