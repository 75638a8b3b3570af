"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tilbud.runtime.settings import Settings

Data = Annotated[
    Path, typer.Option("--data", envvar="TILBUD_DATA", help="Directory of the ledger and the checkpoints.")
]
Campaigns = Annotated[
    list[Path] | None,
    typer.Option(
        "--campaigns",
        envvar="TILBUD_CAMPAIGNS",
        help="Campaign file, or directory of them; may be given several times. Default: the samples.",
    ),
]
Listen = Annotated[str, typer.Option("--listen", envvar="TILBUD_LISTEN", help="gRPC address, HOST:PORT.")]

DEFAULTS = Settings()
DATA = DEFAULTS.data
LISTEN = DEFAULTS.listen
