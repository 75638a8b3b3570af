"""Campaigns of any size and number, and ledgers full of their decisions.

What always holds: what fills a ledger goes through the service, by BatchDecide, and is counted by it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from serving import BATCH_DECIDE, CAMPAIGN, QUESTION, Server, accounted, framed, h2load
from tilbud.v1 import decisions_pb2 as pb

FILL_BATCH = 1_000
_FILL_IN_FLIGHT = 4
_FILL_BATCHES_ONCE = 20  # batches a look at the progress
_SETTLED_LOOKED_EVERY_S = 0.25
_SETTLED_WAITED_S = 600.0


def question(campaign: str = CAMPAIGN) -> pb.DecideRequest:
    """Return what every decision asks, of this campaign."""
    asked = pb.DecideRequest()
    asked.CopyFrom(QUESTION)
    asked.campaign = campaign
    return asked


def campaigns_in(directory: Path, files: Mapping[str, str]) -> Path:
    """Write campaign files, by the name of their campaign, and return their folder."""
    folder = directory / "campaigns"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


@contextmanager
def progress() -> Iterator[Progress]:
    """Show how far long work is; seldom, since what is measured shares the machine."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=Console(stderr=True, width=100), refresh_per_second=1, transient=True
    ) as shown:
        yield shown


def fill(server: Server, decisions: int, campaigns: Sequence[str] = (CAMPAIGN,)) -> float:
    """Have so many decisions made, a multiple of 1,000, spread evenly over campaigns; return the seconds."""
    assert decisions % FILL_BATCH == 0, f"decisions are made {FILL_BATCH} at a time"
    asked = [question(campaigns[number % len(campaigns)]) for number in range(FILL_BATCH)]
    batches = decisions // FILL_BATCH
    started = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as directory,
        progress() as shown,
        accounted(server, BatchDecide=batches, decisions=decisions),
    ):
        body = framed(pb.BatchDecideRequest(requests=asked), Path(directory))
        task = shown.add_task("filling the ledger", total=decisions)
        for first in range(0, batches, _FILL_BATCHES_ONCE):
            once = min(_FILL_BATCHES_ONCE, batches - first)
            h2load(server.port, BATCH_DECIDE, body, once, min(_FILL_IN_FLIGHT, once))
            shown.advance(task, once * FILL_BATCH)
        return time.perf_counter() - started


def learned(server: Server, campaign: str = CAMPAIGN) -> int:
    """Return the last settlement that the model of a campaign has learned."""
    # Of a replica, too: each has its own, and the one that is behind counts.
    found = [each.value for each in server.samples("tilbud_model_sequence", campaign=campaign)]
    return int(min(found, default=0.0))


def await_learned(server: Server, count: int, campaign: str = CAMPAIGN) -> float:
    """Wait until a campaign has learned so many settlements; return the seconds. Raises TimeoutError."""
    started = time.perf_counter()
    with progress() as shown:
        task = shown.add_task(f"learning {campaign}", total=count)
        while (now := learned(server, campaign)) < count:
            if time.perf_counter() - started > _SETTLED_WAITED_S:
                raise TimeoutError(f"{now} of {count} decisions of {campaign} were learned")
            shown.update(task, completed=now)
            time.sleep(_SETTLED_LOOKED_EVERY_S)
    assert now == count, f"{count} decisions of {campaign}, but {now} settlements"
    return time.perf_counter() - started
