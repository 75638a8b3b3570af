"""The command line: `tilbud serve`, `health`, `check`, `simulate`, `replay`, `rebuild`, `backup`.

What holds: every option is also an environment variable `TILBUD_…`; what a person reads goes to
standard output, logs go to standard error as JSON lines; a mistake ends with a sentence that says how to
mend it and a non-zero status. Commands parse and print; the work is done in the rooms.

serve.py      serve and health         options.py, serve_options.py   what can be set
check.py      check                    simulate.py   simulate and replay
data.py       rebuild and backup       errors.py     how a command ends that cannot
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from tilbud.cli.check import check
from tilbud.cli.data import backup, rebuild
from tilbud.cli.serve import health, serve
from tilbud.cli.simulate import replay, simulate

cli = typer.Typer(
    name="tilbud",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"auto_envvar_prefix": "TILBUD", "help_option_names": ["-h", "--help"]},
)
for command in (serve, health, check, simulate, replay, rebuild, backup):
    cli.command()(command)


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["serve"]:
        _log_as_json()
    cli()


def _log_as_json() -> None:
    """See to it, before anything is said, that a service says all of it in JSON where nobody watches."""
    # gRPC's core writes lines of its own to standard error, and would wait for whoever reads it.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from tilbud.telemetry.log import serve_log

    serve_log()


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"tilbud {version('tilbud')} (Vowpal Wabbit {version('vowpalwabbit')})")
        raise typer.Exit


@cli.callback()
def options(
    _: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            show_envvar=False,
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    """Which offer should this customer see, here and now? Serve, check, try out and audit campaigns."""
