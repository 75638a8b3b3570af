"""Ids the service makes."""

from __future__ import annotations

from uuid import RFC_4122, UUID

from tilbud.deciding.ids import Uuid7


def test_ids_are_uuid_version_7_in_order_of_time():
    """An id is a UUIDv7 (RFC 9562) whose first 48 bits are the milliseconds; later ones sort later."""
    uuid7 = Uuid7()
    ids = [uuid7(1_790_000_000_000_000 + step * 1_000) for step in range(1_000)]
    for step, text in enumerate(ids):
        parsed = UUID(text)
        assert str(parsed) == text
        assert (parsed.version, parsed.variant) == (7, RFC_4122)
        assert parsed.int >> 80 == 1_790_000_000_000 + step
    assert ids == sorted(ids)
    assert len({uuid7(1_790_000_000_000_000) for _ in range(1_000)}) == 1_000
