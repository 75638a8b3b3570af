"""What panels ask of Prometheus, said in a word each.

What holds: each query is right for one process and for several. Counters are summed over processes; so are
settlements and rewards, which the process that settled them counts alone. Where there is no traffic a ratio
has a gap, not a number, and no mean of rewards is shown of fewer than `SETTLEMENTS_MIN`, nor compared without
its interval. `$job` and such are Grafana's variables: the reader's choice. What is asked of rewards over time
deploy/prometheus/rules/recording.yml records for each window; what is asked of now alone is counted here.
"""

from __future__ import annotations

from panels import AT_LEAST, AT_MOST, ERROR, VALUE, Query, Variable

PROCESSES = 'job=~"$job", instance=~"$instance"'
CAMPAIGN = 'job=~"$job", campaign="$campaign"'
SCRAPES = "$__rate_interval"  # the shortest stretch with enough scrapes in it
WINDOW = "$window"  # rewards are rare: the reader says over what to average
SETTLEMENTS_MIN = 50
EFFECTIVE_MIN = 20
"""So many settlements of equal weight a weighted mean must be worth (Kish 1965)."""
WITHIN_95 = 1.96
"""Standard errors on each side within which 95 of 100 estimates lie."""
PRIOR = 50
"""Settlements of the campaign's own variance that join those of a group, as in recording.yml."""
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
    """Return the mean reward of what settled within the window; a gap where that is little."""
    gain, loss = (_grown(f"{_kind(context)}{name}", where, *by) for name in ("reward_gain", "reward_loss"))
    return f"({gain} - {loss}) / {enough(where, *by, context=context)}"


def enough(where: str, *by: str, context: bool = False) -> str:
    """Return how much settled within the window, where that is so much that a mean is not mostly chance."""
    return f"({_grown(f'{_kind(context)}settlements', where, *by)} >= {SETTLEMENTS_MIN})"


def _kind(context: bool) -> str:
    return "context_" if context else ""


def _grown(name: str, where: str, *by: str) -> str:
    """Return by how much a counter grew within the window."""
    return f"sum by ({', '.join(by)}) (increase(tilbud_{name}_total{{{where}}}[{WINDOW}]))"


def _recorded(name: str, variant: str, *by: str) -> str:
    """Return what a rule recorded over the window, where enough settled."""
    series, settled = (
        f"max by ({', '.join(by)}) (campaign_variant:tilbud_{recorded}${{window}}{{{CAMPAIGN}, {variant}}})"
        for recorded in (f"reward:{name}", "settlements:increase")
    )
    return f"({series} and {settled} >= {SETTLEMENTS_MIN})"


def rewards(variant: str) -> list[Query]:
    """Return the mean reward of a variant, and the bounds of its interval."""
    mean_reward, error = (_recorded(name, variant, "variant") for name in ("mean", "error"))
    return [
        Query(mean_reward, "{{variant}}"),
        Query(f"{mean_reward} - {WITHIN_95} * {error}", f"{{{{variant}}}} {AT_LEAST}"),
        Query(f"{mean_reward} + {WITHIN_95} * {error}", f"{{{{variant}}}} {AT_MOST}"),
    ]


def _both(name: str) -> tuple[str, str]:
    return _recorded(name, PERSONALIZED), _recorded(name, CONTROL)


def _lead() -> tuple[str, str]:
    """Return how much more a personalized decision earns than one of control, and half its interval."""
    (shown, control), (shown_error, control_error) = _both("mean"), _both("error")
    return f"({shown} - {control})", f"({WITHIN_95} * sqrt({shown_error} ^ 2 + {control_error} ^ 2))"


def lead() -> list[Query]:
    """Return that difference, and the bounds of its interval."""
    value, half = _lead()
    return [
        Query(value, "lead"),
        Query(f"{value} - {half}", f"lead {AT_LEAST}"),
        Query(f"{value} + {half}", f"lead {AT_MOST}"),
    ]


def verdict() -> str:
    """Return 1 where personalized decisions surely earn more than control, -1 where less, 0 not yet."""
    value, half = _lead()
    return f"({value} > bool {half}) - ({value} < bool -1 * {half})"


def lift() -> list[Query]:
    """Return by what share personalized decisions earn more than control, and the bounds of its interval.

    The interval is Fieller's (1954), of two independent means: there is none while control's own mean may be
    0, and then no lift is told.
    """
    (shown, control), (shown_error, control_error) = _both("mean"), _both("error")
    ratio = f"({shown} / ({control} > 0))"
    certain = f"(1 - ({WITHIN_95} * {control_error} / {control}) ^ 2 > 0)"
    half = f"{WITHIN_95} / {control} * sqrt({shown_error} ^ 2 * {certain} + ({ratio} * {control_error}) ^ 2)"
    return [
        Query(f"{ratio} - 1 and {certain}", "lift"),
        Query(f"({ratio} - {half}) / {certain} - 1", f"lift {AT_LEAST}"),
        Query(f"({ratio} + {half}) / {certain} - 1", f"lift {AT_MOST}"),
    ]


def _variance() -> str:
    """Return the variance of all the campaign's rewards within the window, as a number."""
    return f"scalar(max(campaign:tilbud_reward:variance${{window}}{{{CAMPAIGN}}}))"


def _by_label(label: str, value: str, half: str, count: str, name: str) -> list[Query]:
    columns = {VALUE: value, ERROR: half, name: count}
    return [Query(expr, f"{{{{{label}}}}} {column}", column) for column, expr in columns.items()]


def lead_by_context(label: str) -> list[Query]:
    """Return for each value of a context label what personalized decisions earn more than control there."""
    means, variances, counts = [], [], []
    for variant in (PERSONALIZED, CONTROL):
        where = f"{CAMPAIGN}, {variant}"
        gain, loss, squares = (
            _grown(f"context_reward_{name}", where, label) for name in ("gain", "loss", "squares")
        )
        count, total = enough(where, label, context=True), f"({gain} - {loss})"
        own = f"clamp_min({squares} - {total} ^ 2 / {count}, 0)"
        means.append(f"{total} / {count}")
        variances.append(f"({own} + {PRIOR} * {_variance()}) / ({count} * ({count} + {PRIOR}))")
        counts.append(count)
    half = f"{WITHIN_95} * sqrt({variances[0]} + {variances[1]})"
    return _by_label(label, f"{means[0]} - {means[1]}", half, counts[1], "settled in control")


def value_by_offer() -> list[Query]:
    """Return what each offer earns of all to whom it may be shown, by inverse propensity weighting.

    See src/tilbud/telemetry/offer_values.py for the sums. Each variant's estimate counts by the inverse of
    its variance, since the weights of a sure model are far more uneven than those of the control group.
    """
    by = ("variant", "offer")
    weights, weight_squares, squares, gain, loss, square_gain, square_loss = (
        _grown(name, CAMPAIGN, *by)
        for name in (
            "importance_weights", "importance_weight_squares", "weighted_reward_squares",
            "weighted_reward_gain", "weighted_reward_loss",
            "square_weighted_reward_gain", "square_weighted_reward_loss",
        )
    )  # fmt: skip
    value = f"(({gain} - {loss}) / {weights})"
    effective = f"({weights} ^ 2 / {weight_squares} >= {EFFECTIVE_MIN})"
    deviations = f"{squares} - 2 * {value} * ({square_gain} - {square_loss}) + {value} ^ 2 * {weight_squares}"
    own = f"clamp_min(({deviations}) / {weights} ^ 2, 0)"
    variance = (
        f"((({own} * {effective} + {PRIOR} * {_variance()} / {effective}) / ({effective} + {PRIOR})) > 0)"
    )
    certainty = f"sum by (offer) (1 / {variance})"
    return _by_label(
        "offer",
        f"sum by (offer) ({value} / {variance}) / {certainty}",
        f"{WITHIN_95} / sqrt({certainty})",
        f"sum by (offer) ({effective})",
        "effective settlements",
    )


def share(part: str, whole: str) -> str:
    """Return a part of a whole; a gap where the whole is 0."""
    return f"({or_zero(part)}) / ({whole} > 0)"


def shares(parts: str, whole: str) -> str:
    """Return the parts of a whole, by their labels; a gap where the whole is 0."""
    return f"{parts} / on() group_left() ({whole} > 0)"
