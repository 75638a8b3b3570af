"""Generates the Python code of the contract in this directory.

    generate.py code DIRECTORY    writes tilbud/v1/*_pb2* below DIRECTORY

Runs offline, in the venv that `make tools` builds from requirements.txt. The same contract and the
same pins give the same bytes.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from grpc_tools import protoc

CONTRACT = Path(__file__).resolve().parent
SCRIPTS = Path(sysconfig.get_path("scripts"))


def compile_contract(*options: str) -> None:
    """Run protoc over every file of the contract; exits with its status where it fails."""
    files = sorted(str(file.relative_to(CONTRACT)) for file in CONTRACT.glob("tilbud/**/*.proto"))
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


def main(arguments: list[str]) -> int:
    """Do what the command line asks; returns the exit status."""
    match arguments:
        case ["code", directory]:
            write_code(Path(directory))
            return 0
        case _:
            sys.stderr.write(__doc__)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
