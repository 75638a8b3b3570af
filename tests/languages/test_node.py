"""The contract in Node."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tests.languages.conftest import Understood
from tests.languages.toolchains import LANGUAGES, PROGRAMS, PROTO, node, run, says
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
    plugin = {
        "local": [str(LANGUAGES / "node/node_modules/.bin/protoc-gen-es")],
        "out": str(tmp_path / "gen"),
        "opt": ["target=js", "import_extension=js"],
    }
    template = json.dumps({"version": "v2", "plugins": [plugin]})
    run(Path(sys.prefix) / "proto-tools/bin/buf", "generate", "--template", template, cwd=PROTO)
    base_url = f"http://{service.target}" if protocol == "grpc" else service.http
    understood(says([*command, base_url, protocol], tmp_path))
