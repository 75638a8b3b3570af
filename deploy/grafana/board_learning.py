"""The dashboard *Learning*: does a campaign earn more than it would without, and does it go on learning?"""

from __future__ import annotations

from panels import PER_SECOND, Dashboard, Panel, Query, Row, stat
from queries import (
    CAMPAIGN,
    CONTROL,
    JOB,
    ONE_CAMPAIGN,
    OVER,
    PERSONALIZED,
    SETTLEMENTS_MIN,
    WINDOW,
    heat,
    mean,
    or_zero,
    quantile,
    rate,
    reward,
    settled_enough,
    share,
    shares,
)


def lift() -> str:
    """Return by what share personalized decisions earn more than control, where control earns anything."""
    shown, control = f"{CAMPAIGN}, {PERSONALIZED}", f"{CAMPAIGN}, {CONTROL}"
    base = f"({reward(control, 'campaign')} and {settled_enough(control, 'campaign')})"
    return f"({reward(shown, 'campaign')}) / ({base} > 0) - 1"


def board() -> Dashboard:
    """Does the campaign earn more than it would without learning, and does it go on learning?"""
    shown = f"{CAMPAIGN}, {PERSONALIZED}"
    decisions = rate("tilbud_decisions_total", shown, over=WINDOW)
    enough = settled_enough(shown, "offer")
    settled, learned = "tilbud_settlements_total", f"tilbud_model_sequence{{{CAMPAIGN}}}"
    now = Row(
        "Now",
        [
            stat(
                "Reward a decision",
                "Mean reward of the personalized decisions that settled within the chosen window.",
                "short",
                reward(shown),
                decimals=4,
                minimum=None,
            ),
            stat(
                "Lift over control",
                "By what share personalized decisions earn more than the control group. None where there is "
                "no control group, it earned nothing, or fewer than "
                f"{SETTLEMENTS_MIN} of it settled in the window.",
                "percentunit",
                lift(),
                decimals=1,
                red_below=0,
                minimum=None,
            ),
            stat(
                "Settlements",
                "Decisions a second whose reward became final.",
                PER_SECOND,
                rate(settled, CAMPAIGN),
                decimals=1,
            ),
            stat(
                "Settlement lag",
                "Seconds by which the oldest due decision is overdue.",
                "s",
                f"max(tilbud_settlement_lag_seconds{{{CAMPAIGN}}})",
                red_from=5,
            ),
            stat(
                "Learned",
                "The last settlement that every process has learned.",
                "none",
                f"min({learned})",
            ),
            stat(
                "Checkpoint age",
                "Time since the newest checkpoint was written: what a start would learn anew. One is "
                "written when there is something new; none until the process that settles wrote its first.",
                "s",
                f"time() - max(tilbud_checkpoint_timestamp_seconds{{{CAMPAIGN}}})",
                decimals=0,
            ),
        ],
    )
    worth = Row(
        "Is it worth it?",
        [
            Panel(
                "Reward a decision by variant",
                "Mean reward of what settled within the chosen window; fallbacks are in it, on both sides.",
                "short",
                [Query(reward(CAMPAIGN, "variant"), "{{variant}}")],
                minimum=None,
                decimals=3,
            ),
            Panel(
                "Lift over time",
                "By what share personalized decisions earn more than the control group, which sees what "
                "learning does not choose. A gap where fewer than "
                f"{SETTLEMENTS_MIN} of that group settled in the window; it swings while they are few.",
                "percentunit",
                [Query(lift(), "{{campaign}}")],
                minimum=None,
            ),
            Panel(
                "What the figures stand on",
                "Decisions that settled within the chosen window, by variant: below some hundreds in each, "
                "the difference between two variants is mostly chance.",
                "short",
                [Query(f"sum by (variant) (increase({settled}{{{CAMPAIGN}}}[{WINDOW}]))", "{{variant}}")],
            ),
        ],
    )
    offers = Row(
        "What it shows",
        [
            Panel(
                "Share by offer",
                "Share of the personalized decisions that drew each offer, over the chosen window.",
                "percentunit",
                [
                    Query(
                        shares(rate("tilbud_decisions_total", shown, "offer", over=WINDOW), decisions),
                        "{{offer}}",
                    )
                ],
                stacked=True,
                maximum=1,
                width=12,
            ),
            Panel(
                "Reward a decision by offer",
                "Mean reward of the personalized decisions that showed each offer, to those it was shown to: "
                "an offer that is right for few may be on top. Offers with fewer than "
                f"{SETTLEMENTS_MIN} settlements in the chosen window are left out.",
                "short",
                [Query(f"sort_desc({reward(shown, 'offer')} and {enough})", "{{offer}}")],
                kind="bargauge",
                width=12,
                minimum=None,
                decimals=3,
            ),
        ],
    )
    exploration = Row(
        "Does it still explore?",
        [
            Panel(
                "Evenness of the choice",
                "Entropy of the probabilities over that of an even choice, of one personalized decision in "
                "eight: 1 is an even choice, 0 always the same offer.",
                "percentunit",
                [
                    Query(mean("tilbud_policy_entropy_ratio", CAMPAIGN), "mean"),
                    Query(quantile(0.1, "tilbud_policy_entropy_ratio", CAMPAIGN), "10 % below"),
                ],
                maximum=1,
            ),
            Panel(
                "Smallest probability",
                "Of the offers of one personalized decision in eight, the least probable one's probability. "
                "What falls to 0 is never tried again, and nothing is learned of it.",
                "percentunit",
                [
                    Query(quantile(0.5, "tilbud_policy_probability_min", CAMPAIGN), "half below"),
                    Query(quantile(0.1, "tilbud_policy_probability_min", CAMPAIGN), "10 % below"),
                ],
            ),
            Panel(
                "Probability of what was drawn",
                "How many personalized decisions drew an offer of which probability: mass at the top is a "
                "model that is sure of itself.",
                "percentunit",
                heat("tilbud_probability_drawn", shown),
                kind="heatmap",
            ),
        ],
    )
    back = Row(
        "What comes back",
        [
            Panel(
                "Outcomes by status",
                "Reported outcomes a second. Late ones came after the deadline, orphans tell of a decision "
                "nobody knows, held ones wait for the activation.",
                PER_SECOND,
                [
                    Query(rate("tilbud_outcomes_total", CAMPAIGN, "status"), "{{status}}"),
                    Query(
                        or_zero(rate("tilbud_released_outcomes_total", CAMPAIGN)), "released at activation"
                    ),
                ],
            ),
            Panel(
                "Outcomes that count",
                "Accepted outcomes a second, by name.",
                PER_SECOND,
                [
                    Query(
                        rate("tilbud_outcomes_total", f'{CAMPAIGN}, status="accepted"', "outcome"),
                        "{{outcome}}",
                    )
                ],
            ),
            Panel(
                "Activations",
                "Of deferred decisions, a second, by status; and those never activated, which are forgotten "
                "unlearned.",
                PER_SECOND,
                [
                    Query(
                        or_zero(rate("tilbud_activations_total", CAMPAIGN, "status"), "status"), "{{status}}"
                    ),
                    Query(or_zero(rate("tilbud_expired_decisions_total", CAMPAIGN)), "expired"),
                ],
            ),
            Panel(
                "Odd settlements",
                "Share of the settlements whose reward was clipped to the campaign's range, and of those "
                "that had nothing to learn from, such as fallbacks.",
                "percentunit",
                [
                    Query(share(rate(f"tilbud_{name}_total", CAMPAIGN), rate(settled, CAMPAIGN)), legend)
                    for name, legend in (
                        ("clipped_rewards", "clipped"),
                        ("skipped_settlements", "nothing to learn"),
                    )
                ],
            ),
            Panel(
                "Settlement lag over time",
                "Seconds by which the oldest due decision is overdue.",
                "s",
                [Query(f"max(tilbud_settlement_lag_seconds{{{CAMPAIGN}}})", "lag")],
            ),
            Panel(
                "Pending decisions",
                "Decisions that wait for activation or for the end of their window.",
                "short",
                [Query(f"max(tilbud_pending_decisions{{{CAMPAIGN}}})", "pending")],
            ),
        ],
    )
    model = Row(
        "The model",
        [
            Panel(
                "Model sequence",
                "The last settlement each process has learned. Lines of one service run together; another "
                "lineage is another model.",
                "none",
                [Query(learned, "{{instance}} {{lineage}}")],
                minimum=None,
            ),
            Panel(
                "Behind the foremost",
                "Settlements by which the slowest process is behind the foremost one.",
                "none",
                [
                    Query(
                        f"max({learned}) - min({learned})",
                        "settlements",
                    )
                ],
                width=4,
            ),
            Panel(
                "Time to learn",
                "Seconds of one slice of learning: for so long no call is answered. 99 % below, by process.",
                "s",
                [
                    Query(
                        quantile(0.99, "tilbud_learn_duration_seconds", CAMPAIGN, "instance"), "{{instance}}"
                    )
                ],
                width=6,
            ),
            Panel(
                "What fails",
                "Turns of settling or learning, and checkpoints, that failed, a second.",
                PER_SECOND,
                [
                    Query(or_zero(rate("tilbud_learning_errors_total", CAMPAIGN)), "learning"),
                    Query(or_zero(rate("tilbud_checkpoint_errors_total", CAMPAIGN)), "checkpoints"),
                ],
                width=6,
            ),
        ],
    )
    return Dashboard(
        uid="tilbud-learning",
        title="Tilbud: Learning",
        description="Does a campaign earn more than it would without learning, and does it go on learning?",
        variables=[JOB, ONE_CAMPAIGN, OVER],
        rows=[now, worth, offers, exploration, back, model],
        span="3h",
    )
