"""`replay`: logged randomised data put through a running service.

Every row asks for a deferred decision. Where the drawn offer is the one the log gave, the decision is
activated and its logged outcome reported; the others are left to expire, unlearned. So the service learns
as it would have live, and the matched rows' mean outcome estimates its policy's without bias (see
sources.LoggedSource), at the price of using one row in as many as there are offers. Where the log has
propensities, rows are weighted by them in every mean (see logged.py).

What always holds: each row is asked once. Rows come in the file's order unless a seed shuffles them:
the log as it happened is the honest default, other orders show how much of a result is order luck. Nothing
is concluded that the rows used do not bear.

What it does not do: weigh what the service learns; it learns from the matched rows as they are.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
from rich.console import Console

from tilbud.simulator.calls import connect
from tilbud.simulator.conclusions import of_replay
from tilbud.simulator.counts import Counts
from tilbud.simulator.driver import SERVED_AGAIN, Driver, Pacing, keeping_up, stop_on_interrupt
from tilbud.simulator.errors import CampaignError
from tilbud.simulator.logged import Columns, LoggedData, LoggedRate, logged_rate, read_logged
from tilbud.simulator.progress import progress
from tilbud.simulator.sources import LoggedSource
from tilbud.simulator.tables import (
    OfferRow,
    Policy,
    print_conclusions,
    print_counts,
    print_replay,
    print_rows,
    print_warnings,
)
from tilbud.simulator.tally import RECENT, LoggedTally
from tilbud.v1 import campaigns_pb2

_WORDS_NAMED_MAX = 5


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What the service drew, and what the rows that matched had earned."""

    campaign: str
    offers: tuple[OfferRow, ...]
    uniform: LoggedRate
    """Mean over the offers of their logged rates."""
    best: LoggedRate
    """The best offer's logged rate."""
    matched: LoggedRate
    recent: LoggedRate
    """The last 5,000 matched rows."""
    equal_rows: float
    """As many rows of equal weight would tell as much as those that matched."""
    unused: Counter[str]
    """Rows that did not match, by why not."""
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
    columns: Columns,
    outcome: str = "",
    otherwise: str = "",
    consent: bool = False,
    weight_max: float | None = None,
    seed: int | None = None,
    decisions: int | None = None,
    pacing: Pacing | None = None,
    credentials: grpc.ChannelCredentials | None = None,
) -> ReplayResult:
    """Replay the rows of `file`, the first `decisions` of them, with live progress and a final table.

    `outcome` is reported where the outcome column is not 0 (default: the column's name), `otherwise`
    where it is 0 (default: `no_<outcome>` if the campaign takes it, else nothing). `consent` says that the
    customers of the log gave it. A campaign with one channel gets it with every row that has none. `run` sets
    one run's decision ids apart from another's. Raises LogError, CampaignError, Refusal.
    """
    stop = asyncio.Event()
    pacing = pacing or Pacing()
    async with connect(target, credentials) as calls:
        served = await calls.campaign(campaign)
        positive, negative = _outcomes(served, outcome or columns.outcome, otherwise)
        data = read_logged(
            file,
            columns,
            offers=list(served.offers),
            features={feature.name: feature.kind for feature in (*served.features, *served.traits)},
            rows_max=decisions,
            weight_max=weight_max,
        )
        data = data if seed is None else data.shuffled(seed)
        tally = LoggedTally(data)
        driver = Driver(
            calls,
            LoggedSource(
                data, channel=_channel(served), consent=consent, positive=positive, negative=negative
            ),
            campaign=campaign,
            decisions=len(data.rows),
            id_prefix=f"replay-{'file' if seed is None else seed}-{run}",
            pacing=pacing,
            observe=tally.observe,
            stop=stop,
            keeping_up=keeping_up(calls, served, pacing),
        )
        await _run(console, driver, stop, lambda: _progress_text(tally.recent, columns.outcome))
    result = _result(campaign, data, tally, driver)
    _print(console, result, data, columns.outcome, _warnings(data, columns, served))
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
    unused = tally.unused + Counter(
        {
            "not answered": driver.counts.decisions_refused,
            "answered with an earlier decision, by `sticky`": driver.counts.reasons[SERVED_AGAIN],
        }
    )
    return ReplayResult(
        campaign=campaign,
        offers=rows,
        uniform=data.uniform(),
        best=max((row.logged for row in rows), key=lambda rate: rate.rate),
        matched=tally.matched,
        recent=tally.recent,
        equal_rows=tally.equal_rows,
        unused=unused,
        counts=driver.counts,
        seconds=driver.seconds,
        stopped_because=driver.stopped_because,
    )


def _print(
    console: Console, result: ReplayResult, data: LoggedData, outcome: str, warnings: list[str]
) -> None:
    print_replay(
        console,
        title=f"{data.file.name} replayed through campaign {result.campaign}",
        outcome=outcome,
        offers=result.offers,
        policies=_policies(result, data),
    )
    print_rows(console, data, result.matched.rows, result.equal_rows, result.unused)
    print_warnings(console, warnings)
    print_counts(console, result.counts, result.seconds, result.stopped_because)
    print_conclusions(console, *of_replay(outcome, result.matched, result.uniform, result.best))


def _policies(result: ReplayResult, data: LoggedData) -> list[Policy]:
    """Who chose offers, and what that earned."""
    own = logged_rate([row.outcome for row in data.rows], [1.0] * len(data.rows))
    policies: list[Policy] = [
        *([("the log's own", own)] if data.weighted else []),
        ("offers given by chance, in the log", result.uniform),
        ("the best single offer, in the log", result.best),
        ("the service, every matched row", result.matched),
    ]
    if result.matched.rows > RECENT:
        policies.append((f"the service, last {RECENT:,} matched", result.recent))
    return policies


def _warnings(data: LoggedData, columns: Columns, served: campaigns_pb2.Campaign) -> list[str]:
    """What makes the numbers doubtful, or is not as the campaign has it."""
    warnings = []
    if not data.looks_randomised():
        remedy = (
            "its propensities do not fit how often offers were given"
            if data.weighted
            else "name the column of each row's propensity with --propensity-column if it has one"
        )
        warnings.append(f"The log was not given by even chance, so means may be biased: {remedy}.")
    if data.absent:
        warnings.append(f"The log has no column for {', '.join(data.absent)}: unknown in every row.")
    if columns.customer:
        warnings.append(
            "Caps, sticky and suppress_after go by the service's clock: as if all rows came at once."
        )
    declared = {"device": served.devices, "channel": served.channels, "journey_stage": served.journey_stages}
    for name, words in declared.items():
        other = data.undeclared(name, words)
        if other:
            named = ", ".join(sorted(other, key=lambda word: -other[word])[:_WORDS_NAMED_MAX])
            warnings.append(
                f"{sum(other.values()):,} rows have a {name} that the campaign does not declare ({named}): "
                "read as `other`."
            )
    return warnings


def _progress_text(recent: LoggedRate, outcome: str) -> str:
    if not recent.rows:
        return "no row matched yet"
    return f"last {recent.rows:,} matched: {outcome} {recent.rate:.4f} ± {recent.error:.4f}"
