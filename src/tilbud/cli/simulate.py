"""The commands that put visitors or a log through a service, ours or one that runs: `simulate`, `replay`."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tilbud.cli.errors import fail, finished
from tilbud.cli.options import LISTEN, Target

if TYPE_CHECKING:
    from tilbud.simulator.simulate import SimulationResult

Seed = Annotated[int, typer.Option("--seed", help="Another seed, other tastes.")]


def simulate(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="A campaign file, tried in a service of its own. Default: --campaign of a running service.",
        ),
    ] = None,
    target: Target = LISTEN,
    campaign: Annotated[
        str, typer.Option(help="Without FILE: a campaign that takes purchase and leave.")
    ] = "shop",
    decisions: Annotated[
        int | None,
        typer.Option(min=1, help="How many decisions to ask for. Default: 10000 with FILE, else 30000."),
    ] = None,
    seed: Seed = 1,
    delay: Annotated[int, typer.Option(min=0, help="Outcomes come this many decisions later.")] = 0,
    change_at: Annotated[
        int, typer.Option(min=0, help="Tastes change after this many decisions; 0: never.")
    ] = 0,
    base_rate: Annotated[
        float | None,
        typer.Option(min=0.001, max=0.5, help="How many visits end well by chance. Default: 0.1."),
    ] = None,
    taste_strength: Annotated[
        float | None, typer.Option(min=0.0, max=5.0, help="How far tastes differ. Default: 0.35.")
    ] = None,
) -> None:
    """Put invented visitors, whose best answer is known, through a campaign: does it learn?

    With FILE, starts a service for it, on ports of its own and with temporary data, in which decisions settle
    within moments. Without, drives a running service that knows nothing yet. Shows what chance, the service
    and the best possible policy achieve. Tastes come from --seed.
    """
    from tilbud.simulator import shop

    rate = shop.BASE_RATE if base_rate is None else base_rate
    strength = shop.TASTE_STRENGTH if taste_strength is None else taste_strength
    if file is not None:
        for option in ("target", "campaign"):
            source = context.get_parameter_source(option)
            if source is not None and source.name == "COMMANDLINE":
                fail(f"--{option} is for a running service; {file} gets its own: leave one of them out")
        result = finished(_trial(file, decisions, seed, delay, change_at, rate, strength))
    else:
        result = finished(_shop(target, campaign, decisions, seed, delay, change_at, rate, strength))
    if result.stopped_because or not result.counts.balanced:
        raise typer.Exit(1)


async def _shop(
    target: str,
    campaign: str,
    decisions: int | None,
    seed: int,
    delay: int,
    change_at: int,
    rate: float,
    strength: float,
) -> SimulationResult:
    """Put the visitors of the shop through a running service."""
    from rich.console import Console

    from tilbud.simulator.simulate import DECISIONS
    from tilbud.simulator.simulate import simulate as run

    return await run(
        target,
        campaign,
        console=Console(),
        run=secrets.token_hex(4),
        seed=seed,
        decisions=decisions or DECISIONS,
        delay_decisions=delay,
        taste_change_at=change_at or None,
        base_rate=rate,
        taste_strength=strength,
    )


async def _trial(
    file: Path, decisions: int | None, seed: int, delay: int, change_at: int, rate: float, strength: float
) -> SimulationResult:
    """Put visitors invented over a file through a service of their own."""
    from rich.console import Console

    from tilbud.cli.trial_facts import facts_of, loaded, write_in_a_hurry
    from tilbud.domain.durations import duration_text
    from tilbud.simulator.trial import DECISIONS, try_campaign
    from tilbud.simulator.world import WorldConfig

    campaign = loaded(file).campaign
    visits = decisions or DECISIONS
    return await try_campaign(
        facts_of(campaign, datetime.now(UTC).date()),
        partial(write_in_a_hurry, file),
        console=Console(),
        says=duration_text(campaign.reward.window_us),
        seed=seed,
        decisions=visits,
        config=WorldConfig(
            visits=visits,
            base_rate=rate,
            taste_strength=strength,
            delay_decisions=delay,
            taste_change_at=change_at or None,
        ),
    )


def _column(name: str, what: str) -> Any:
    return typer.Option(f"--{name}-column", metavar="COLUMN", help=what)


def replay(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help="CSV or JSON lines of offers given by chance, with what came."
        ),
    ],
    campaign: Annotated[str, typer.Option(help="A campaign with the file's offers.")],
    offer_column: Annotated[str, _column("offer", "The offer that was really shown.")],
    outcome_column: Annotated[str, _column("outcome", "1 where the outcome came, or its value, else 0.")],
    target: Target = LISTEN,
    propensity_column: Annotated[
        str, _column("propensity", "The probability the offer was given with. Default: equal for all offers.")
    ] = "",
    weight_max: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            max=1e9,
            help="Rows weigh 1 / propensity, at most this. Default: ten times the number of offers.",
        ),
    ] = None,
    time_column: Annotated[
        str, _column("time", "When: ISO 8601 (UTC where no zone stands), or seconds since 1970.")
    ] = "",
    device_column: Annotated[str, _column("device", "The device.")] = "",
    channel_column: Annotated[str, _column("channel", "The channel.")] = "",
    stage_column: Annotated[str, _column("stage", "The journey stage.")] = "",
    place_column: Annotated[str, _column("place", "The place.")] = "",
    language_column: Annotated[str, _column("language", "The language.")] = "",
    country_column: Annotated[str, _column("country", "The country.")] = "",
    customer_column: Annotated[str, _column("customer", "Your id of the customer.")] = "",
    consent_granted: Annotated[
        bool, typer.Option("--consent-granted", help="The customers consented, as a campaign may require.")
    ] = False,
    rename: Annotated[
        list[str] | None,
        typer.Option(metavar="FEATURE=COLUMN", help="A feature whose column has another name; repeatable."),
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="Only the first so many rows; 0: all.")] = 0,
    seed: Annotated[int, typer.Option(help="Shuffle the rows; -1: the file's order.")] = -1,
) -> None:
    """Put logged, randomised data through a running service: what would it have earned?

    Each row asks for a decision with deferred activation; only rows whose drawn offer is the one that was
    really shown are activated, learned and counted, which is unbiased where the log was random. Says how many
    rows that were, and whether they are enough to conclude anything. Begin with an empty data directory.
    """
    from rich.console import Console

    from tilbud.simulator.logged import Columns
    from tilbud.simulator.replay import replay as run

    pairs = [renaming.partition("=") for renaming in rename or []]
    if any(not (feature and column) for feature, _, column in pairs):
        fail("write --rename FEATURE=COLUMN")
    words = {
        "device": device_column,
        "channel": channel_column,
        "journey_stage": stage_column,
        "place": place_column,
        "language": language_column,
        "country": country_column,
    }
    result = finished(
        run(
            target,
            campaign,
            file,
            console=Console(),
            run=secrets.token_hex(4),
            columns=Columns(
                offer_column,
                outcome_column,
                propensity=propensity_column,
                time=time_column,
                customer=customer_column,
                words={name: column for name, column in words.items() if column},
                features={feature: column for feature, _, column in pairs},
            ),
            consent=consent_granted,
            weight_max=weight_max,
            seed=None if seed < 0 else seed,
            decisions=rows or None,
        )
    )
    if result.stopped_because or not result.counts.balanced:
        raise typer.Exit(1)
