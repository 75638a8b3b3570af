"""The final tables: what a run was worth, and what became of every decision and outcome."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tilbud.simulator.counts import STATUSES, Counts
from tilbud.simulator.driver import SERVED_AGAIN
from tilbud.simulator.logged import LoggedData, LoggedRate
from tilbud.simulator.tally import OfferSum, Rates

Policy = tuple[str, LoggedRate]
"""The name of one that chose offers, and what it earned."""


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
    table = Table(title=title, title_justify="left")
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
    _explain(
        console,
        "Expected reward of a decision under the known truth, for the same visitors.",
        "uniform: offers by chance. single: one offer for all. best: the best for each.",
        "uplift = (achieved − uniform) / (best − uniform).",
    )


def print_offers(console: Console, offers: Mapping[str, OfferSum], decisions: int) -> None:
    """What became of each offer of a campaign."""
    table = Table(title="By offer", title_justify="left")
    table.add_column("", overflow="fold")
    for column in ("eligible", "shown", "share", "reward"):
        table.add_column(column, justify="right", no_wrap=True)
    shown = sum(offer.shown for offer in offers.values())
    for name, offer in offers.items():
        table.add_row(
            name,
            _share(offer.eligible, decisions),
            f"{offer.shown:,}",
            _share(offer.shown, shown),
            _rate_error(offer.rate),
        )
    console.print(table)
    _explain(
        console,
        "eligible: in how many decisions rules allowed it. reward: the mean where it was",
        "shown, ± one standard error; shown to those it suits, it is worth less to all.",
    )
    never = [name for name, offer in offers.items() if not offer.eligible]
    if never:
        names = ", ".join(never)
        print_warnings(console, [f"Rules never let these be shown to the invented visitors: {names}."])


def _explain(console: Console, *lines: str) -> None:
    """Say what the columns of the table above mean."""
    for line in lines:
        console.print(line, style="dim", highlight=False, markup=False)


def print_conclusions(console: Console, *sentences: str) -> None:
    """Say in sentences what a run showed."""
    for sentence in sentences:
        console.print(sentence, style="bold", highlight=False, markup=False)


def print_replay(
    console: Console, *, title: str, outcome: str, offers: Sequence[OfferRow], policies: Sequence[Policy]
) -> None:
    """Rates against the log's own numbers."""
    by_offer = Table(title=title, title_justify="left", show_edge=False)
    by_offer.add_column("offer", overflow="fold")
    for column in ("given", outcome, "drawn", "used", outcome):
        by_offer.add_column(column, justify="right", no_wrap=True)
    for row in offers:
        by_offer.add_row(
            row.offer,
            f"{row.logged.rows:,}",
            _rate_error(row.logged),
            f"{row.drawn:,}",
            f"{row.matched.rows:,}",
            _rate_error(row.matched),
        )
    console.print(by_offer)
    _explain(
        console,
        f"given: in the log, and the mean {outcome} there ± one standard error.",
        "drawn: by the service. used: drawn where it was given too.",
    )
    summary = Table(title=f"{outcome} a row ± one standard error", title_justify="left", show_edge=False)
    summary.add_column("policy", overflow="fold")
    for column in ("rows", outcome):
        summary.add_column(column, justify="right", no_wrap=True)
    for name, rate in policies:
        summary.add_row(name, f"{rate.rows:,}", _rate_error(rate))
    console.print(summary)


def print_rows(
    console: Console, data: LoggedData, used: int, equal_rows: float, unused: Counter[str]
) -> None:
    """Say how many rows of a log were used, why others were not, and what they weigh."""
    lines = [f"{len(data.rows):,} rows; used {used:,}, where the service drew the offer that was given."]
    lines += [f"Not used: {count:,} {why}." for why, count in unused.most_common() if count]
    if data.weighted:
        lines += [
            f"Each weighs 1 / propensity, at most {data.weight_max:g}; {data.clipped:,} rows are clipped to",
            f"that, which biases a little. Those used tell as much as {equal_rows:,.0f} of equal weight.",
            "The service itself learned from them unweighted.",
        ]
    for line in lines:
        console.print(line, highlight=False, markup=False)


def print_warnings(console: Console, warnings: Sequence[str]) -> None:
    """Say what makes numbers doubtful."""
    for warning in warnings:
        console.print(warning, style="yellow", highlight=False, markup=False)


def print_counts(console: Console, counts: Counts, seconds: float, stopped_because: str) -> None:
    """What became of everything, whether the sums hold, and why the run ended early."""
    for line in _counts(counts, seconds):
        console.print(line, highlight=False, markup=False)
    print_warnings(console, _problems(counts, stopped_because))


def _counts(counts: Counts, seconds: float) -> list[str]:
    speed = counts.decisions_answered / seconds if seconds else 0.0
    ends = f"{counts.decisions_answered:,} answered + {counts.decisions_refused:,} refused"
    lines = [
        f"{counts.decisions_asked:,} decisions asked = {ends}, in {seconds:,.1f} s: {speed:,.0f} decisions/s",
        f"reasons: {_counted(counts.reasons)}",
    ]
    if counts.reasons[SERVED_AGAIN]:
        lines.append(f"{SERVED_AGAIN}: `sticky` repeated an earlier decision, which counts once")
    if counts.unseen:
        lines.append(f"{counts.unseen:,} deferred decisions whose offer nobody saw: not learned")
    if counts.activations_asked:
        lines.append(f"{counts.activations_asked:,} activations, {counts.activations_refused:,} refused")
    ends = " + ".join(f"{counts.outcomes[status]:,} {status}" for status in STATUSES)
    lines.append(f"{counts.outcomes_sent:,} outcomes sent = {ends}")
    if counts.retries:
        lines.append(f"{counts.retries:,} calls repeated with the same ids")
    return lines


def _problems(counts: Counts, stopped_because: str) -> list[str]:
    problems = []
    if not counts.balanced:
        problems.append("The sums do not hold: something was lost or counted twice.")
    if counts.fallbacks:
        problems.append(f"{counts.fallbacks:,} decisions were fallbacks and count as earning nothing.")
    if counts.outcomes["late"]:
        problems.append(f"{counts.outcomes['late']:,} outcomes came after their window and did not count.")
    if counts.first_refusal:
        problems.append(f"Refused: {_counted(counts.refusals)}. The first: {counts.first_refusal}")
    if not counts.learner_followed:
        problems.append("The model did not follow the outcomes, so the run did not wait for it.")
    if stopped_because:
        problems.append(f"Ended early: {stopped_because}.")
    return problems


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counter.most_common()) or "none"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"


def _rate(rate: float) -> str:
    return "–" if math.isnan(rate) else f"{rate:.4f}"


def _rate_error(rate: LoggedRate) -> str:
    return "–" if math.isnan(rate.rate) else f"{rate.rate:.4f} ± {rate.error:.4f}"
