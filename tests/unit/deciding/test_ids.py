"""Ids the service makes."""

from __future__ import annotations

from uuid import RFC_4122, UUID

from tilbud.deciding.ids import uuid7


def test_ids_are_uuid_version_7_in_order_of_time():
    """An id is a UUIDv7 (RFC 9562) whose first 48 bits are the milliseconds; later ones sort later."""
    ids = [uuid7(1_790_000_000_000_000 + step * 1_000) for step in range(1_000)]
    for step, text in enumerate(ids):
        parsed = UUID(text)
        assert str(parsed) == text
        assert (parsed.version, parsed.variant) == (7, RFC_4122)
        assert parsed.int >> 80 == 1_790_000_000_000 + step
    assert ids == sorted(ids)


def test_ids_of_one_moment_are_different():
    """Any number of ids can be made for one time; that they differ is chance of 74 bits."""
    assert len({uuid7(1_790_000_000_000_000) for _ in range(1_000)}) == 1_000


def test_an_id_says_the_time_it_was_given():
    """A clock that was set back gives ids of its own time, not of the latest that was told."""
    uuid7(1_790_000_000_000_000)
    earlier = UUID(uuid7(1_600_000_000_123_999))
    assert earlier.int >> 80 == 1_600_000_000_123
