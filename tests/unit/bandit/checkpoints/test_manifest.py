"""What a manifest must say before its model is loaded, without any file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from tilbud.bandit.checkpoints.manifest import Identity, Manifest, parse, parse_name, verify, verify_model
from tilbud.domain.errors import CheckpointInvalid

MODEL = b"a model"
MANIFEST = Manifest(
    campaign="shop",
    lineage="0a1b",
    sequence=100,
    arguments="--cb_explore_adf",
    vw_version="9",
    encoder="1",
    sha256=hashlib.sha256(MODEL).hexdigest(),
    length=len(MODEL),
    saved_us=5,
    erasures=2,
    policy="bold",
)
EXPECTED = Identity("shop", "bold", "0a1b", "--cb_explore_adf", 2, 100, "9", "1")


def test_a_manifest_reads_back_as_it_was_written():
    """By its text, and by its file's name, whose numbers have their width."""
    assert parse(MANIFEST.text().encode()) == MANIFEST
    assert parse_name(MANIFEST.name) == ("0a1b", 100)
    assert parse_name(MANIFEST.model_name) is None
    assert parse_name("0a1b-100.json") is None


def test_the_first_policy_of_a_campaign_goes_without_saying():
    """What was written before there could be others is its, and what is written reads as before."""
    manifest = replace(MANIFEST, policy="personalized")
    assert "policy" not in json.loads(manifest.text())
    assert parse(manifest.text().encode()) == manifest


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"[" * 100_000,
        b"\xff",
        b"[]",
        MANIFEST.text().encode()[:-4],
        json.dumps({**json.loads(MANIFEST.text()), "sequence": "100"}).encode(),
        json.dumps({**json.loads(MANIFEST.text()), "more": 1}).encode(),
    ],
)
def test_a_manifest_that_is_not_whole_is_none(damaged):
    """Whatever is wrong with it: cut short, of another kind, or with what nobody wrote."""
    with pytest.raises(CheckpointInvalid, match="damaged"):
        parse(damaged)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("campaign", "other"), ("lineage", "0"), ("arguments", ""), ("erasures", 1), ("sequence", 99),
        ("vw_version", "8"), ("encoder", "2"),
    ],
)  # fmt: skip
def test_a_checkpoint_of_anything_else_is_refused_by_name(field, value):
    """The reason has what it is and what it should be."""
    verify(MANIFEST, EXPECTED)
    with pytest.raises(CheckpointInvalid, match=f"{field} is {value!r}, not"):
        verify(replace(MANIFEST, **{field: value}), EXPECTED)


def test_a_hash_that_is_none_names_no_file():
    """The hash goes into the name of the model's file, so it must be a hash."""
    with pytest.raises(CheckpointInvalid, match="damaged"):
        verify(replace(MANIFEST, sha256="../../etc/passwd"), EXPECTED)


def test_a_model_that_was_changed_is_refused():
    """By its length, or by its content."""
    verify_model(MANIFEST, MODEL)
    with pytest.raises(CheckpointInvalid, match="6 bytes, not 7"):
        verify_model(MANIFEST, MODEL[:-1])
    with pytest.raises(CheckpointInvalid, match="changed"):
        verify_model(MANIFEST, b"A model")
