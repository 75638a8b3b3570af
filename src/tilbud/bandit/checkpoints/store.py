"""Checkpoints: a model on disk with the last settlement it learned, loaded again only if unharmed.

Each policy of a campaign that learns has a model, and its checkpoints are those of the model's lineage.

    DIRECTORY/CAMPAIGN/LINEAGE-SEQUENCE-SHA.model     what VW wrote
    DIRECTORY/CAMPAIGN/LINEAGE-SEQUENCE.json          the manifest

What always holds:
 * The manifest is renamed into place last, when the model it names is on disk: no manifest, no checkpoint.
 * A model is loaded only if it is the one that the manifest and the caller mean (`manifest.py`).
 * A save that fails leaves every earlier checkpoint; what cannot be loaded is passed over, with a reason.
 * What is old goes with the save after it (`pruning.py`).

`prepare` needs the model, so its thread; `commit` hashes, waits for the disk, and may run in another.
Nothing is dropped between the two: see `Learner.between_turns`. Several processes may share the directory
(`files.py`); `commit` and `drop_erased` may wait for one another, and are for threads that keep nobody
waiting. A model file is code to VW: the directory must be writable for this service alone.

What it does not do: decide when to save, log, or read a clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tilbud.bandit.checkpoints import pruning
from tilbud.bandit.checkpoints.files import (
    CheckpointFiles,
    list_files,
    list_manifests,
    list_names,
    place,
    read_manifest,
    remove,
    sync,
    verified_model,
)
from tilbud.bandit.checkpoints.manifest import Identity, Manifest, verify
from tilbud.bandit.features import ENCODER
from tilbud.bandit.model import Model, Shape, lineage_of, shape_of
from tilbud.bandit.vw import VW_VERSION
from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.errors import CheckpointInvalid, ModelUnavailable
from tilbud.domain.limits import Limits


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model that VW wrote to a temporary file; `Checkpoints.commit` makes a checkpoint of it."""

    campaign: str
    policy: str
    lineage: str
    sequence: int
    arguments: str
    erasures: int
    temporary: Path

    def manifest(self, model: bytes, saved_us: int) -> Manifest:
        """Return what the checkpoint of this model says of itself."""
        return Manifest(
            campaign=self.campaign,
            lineage=self.lineage,
            sequence=self.sequence,
            arguments=self.arguments,
            vw_version=VW_VERSION,
            encoder=ENCODER,
            sha256=hashlib.sha256(model).hexdigest(),
            length=len(model),
            saved_us=saved_us,
            erasures=self.erasures,
            policy=self.policy,
        )


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model that was loaded, and why others were passed over."""

    model: Model | None
    refused: tuple[str, ...]


class Checkpoints:
    """The checkpoints of every campaign, below one directory."""

    def __init__(self, directory: Path, generations: int) -> None:
        assert generations >= 1, generations
        self.files = CheckpointFiles(directory)
        self._generations = generations

    def save(self, model: Model, saved_us: int, beside: Collection[str] = ()) -> Manifest:
        """Store the model as it is now; OSError where that fails. `beside`: see `commit`."""
        return self.commit(self.prepare(model), saved_us, beside)

    def prepare(self, model: Model) -> Prepared:
        """Let VW write the model to a temporary file, which takes milliseconds; on the model's thread."""
        temporary = self.files.reserve(model.campaign)
        try:
            model.save(temporary)
        except BaseException:
            self.files.release(temporary)
            raise
        return Prepared(
            campaign=model.campaign,
            policy=model.policy,
            lineage=model.lineage,
            sequence=model.sequence,
            arguments=model.arguments,
            erasures=model.erasures,
            temporary=temporary,
        )

    def commit(self, prepared: Prepared, saved_us: int, beside: Collection[str] = ()) -> Manifest:
        """Make a prepared model a checkpoint, then remove what is too old; on any thread.

        `beside` are the lineages of the campaign's other policies: theirs stay.
        """
        temporary = prepared.temporary
        try:
            manifest = prepared.manifest(temporary.read_bytes(), saved_us)
            sync(temporary)
            with self.files.lock():
                place(temporary, manifest.model_name)
                temporary.write_text(manifest.text())
                sync(temporary)
                place(temporary, manifest.name)
                with suppress(OSError):  # it is safe; what was not removed is removed after the next
                    self._prune(temporary.parent, manifest, beside)
        finally:
            self.files.release(temporary)
        return manifest

    def load_newest(
        self, campaign: Campaign, policy: str, *, limits: Limits, up_to: int, erasures: int
    ) -> Loaded:
        """Load the newest checkpoint of the policy's lineage at so many erasures that is unharmed.

        Those beyond sequence `up_to` are left alone: the ledger they learned from is not the one at hand.
        """
        in_order = self._of_lineage(campaign.campaign, lineage_of(campaign, erasures, policy))
        usable = [(sequence, path) for sequence, path in reversed(in_order) if sequence <= up_to]
        return _first_unharmed(usable, campaign, policy, limits, erasures)

    def load_oldest(self, campaign: Campaign, policy: str, *, limits: Limits, erasures: int) -> Loaded:
        """Load the oldest such checkpoint that is unharmed, to rebuild from."""
        in_order = self._of_lineage(campaign.campaign, lineage_of(campaign, erasures, policy))
        return _first_unharmed(in_order, campaign, policy, limits, erasures)

    def load_stand_in(
        self, campaign: Campaign, policy: str, *, limits: Limits, up_to: int, erasures: int
    ) -> Loaded:
        """Load, to answer and not to learn, the policy's unharmed checkpoint that has learned most.

        It may be of any lineage, so of another schema, range or algorithm than the policy's by now, but not
        of another encoder, nor one that has learned what was erased since.
        """
        usable = {
            path: manifest
            for path, manifest in self.manifests(campaign.campaign)
            if (manifest.policy == policy and manifest.sequence <= up_to)
            and (manifest.erasures, manifest.vw_version, manifest.encoder) == (erasures, VW_VERSION, ENCODER)
        }

        def learned_most(path: Path) -> tuple[int, int]:
            return usable[path].sequence, usable[path].saved_us

        def load(path: Path) -> Model:
            manifest = usable[path]
            shape = Shape(manifest.lineage, manifest.arguments)
            verify(manifest, _identity(campaign, policy, shape, erasures, manifest.sequence))
            return Model(
                campaign,
                limits=limits,
                policy=policy,
                sequence=manifest.sequence,
                saved=verified_model(path, manifest),
                erasures=erasures,
                stand_in=shape,
            )

        return _first_that_loads(sorted(usable, key=learned_most, reverse=True), load)

    def oldest_sequence(self, campaign: str, lineage: str) -> int | None:
        """Return the sequence of the lineage's oldest checkpoint: settlements after it are still needed."""
        in_order = self._of_lineage(campaign, lineage)
        return in_order[0][0] if in_order else None

    def newest_sequence(self, campaign: str, lineage: str) -> int | None:
        """Return the sequence of the lineage's newest checkpoint, whichever process saved it."""
        in_order = self._of_lineage(campaign, lineage)
        return in_order[-1][0] if in_order else None

    async def drop_lost(self, campaign: str, ledger: Callable[[], Awaitable[tuple[int, int]]]) -> int:
        """Remove checkpoints beyond the ledger's last settlement, or its erasures; return how many.

        The ledger they learned from is lost (an older one was restored, or begun anew): the sequences and
        erasures to come will be others, and such a checkpoint would look right again. `ledger` tells
        (sequence, erasures) and is asked when it is known which checkpoints there are: another process may
        have settled, and saved, a moment ago. It takes no lock: what is lost nobody loads or saves.
        OSError where a file stays.
        """
        directory = self.files.of(campaign)
        listing = list_manifests(directory)
        lost = pruning.beyond(listing, *await ledger())
        files: list[Path] = []
        for listed in lost:
            files.append(listed.path)  # before the model it names
            if listed.manifest is not None:
                files.append(listed.path.with_name(listed.manifest.model_name))
        remove(directory, files)
        return len(lost)

    def campaigns(self) -> list[str]:
        """Return every campaign that has a directory here, served or not."""
        return self.files.campaigns()

    def manifests(self, campaign: str) -> list[tuple[Path, Manifest]]:
        """Return every manifest of the campaign that can be read, of any lineage, and where it is."""
        listing = list_manifests(self.files.of(campaign))
        return [(listed.path, listed.manifest) for listed in listing if listed.manifest is not None]

    def drop_erased(self, campaign: str, erasures: int) -> int:
        """Remove checkpoints, of any lineage, saved at fewer erasures; return how many.

        They have learned what was erased since. So may have manifests that cannot be read, models without a
        manifest and what a crash left half-written: they go too. What another process has half-written, it
        drops itself once it knows of the erasure. Waits for other processes, though not where there is
        nothing to remove; on any thread. OSError where a file stays.
        """
        directory = self.files.of(campaign)
        if not erasures or not any(self._erased(directory, erasures)):
            return 0
        with self.files.lock():
            stale, others = self._erased(directory, erasures)
            remove(directory, (*stale, *others))  # the models after the manifests that name them
        return len(stale)

    def _erased(self, directory: Path, erasures: int) -> tuple[list[Path], list[Path]]:
        """Return manifests of fewer erasures, or unreadable ones, and all that no other manifest names."""
        stale, named = pruning.split_by_erasures(list_manifests(directory), erasures)
        named.update(path.name for path in stale)
        files = list_files(directory)
        return stale, [path for path in files if not (path.name in named or self.files.is_reserved(path))]

    def _of_lineage(self, campaign: str, lineage: str) -> list[tuple[int, Path]]:
        """Return (sequence, manifest) in order."""
        names = list_names(self.files.of(campaign))
        return sorted((sequence, path) for path, of, sequence in names if of == lineage)

    def _prune(self, directory: Path, newest: Manifest, beside: Collection[str]) -> None:
        keep = pruning.names_to_keep(list_manifests(directory), newest, beside, self._generations)
        for path in directory.iterdir():
            if not (path.name in keep or self.files.is_reserved(path)):
                path.unlink(missing_ok=True)


def _identity(campaign: Campaign, policy: str, shape: Shape, erasures: int, sequence: int) -> Identity:
    return Identity(
        campaign=campaign.campaign,
        policy=policy,
        lineage=shape.lineage,
        arguments=shape.arguments,
        erasures=erasures,
        sequence=sequence,
        vw_version=VW_VERSION,
        encoder=ENCODER,
    )


def _first_unharmed(
    checkpoints: Iterable[tuple[int, Path]], campaign: Campaign, policy: str, limits: Limits, erasures: int
) -> Loaded:
    """Return the first of these (sequence, manifest) of the policy's own lineage that loads."""
    sequences = {path: sequence for sequence, path in checkpoints}
    shape = shape_of(campaign, erasures, policy)

    def load(path: Path) -> Model:
        manifest, sequence = read_manifest(path), sequences[path]
        verify(manifest, _identity(campaign, policy, shape, erasures, sequence))
        saved = verified_model(path, manifest)
        return Model(
            campaign, limits=limits, policy=policy, sequence=sequence, saved=saved, erasures=erasures
        )

    return _first_that_loads(sequences, load)


def _first_that_loads(paths: Iterable[Path], load: Callable[[Path], Model]) -> Loaded:
    refused: list[str] = []
    for path in paths:
        try:
            return Loaded(load(path), tuple(refused))
        except (CheckpointInvalid, ModelUnavailable, OSError) as error:
            if path.exists():  # else another process removed it meanwhile, which is no harm
                refused.append(f"{path.name}: {error}")
    return Loaded(None, tuple(refused))
