"""The command that brings out what the package has for other programs: `assets`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

import tilbud
from tilbud.cli.errors import fail, mistakes_reported

_ASSETS = Path(tilbud.__file__).with_name("assets")  # of an installed package; see pyproject.toml


def assets(
    directory: Annotated[
        Path, typer.Argument(metavar="DIRECTORY", help="Where to write; made where it is not there.")
    ],
) -> None:
    """Write proto files and descriptors, Prometheus rules and Grafana dashboards. Overwrites older ones."""
    if not _ASSETS.is_dir():
        fail(
            "assets: this Tilbud runs from its source, which has them in proto/, deploy/prometheus/rules and "
            "deploy/grafana/dashboards"
        )
    with mistakes_reported():
        shutil.copytree(_ASSETS, directory, dirs_exist_ok=True)
    for file in sorted(file for file in _ASSETS.rglob("*") if file.is_file()):
        typer.echo(directory / file.relative_to(_ASSETS))
