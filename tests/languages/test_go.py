"""The contract in Go."""

from __future__ import annotations

from pathlib import Path

from tests.languages.conftest import Understood
from tests.languages.toolchains import PROGRAMS, go, says
from tests.running import Service


def test_a_program_decides_and_reports(tmp_path: Path, service: Service, understood: Understood) -> None:
    """What protoc-gen-go and protoc-gen-go-grpc make of proto/ compiles, asks, and is answered."""
    understood(says([go(tmp_path, PROGRAMS / "shop.go"), service.target], tmp_path))
