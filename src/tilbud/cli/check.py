"""The command that reads campaign files: `check`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tilbud.cli.errors import fail
from tilbud.domain.errors import CampaignInvalid
from tilbud.domain.limits import Limits


def check(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH…", help="Campaign files, directories of them, or a contact.yaml."),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of campaign files, for editors.")
    ] = False,
) -> None:
    """Check campaign files and their contact.yaml; say what each will do, or every problem and its remedy."""
    if schema:
        from tilbud.domain.campaign.campaign import Campaign

        dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
        print(json.dumps(dialect | Campaign.model_json_schema(by_alias=True), indent=2))  # noqa: T201 - to a file
        return
    from tilbud.campaigns.source import load_files
    from tilbud.campaigns.summary import campaign_summary, contact_summary

    if not paths:
        fail("name a campaign file or a directory of them: tilbud check campaigns/")
    limits = Limits()
    try:
        loaded = load_files(paths, limits)
    except CampaignInvalid as error:
        fail(*map(str, error.problems))
    console = Console(highlight=False)
    for file in loaded.campaigns:
        _describe(console, file.campaign.campaign, file.file, campaign_summary(file.campaign, limits))
    if loaded.contact_file:
        lines = contact_summary(loaded.contact, [file.campaign for file in loaded.campaigns])
        _describe(console, "contact policy", loaded.contact_file, lines)
    console.print(f"[green]{len(loaded.campaigns) + bool(loaded.contact_file)} valid[/green]")


def _describe(console: Console, title: str, file: str, lines: Mapping[str, str]) -> None:
    """Say what a file will do, for someone who did not write it."""
    console.print(f"[bold]{title}[/bold]  {escape(file)}", soft_wrap=True)
    table = Table.grid(padding=(0, 2))
    for subject, text in lines.items():
        table.add_row(f"  {escape(subject)}", escape(text))
    console.print(table)
