"""What may be in flight, in all and by connection."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tilbud.domain.errors import Overloaded
from tilbud.domain.limits import Limits
from tilbud.transport.grpc.in_flight import InFlight

LIMITS = replace(Limits(), calls_in_flight_max=8, request_bytes_in_flight_max=800)


def test_a_connection_that_asks_for_little_is_admitted_where_another_is_refused() -> None:
    """Half of the room for calls is anybody's; the other half is for those with less than their share."""
    in_flight = InFlight(LIMITS)
    for _ in range(4):
        in_flight.enter("many", 1)
    with pytest.raises(Overloaded):
        in_flight.enter("many", 1)
    in_flight.enter("few", 1)
    in_flight.enter("few", 1)
    with pytest.raises(Overloaded):
        in_flight.enter("few", 1)
    assert in_flight.calls == 6


def test_no_more_than_the_room_is_in_flight() -> None:
    """However many connections have little."""
    in_flight = InFlight(LIMITS)
    for number in range(8):
        in_flight.enter(str(number), 1)
    with pytest.raises(Overloaded):
        in_flight.enter("another", 1)
    in_flight.leave("0", 1)
    in_flight.enter("another", 1)


def test_large_requests_are_bounded_by_their_bytes() -> None:
    """Likewise: refused to who has many of them, and not yet to others."""
    in_flight = InFlight(LIMITS)
    in_flight.enter("large", 300)
    with pytest.raises(Overloaded):
        in_flight.enter("large", 300)
    in_flight.enter("another", 300)
    in_flight.leave("large", 300)
    in_flight.leave("another", 300)
    in_flight.enter("large", 300)
