"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tilbud.cli.answers import Format
from tilbud.client.address import TIMEOUT_S as TIMEOUT_S  # noqa: PLC0414 - for those who have the option
from tilbud.runtime.settings import Settings

Data = Annotated[
    Path,
    typer.Option(
        "--data",
        envvar="TILBUD_DATA",
        callback=Path.absolute,  # so that whoever reads of it knows where it is
        help="Directory of the ledger and the checkpoints.",
    ),
]
Campaigns = Annotated[
    list[Path] | None,
    typer.Option(
        "--campaigns",
        envvar="TILBUD_CAMPAIGNS",
        help="Campaign file, or directory of them; may be given several times. Default: the samples.",
    ),
]
Listen = Annotated[
    str,
    typer.Option(
        "--listen",
        envvar="TILBUD_LISTEN",
        help="gRPC address: HOST:PORT, :PORT for every address of the machine, or unix:PATH.",
    ),
]

DEFAULTS = Settings()
DATA = DEFAULTS.data
LISTEN = DEFAULTS.listen

Asked = Annotated[
    str,
    typer.Option(
        "--listen",
        "--target",
        envvar=["TILBUD_LISTEN", "TILBUD_TARGET"],
        help="The running service: HOST:PORT, :PORT or unix:PATH, as `serve` was given it.",
    ),
]
Target = Annotated[
    str,
    typer.Option("--target", envvar="TILBUD_TARGET", help="The running service: HOST:PORT or unix:PATH."),
]
Timeout = Annotated[
    float, typer.Option("--timeout", min=0.001, max=3_600.0, help="Seconds to wait for an answer.")
]
Output = Annotated[
    Format | None,
    typer.Option("--format", help="How to print the answer. Default: a table on a terminal, else JSON."),
]
CampaignId = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="The campaign's id.")]
DecisionId = Annotated[str, typer.Argument(metavar="DECISION_ID", help="The decision's id.")]
CustomerId = Annotated[str, typer.Argument(metavar="CUSTOMER_ID", help="Your own id of the customer.")]
