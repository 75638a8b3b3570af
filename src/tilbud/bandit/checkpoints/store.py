"""Checkpoints: a model on disk with the last settlement it learned, found again only if unharmed.

    DIRECTORY/CAMPAIGN/LINEAGE-SEQUENCE-SHA.model     what VW wrote
    DIRECTORY/CAMPAIGN/LINEAGE-SEQUENCE.json          the manifest

What always holds:
 * The manifest is renamed into place last, when the model it names is on disk: no manifest, no checkpoint.
 * A model is loaded only if its length, sha256, VW arguments, VW version, encoder and erasures are the
   manifest's and the caller's. VW itself would load a truncated file without a word.
 * A save that fails leaves every earlier checkpoint; what cannot be loaded is passed over, with a reason.
 * The newest `generations` of the lineage saved last stay, of those beside it that are in use, and of one
   lineage before them, so that a campaign file can be taken back. None stays that knows of fewer erasures
   than the one saved last.

`prepare` needs the model, so its thread; `commit` hashes, waits for the disk, and may run in another.
Nothing is dropped between the two: see `Learner.between_turns`. Several processes may share the directory:
names change, and files that any of them may use go, only under its lock, which ends with the process that
has it, and what another living process has prepared stays. Waiting for that lock, and for the disk, is
for threads that keep nobody waiting: `commit` and `drop_erased`. A model file is code to VW: the directory
must be writable for this service alone.

What it does not do: decide when to save, log, or read a clock.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from tilbud.bandit import presets
from tilbud.bandit.features import ENCODER
from tilbud.bandit.model import Model, Shape, lineage_of
from tilbud.bandit.vw import VW_VERSION
from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.errors import CheckpointInvalid, ModelUnavailable
from tilbud.domain.limits import Limits

_MANIFEST = re.compile(r"([0-9a-f]+)-([0-9]{15})\.json")
_TEMPORARY = re.compile(r"\.new-(([1-9][0-9]{0,8})-[0-9]+)-[0-9]+")
_WRITING = ".writing"  # what VW adds to a name until it has written all
_LOCK = ".lock"
_BEGAN = 19  # of what /proc/PID/stat tells after the command: ticks since the machine began


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
        return json.dumps(asdict(self), indent=1) + "\n"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model that VW wrote to a temporary file; `Checkpoints.commit` makes a checkpoint of it."""

    campaign: str
    lineage: str
    sequence: int
    arguments: str
    erasures: int
    temporary: Path


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model that was found, and why others were passed over."""

    model: Model | None
    refused: tuple[str, ...]


class Checkpoints:
    """The checkpoints of every campaign, below one directory."""

    def __init__(self, directory: Path, generations: int) -> None:
        assert generations >= 1, generations
        self._directory = directory
        self._generations = generations
        self._process = _process(os.getpid())
        self._numbers = count()
        self._in_use: set[str] = set()  # the temporary files of this process

    def save(self, model: Model, saved_us: int, beside: Collection[str] = ()) -> Manifest:
        """Store the model as it is now; OSError where that fails. `beside`: see `commit`."""
        return self.commit(self.prepare(model), saved_us, beside)

    def prepare(self, model: Model) -> Prepared:
        """Let VW write the model to a temporary file, which takes milliseconds; on the model's thread."""
        directory = self._directory / model.campaign
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = directory / f".new-{self._process}-{next(self._numbers)}"
        self._in_use.add(temporary.name)
        try:
            model.save(temporary)
        except BaseException:
            self._give_up(temporary)
            raise
        return Prepared(
            model.campaign, model.lineage, model.sequence, model.arguments, model.erasures, temporary
        )

    def commit(self, prepared: Prepared, saved_us: int, beside: Collection[str] = ()) -> Manifest:
        """Make a prepared model a checkpoint, then remove what is no longer kept; on any thread.

        `beside` are the lineages of the campaign's other models that are in use: theirs stay.
        """
        directory = prepared.temporary.parent
        try:
            content = prepared.temporary.read_bytes()
            manifest = Manifest(
                campaign=prepared.campaign,
                lineage=prepared.lineage,
                sequence=prepared.sequence,
                arguments=prepared.arguments,
                vw_version=VW_VERSION,
                encoder=ENCODER,
                sha256=hashlib.sha256(content).hexdigest(),
                length=len(content),
                saved_us=saved_us,
                erasures=prepared.erasures,
            )
            sync(prepared.temporary)
            with self._alone():
                prepared.temporary.rename(directory / manifest.model_name)
                sync(directory)
                prepared.temporary.write_text(manifest.text())
                sync(prepared.temporary)
                prepared.temporary.rename(directory / manifest.name)
                sync(directory)
                with suppress(OSError):  # it is safe; what was not removed is removed after the next
                    self._prune(directory, manifest, beside)
        finally:
            self._give_up(prepared.temporary)
        return manifest

    def load_newest(self, campaign: Campaign, *, limits: Limits, up_to: int, erasures: int) -> Loaded:
        """Load the newest checkpoint of the campaign's lineage at so many erasures that is unharmed.

        Those beyond sequence `up_to` are left alone: the ledger they learned from is not the one at hand.
        """
        found = self._of_lineage(campaign.campaign, lineage_of(campaign, erasures))
        return _first_good([each for each in reversed(found) if each[0] <= up_to], campaign, limits, erasures)

    def load_oldest(self, campaign: Campaign, *, limits: Limits, erasures: int) -> Loaded:
        """Load the oldest such checkpoint that is unharmed, to rebuild from."""
        found = self._of_lineage(campaign.campaign, lineage_of(campaign, erasures))
        return _first_good(found, campaign, limits, erasures)

    def load_stand_in(self, campaign: Campaign, *, limits: Limits, up_to: int, erasures: int) -> Loaded:
        """Load, to answer and not to learn, the unharmed checkpoint that has learned most, of any lineage.

        So of another schema, range or algorithm than the campaign's by now, but not of another encoder, nor
        one that has learned what was erased since.
        """
        usable = [
            (path, manifest)
            for path, manifest in self.manifests(campaign.campaign)
            if manifest.sequence <= up_to
            and (manifest.erasures, manifest.vw_version, manifest.encoder) == (erasures, VW_VERSION, ENCODER)
        ]
        usable.sort(key=lambda each: (each[1].sequence, each[1].saved_us), reverse=True)
        refused = []
        for path, manifest in usable:
            shape = Shape(manifest.lineage, manifest.arguments)
            expected = (
                campaign.campaign, shape.lineage, shape.arguments, erasures, manifest.sequence,
                VW_VERSION, ENCODER,
            )  # fmt: skip
            try:
                saved = _check(path, manifest, expected)
                model = Model(
                    campaign,
                    limits=limits,
                    sequence=manifest.sequence,
                    saved=saved,
                    erasures=erasures,
                    stand_in=shape,
                )
            except (CheckpointInvalid, ModelUnavailable, OSError) as error:
                refused.append(f"{path.name}: {error}")
            else:
                return Loaded(model, tuple(refused))
        return Loaded(None, tuple(refused))

    def oldest_sequence(self, campaign: str, lineage: str) -> int | None:
        """Return the sequence of the lineage's oldest checkpoint: settlements after it are still needed."""
        found = self._of_lineage(campaign, lineage)
        return found[0][0] if found else None

    def newest_sequence(self, campaign: str, lineage: str) -> int | None:
        """Return the sequence of the lineage's newest checkpoint, whichever process saved it."""
        found = self._of_lineage(campaign, lineage)
        return found[-1][0] if found else None

    async def drop_lost(self, campaign: str, ledger: Callable[[], Awaitable[tuple[int, int]]]) -> int:
        """Remove checkpoints beyond the ledger's last settlement, or its erasures; return how many.

        The ledger they learned from is gone (an older one was restored, or begun anew): the sequences and
        erasures to come will be others, and such a checkpoint would look right again. `ledger` tells
        (sequence, erasures) and is asked when it is known which checkpoints there are: another process may
        have settled, and saved, a moment ago. It takes no lock: what is lost nobody loads or saves.
        OSError where a file stays.
        """
        directory = self._directory / campaign
        lost = await _lost(directory, ledger)
        for path, manifest in lost:
            path.unlink(missing_ok=True)  # before the model it names
            if manifest is not None:
                path.with_name(manifest.model_name).unlink(missing_ok=True)
        if lost:
            sync(directory)
        return len(lost)

    def campaigns(self) -> list[str]:
        """Return every campaign that has a directory here, served or not."""
        if not self._directory.is_dir():
            return []
        return sorted(path.name for path in self._directory.iterdir() if path.is_dir())

    def manifests(self, campaign: str) -> list[tuple[Path, Manifest]]:
        """Return every manifest of the campaign that can be read, of any lineage, and where it is."""
        found = [(path, _read_or_none(path)) for path, _ in _manifests(self._directory / campaign)]
        return [(path, manifest) for path, manifest in found if manifest is not None]

    def drop_erased(self, campaign: str, erasures: int) -> int:
        """Remove checkpoints, of any lineage, saved at fewer erasures; return how many.

        They have learned what was erased since. So may have manifests that cannot be read, models without a
        manifest and what a crash left half-written: they go too. What another process has half-written, it
        drops itself once it knows of the erasure. Waits for other processes, though not where there is
        nothing to remove; on any thread. OSError where a file stays.
        """
        directory = self._directory / campaign
        if not erasures or not any(self._erased(directory, erasures)):
            return 0
        with self._alone():
            stale, others = self._erased(directory, erasures)
            for path in (*stale, *others):  # the models after the manifests that name them
                path.unlink(missing_ok=True)
            if stale or others:
                sync(directory)
        return len(stale)

    def _erased(self, directory: Path, erasures: int) -> tuple[list[Path], list[Path]]:
        """Return manifests of fewer erasures, or unreadable ones, and all that no other manifest names."""
        keep, stale = set(), []
        for path, _ in _manifests(directory):
            manifest = _read_or_none(path)
            if manifest is None or manifest.erasures < erasures:
                stale.append(path)
            else:
                keep |= {path.name, manifest.model_name}
        keep.update(path.name for path in stale)
        return stale, [path for path in _files(directory) if not (path.name in keep or self._used(path))]

    def _give_up(self, temporary: Path) -> None:
        """Remove a temporary file that is done with, if it is there; what stays is removed with the old."""
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        self._in_use.discard(temporary.name)

    def _used(self, path: Path) -> bool:
        """Whether a file is a temporary one that this process, or another that lives, works on.

        Any other is what a crash left, also where this process has the number of the one that crashed.
        """
        name = path.name.removesuffix(_WRITING)
        match = _TEMPORARY.fullmatch(name)
        if match is None:
            return False
        return name in self._in_use if match[1] == self._process else match[1] == _process(int(match[2]))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from renaming and removing; not within itself. OSError where one holds on."""
        descriptor = os.open(self._directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(descriptor)
            yield
        finally:
            os.close(descriptor)  # which frees it, as the end of a process does

    def _of_lineage(self, campaign: str, lineage: str) -> list[tuple[int, Path]]:
        """Return (sequence, manifest) in order."""
        return sorted(
            (int(match[2]), path)
            for path, match in _manifests(self._directory / campaign)
            if match[1] == lineage
        )

    def _prune(self, directory: Path, newest: Manifest, beside: Collection[str]) -> None:
        saved_us: dict[str, int] = {}
        by_lineage: dict[str, list[tuple[int, Path]]] = {}
        for path, match in _manifests(directory):
            manifest = _read_or_none(path)
            if manifest is not None and manifest.erasures < newest.erasures:
                continue  # it learned what was erased since
            by_lineage.setdefault(match[1], []).append((int(match[2]), path))
            if manifest is not None:
                saved_us[match[1]] = max(saved_us.get(match[1], 0), manifest.saved_us)
        in_use = {newest.lineage, *beside}
        others = sorted(set(saved_us) - in_use, key=lambda lineage: saved_us[lineage])
        keep: set[str] = set()
        for lineage in (*in_use, *others[-1:]):
            for _, path in sorted(by_lineage.get(lineage, ()))[-self._generations :]:
                keep.add(path.name)
        keep.add(newest.name)
        models = {newest.model_name}
        for name in keep:
            if (manifest := _read_or_none(directory / name)) is not None:
                models.add(manifest.model_name)
        for path in directory.iterdir():
            if not (path.name in keep | models or self._used(path)):
                path.unlink(missing_ok=True)


def _first_good(
    found: Sequence[tuple[int, Path]], campaign: Campaign, limits: Limits, erasures: int
) -> Loaded:
    refused = []
    arguments = presets.arguments(campaign.exploration)
    identity = (campaign.campaign, lineage_of(campaign, erasures), arguments, erasures)
    for sequence, path in found:
        try:
            manifest = _read(path)
            saved = _check(path, manifest, (*identity, sequence, VW_VERSION, ENCODER))
            model = Model(campaign, limits=limits, sequence=sequence, saved=saved, erasures=erasures)
        except (CheckpointInvalid, ModelUnavailable, OSError) as error:
            if path.exists():  # else another process removed it meanwhile, which is no harm
                refused.append(f"{path.name}: {error}")
        else:
            return Loaded(model, tuple(refused))
    return Loaded(None, tuple(refused))


def _manifests(directory: Path) -> list[tuple[Path, re.Match[str]]]:
    found = ((path, _MANIFEST.fullmatch(path.name)) for path in _files(directory))
    return [(path, match) for path, match in found if match]


def _files(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []


def _process(pid: int) -> str:
    """Return the number of a process and when it began, which no other has; "" where there is none.

    The number alone comes back, in a container with the next start.
    """
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return f"{pid}-{told.rpartition(')')[2].split()[_BEGAN]}"


async def _lost(
    directory: Path, ledger: Callable[[], Awaitable[tuple[int, int]]]
) -> list[tuple[Path, Manifest | None]]:
    """Return the manifests of which the ledger has too few settlements or erasures."""
    found = [(path, int(match[2]), _read_or_none(path)) for path, match in _manifests(directory)]
    last, erasures = await ledger()
    return [
        (path, manifest)
        for path, sequence, manifest in found
        if sequence > last or (manifest is not None and manifest.erasures > erasures)
    ]


def _read(path: Path) -> Manifest:
    with path.open("rb") as file:
        text = file.read(Limits.checkpoint_manifest_bytes_max)
    try:
        written = json.loads(text)
        manifest = Manifest(**written)
        if not all(type(getattr(manifest, name)) is kind for name, kind in _KINDS.items()):
            raise TypeError
    except (ValueError, TypeError, RecursionError):
        raise CheckpointInvalid("the manifest is damaged") from None
    return manifest


def _read_or_none(path: Path) -> Manifest | None:
    """Return a manifest, None where it cannot be read."""
    try:
        return _read(path)
    except (CheckpointInvalid, OSError):
        return None


_KINDS = {
    "campaign": str, "lineage": str, "sequence": int, "arguments": str, "vw_version": str, "encoder": str,
    "sha256": str, "length": int, "saved_us": int, "erasures": int,
}  # fmt: skip


def _check(path: Path, manifest: Manifest, expected: tuple[str, str, str, int, int, str, str]) -> Path:
    """Return the model's path, if it is the one the manifest and the caller mean."""
    names = ("campaign", "lineage", "arguments", "erasures", "sequence", "vw_version", "encoder")
    for name, value in zip(names, expected, strict=True):
        if getattr(manifest, name) != value:
            raise CheckpointInvalid(f"{name} is {getattr(manifest, name)!r}, not {value!r}")
    if not re.fullmatch(r"[0-9a-f]{64}", manifest.sha256):
        raise CheckpointInvalid("the manifest is damaged")
    saved = path.with_name(manifest.model_name)
    content = saved.read_bytes()
    if len(content) != manifest.length:
        raise CheckpointInvalid(f"the model has {len(content)} bytes, not {manifest.length}")
    if hashlib.sha256(content).hexdigest() != manifest.sha256:
        raise CheckpointInvalid("the model was changed after it was saved")
    return saved


def _lock(descriptor: int) -> None:
    """Lock a file; TimeoutError, which is an OSError, where a process that hangs has it for long."""
    for _ in range(Limits.checkpoint_lock_tries_max):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(Limits.checkpoint_lock_retry_s)
        else:
            return
    raise TimeoutError("another process has held the lock of the checkpoints for too long")


def sync(path: Path) -> None:
    """Wait until a file's content, or a directory's names, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
