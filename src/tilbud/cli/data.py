"""The commands on a data directory, whether it is served or not: `rebuild` and `backup`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from tilbud.cli.errors import fail, finished, mistakes_reported
from tilbud.cli.options import DATA, Campaigns, Data
from tilbud.domain.errors import CampaignInvalid, TilbudError
from tilbud.domain.limits import Limits
from tilbud.runtime.settings import SAMPLES

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from tilbud.campaigns.source import CampaignFile
    from tilbud.insight.audit import Rebuilt

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, a supervisor, a connection that drops


def rebuild(
    campaigns: Campaigns = None,
    data: Data = DATA,
    campaign: Annotated[str, typer.Option(help="Only this campaign.")] = "",
) -> None:
    """Learn every model anew from the ledger, and say whether it equals the running one.

    Reads only, also while the service runs. Ends with status 1 where a prediction differs.
    """
    from rich.console import Console

    from tilbud.campaigns.source import load_campaigns

    try:
        files = load_campaigns(campaigns or [SAMPLES], Limits())
    except CampaignInvalid as error:
        fail(*map(str, error.problems))
    chosen = [file for file in files if campaign in ("", file.campaign.campaign)]
    if not chosen:
        fail(f"no campaign {campaign!r}; there are: {', '.join(file.campaign.campaign for file in files)}")
    results = finished(_rebuild(data, chosen))
    for result in results:
        _show(Console(highlight=False), result)
    if not all(result.agrees for result in results):
        raise typer.Exit(1)
    if not any(result.compared for result in results):
        Console(stderr=True, highlight=False).print(
            "Nothing was compared: no checkpoint and no decision is of these files' models. "
            "Name the files that were served with --campaigns."
        )


async def _rebuild(data: Path, files: list[CampaignFile]) -> list[Rebuilt]:
    from rich.console import Console
    from rich.progress import Progress

    from tilbud.bandit.checkpoints.store import Checkpoints
    from tilbud.insight import audit as learning
    from tilbud.ledger.open import open_reader
    from tilbud.runtime.data_directory import LEDGER_FILE, DataDirectory

    directory, limits = DataDirectory(data), Limits()
    if not directory.ledger.exists():
        raise TilbudError(f"{data} has no {LEDGER_FILE}; name the data directory of a service with --data")
    checkpoints = Checkpoints(directory.checkpoints, limits.checkpoint_generations)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        async with open_reader(directory.ledger_address, limits=limits) as reader:
            return [
                await learning.rebuild(
                    file.campaign,
                    policy,
                    reader=reader,
                    checkpoints=checkpoints,
                    limits=limits,
                    progress=_shown(bar, file.campaign.campaign),
                )
                for file in files
                for policy in file.campaign.policies
            ]


def _passed_over(result: Rebuilt) -> str:
    return f", {result.decisions_passed_over:,} not checked" if result.decisions_passed_over else ""


def _verdict(result: Rebuilt) -> str:
    if not result.agrees:
        return f"DIFFERS by up to {result.difference_max:.3g}"
    return "equal" if result.compared else "nothing to compare"


def _shown(bar: Progress, name: str) -> Callable[[int, int], None]:
    task = bar.add_task(name, total=None)
    return lambda done, total: bar.update(task, completed=done, total=total)


def _show(console: Console, result: Rebuilt) -> None:
    """Say what a rebuild found."""
    from rich.table import Table

    at = result.checkpoint_sequence
    alike = f"{result.decisions_equal:,} of {result.decisions_checked:,}{_passed_over(result)}"
    lines = {
        "model": f"{result.lineage}.{result.sequence}",
        "learned anew": f"settlements {result.from_sequence + 1:,} … {result.sequence:,}"
        if result.sequence > result.from_sequence
        else "nothing",
        "decisions drawn alike": alike,
        "checkpoint predicts alike": "there is none"
        if at is None
        else f"{result.checkpoint_equal} of {result.checkpoint_checked} (written at {at:,})",
        "verdict": _verdict(result),
    }
    if result.erasures:
        lines["customers erased"] = f"{result.erasures:,}; what was drawn before the last is not checked"
    console.print(f"[bold]{result.campaign}[/bold]")
    table = Table.grid(padding=(0, 2))
    for name, text in lines.items():
        table.add_row(f"  {name}", text)
    for reason in result.checkpoints_refused:
        table.add_row("  checkpoint refused", reason)
    console.print(table)


def _end(number: int, _frame: object) -> NoReturn:
    """End, which removes what is half made, and nothing more that comes keeps it from that."""
    for ending in _ENDING:
        signal.signal(ending, signal.SIG_IGN)
    sys.exit(128 + number)


def backup(
    to: Annotated[
        Path, typer.Option("--to", help="Directory to make, not there yet or empty; its parent is there.")
    ],
    data: Data = DATA,
) -> None:
    """Copy a data directory while it is served, or while it is not; `tilbud serve --data COPY` restores it.

    Every decision and outcome acknowledged before it began is in the copy. Reads only, and makes the copy
    whole or not at all.
    """
    from rich.console import Console
    from rich.progress import Progress

    from tilbud.runtime.backup import back_up

    began_s = monotonic()
    for ending in _ENDING:
        if signal.getsignal(ending) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(ending, _end)
    console = Console(stderr=True)
    with (
        mistakes_reported(),
        Progress(console=console, transient=True, disable=not console.is_terminal) as bar,
    ):
        made = back_up(data, to, _shown(bar, "ledger"))
    Console(highlight=False, soft_wrap=True).print(
        f"{to}: {made.ledger.decisions:,} decisions, {made.ledger.outcomes:,} outcomes, "
        f"{made.ledger.settlements:,} settlements, {made.checkpoints:,} checkpoints; "
        f"{made.size_bytes:,} bytes in {monotonic() - began_s:.1f} s",
        markup=False,
    )
