"""The final tables: what a run was worth, and what became of every decision and outcome."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tilbud.simulator.counts import STATUSES, Counts
from tilbud.simulator.logged import LoggedRate
from tilbud.simulator.tally import Rates


@dataclass(frozen=True, slots=True)
class OfferRow:
    """One offer of a replayed log."""

    offer: str
    logged: LoggedRate
    """In the whole log."""
    drawn: int
    """How often the service drew it."""
    matched: LoggedRate
    """Where it was drawn and had been given."""


def print_simulation(console: Console, *, title: str, rows: Sequence[tuple[str, Rates]]) -> None:
    """Rates against the known truth."""
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.caption = (
        "Expected reward under the known truth, for the same visitors.\n"
        "uplift = (achieved − uniform) / (best − uniform). single: one offer for all."
    )
    table.add_column("", no_wrap=True)
    for column in ("decisions", "uniform", "single", "best", "achieved", "uplift"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, rates in rows:
        table.add_row(
            name,
            f"{rates.decisions:,}",
            *(_rate(rate) for rate in (rates.uniform, rates.best_single, rates.best, rates.achieved)),
            "–" if math.isnan(rates.share_of_uplift) else f"{rates.share_of_uplift:.3f}",
        )
    console.print(table)


def print_replay(
    console: Console,
    *,
    title: str,
    outcome: str,
    offers: Sequence[OfferRow],
    matched: LoggedRate,
    recent: LoggedRate,
) -> None:
    """Rates against the log's own numbers."""
    by_offer = Table(title=title, title_justify="left")
    by_offer.add_column("offer", no_wrap=True)
    for column in ("logged", outcome, "drawn", "matched", outcome):
        by_offer.add_column(column, justify="right", no_wrap=True)
    for row in offers:
        by_offer.add_row(
            row.offer,
            f"{row.logged.rows:,}",
            _rate(row.logged.rate),
            f"{row.drawn:,}",
            f"{row.matched.rows:,}",
            _rate_error(row.matched),
        )
    console.print(by_offer)
    rates = [row.logged.rate for row in offers]
    summary = Table(title=f"{outcome} per customer (± one standard error)", title_justify="left")
    summary.add_column("policy")
    summary.add_column("rows", justify="right")
    summary.add_column(outcome, justify="right", no_wrap=True)
    rows = sum(row.logged.rows for row in offers)
    summary.add_row("uniform, in the log", f"{rows:,}", _rate(math.fsum(rates) / len(rates)))
    summary.add_row("best single offer, in the log", "", _rate(max(rates)))
    summary.add_row("the service, every matched row", f"{matched.rows:,}", _rate_error(matched))
    summary.add_row(f"the service, last {recent.rows:,} matched", f"{recent.rows:,}", _rate_error(recent))
    console.print(summary)


def print_counts(console: Console, counts: Counts, seconds: float, stopped_because: str) -> None:
    """What became of everything, whether the sums hold, and why the run ended early."""
    speed = counts.decisions_answered / seconds if seconds else 0.0
    ends = f"{counts.decisions_answered:,} answered + {counts.decisions_refused:,} refused"
    lines = [
        f"{counts.decisions_asked:,} decisions asked = {ends}, in {seconds:,.1f} s: {speed:,.0f} decisions/s",
        f"reasons: {_counted(counts.reasons)}",
    ]
    if counts.activations_asked:
        lines.append(f"{counts.activations_asked:,} activations, {counts.activations_refused:,} refused")
    ends = " + ".join(f"{counts.outcomes[status]:,} {status}" for status in STATUSES)
    lines.append(f"{counts.outcomes_sent:,} outcomes sent = {ends}")
    if counts.retries:
        lines.append(f"{counts.retries:,} calls repeated with the same ids")
    for line in lines:
        console.print(line, highlight=False, markup=False)
    problems = []
    if not counts.balanced:
        problems.append("The sums do not hold: something was lost or counted twice.")
    if counts.fallbacks:
        problems.append(f"{counts.fallbacks:,} decisions were fallbacks and count as earning nothing.")
    if counts.first_refusal:
        problems.append(f"Refused: {_counted(counts.refusals)}. The first: {counts.first_refusal}")
    if not counts.learner_followed:
        problems.append("The model did not follow the outcomes, so the run did not wait for it.")
    if stopped_because:
        problems.append(f"Ended early: {stopped_because}.")
    for problem in problems:
        console.print(problem, style="yellow", highlight=False, markup=False)


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counter.most_common()) or "none"


def _rate(rate: float) -> str:
    return "–" if math.isnan(rate) else f"{rate:.4f}"


def _rate_error(rate: LoggedRate) -> str:
    return "–" if math.isnan(rate.rate) else f"{rate.rate:.4f} ± {rate.error:.4f}"
