"""How a command ends that cannot do what was asked: a sentence for each problem, and status 2."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

from tilbud.domain.errors import CampaignInvalid, TilbudError
from tilbud.simulator.errors import SimulatorError


def fail(*lines: str) -> NoReturn:
    """Say what is wrong, a line each, and end."""
    for line in lines:
        typer.echo(line, err=True)
    raise typer.Exit(2)


@contextmanager
def mistakes_reported() -> Iterator[None]:
    """Turn an error that an operator should understand into such an end."""
    try:
        yield
    except CampaignInvalid as error:
        fail(*map(str, error.problems))
    except (TilbudError, SimulatorError, OSError) as error:
        fail(str(error))


def finished(
    work: Coroutine[Any, Any, Any], run: Callable[[Coroutine[Any, Any, Any]], Any] = asyncio.run
) -> Any:
    """Return what the work returns; its mistakes end the command with a sentence."""
    with mistakes_reported():
        return run(work)
