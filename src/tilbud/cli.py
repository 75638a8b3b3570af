"""The command line: `tilbud serve`, `check`, `simulate`, `replay`, `rebuild`.

What holds: every option is also an environment variable `TILBUD_…`; what a person reads goes to
standard output, logs go to standard error as JSON lines; a mistake ends with a sentence that says how to
mend it and a non-zero status. Commands parse and print; the work is done in the rooms.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tilbud.config import SAMPLES, WORKERS_MAX, Settings, host_and_port, split_address
from tilbud.domain.errors import CampaignInvalid, TilbudError
from tilbud.domain.limits import Limits
from tilbud.ledger.port import Durability
from tilbud.simulator.errors import SimulatorError

if TYPE_CHECKING:
    from rich.progress import Progress

    from tilbud.learning.rebuild import Rebuilt
    from tilbud.service.campaign_files import CampaignFile

cli = typer.Typer(
    name="tilbud",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"auto_envvar_prefix": "TILBUD", "help_option_names": ["-h", "--help"]},
)

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
Target = Annotated[
    str, typer.Option("--target", envvar="TILBUD_TARGET", help="The running service, HOST:PORT.")
]
Seed = Annotated[int, typer.Option("--seed", envvar="TILBUD_SEED", help="Another seed, other tastes.")]


def main() -> None:
    """Run the command line."""
    cli()


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"tilbud {version('tilbud')} (Vowpal Wabbit {version('vowpalwabbit')})")
        raise typer.Exit


@cli.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Which offer should this customer see, here and now? Serve, check, try out and audit campaigns."""


@cli.command()
def serve(
    campaigns: Campaigns = None,
    data: Data = Path("tilbud-data"),
    listen: Annotated[
        str, typer.Option(envvar="TILBUD_LISTEN", help="gRPC address, HOST:PORT.")
    ] = "127.0.0.1:50051",
    http: Annotated[
        str, typer.Option(envvar="TILBUD_HTTP", help="Address of /metrics, /livez and /readyz.")
    ] = "127.0.0.1:8080",
    durability: Annotated[
        Durability,
        typer.Option(
            envvar="TILBUD_DURABILITY",
            help="What acknowledged rows survive: the end of the process, or also the loss of power.",
        ),
    ] = Durability.PROCESS,
    drain_notice_s: Annotated[
        float,
        typer.Option(
            envvar="TILBUD_DRAIN_NOTICE_S", min=0.0, max=600.0, help="Seconds of NOT_SERVING before the stop."
        ),
    ] = 1.0,
    drain_grace_s: Annotated[
        float,
        typer.Option(
            envvar="TILBUD_DRAIN_GRACE_S", min=0.0, max=600.0, help="Seconds for calls in flight to finish."
        ),
    ] = 10.0,
    retention_days: Annotated[
        float,
        typer.Option(
            envvar="TILBUD_RETENTION_DAYS",
            min=0.01,
            max=36_500,
            help="How long decisions that ended are kept.",
        ),
    ] = 90.0,
    draw_key: Annotated[
        str,
        typer.Option(
            envvar="TILBUD_DRAW_KEY",
            help="Hexadecimal key of draws and splits. Default: the ledger's own, made once at random.",
        ),
    ] = "",
    workers: Annotated[
        int,
        typer.Option(
            envvar="TILBUD_WORKERS",
            min=1,
            max=WORKERS_MAX,
            help="Processes that answer on the gRPC port; each has a --http port, counted from that one.",
        ),
    ] = 1,
    log_level: Annotated[
        str, typer.Option(envvar="TILBUD_LOG_LEVEL", help="debug, info, warning or error.")
    ] = "info",
) -> None:
    """Serve campaigns over gRPC until SIGINT or SIGTERM; SIGHUP loads changed campaign files.

    With --workers more processes answer, on one port and from one data directory.
    """
    import uvloop

    from tilbud.telemetry.log import configure

    try:
        for address in (listen, http):
            host_and_port(address)
        key = _draw_key(draw_key)
        configure(log_level, pretty=sys.stderr.isatty())
    except ValueError as error:
        _fail(str(error))
    settings = Settings(
        campaigns=tuple(campaigns or [SAMPLES]),
        data=data,
        listen=listen,
        http=http,
        durability=durability,
        drain_notice_s=drain_notice_s,
        drain_grace_s=drain_grace_s,
        draw_key=key,
        workers=workers,
        log_level=log_level,
        limits=replace(Limits(), retention_s=retention_days * 86_400.0),
    )
    _run(_serve(settings), uvloop.run)  # a sixth more decisions a second than on asyncio's own loop


def _draw_key(text: str) -> bytes | None:
    if not text:
        return None
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if not 16 <= len(key) <= 64:  # noqa: PLR2004 - what BLAKE2b takes, and no guessable ones
        raise ValueError(
            "--draw-key: write 32 to 128 hexadecimal digits, such as `openssl rand -hex 32` gives"
        )
    return key


async def _serve(settings: Settings) -> None:
    from tilbud.process import run

    if settings.workers > 1:
        from tilbud.supervisor import Supervisor

        supervisor = Supervisor(settings)
        await run(
            supervisor,
            patience_s=supervisor.patience_s,
            started=lambda: _announce(settings, supervisor.grpc_port, supervisor.http_ports),
            stopping=asyncio.Event(),
        )
        return
    from tilbud.app import Application

    application = Application(settings)
    await run(
        application,
        patience_s=settings.patience_s,
        started=lambda: _announce(settings, application.grpc_port, [application.http_port]),
        stopping=asyncio.Event(),
    )


def _announce(settings: Settings, grpc_port: int, http_ports: Sequence[int]) -> None:
    host, http_host = (split_address(address)[0] for address in (settings.listen, settings.http))
    metrics = ", ".join(f"http://{http_host}:{port}/metrics" for port in http_ports)
    # The first line a newcomer looks for.
    print(f"tilbud serves gRPC on {host}:{grpc_port}, metrics on {metrics}", flush=True)  # noqa: T201 - to a person


@cli.command()
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
        from tilbud.domain.campaign import Campaign

        dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
        print(json.dumps(dialect | Campaign.model_json_schema(by_alias=True), indent=2))  # noqa: T201 - to a file
        return
    from tilbud.service.campaign_files import load_files
    from tilbud.service.summary import campaign_summary, contact_summary

    if not paths:
        _fail("name a campaign file or a directory of them: tilbud check campaigns/")
    try:
        loaded = load_files(paths, Limits())
    except CampaignInvalid as error:
        _fail(*map(str, error.problems))
    console = Console(highlight=False)
    for file in loaded.campaigns:
        _describe(console, file.campaign.campaign, file.file, campaign_summary(file.campaign))
    if loaded.contact_file:
        told = contact_summary(loaded.contact, [file.campaign for file in loaded.campaigns])
        _describe(console, "contact policy", loaded.contact_file, told)
    console.print(f"[green]{len(loaded.campaigns) + bool(loaded.contact_file)} valid[/green]")


def _describe(console: Console, title: str, file: str, told: Mapping[str, str]) -> None:
    """Say what a file will do, for someone who did not write it."""
    console.print(f"[bold]{title}[/bold]  {escape(file)}", soft_wrap=True)
    table = Table.grid(padding=(0, 2))
    for subject, text in told.items():
        table.add_row(f"  {escape(subject)}", escape(text))
    console.print(table)


@cli.command()
def simulate(
    target: Target = "127.0.0.1:50051",
    campaign: Annotated[str, typer.Option(help="A campaign that takes purchase and leave.")] = "shop",
    decisions: Annotated[int, typer.Option(min=1, help="How many decisions to ask for.")] = 30_000,
    seed: Seed = 1,
    delay: Annotated[int, typer.Option(min=0, help="Outcomes come this many decisions later.")] = 0,
    change_at: Annotated[
        int, typer.Option(min=0, help="Tastes change after this many decisions; 0: never.")
    ] = 0,
    base_rate: Annotated[
        float | None, typer.Option(min=0.001, max=0.5, help="How readily visitors buy.")
    ] = None,
    taste_strength: Annotated[
        float | None, typer.Option(min=0.0, max=5.0, help="How far tastes differ.")
    ] = None,
) -> None:
    """Drive a running service with a synthetic shop whose best answer is known.

    Shows what chance, the service and the best possible policy achieve. The shop's tastes come from
    --seed: to compare seeds, give each service an empty data directory.
    """
    from tilbud.simulator import shop
    from tilbud.simulator.simulate import simulate as run

    result = _run(
        run(
            target,
            campaign,
            console=Console(),
            run=secrets.token_hex(4),
            seed=seed,
            decisions=decisions,
            delay_decisions=delay,
            taste_change_at=change_at or None,
            base_rate=shop.BASE_RATE if base_rate is None else base_rate,
            taste_strength=shop.TASTE_STRENGTH if taste_strength is None else taste_strength,
        )
    )
    if result.stopped_because or not result.counts.balanced:
        raise typer.Exit(1)


@cli.command()
def replay(
    file: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="CSV of offers shown at random, with what came."),
    ],
    campaign: Annotated[str, typer.Option(help="A campaign with the CSV's offers.")],
    offer_column: Annotated[str, typer.Option(help="Column of the offer that was really shown.")],
    outcome_column: Annotated[str, typer.Option(help="Column that is 1 where the outcome came, else 0.")],
    target: Target = "127.0.0.1:50051",
    rename: Annotated[
        list[str] | None,
        typer.Option(metavar="FEATURE=COLUMN", help="A feature whose column has another name; repeatable."),
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="Only the first so many rows; 0: all.")] = 0,
    seed: Annotated[int, typer.Option(help="Shuffle the rows; -1: the file's order.")] = -1,
) -> None:
    """Put logged, randomised data through a running service.

    Each row asks for a decision with deferred activation; only rows whose drawn offer is the one that was
    really shown are activated and learned, which is unbiased where the log was random.
    """
    from tilbud.simulator.replay import replay as run

    pairs = [each.partition("=") for each in rename or []]
    if any(not (feature and column) for feature, _, column in pairs):
        _fail("write --rename FEATURE=COLUMN")
    result = _run(
        run(
            target,
            campaign,
            file,
            console=Console(),
            run=secrets.token_hex(4),
            offer_column=offer_column,
            outcome_column=outcome_column,
            rename={feature: column for feature, _, column in pairs},
            seed=None if seed < 0 else seed,
            decisions=rows or None,
        )
    )
    if result.stopped_because or not result.counts.balanced:
        raise typer.Exit(1)


@cli.command()
def rebuild(
    campaigns: Campaigns = None,
    data: Data = Path("tilbud-data"),
    campaign: Annotated[str, typer.Option(help="Only this campaign.")] = "",
) -> None:
    """Learn every model anew from the ledger, and say whether it equals the running one.

    Reads only, also while the service runs. Ends with status 1 where a prediction differs.
    """
    from tilbud.service.campaign_files import load_campaigns

    try:
        files = load_campaigns(campaigns or [SAMPLES], Limits())
    except CampaignInvalid as error:
        _fail(*map(str, error.problems))
    chosen = [file for file in files if campaign in ("", file.campaign.campaign)]
    if not chosen:
        _fail(f"no campaign {campaign!r}; there are: {', '.join(file.campaign.campaign for file in files)}")
    results = _run(_rebuild(data, chosen))
    for result in results:
        _show(Console(highlight=False), result)
    if not all(result.agrees for result in results):
        raise typer.Exit(1)


async def _rebuild(data: Path, files: list[CampaignFile]) -> list[Rebuilt]:
    from rich.progress import Progress

    from tilbud.app import LEDGER_FILE, checkpoints_at, ledger_read_at
    from tilbud.learning import rebuild as learning

    if not (data / LEDGER_FILE).exists():
        raise TilbudError(f"{data} has no {LEDGER_FILE}; name the data directory of a service with --data")
    settings = Settings(data=data)
    ledger, checkpoints = ledger_read_at(data, settings), checkpoints_at(data, settings)
    ledger.open_reading()
    try:
        with Progress(console=Console(stderr=True), transient=True) as bar:
            return [
                await learning.rebuild(
                    file.campaign,
                    ledger=ledger,
                    checkpoints=checkpoints,
                    limits=settings.limits,
                    progress=_shown(bar, file.campaign.campaign),
                )
                for file in files
            ]
    finally:
        ledger.close_reading()


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
    at = result.checkpoint_sequence
    alike = f"{result.decisions_equal:,} of {result.decisions_checked:,}{_passed_over(result)}"
    told = {
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
        told["customers erased"] = f"{result.erasures:,}; what was drawn before the last is not checked"
    console.print(f"[bold]{result.campaign}[/bold]")
    table = Table.grid(padding=(0, 2))
    for name, text in told.items():
        table.add_row(f"  {name}", text)
    for reason in result.checkpoints_refused:
        table.add_row("  checkpoint refused", reason)
    console.print(table)


def _run(work: Coroutine[Any, Any, Any], run: Callable[[Coroutine[Any, Any, Any]], Any] = asyncio.run) -> Any:
    try:
        return run(work)
    except CampaignInvalid as error:
        _fail(*map(str, error.problems))
    except (TilbudError, SimulatorError, OSError) as error:
        _fail(str(error))


def _fail(*lines: str) -> NoReturn:
    for line in lines:
        typer.echo(line, err=True)
    raise typer.Exit(2)
