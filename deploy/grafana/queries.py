"""What panels ask of Prometheus, said in a word each.

What holds: each query is right for one process and for several. Counters are summed over processes; so are
settlements and rewards, which the process that settled them counts alone. Where there is no traffic a ratio
has a gap, not a number. `$job` and such are Grafana's variables: the reader's choice.
"""

from __future__ import annotations

from panels import Query, Variable

PROCESSES = 'job=~"$job", instance=~"$instance"'
CAMPAIGN = 'job=~"$job", campaign="$campaign"'
SCRAPES = "$__rate_interval"  # the shortest stretch with enough scrapes in it
WINDOW = "$window"  # rewards are rare: the reader says over what to average
SETTLEMENTS_MIN = 50
PERSONALIZED, CONTROL = 'variant="personalized"', 'variant="control"'

JOB = Variable("job", "Job", "label_values(tilbud_build_info, job)")
INSTANCE = Variable(
    "instance", "Process", 'label_values(tilbud_build_info{job=~"$job"}, instance)', many=True
)
ONE_CAMPAIGN = Variable("campaign", "Campaign", 'label_values(tilbud_decisions_total{job=~"$job"}, campaign)')
OVER = Variable("window", "Rewards over", words=("5m", "30m", "1h", "6h", "1d"))


def rate(metric: str, where: str, *by: str, over: str = SCRAPES) -> str:
    """Return how fast a counter grows a second, summed over processes, for each value of `by`."""
    grouped = f"sum by ({', '.join(by)}) " if by else "sum"
    return f"{grouped}(rate({metric}{{{where}}}[{over}]))"


def or_zero(expr: str, label: str = "") -> str:
    """Return `expr`, or 0 where nothing of the kind ever happened; `label` is `none` then."""
    zero = f'label_replace(vector(0), "{label}", "none", "", "")' if label else "vector(0)"
    return f"{expr} or on() {zero}"


def mean(histogram: str, where: str, *by: str, over: str = SCRAPES) -> str:
    """Return the mean of what a histogram observed."""
    total, count = (rate(f"{histogram}_{part}", where, *by, over=over) for part in ("sum", "count"))
    return f"{total} / ({count} > 0)"


def quantile(share: float, histogram: str, where: str, *by: str, over: str = SCRAPES) -> str:
    """Return the value that `share` of what a histogram observed stays below, as its buckets tell it."""
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', where, *by, 'le', over=over)})"


def quantiles(histogram: str, where: str, over: str = SCRAPES) -> list[Query]:
    """Return a line each for the middle, the slow and the slowest."""
    shares = {"half below": 0.5, "90 % below": 0.9, "99 % below": 0.99}
    return [Query(quantile(share, histogram, where, over=over), name) for name, share in shares.items()]


def heat(histogram: str, where: str) -> list[Query]:
    """Return how many observations fell into each bucket."""
    return [Query(f"sum by (le) (increase({histogram}_bucket{{{where}}}[{SCRAPES}]))", "{{le}}")]


def reward(where: str, *by: str, context: bool = False) -> str:
    """Return the mean reward of what settled within the window; a gap where nothing did."""
    kind = "context_" if context else ""
    gain, loss, settled = (
        rate(f"tilbud_{kind}{name}_total", where, *by, over=WINDOW)
        for name in ("reward_gain", "reward_loss", "settlements")
    )
    return f"({gain} - {loss}) / ({settled} > 0)"


def settled_enough(where: str, *by: str, context: bool = False) -> str:
    """Return something only where so much settled within the window that a mean is not mostly chance."""
    kind = "context_" if context else ""
    counted = f"increase(tilbud_{kind}settlements_total{{{where}}}[{WINDOW}])"
    return f"sum by ({', '.join(by)}) ({counted}) >= {SETTLEMENTS_MIN}"


def share(part: str, whole: str) -> str:
    """Return a part of a whole; a gap where the whole is 0."""
    return f"({or_zero(part)}) / ({whole} > 0)"


def shares(parts: str, whole: str) -> str:
    """Return the parts of a whole, by their labels; a gap where the whole is 0."""
    return f"{parts} / on() group_left() ({whole} > 0)"
