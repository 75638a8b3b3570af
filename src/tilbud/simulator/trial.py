"""`simulate FILE`: any campaign tried by visitors invented over it, in a service of its own.

What always holds: nothing that runs is touched, and nothing is left behind. The campaign is served as its
file says, but that a decision settles within moments, so that minutes show what days would: see `Hurry`.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tilbud.simulator.conclusions import of_simulation
from tilbud.simulator.driver import Pacing, stop_on_interrupt
from tilbud.simulator.own_service import own_service
from tilbud.simulator.simulate import SimulationResult, run_world, table_rows, watching
from tilbud.simulator.tables import print_conclusions, print_counts, print_offers, print_simulation
from tilbud.simulator.world import CampaignFacts, CampaignWorld, WorldConfig

DECISIONS = 10_000
_BATCH_MAX = 25
_RANKED_A_BATCH = 2_000
"""Offers to choose from in all questions of a batch: so that it is answered well within the window."""
_UNLEARNED_MAX = 500
"""Decisions that are not learned yet, at most; with Hurry's second about so many a second."""
_DELAYED_A_SECOND = 250
"""With a delay so many decisions are asked for, evenly; the window waits for half as many."""
_WINDOW_MS = 500
_GRACE_MS = 500


@dataclass(frozen=True, slots=True)
class Hurry:
    """How soon a decision settles in a trial, whatever the file says."""

    window_ms: int
    """From the decision, or from its activation; outcomes count for so long."""
    grace_ms: int

    @classmethod
    def of(cls, delay_decisions: int) -> Hurry:
        """Long enough for outcomes that come so many decisions later."""
        return cls(_WINDOW_MS + 2 * delay_decisions * 1_000 // _DELAYED_A_SECOND, _GRACE_MS)


async def try_campaign(
    facts: CampaignFacts,
    write: Callable[[Path, Hurry], None],
    *,
    console: Console,
    says: str,
    seed: int,
    decisions: int,
    config: WorldConfig,
) -> SimulationResult:
    """Serve what `write` puts into a directory, and put visits through it; an interrupt shows what there is.

    `says` is what the file says of the window. Raises SimulatorError where the service does not start.
    """
    stop = asyncio.Event()
    world = CampaignWorld(facts, config, seed)
    with stop_on_interrupt(stop), tempfile.TemporaryDirectory(prefix="tilbud-simulate-") as temporary:
        directory = Path(temporary)
        campaigns = directory / "campaigns"
        campaigns.mkdir()
        hurry = Hurry.of(config.delay_decisions)
        write(campaigns, hurry)
        key = hashlib.sha256(f"simulate {seed}".encode()).hexdigest()
        async with own_service(campaigns, directory, key) as target:
            _announce(console, target, world, hurry, says)
            result = await run_world(
                target,
                facts.campaign,
                lambda _: world,
                run="trial",
                seed=seed,
                decisions=decisions,
                pacing=_pacing(len(facts.offers), config.delay_decisions),
                stop=stop,
                watch=watching(console),
            )
    print_simulation(
        console,
        title=f"Campaign {result.campaign}, tried by invented visitors of seed {seed}",
        rows=table_rows(result),
    )
    print_offers(console, result.offers, result.everyone.decisions)
    print_counts(console, result.counts, result.seconds, result.stopped_because)
    print_conclusions(console, of_simulation(result.personalized, result.recent))
    return result


def _pacing(offers: int, delay_decisions: int) -> Pacing:
    """So fast that no outcome comes after its window, and the model is not left behind."""
    return Pacing(
        batch=min(max(_RANKED_A_BATCH // offers, 1), _BATCH_MAX),
        decisions_per_second=_DELAYED_A_SECOND if delay_decisions else None,
        unlearned_max=_UNLEARNED_MAX + 3 * delay_decisions,
    )


def _announce(console: Console, target: str, world: CampaignWorld, hurry: Hurry, says: str) -> None:
    settles_s = (hurry.window_ms + hurry.grace_ms) / 1_000
    lines = [
        f"{world.facts.campaign} is served on {target}, with temporary data.",
        f"A decision settles after {settles_s:g} s here; its file has a window of {says}.",
        "Caps, sticky and suppress_after go by the clock: all visits are in one stretch.",
    ]
    if world.invents_amounts:
        lines.append("Rewards are taken for amounts: good outcomes come with different values.")
    for line in lines:
        console.print(line, style="dim", highlight=False, markup=False)
