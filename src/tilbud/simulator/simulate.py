"""`simulate`: a world with known truth put through a running service, and how much of the possible it got.

`run_world` runs any world and returns numbers; `run_simulation` does so with the synthetic shop, and
`simulate` also shows them. One run is one world (one seed) and one learner that ought to know nothing yet: to
compare seeds, start each against an empty data directory, or the second meets a model that learned the first
one's tastes.

What it does not do: start, reset or configure the service; that is trial.py's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace

import grpc
from rich.console import Console

from tilbud.simulator.calls import connect
from tilbud.simulator.counts import Counts
from tilbud.simulator.driver import Driver, Pacing, keeping_up, stop_on_interrupt
from tilbud.simulator.errors import CampaignError
from tilbud.simulator.progress import progress
from tilbud.simulator.shop import BASE_RATE, TASTE_STRENGTH, Shop, ShopConfig
from tilbud.simulator.sources import LEAVE, PURCHASE, ShopSource, World
from tilbud.simulator.tables import print_counts, print_simulation
from tilbud.simulator.tally import PERSONALIZED, RECENT, OfferSum, Rates, WorldTally
from tilbud.v1 import campaigns_pb2

DECISIONS = 30_000
Watch = Callable[[Driver, WorldTally], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """What one run achieved. Rates are per decision, over every decision from the first on."""

    campaign: str
    seed: int
    personalized: Rates
    """Decisions of the variant `personalized`: the learner's own."""
    everyone: Rates
    """Those and the control group's."""
    variants: dict[str, Rates]
    recent: Rates
    """The last 5,000 personalized decisions."""
    curve: tuple[Rates, ...]
    """Every 5,000 personalized decisions in turn."""
    offers: dict[str, OfferSum]
    """What became of each offer of the campaign."""
    counts: Counts
    seconds: float
    stopped_because: str
    """Empty: it ran to its end."""

    @property
    def share_of_uplift(self) -> float:
        """Of the personalized decisions."""
        return self.personalized.share_of_uplift

    @property
    def decisions_per_second(self) -> float:
        return self.counts.decisions_answered / self.seconds if self.seconds else 0.0


async def run_simulation(
    target: str,
    campaign: str,
    *,
    run: str,
    seed: int = 1,
    decisions: int = DECISIONS,
    shop: ShopConfig | None = None,
    pacing: Pacing | None = None,
    credentials: grpc.ChannelCredentials | None = None,
    stop: asyncio.Event | None = None,
    watch: Watch | None = None,
) -> SimulationResult:
    """Put `decisions` visitors of the shop through the campaign served at `target`.

    `run` sets one run's decision ids apart from another's: characters of [A-Za-z0-9._:-], new every time.
    The offers and vocabularies of `shop` are replaced by the campaign's own. `stop` ends the run early;
    what is in flight is finished. Raises Refusal and CampaignError before the first decision.
    """

    def fitted(served: campaigns_pb2.Campaign) -> World:
        return ShopSource(Shop(_fitted(shop or ShopConfig(), served), seed))

    return await run_world(
        target,
        campaign,
        fitted,
        run=run,
        seed=seed,
        decisions=decisions,
        pacing=pacing or Pacing(),
        credentials=credentials,
        stop=stop,
        watch=watch,
    )


async def run_world(
    target: str,
    campaign: str,
    world_of: Callable[[campaigns_pb2.Campaign], World],
    *,
    run: str,
    seed: int,
    decisions: int,
    pacing: Pacing,
    credentials: grpc.ChannelCredentials | None = None,
    stop: asyncio.Event | None = None,
    watch: Watch | None = None,
) -> SimulationResult:
    """Put `decisions` questions of a world through a campaign; `world_of` gives it for the one served."""
    async with connect(target, credentials) as calls:
        served = await calls.campaign(campaign)
        world = world_of(served)
        tally = WorldTally(world)
        driver = Driver(
            calls,
            world,
            campaign=campaign,
            decisions=decisions,
            id_prefix=f"sim-{seed}-{run}",
            pacing=pacing,
            observe=tally.observe,
            stop=stop or asyncio.Event(),
            keeping_up=keeping_up(calls, served, pacing),
        )
        async with watch(driver, tally) if watch else nullcontext():
            await driver.run()
    return SimulationResult(
        campaign=campaign,
        seed=seed,
        personalized=tally.variants[PERSONALIZED],
        everyone=tally.everyone,
        variants=tally.variants,
        recent=tally.recent,
        curve=tally.curve,
        offers={offer: tally.offer(offer) for offer in served.offers},
        counts=driver.counts,
        seconds=driver.seconds,
        stopped_because=driver.stopped_because,
    )


async def simulate(
    target: str,
    campaign: str = "shop",
    *,
    console: Console,
    run: str,
    seed: int = 1,
    decisions: int = DECISIONS,
    delay_decisions: int = 0,
    taste_change_at: int | None = None,
    base_rate: float = BASE_RATE,
    taste_strength: float = TASTE_STRENGTH,
    pacing: Pacing | None = None,
    credentials: grpc.ChannelCredentials | None = None,
) -> SimulationResult:
    """The same, with live progress and a final table; an interrupt stops asking and shows the table."""
    shop = ShopConfig(
        base_rate=base_rate,
        taste_strength=taste_strength,
        delay_decisions=delay_decisions,
        taste_change_at=taste_change_at,
    )
    stop = asyncio.Event()

    with stop_on_interrupt(stop):
        result = await run_simulation(
            target,
            campaign,
            run=run,
            seed=seed,
            decisions=decisions,
            shop=shop,
            pacing=pacing,
            credentials=credentials,
            stop=stop,
            watch=watching(console),
        )
    print_simulation(
        console,
        title=f"Simulated shop, seed {result.seed}, through campaign {result.campaign}",
        rows=table_rows(result),
    )
    print_counts(console, result.counts, result.seconds, result.stopped_because)
    return result


def watching(console: Console) -> Watch:
    """What shows a run's live progress."""

    def watch(driver: Driver, tally: WorldTally) -> AbstractAsyncContextManager[None]:
        return progress(
            console,
            total=driver.decisions,
            answered=lambda: driver.counts.decisions_answered,
            describe=lambda: _progress_text(tally.recent),
        )

    return watch


def _fitted(shop: ShopConfig, served: campaigns_pb2.Campaign) -> ShopConfig:
    """The shop with the campaign's offers and vocabularies."""
    declared = {outcome.name for outcome in served.outcomes}
    missing = [name for name in (PURCHASE, LEAVE) if name not in declared]
    if missing:
        problem = f"campaign {served.id!r} does not take the outcome {' nor '.join(missing)}"
        raise CampaignError(f"{problem}: simulate a campaign like the sample shop.yaml")
    if not served.offers:
        raise CampaignError(f"campaign {served.id!r} has no offers")
    return replace(
        shop,
        offers=tuple(served.offers),
        devices=tuple(served.devices),
        channels=tuple(served.channels),
        journey_stages=tuple(served.journey_stages),
    )


def _progress_text(recent: Rates) -> str:
    if not recent.decisions:
        return "no answers yet"
    window = f"last {recent.decisions:,}"
    return f"{window}: reward {recent.realised:.3f}, uplift {recent.share_of_uplift:.2f}"


def table_rows(result: SimulationResult) -> list[tuple[str, Rates]]:
    """The rates of a run by the name of their row."""
    controls = [(name, rates) for name, rates in result.variants.items() if name != PERSONALIZED]
    return [
        (PERSONALIZED, result.personalized),
        *([(f"  its last {RECENT:,}", result.recent)] if result.recent.decisions >= RECENT else []),
        *controls,
        ("everyone", result.everyone),
    ]
