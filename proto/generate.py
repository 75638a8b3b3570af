"""Generates what is made of the contract in this directory.

    generate.py code DIRECTORY      writes Python's tilbud/v1/*_pb2* below DIRECTORY
    generate.py descriptors FILE    writes one FileDescriptorSet: the contract, all that it imports, and
                                    google/rpc/error_details.proto, of which errors are made
    generate.py page FILE           writes the contract as a page to read, in Markdown

Runs offline, in the venv that `make tools` builds from requirements.txt. The same contract and the
same pins give the same bytes.
"""

from __future__ import annotations

import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

import reference

CONTRACT = Path(__file__).resolve().parent
SCRIPTS = Path(sysconfig.get_path("scripts"))


def compile_contract(*options: str, rooms: Sequence[str] = ("tilbud",)) -> None:
    """Run protoc over every file below these directories; exits with its status where it fails."""
    files = sorted(
        str(file.relative_to(CONTRACT)) for room in rooms for file in CONTRACT.glob(f"{room}/**/*.proto")
    )
    well_known = Path(protoc.__file__).parent / "_proto"
    includes = [f"-I{path}" for path in (CONTRACT, well_known)]
    status = protoc.main(["protoc", *includes, *options, *files])
    if status != 0:
        sys.exit(status)


def write_code(directory: Path) -> None:
    """Write messages, servicers, stubs and their types below an existing or new directory."""
    directory.mkdir(parents=True, exist_ok=True)
    compile_contract(
        f"--plugin=protoc-gen-mypy={SCRIPTS / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={SCRIPTS / 'protoc-gen-mypy_grpc'}",
        f"--python_out={directory}",
        f"--grpc_python_out={directory}",
        f"--mypy_out=quiet:{directory}",
        f"--mypy_grpc_out=quiet:{directory}",
    )


def write_page(file: Path) -> None:
    """Write the contract as a page."""
    with tempfile.TemporaryDirectory() as scratch:
        described = Path(scratch) / "contract.binpb"
        compile_contract("--include_source_info", f"--descriptor_set_out={described}")
        contract = FileDescriptorSet.FromString(described.read_bytes())
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(reference.page(contract), encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Do what the command line asks; returns the exit status."""
    match arguments:
        case ["code", directory]:
            write_code(Path(directory))
            return 0
        case ["descriptors", file]:
            compile_contract("--include_imports", f"--descriptor_set_out={file}", rooms=("google", "tilbud"))
            return 0
        case ["page", file]:
            write_page(Path(file))
            return 0
        case _:
            sys.stderr.write(__doc__)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
