"""What is dialled for an address that a person wrote."""

from __future__ import annotations

import pytest

from tilbud.client.address import dialled


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("127.0.0.1:50051", "127.0.0.1:50051"),
        ("tilbud.example:443", "tilbud.example:443"),
        ("[::1]:50051", "[::1]:50051"),
        (":50051", "localhost:50051"),
        ("0.0.0.0:50051", "127.0.0.1:50051"),
        ("[::]:50051", "localhost:50051"),
        ("unix:/run/tilbud.sock", "unix:/run/tilbud.sock"),
        ("unix:///run/tilbud.sock", "unix:/run/tilbud.sock"),
    ],
)
def test_where_a_service_listens_can_be_dialled(address: str, target: str) -> None:
    """Hosts stay as they are; every address and a port alone are dialled on loopback."""
    assert dialled(address) == target


@pytest.mark.parametrize(
    "address", ["", "nonsense", "host:", "host:99999", "::1:50051", "unix:", "http://host:1/"]
)
def test_what_is_no_address_is_refused_with_an_example(address: str) -> None:
    """A ValueError that says how an address is written."""
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:50051|unix:/run"):
        dialled(address)
