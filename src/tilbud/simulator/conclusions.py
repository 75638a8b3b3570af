"""What a run's numbers let one conclude, in sentences, and when nothing.

What always holds: a difference is called one only where it is over two of its standard errors from zero;
where it is not, the sentence says about how many rows would be needed if it were real.
"""

from __future__ import annotations

import math

from tilbud.simulator.logged import LoggedRate
from tilbud.simulator.tally import RECENT, Rates

HAPPENED_MIN = 30
"""Fewer outcomes among the rows used say nothing, since their error is not known either."""
_ERRORS = 2.0


def of_simulation(personalized: Rates, recent: Rates) -> str:
    """Return what a run against a known truth showed."""
    if not personalized.decisions:
        return "It made no decision that a model could learn from."
    share = personalized.share_of_uplift
    if math.isnan(share):
        return "Nothing could be gained: there was never more than one offer to choose from."
    got = f"{share:.0%}" if share > 0 else "nothing"
    gained = f"It got {got} of what choosing could gain over chance"
    if recent.decisions < RECENT:
        return (
            f"{gained}. {recent.decisions:,} decisions are few to learn from; ask for more with --decisions."
        )
    return f"{gained}, learning included, and {recent.share_of_uplift:.0%} in its last {RECENT:,} decisions."


def of_replay(outcome: str, matched: LoggedRate, uniform: LoggedRate, best: LoggedRate) -> list[str]:
    """Return what a replayed log says of the service beside chance, and beside the best single offer."""
    if matched.happened < HAPPENED_MIN:
        few = f"{matched.happened:,} of the {matched.rows:,} rows used have an outcome"
        return [f"Not enough to conclude anything: {few}, and fewer than {HAPPENED_MIN} say nothing."]
    return [
        _beside(outcome, matched, uniform, "offers given by chance"),
        _beside(outcome, matched, best, "the best single offer"),
    ]


def _beside(outcome: str, matched: LoggedRate, other: LoggedRate, name: str) -> str:
    difference, error = matched.rate - other.rate, math.hypot(matched.error, other.error)
    beside = f"Beside {name}: {outcome} {difference:+.4f} ± {error:.4f} a row."
    if abs(difference) > _ERRORS * error:
        return f"{beside} Chance alone seldom does that."
    if not difference:
        return f"{beside} No difference."
    needed = matched.rows * (_ERRORS * error / difference) ** 2
    return f"{beside} That may be chance; to tell, it takes about {_two_digits(needed)} rows used."


def _two_digits(number: float) -> str:
    step = 10 ** max(int(math.log10(max(number, 1))) - 1, 0)
    return f"{round(number / step) * step:,}"
