"""The file of a model."""

from __future__ import annotations

import pytest

from tilbud.bandit.saved import in_memory, pack, unpack


def test_what_is_packed_is_unpacked():
    """State and parts come back as they were, also parts with lines in them and empty ones."""
    state, parts = {"scale": [1, 0.1, 2e-300], "words": "a\nb"}, [b"one\n\n{}", b"", b"\0" * 10]
    assert unpack(pack(state, parts)) == (state, parts)


def test_what_is_no_such_file_is_refused():
    """Cut short, lengthened, of another version, or nothing at all: no model, and no crash."""
    whole = pack({"a": 1}, [b"12345"])
    for content in (
        b"", whole[:-1], whole + b"x", whole[:20], whole.replace(b"model 1", b"model 2"), b"VW", whole[:16],
        pack({}, []).replace(b'"parts":[]', b'"parts":null'), pack({}, []).replace(b'{"parts":[]}', b"[1]"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"model file|Expecting|Extra data|sequence"):
            unpack(content)


def test_bytes_have_a_path_while_they_are_needed():
    """A library that opens files reads them from memory; then the path is gone."""
    with in_memory(b"content") as path:
        assert path.read_bytes() == b"content"
    assert not path.exists()
