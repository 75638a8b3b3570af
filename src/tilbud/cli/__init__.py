"""The command line: `tilbud serve`, `check`, `decide` and the others.

What holds: every option of `serve`, and what several commands have, is also an environment variable
`TILBUD_…`, and its help names it; what a person reads goes to standard output, logs go to standard error as
JSON lines; a mistake ends with a sentence that says how to mend it and status 2, a service that cannot answer
with status 1. Commands parse and print; the work is done in the rooms.

serve.py      serve and health         options.py, serve_options.py   what can be set
new.py        new                      values.py     what is written on the command line
check.py      check                    answers.py    JSON and tables
simulate.py   simulate and replay      examples.py   what --help shows last
trial_facts.py   a campaign file as simulate needs it
data.py       rebuild and backup       errors.py     how a command ends that cannot
assets.py     assets
ask.py        decide, activate, outcome, explain
manage.py     campaigns, pause, resume          customer.py   customer show, update, event, export, erase
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from tilbud.cli.ask import activate, decide, explain, outcome
from tilbud.cli.assets import assets
from tilbud.cli.check import check
from tilbud.cli.customer import erase, event, export, show, update
from tilbud.cli.data import backup, rebuild
from tilbud.cli.examples import example
from tilbud.cli.manage import campaigns, pause, resume
from tilbud.cli.new import new
from tilbud.cli.serve import health, serve
from tilbud.cli.simulate import replay, simulate

cli = typer.Typer(
    name="tilbud",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    # No variable of the environment counts but those that options name: what the toolkit would make up
    # (TILBUD_VERSION, say) may be there for another reason.
    context_settings={"help_option_names": ["-h", "--help"]},
)
_PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Serve": (serve, health, backup, rebuild, assets),
    "Write a campaign": (new, check, simulate, replay),
    "Ask a running service": (decide, activate, outcome, explain, campaigns, pause, resume),
}
for panel, commands in _PANELS.items():
    for command in commands:
        cli.command(rich_help_panel=panel, epilog=example(command.__name__))(command)
customers = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
for command in (show, update, event, export, erase):
    customers.command(epilog=example(f"customer {command.__name__}"))(command)
cli.add_typer(
    customers,
    name="customer",
    rich_help_panel="Ask a running service",
    help="Tell, change, export or erase what is kept of a customer.",
)


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["serve"]:  # which Ctrl-C ends at once until it has begun (runtime/process.py)
        _log_as_json()
    elif signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli()


def _log_as_json() -> None:
    """See to it, before anything is said, that a service says all of it in JSON where nobody watches."""
    from tilbud.telemetry.log import serve_log

    serve_log()


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

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
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    """Which offer should this customer see, here and now? Write, serve, ask and audit campaigns."""
