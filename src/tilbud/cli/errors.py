"""How a command ends that cannot do what was asked: a sentence for each problem, and a status.

What holds: 2 where the question should change, 1 where a service could not answer it and may later.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

from tilbud.domain.errors import CampaignInvalid, TilbudError
from tilbud.simulator.errors import SimulatorError


def fail(*lines: str, status: int = 2) -> NoReturn:
    """Say what is wrong, a line each, and end."""
    for line in lines:
        typer.echo(line, err=True)
    raise typer.Exit(status)


@contextmanager
def mistakes_reported() -> Iterator[None]:
    """Turn an error that an operator should understand into such an end."""
    from tilbud.client.refusals import Refusal

    try:
        yield
    except CampaignInvalid as error:
        fail(*map(str, error.problems))
    except Refusal as refused:
        fail(*refused.lines, status=1 if refused.later else 2)
    except OSError as error:
        fail(_of_the_system(error))
    except (TilbudError, SimulatorError, ValueError) as error:
        fail(str(error))


def _of_the_system(error: OSError) -> str:
    """Return what the system refused, and of what, without a number and quotes around it."""
    if not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def finished(
    work: Coroutine[Any, Any, Any], run: Callable[[Coroutine[Any, Any, Any]], Any] | None = None
) -> Any:
    """Return what the work returns; its mistakes end the command with a sentence. `run`: by asyncio."""
    import asyncio

    with mistakes_reported():
        return (run or asyncio.run)(work)
