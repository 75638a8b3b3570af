"""The command that reads campaign files: `check`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tilbud.cli.errors import fail
from tilbud.domain.errors import CampaignInvalid
from tilbud.domain.limits import Limits

if TYPE_CHECKING:
    from rich.console import Console


def check(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH…", help="Campaign files, directories of them, or a contact.yaml."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with status 1 where there is a warning; for CI.")
    ] = False,
    schema: Annotated[
        bool,
        typer.Option(
            "--schema",
            help="Print the JSON Schema of campaign files, for editors; with PATH contact.yaml that of it.",
        ),
    ] = False,
) -> None:
    """Check campaign files and their contact.yaml; say what each will do, or every problem and its remedy.

    Warns of what is valid but odd, such as an offer that is over. Status 2: a file is not valid.
    """
    if schema:
        _print_schema(paths or [])
        return
    from rich.console import Console

    from tilbud.campaigns.file_warnings import campaign_warnings
    from tilbud.campaigns.source import load_files, placed
    from tilbud.campaigns.summary import campaign_summary, contact_summary

    if not paths:
        fail("name a campaign file or a directory of them: tilbud check campaigns/")
    limits = Limits()
    try:
        loaded = load_files(paths, limits)
        now = datetime.now(UTC)
        warned = [
            problem
            for file in loaded.campaigns
            for problem in placed(file.file, campaign_warnings(file.campaign, limits, now), limits)
        ]
    except CampaignInvalid as error:
        fail(*map(str, error.problems))
    console = Console(highlight=False)
    for file in loaded.campaigns:
        _describe(console, file.campaign.campaign, file.file, campaign_summary(file.campaign))
    if loaded.contact_file:
        lines = contact_summary(loaded.contact, [file.campaign for file in loaded.campaigns])
        _describe(console, "contact policy", loaded.contact_file, lines)
    for problem in warned:
        typer.echo(f"warning: {problem}", err=True)
    valid = len(loaded.campaigns) + bool(loaded.contact_file)
    console.print(
        f"[green]{valid} valid[/green]{f', [yellow]{_many(len(warned))}[/yellow]' if warned else ''}"
    )
    if warned and strict:
        raise typer.Exit(1)


def _print_schema(paths: Sequence[Path]) -> None:
    """Print the schema of what these files are, which need not exist."""
    from tilbud.campaigns.schema import campaign_schema, contact_schema
    from tilbud.campaigns.source import CONTACT_FILE

    of_contacts = bool(paths) and all(path.name == CONTACT_FILE for path in paths)
    schema = contact_schema() if of_contacts else campaign_schema()
    print(json.dumps(schema, indent=2))  # noqa: T201 - to a file


def _many(warnings: int) -> str:
    return "1 warning" if warnings == 1 else f"{warnings} warnings"


def _describe(console: Console, title: str, file: str, lines: Mapping[str, str]) -> None:
    """Say what a file will do, for someone who did not write it."""
    from rich.markup import escape
    from rich.table import Table

    console.print(f"[bold]{title}[/bold]  {escape(file)}", soft_wrap=True)
    table = Table.grid(padding=(0, 2))
    for subject, text in lines.items():
        table.add_row(f"  {escape(subject)}", escape(text))
    console.print(table)
