"""The manifest of a checkpoint: what it says, its file names, and whether a model is the one it means.

What holds: a manifest that is not whole is none; a model is the right one only if its length and sha256 are
the manifest's, and the manifest's campaign, policy, lineage, VW arguments, VW version, encoder, sequence and
erasures are the caller's. VW itself would load a truncated file without a word. Pure: it gets bytes and
names.

What it does not do: open, write or remove a file (`files.py`).
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields

from tilbud.domain.campaign.campaign import PERSONALIZED
from tilbud.domain.errors import CheckpointInvalid

_NAME = re.compile(r"([0-9a-f]+)-([0-9]{15})\.json")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Identity:
    """What a caller expects of a checkpoint."""

    campaign: str
    policy: str
    lineage: str
    arguments: str
    erasures: int
    sequence: int
    vw_version: str
    encoder: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a checkpoint says of itself."""

    campaign: str
    lineage: str
    sequence: int
    arguments: str
    vw_version: str
    encoder: str
    sha256: str
    length: int  # bytes
    saved_us: int
    erasures: int = 0  # those the model knows of; versions before erasures wrote none
    policy: str = PERSONALIZED  # whose model it is; not written of this one, which older versions read too

    @property
    def model_name(self) -> str:
        """The file that VW wrote; the hash in it keeps a save from touching an earlier one's file."""
        return f"{self.lineage}-{self.sequence:015}-{self.sha256[:16]}.model"

    @property
    def name(self) -> str:
        """The manifest's own file."""
        return f"{self.lineage}-{self.sequence:015}.json"

    def text(self) -> str:
        """What that file holds."""
        says = asdict(self)
        if self.policy == PERSONALIZED:
            del says["policy"]
        return json.dumps(says, indent=1) + "\n"


_KINDS = {
    "campaign": str, "lineage": str, "sequence": int, "arguments": str, "vw_version": str, "encoder": str,
    "sha256": str, "length": int, "saved_us": int, "erasures": int, "policy": str,
}  # fmt: skip


def parse_name(name: str) -> tuple[str, int] | None:
    """Return the lineage and sequence in the name of a manifest's file; None: it is no manifest's."""
    match = _NAME.fullmatch(name)
    return (match[1], int(match[2])) if match else None


def parse(text: bytes) -> Manifest:
    """Return what a manifest's file holds; CheckpointInvalid where it is damaged."""
    try:
        manifest = Manifest(**json.loads(text))
        if not all(type(getattr(manifest, name)) is kind for name, kind in _KINDS.items()):
            raise TypeError
    except (ValueError, TypeError, RecursionError):
        raise CheckpointInvalid("the manifest is damaged") from None
    return manifest


def verify(manifest: Manifest, expected: Identity) -> None:
    """Raise CheckpointInvalid where a manifest is not of the checkpoint that is meant."""
    for field in fields(expected):
        value, wanted = getattr(manifest, field.name), getattr(expected, field.name)
        if value != wanted:
            raise CheckpointInvalid(f"{field.name} is {value!r}, not {wanted!r}")
    if not _SHA256.fullmatch(manifest.sha256):
        raise CheckpointInvalid("the manifest is damaged")


def verify_model(manifest: Manifest, model: bytes) -> None:
    """Raise CheckpointInvalid where a model is not the one that was saved."""
    if len(model) != manifest.length:
        raise CheckpointInvalid(f"the model has {len(model)} bytes, not {manifest.length}")
    if hashlib.sha256(model).hexdigest() != manifest.sha256:
        raise CheckpointInvalid("the model was changed after it was saved")
