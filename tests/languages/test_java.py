"""The contract in Java."""

from __future__ import annotations

from pathlib import Path

from tests.languages.conftest import Understood
from tests.languages.toolchains import PROGRAMS, java, says
from tests.running import Service


def test_a_program_decides_and_reports(tmp_path: Path, service: Service, understood: Understood) -> None:
    """What protoc's own generator and gRPC's make of proto/ compiles, asks, and is answered."""
    understood(says([*java(tmp_path, PROGRAMS / "Shop.java"), service.target], tmp_path))
