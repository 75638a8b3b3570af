"""Checkpoints: found again only if unharmed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.unit.bandit.samples import LIMITS, campaign, encoded, model, offer_set, teach

from tilbud.bandit.checkpoints import pruning
from tilbud.bandit.checkpoints.files import list_names, process_key
from tilbud.bandit.checkpoints.store import Checkpoints, Loaded
from tilbud.bandit.model import Model
from tilbud.bandit.vw import Workspace
from tilbud.domain.campaign.campaign import PERSONALIZED, Campaign
from tilbud.domain.limits import Limits

NOBODY = 999_999_999  # the number of no process, since Linux gives none above 2^22


@pytest.fixture
def checkpoints(tmp_path):
    """Checkpoints that keep three."""
    return Checkpoints(tmp_path / "checkpoints", generations=3)


@pytest.fixture
def shop(tmp_path):
    """Where those of the campaign are."""
    return tmp_path / "checkpoints" / "shop"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """Another process that lives."""
    with subprocess.Popen(["sleep", "600"]) as living:
        yield living
        living.kill()


def newest(
    checkpoints: Checkpoints, sample: Campaign | None = None, *, oldest: bool = False, erasures: int = 0
) -> Loaded:
    """What loads for the campaign."""
    sample = sample or campaign()
    if oldest:
        return checkpoints.load_oldest(sample, PERSONALIZED, limits=LIMITS, erasures=erasures)
    return checkpoints.load_newest(sample, PERSONALIZED, limits=LIMITS, up_to=1_000_000, erasures=erasures)


def saved_twice(checkpoints: Checkpoints) -> Model:
    """Checkpoints at 100 and 200; returns the model as it was at 200."""
    taught = model()
    for saved_us in (1, 2):
        teach(taught, 100)
        checkpoints.save(taught, saved_us)
    return taught


def manifest_of(shop: Path, sequence: int) -> Path:
    """The manifest of that sequence."""
    (found,) = shop.glob(f"*-{sequence:015}.json")
    return found


def model_of(shop: Path, sequence: int) -> Path:
    """The model file of that sequence."""
    (found,) = shop.glob(f"*-{sequence:015}-*.model")
    return found


def test_loaded_model_predicts_like_the_saved_one(checkpoints):
    """What comes back is the model that was saved, its sequence and lineage."""
    taught = saved_twice(checkpoints)
    loaded = newest(checkpoints)
    assert loaded.refused == ()
    assert loaded.model is not None
    assert (loaded.model.sequence, loaded.model.lineage) == (200, taught.lineage)
    assert loaded.model.predict(encoded(), offer_set()) == taught.predict(encoded(), offer_set())


def test_nothing_saved_is_nothing_loaded(checkpoints):
    """A campaign without checkpoints has none, and no complaint."""
    assert newest(checkpoints) == Loaded(None, ())
    assert checkpoints.oldest_sequence("shop", "00") is None


def _truncate(shop: Path) -> None:
    model_of(shop, 200).write_bytes(model_of(shop, 200).read_bytes()[:-20])


def _flip(shop: Path) -> None:
    content = bytearray(model_of(shop, 200).read_bytes())
    content[len(content) // 2] ^= 1
    model_of(shop, 200).write_bytes(content)


def _lose(shop: Path) -> None:
    model_of(shop, 200).unlink()


def _garble(shop: Path) -> None:
    manifest_of(shop, 200).write_bytes(b"\x80{" * 100)


def _empty(shop: Path) -> None:
    manifest_of(shop, 200).write_text("")


def _nest(shop: Path) -> None:
    manifest_of(shop, 200).write_text("[" * 60_000)


def _change(name: str, value: object):
    def change(shop: Path) -> None:
        manifest = manifest_of(shop, 200)
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), name: value}))

    change.__name__ = f"_change_{name}"
    return change


HARMS = [
    _truncate, _flip, _lose, _garble, _empty, _nest,
    _change("sha256", "0" * 64), _change("sha256", "../../etc/passwd"), _change("length", 7),
    _change("length", "7"), _change("sequence", 201), _change("arguments", "--cb_explore_adf"),
    _change("vw_version", "9.0.0"), _change("encoder", "0"), _change("campaign", "other"),
    _change("lineage", "0000"), _change("surprise", 1), _change("erasures", 1), _change("erasures", None),
]  # fmt: skip


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
def test_harmed_checkpoint_is_refused_and_an_older_one_used(harm, checkpoints, shop):
    """Truncated, changed, missing or of another model: passed over with a reason, the older one loads."""
    saved_twice(checkpoints)
    harm(shop)
    loaded = newest(checkpoints)
    assert len(loaded.refused) == 1
    assert loaded.model is not None
    assert loaded.model.sequence == 100


def test_a_file_that_is_no_model_is_passed_over(checkpoints, monkeypatch):
    """A file that is no model, under a manifest that fits it, is refused and not a crash."""
    taught = saved_twice(checkpoints)
    teach(taught, 1)
    monkeypatch.setattr(taught, "save", lambda path: path.write_bytes(b"not a model"))
    checkpoints.save(taught, 3)
    loaded = newest(checkpoints)
    assert "the model's file is damaged" in loaded.refused[0]
    assert loaded.model is not None
    assert loaded.model.sequence == 200


@pytest.mark.parametrize(
    ("failing", "call"),
    [("fsync", 1), ("fsync", 2), ("fsync", 3), ("fsync", 4), ("rename", 1), ("rename", 2)],
)
def test_a_failed_save_leaves_the_last_good_one(checkpoints, shop, monkeypatch, failing, call):
    """Wherever saving stops, the earlier checkpoint loads, and no temporary file stays."""
    taught = saved_twice(checkpoints)
    teach(taught, 100)
    calls = 0

    def fail(real):
        def maybe(*arguments):
            nonlocal calls
            calls += 1
            if calls == call:
                raise OSError(28, "No space left on device")
            return real(*arguments)

        return maybe

    if failing == "fsync":
        monkeypatch.setattr("os.fsync", fail(lambda _: None))
    else:
        monkeypatch.setattr(Path, "rename", fail(Path.rename))
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(taught, 3)
    monkeypatch.undo()
    loaded = newest(checkpoints).model
    assert loaded is not None
    assert loaded.sequence == (300 if (failing, call) == ("fsync", 4) else 200)
    assert not list(shop.glob(".new*"))


def test_a_model_that_cannot_be_written_leaves_nothing(checkpoints, shop, monkeypatch):
    """Where VW fails to write, the error is an OSError and no temporary file stays."""
    taught = saved_twice(checkpoints)

    def fail(_workspace, _path):
        raise RuntimeError("disk")

    monkeypatch.setattr(Workspace, "save", fail)
    with pytest.raises(OSError, match="disk"):
        checkpoints.save(taught, 3)
    assert not list(shop.glob(".new*"))


def test_generations_are_kept_and_older_ones_removed(checkpoints, shop):
    """The newest three stay, with their models and nothing else."""
    taught = model()
    for saved_us in range(1, 7):
        teach(taught, 10)
        checkpoints.save(taught, saved_us)
    assert checkpoints.oldest_sequence("shop", taught.lineage) == 40
    assert len(list(shop.iterdir())) == 6
    oldest = newest(checkpoints, oldest=True).model
    assert oldest is not None
    assert oldest.sequence == 40


def test_saving_the_same_sequence_again_is_harmless(checkpoints, shop):
    """A second save of one sequence replaces the first."""
    taught = saved_twice(checkpoints)
    checkpoints.save(taught, 3)
    assert len(list(shop.iterdir())) == 4
    assert newest(checkpoints).refused == ()


def test_one_lineage_back_stays(checkpoints):
    """Taking a campaign file back finds its model; lineages before that one are gone."""
    for saved_us, preset in enumerate(("balanced", "cautious", "fast_changing")):
        taught = model(campaign(exploration={"preset": preset}))
        teach(taught, 10)
        checkpoints.save(taught, saved_us)
    found = [
        newest(checkpoints, campaign(exploration={"preset": preset})).model is not None
        for preset in ("balanced", "cautious", "fast_changing")
    ]
    assert found == [False, True, True]


def test_a_file_with_several_policies_can_be_taken_back(checkpoints):
    """As many lineages before those in use stay as are in use: those of the file before this one."""
    presets = ("balanced", "cautious", "fast_changing", "epsilon_greedy")
    models = [model(campaign(exploration={"preset": preset})) for preset in presets]
    for in_use in (models[:2], models[2:]):
        for taught in in_use:
            teach(taught, 10)
            checkpoints.save(taught, taught.sequence, {other.lineage for other in in_use})
    saved = {manifest.lineage for _, manifest in checkpoints.manifests(models[0].campaign)}
    assert saved == {taught.lineage for taught in models}


def test_every_lineage_in_use_stays(checkpoints):
    """However many models a campaign has; once they are in use no more, the newest of them stays."""
    presets = ("balanced", "cautious", "fast_changing")
    models = [model(campaign(exploration={"preset": preset})) for preset in presets]
    lineages = {each.lineage for each in models}
    for saved_us, taught in enumerate(models):
        teach(taught, 10)
        checkpoints.save(taught, saved_us, lineages - {taught.lineage})

    def saved():
        return {manifest.lineage for _, manifest in checkpoints.manifests(models[0].campaign)}

    assert saved() == lineages
    teach(models[0], 10)
    checkpoints.save(models[0], 9)
    assert saved() == {models[0].lineage, models[2].lineage}


def test_prepared_model_is_the_one_of_that_moment(checkpoints):
    """Learning may go on between the fast and the slow half of a save."""
    taught = model()
    teach(taught, 100)
    expected = taught.predict(encoded(), offer_set())
    prepared = checkpoints.prepare(taught)
    teach(taught, 100)
    assert checkpoints.commit(prepared, saved_us=1).sequence == 100
    loaded = newest(checkpoints).model
    assert loaded is not None
    assert loaded.predict(encoded(), offer_set()) == expected


def asked(stands: Callable[[], tuple[int, int]]) -> Callable[[], Awaitable[tuple[int, int]]]:
    """Return a ledger that says, when it is asked, where it stands."""

    async def ledger() -> tuple[int, int]:
        return stands()

    return ledger


async def test_checkpoints_beyond_the_ledger_are_dropped(checkpoints, shop):
    """Those that learned from settlements the ledger does not have go; the others stay and load."""
    saved_twice(checkpoints)
    assert await checkpoints.drop_lost("shop", asked(lambda: (150, 0))) == 1
    assert [path.name[13:28] for path in shop.glob("*.json")] == [f"{100:015}"]
    loaded = newest(checkpoints).model
    assert loaded is not None
    assert loaded.sequence == 100
    assert await checkpoints.drop_lost("elsewhere", asked(lambda: (0, 0))) == 0


def test_what_a_crash_left_is_removed(checkpoints, shop, child):
    """Temporary files of a process that died do not pile up, nor where others have its number now."""
    saved_twice(checkpoints)
    left = [
        shop / f".new-{pid}-1-{number}{writing}"
        for pid in (NOBODY, os.getpid(), child.pid)
        for number, writing in enumerate(("", ".writing"))
    ]
    for path in left:
        path.write_text("half a model")
    checkpoints.save(model(), 3)
    assert [path.name for path in left if path.exists()] == []


def test_what_a_living_process_prepared_stays(checkpoints, shop, child):
    """Neither a save nor a drop of one process removes what another, or itself, has yet to commit."""
    saved_twice(checkpoints)
    fresh = model(erasures=1)
    teach(fresh, 250)
    prepared = checkpoints.prepare(fresh)
    others = [shop / f".new-{process_key(child.pid)}-0{writing}" for writing in ("", ".writing")]
    for path in others:
        path.write_text("half a model")
    checkpoints.save(fresh, 3)
    checkpoints.drop_erased("shop", 1)
    assert all(path.exists() for path in others)
    child.kill()
    child.wait()
    checkpoints.save(fresh, 3)
    assert not any(path.exists() for path in others)
    assert checkpoints.commit(prepared, 4).sequence == 250
    assert newest(checkpoints, erasures=1).refused == ()


async def test_what_is_settled_and_saved_during_a_drop_is_not_lost(checkpoints, shop, monkeypatch):
    """The ledger is asked once it is known what there is: what another process saves meanwhile stays."""
    taught = saved_twice(checkpoints)
    real = Path.iterdir

    def just_saved(path: Path) -> object:
        monkeypatch.undo()
        teach(taught, 100)
        checkpoints.save(taught, 3)
        return real(path)

    monkeypatch.setattr(Path, "iterdir", just_saved)
    assert await checkpoints.drop_lost("shop", asked(lambda: (taught.sequence, 0))) == 0
    assert manifest_of(shop, 300).exists()


def test_names_change_one_process_at_a_time(checkpoints, shop, monkeypatch):
    """While another process is at it nothing is renamed or removed; where it hangs, a save fails."""
    monkeypatch.setattr(Limits, "checkpoint_lock_tries_max", 3)
    taught = saved_twice(checkpoints)
    before = set(shop.iterdir())
    with Checkpoints(shop.parent, generations=3).files.lock():
        teach(taught, 100)
        with pytest.raises(OSError, match="lock"):
            checkpoints.save(taught, 3)
        with pytest.raises(OSError, match="lock"):
            checkpoints.drop_erased("shop", 1)
    assert set(shop.iterdir()) == before
    assert checkpoints.save(taught, 3).sequence == 300


async def test_a_drop_that_has_nothing_to_remove_waits_for_nobody(checkpoints, shop, monkeypatch):
    """Where another process holds the lock it returns, as long as every checkpoint knows of the erasures."""
    monkeypatch.setattr(Limits, "checkpoint_lock_tries_max", 3)
    checkpoints.save(model(erasures=1), 1)
    with Checkpoints(shop.parent, generations=3).files.lock():
        assert checkpoints.drop_erased("shop", 1) == 0
        assert await checkpoints.drop_lost("shop", asked(lambda: (0, 1))) == 0


async def test_what_the_ledger_lost_is_dropped_while_another_process_holds_the_lock(
    checkpoints, shop, monkeypatch
):
    """All processes of a service find it at their start, and none fails since another is at it."""
    monkeypatch.setattr(Limits, "checkpoint_lock_tries_max", 3)
    saved_twice(checkpoints)
    with Checkpoints(shop.parent, generations=3).files.lock():
        assert await checkpoints.drop_lost("shop", asked(lambda: (150, 0))) == 1
    assert newest(checkpoints).refused == ()


def test_a_checkpoint_that_is_dropped_as_soon_as_it_is_saved_does_no_harm(checkpoints, shop, monkeypatch):
    """One process saves at the erasures of before while another, which answered one, drops what it finds."""
    taught = saved_twice(checkpoints)
    teach(taught, 100)
    other, real = Checkpoints(shop.parent, generations=3), checkpoints.files.lock

    @contextmanager
    def then_dropped() -> Iterator[None]:
        with real():
            yield
        other.drop_erased("shop", 1)

    monkeypatch.setattr(checkpoints.files, "lock", then_dropped)
    assert checkpoints.save(taught, 3).sequence == 300
    assert list(shop.iterdir()) == []


def test_the_newest_is_known_whoever_saved_it(checkpoints, shop):
    """By its sequence, within a lineage."""
    taught = saved_twice(checkpoints)
    others = Checkpoints(shop.parent, generations=3)
    assert others.newest_sequence("shop", taught.lineage) == 200
    assert others.newest_sequence("shop", model(erasures=1).lineage) is None
    assert others.newest_sequence("elsewhere", taught.lineage) is None


def test_a_checkpoint_that_another_process_removed_is_not_told_of(checkpoints, shop, monkeypatch):
    """One that goes between looking and loading is passed over without a complaint; the next one serves."""
    saved_twice(checkpoints)
    newest_one = manifest_of(shop, 200)

    def removed_meanwhile(directory: Path) -> list[tuple[Path, str, int]]:
        names = list_names(directory)
        newest_one.unlink()
        return names

    monkeypatch.setattr("tilbud.bandit.checkpoints.store.list_names", removed_meanwhile)
    loaded = newest(checkpoints)
    assert loaded.refused == ()
    assert loaded.model is not None
    assert loaded.model.sequence == 100


def test_a_manifest_from_before_erasures_loads(checkpoints, shop):
    """Data directories of versions that wrote no `erasures` go on working."""
    saved_twice(checkpoints)
    for manifest in shop.glob("*.json"):
        written = json.loads(manifest.read_text())
        assert written.pop("erasures") == 0
        manifest.write_text(json.dumps(written))
    loaded = newest(checkpoints)
    assert loaded.refused == ()
    assert loaded.model is not None
    assert (loaded.model.sequence, loaded.model.erasures) == (200, 0)


def test_a_checkpoint_knows_its_erasures(checkpoints):
    """A model learned anew is found at its own count of erasures, and at no other."""
    taught = model(erasures=2)
    teach(taught, 100)
    assert checkpoints.save(taught, 1).erasures == 2
    loaded = newest(checkpoints, erasures=2).model
    assert loaded is not None
    assert (loaded.erasures, loaded.lineage) == (2, taught.lineage)
    assert loaded.predict(encoded(), offer_set()) == taught.predict(encoded(), offer_set())
    assert newest(checkpoints, erasures=1).model is None
    assert newest(checkpoints, erasures=3, oldest=True).model is None


def test_erased_checkpoints_are_dropped_with_all_that_may_be_of_them(checkpoints, shop, monkeypatch):
    """Every lineage of fewer erasures goes, with unreadable manifests, lone models and half-written files."""
    saved_twice(checkpoints)
    other = model(campaign(exploration={"preset": "cautious"}))
    teach(other, 50)
    checkpoints.save(other, 3)
    fresh = model(erasures=1)
    teach(fresh, 250)

    def fail(*_: object) -> None:
        raise OSError("for the test")

    with monkeypatch.context() as patch:
        patch.setattr(pruning, "names_to_keep", fail)  # as if a crash came before what is old goes
        checkpoints.save(fresh, 4)
    _garble(shop)
    (shop / f"{'0' * 12}-{7:015}-{'0' * 16}.model").write_text("a lone model")
    (shop / f".new-{NOBODY}-1-0").write_text("half a model")
    before = set(shop.iterdir())
    assert checkpoints.drop_erased("shop", 1) == 3
    left = set(shop.iterdir())
    assert left == {manifest_of(shop, 250), model_of(shop, 250)}
    assert len(before) == 10
    assert newest(checkpoints, erasures=1).refused == ()
    assert checkpoints.drop_erased("shop", 1) == 0


def test_dropping_after_no_erasure_changes_nothing(checkpoints, shop):
    """Where nothing was erased, also what is damaged stays, to be told of; an unknown campaign has none."""
    saved_twice(checkpoints)
    _garble(shop)
    before = set(shop.iterdir())
    assert checkpoints.drop_erased("shop", 0) == 0
    assert set(shop.iterdir()) == before
    assert checkpoints.drop_erased("elsewhere", 0) == checkpoints.drop_erased("elsewhere", 3) == 0


async def test_checkpoints_of_a_lost_ledgers_erasures_are_dropped(checkpoints, shop):
    """An older ledger was restored: its next erasure will be another one than that of the same number."""
    taught = model(erasures=1)
    teach(taught, 100)
    checkpoints.save(taught, 1)
    assert checkpoints.drop_erased("shop", 0) == 0
    assert await checkpoints.drop_lost("shop", asked(lambda: (100, 1))) == 0
    assert await checkpoints.drop_lost("shop", asked(lambda: (100, 0))) == 1
    assert list(shop.iterdir()) == []


def test_a_drop_that_was_cut_short_is_finished_by_the_next(checkpoints, shop, monkeypatch):
    """Wherever removing stops, the next drop removes the rest, also models whose manifest is gone."""
    saved_twice(checkpoints)
    real = Path.unlink
    for whole in range(4):
        calls = 0

        def stop(path, **how):
            nonlocal calls
            calls += 1
            if calls > 1:
                raise OSError(5, "Input/output error")
            real(path, **how)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", stop)
            if whole < 3:
                with pytest.raises(OSError, match="Input/output"):
                    checkpoints.drop_erased("shop", 1)
            else:
                checkpoints.drop_erased("shop", 1)
    assert list(shop.iterdir()) == []


def test_a_drop_is_on_disk_when_it_returns(checkpoints, shop, monkeypatch):
    """Power lost right after it brings no removed name back."""
    saved_twice(checkpoints)
    synced: list[tuple[Path, int]] = []
    monkeypatch.setattr(
        "tilbud.bandit.checkpoints.files.sync", lambda path: synced.append((path, len(list(path.iterdir()))))
    )
    checkpoints.drop_erased("shop", 1)
    assert synced == [(shop, 0)]


def test_the_lineage_before_an_erasure_is_not_kept_as_the_one_before(checkpoints, shop):
    """The first checkpoint after an erasure removes those of before it, also of another lineage."""
    saved_twice(checkpoints)
    fresh = model(erasures=1)
    teach(fresh, 50)
    checkpoints.save(fresh, 3)
    assert set(shop.iterdir()) == {manifest_of(shop, 50), model_of(shop, 50)}


def test_campaigns_with_checkpoints_are_known(checkpoints):
    """Also those that are not served any more."""
    assert checkpoints.campaigns() == []
    for name in ("shop", "gone"):
        checkpoints.save(model(campaign(campaign=name)), 1)
    assert checkpoints.campaigns() == ["gone", "shop"]
