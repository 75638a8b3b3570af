"""Checkpoints copied while a service goes on writing and removing them.

What holds: what is copied is whole, and its manifest last; it has learned nothing that the ledger copied with
it lacks, and nothing that was erased there. For that, list them before the ledger's moment and copy them
after: what was saved by then learned settlements that were committed by then, and of what the ledger had
forgotten by then, those that are still there need nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from tilbud.bandit.checkpoints.manifest import Manifest


def copy_checkpoints(
    listed: Iterable[tuple[Path, Manifest]],
    to: Path,
    stands: Mapping[str, tuple[int, int]],
    *,
    pass_over_missing: bool,
) -> int:
    """Copy those that a ledger can use which stands so: (last sequence, erasures) by campaign.

    Returns how many. Damaged ones stay behind, since no service would load them; removed ones do so
    too, or raise FileNotFoundError. The newest are copied first, since the oldest are removed first.
    """
    copied = 0
    for path, manifest in sorted(listed, key=lambda checkpoint: -checkpoint[1].saved_us):
        last, erasures = stands.get(path.parent.name, (0, 0))
        if manifest.sequence > last or manifest.erasures != erasures:
            continue
        try:
            model = path.with_name(manifest.model_name).read_bytes()
        except FileNotFoundError:
            if pass_over_missing:
                continue
            raise
        if hashlib.sha256(model).hexdigest() == manifest.sha256:
            _write(to / path.parent.name, manifest, model)
            copied += 1
    return copied


def _write(directory: Path, manifest: Manifest, model: bytes) -> None:
    for folder in (directory.parent, directory):  # `parents` would make them readable to others
        folder.mkdir(mode=0o700, exist_ok=True)
    for name, content in ((manifest.model_name, model), (manifest.name, manifest.text().encode())):
        file = directory / name
        file.touch(mode=0o600)
        file.write_bytes(content)
