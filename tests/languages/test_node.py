"""The contract in Node."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from tests.languages.conftest import Understood
from tests.languages.toolchains import LANGUAGES, PROGRAMS, PROTO, node, run, says, shown
from tests.running import Service
from tests.unit.test_house import make


def test_proto_loader_decides_and_reports(tmp_path: Path, service: Service, understood: Understood) -> None:
    """@grpc/proto-loader reads proto/ as it lies; a program asks, and is answered."""
    understood(says([*node(tmp_path, PROGRAMS / "loader.mjs"), service.target, PROTO], tmp_path))


@pytest.mark.parametrize("protocol", ["grpc", "json", "binary"])
def test_connect_decides_and_reports(
    tmp_path: Path, service: Service, understood: Understood, protocol: str
) -> None:
    """What plain `buf generate` with protoc-gen-es makes of proto/ asks by connect-es, over gRPC and HTTP."""
    command = node(tmp_path, PROGRAMS / "connect.mjs")
    make("tools")
    (tmp_path / "proto").symlink_to(PROTO)
    tools = f"{Path(sys.prefix) / 'proto-tools/bin'}:{LANGUAGES / 'node/node_modules/.bin'}"
    generate = shown("npx buf generate").removeprefix("npx ")  # which is here already, by another way
    run("/bin/sh", "-c", generate, cwd=tmp_path, PATH=f"{tools}:{os.environ['PATH']}")
    base_url = f"http://{service.target}" if protocol == "grpc" else service.http
    understood(says([*command, base_url, protocol], tmp_path))
