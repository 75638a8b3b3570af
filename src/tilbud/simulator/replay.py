"""`replay`: logged randomised data put through a running service.

Every row asks for a deferred decision. Where the drawn offer is the one the log gave, the decision is
activated and its logged outcome reported; the others are left to expire, unlearned. So the service learns
as it would have live, and the matched rows' mean outcome estimates its policy's without bias (see
sources.LoggedSource), at the price of using one row in as many as there are offers.

What always holds: each row is asked once. Rows come in the file's order unless a seed shuffles them:
the log as it happened is the honest default, other orders show how much of a result is order luck.

What it does not do: weigh a log that was not uniform; it warns where the counts say so.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
from rich.console import Console

from tilbud.simulator.calls import connect
from tilbud.simulator.counts import Counts
from tilbud.simulator.driver import Driver, Pacing, keeping_up, stop_on_interrupt
from tilbud.simulator.errors import CampaignError
from tilbud.simulator.logged import LoggedData, LoggedRate, read_logged
from tilbud.simulator.progress import progress
from tilbud.simulator.sources import LoggedSource
from tilbud.simulator.tables import OfferRow, print_counts, print_replay
from tilbud.simulator.tally import LoggedTally
from tilbud.v1 import campaigns_pb2


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What the service drew, and what the rows that matched had earned."""

    campaign: str
    offers: tuple[OfferRow, ...]
    uniform: float
    """Mean over the offers of their logged rates."""
    best: float
    """The best offer's logged rate."""
    matched: LoggedRate
    recent: LoggedRate
    """The last 5,000 matched rows."""
    counts: Counts
    seconds: float
    stopped_because: str
    """Empty: it ran to its end."""

    @property
    def decisions_per_second(self) -> float:
        return self.counts.decisions_answered / self.seconds if self.seconds else 0.0


async def replay(
    target: str,
    campaign: str,
    file: Path,
    *,
    console: Console,
    run: str,
    offer_column: str,
    outcome_column: str,
    outcome: str = "",
    otherwise: str = "",
    rename: Mapping[str, str] | None = None,
    seed: int | None = None,
    decisions: int | None = None,
    pacing: Pacing | None = None,
    credentials: grpc.ChannelCredentials | None = None,
) -> ReplayResult:
    """Replay the rows of `file`, the first `decisions` of them, with live progress and a final table.

    `outcome` is reported where the outcome column is not 0 (default: the column's name), `otherwise`
    where it is 0 (default: `no_<outcome>` if the campaign takes it, else nothing). `rename` gives the
    column of a feature that is not named like it. A campaign with one channel gets it with every row.
    `run` sets one run's decision ids apart from another's. Raises CsvError, CampaignError, Refusal.
    """
    stop = asyncio.Event()
    pacing = pacing or Pacing()
    async with connect(target, credentials) as calls:
        served = await calls.campaign(campaign)
        positive, negative = _outcomes(served, outcome or outcome_column, otherwise)
        data = read_logged(
            file,
            offer_column=offer_column,
            outcome_column=outcome_column,
            offers=list(served.offers),
            features={feature.name: feature.kind for feature in served.features},
            rename=rename or {},
            rows_max=decisions,
        )
        data = data if seed is None else data.shuffled(seed)
        tally = LoggedTally()
        driver = Driver(
            calls,
            LoggedSource(data, channel=_channel(served), positive=positive, negative=negative),
            campaign=campaign,
            decisions=len(data.rows),
            id_prefix=f"replay-{'file' if seed is None else seed}-{run}",
            pacing=pacing,
            observe=tally.observe,
            stop=stop,
            keeping_up=keeping_up(calls, served, pacing),
        )
        await _run(console, driver, stop, lambda: _progress_text(tally.recent, outcome_column))
    result = _result(campaign, data, tally, driver)
    _print(console, result, data, outcome_column)
    return result


async def _run(console: Console, driver: Driver, stop: asyncio.Event, describe: Callable[[], str]) -> None:
    """Drive to the end, or until Ctrl-C, with live progress."""
    shown = progress(
        console,
        total=driver.decisions,
        answered=lambda: driver.counts.decisions_answered,
        describe=describe,
    )
    with stop_on_interrupt(stop):
        async with shown:
            await driver.run()


def _channel(served: campaigns_pb2.Campaign) -> str:
    """Return the campaign's channel, where it has one."""
    return served.channels[0] if len(served.channels) == 1 else ""


def _outcomes(served: campaigns_pb2.Campaign, positive: str, negative: str) -> tuple[str, str]:
    """The outcomes to report where something happened, and where nothing did."""
    declared = [outcome.name for outcome in served.outcomes]
    if not negative and f"no_{positive}" in declared:
        negative = f"no_{positive}"
    for name in (positive, negative):
        if name and name not in declared:
            names = ", ".join(declared)
            raise CampaignError(f"campaign {served.id!r} takes {names}; not the outcome {name!r}")
    return positive, negative


def _result(campaign: str, data: LoggedData, tally: LoggedTally, driver: Driver) -> ReplayResult:
    rows = tuple(
        OfferRow(
            offer=offer,
            logged=data.rate(offer),
            drawn=tally.drawn.get(offer, 0),
            matched=tally.offer(offer),
        )
        for offer in data.offers
    )
    rates = [row.logged.rate for row in rows]
    return ReplayResult(
        campaign=campaign,
        offers=rows,
        uniform=math.fsum(rates) / len(rates),
        best=max(rates),
        matched=tally.matched,
        recent=tally.recent,
        counts=driver.counts,
        seconds=driver.seconds,
        stopped_because=driver.stopped_because,
    )


def _print(console: Console, result: ReplayResult, data: LoggedData, outcome_column: str) -> None:
    print_replay(
        console,
        title=f"{data.file.name} replayed through campaign {result.campaign}",
        outcome=outcome_column,
        offers=result.offers,
        matched=result.matched,
        recent=result.recent,
    )
    if not data.looks_uniform():
        warning = "The log did not give every offer equally often: the matched rows' means may be biased."
        console.print(warning, style="yellow", highlight=False)
    print_counts(console, result.counts, result.seconds, result.stopped_because)


def _progress_text(recent: LoggedRate, outcome: str) -> str:
    if not recent.rows:
        return "no row matched yet"
    return f"last {recent.rows:,} matched: {outcome} {recent.rate:.4f} ± {recent.error:.4f}"
