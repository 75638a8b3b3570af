"""The command that writes a first campaign: `new`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tilbud.cli.errors import fail, mistakes_reported

_TEMPLATE = Path(__file__).with_name("first_campaign.yaml")


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The campaign's id, such as spring-sale.")],
    directory: Annotated[
        Path, typer.Option("--in", help="Directory to write it in, made where it is not there.")
    ] = Path(),
) -> None:
    """Write a first campaign, NAME.yaml, with a comment for every key. Overwrites nothing."""
    from tilbud.campaigns.source import parse_campaign

    file = directory / f"{name}.yaml"
    with mistakes_reported():
        text = _TEMPLATE.read_text(encoding="utf-8").replace("{name}", name).replace("{file}", str(file))
        if parse_campaign(text.encode(), str(file)).campaign != name:
            fail(f"NAME {name}: write a word that YAML takes for text, such as spring-sale")
        directory.mkdir(parents=True, exist_ok=True)
        try:
            with file.open("x", encoding="utf-8") as written:
                written.write(text)
        except FileExistsError:
            fail(f"{file} is there already; choose another name, or another directory with --in")
    typer.echo(f"{file}: written. Next: tilbud check {file}")
