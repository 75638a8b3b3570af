"""The dashboard *Learning*: does a campaign earn more than it would without, and does it go on learning?"""

from __future__ import annotations

from panels import NO_DECISION, PER_SECOND, Dashboard, Panel, Query, Row
from queries import (
    CAMPAIGN,
    CONTROL,
    EFFECTIVE_MIN,
    JOB,
    ONE_CAMPAIGN,
    OVER,
    PERSONALIZED,
    SETTLEMENTS_MIN,
    WINDOW,
    heat,
    lead,
    lift,
    mean,
    or_zero,
    quantile,
    rate,
    reward,
    rewards,
    share,
    shares,
    value_by_offer,
    verdict,
)

FEW = (
    f"not yet: it takes {SETTLEMENTS_MIN} settled decisions of each group in the window, and a control group "
    "in the campaign's file"
)
FEW_SHOWN = f"not yet: it takes {SETTLEMENTS_MIN} settled decisions in the window"
NO_LIFT = f"{FEW}, whose mean is surely above 0"
VERDICTS = {-1: ("worse", "red"), 0: ("not yet", "text"), 1: ("better", "green")}


def board() -> Dashboard:
    """Does the campaign earn more than it would without learning, and does it go on learning?"""
    shown = f"{CAMPAIGN}, {PERSONALIZED}"
    drawn = f'{CAMPAIGN}, reason="personalized"'
    decisions = rate("tilbud_decisions_total", drawn, over=WINDOW)
    settled, learned = "tilbud_settlements_total", f"tilbud_model_sequence{{{CAMPAIGN}}}"
    now = Row(
        "Now",
        [
            Panel(
                "Does it earn more than control?",
                "Better or worse where the 95 % interval of the lead leaves out 0, else not yet. One look in "
                "twenty errs: who stops at the first `better` errs more often.",
                "none",
                [Query(verdict(), "verdict")],
                kind="stat",
                height=5,
                width=4,
                minimum=None,
                empty=FEW,
                words=VERDICTS,
            ),
            Panel(
                "Lift over control",
                "By what share personalized decisions earn more than the control group, with its 95 % "
                "interval. Fallbacks are in both groups. There is none while the mean of control may be 0.",
                "percentunit",
                lift(),
                kind="stat",
                height=5,
                width=8,
                minimum=None,
                decimals=1,
                empty=NO_LIFT,
            ),
            Panel(
                "Reward a decision",
                "Mean reward of the personalized decisions that settled within the window.",
                "short",
                [Query(reward(shown), "reward")],
                kind="stat",
                height=5,
                width=4,
                minimum=None,
                decimals=4,
                empty=FEW_SHOWN,
            ),
            Panel(
                "Settlements",
                "Decisions a second whose reward became final.",
                PER_SECOND,
                [Query(rate(settled, CAMPAIGN), "settlements")],
                kind="stat",
                height=5,
                width=4,
                decimals=1,
            ),
            Panel(
                "Settlement lag",
                "Seconds by which the oldest due decision is overdue.",
                "s",
                [Query(f"max(tilbud_settlement_lag_seconds{{{CAMPAIGN}}})", "lag")],
                kind="stat",
                height=5,
                width=4,
                red_from=5,
            ),
        ],
    )
    worth = Row(
        "Is it worth it?",
        [
            Panel(
                "Reward a decision by variant",
                "Mean reward of what settled within the window, with its 95 % interval. Fallbacks are in it, "
                "on both sides.",
                "short",
                [*rewards(PERSONALIZED), *rewards(CONTROL)],
                minimum=None,
                decimals=3,
                width=6,
                empty=FEW_SHOWN,
                bands=("personalized", "control"),
            ),
            Panel(
                "Lead over control",
                "Reward of a personalized decision less that of one of control, with its 95 % interval. "
                "While 0 is inside, the difference may be chance.",
                "short",
                lead(),
                minimum=None,
                decimals=3,
                width=6,
                empty=FEW,
                bands=("lead",),
            ),
            Panel(
                "Lift over time",
                "The same as a share of what control earns, with its 95 % interval. A gap where the mean of "
                "control may be 0.",
                "percentunit",
                lift(),
                minimum=None,
                width=6,
                empty=NO_LIFT,
                bands=("lift",),
            ),
            Panel(
                "What the figures stand on",
                "Decisions that settled within the window, by variant. Below some hundreds in each, the "
                "intervals are wide.",
                "short",
                [Query(f"sum by (variant) (increase({settled}{{{CAMPAIGN}}}[{WINDOW}]))", "{{variant}}")],
                width=6,
            ),
        ],
    )
    offers = Row(
        "Which offer is worth what?",
        [
            Panel(
                "Value by offer",
                "What each offer would earn of everybody it may be shown to, by inverse propensity "
                "weighting. No order is sure where 95 % intervals overlap much. It is the value on average: "
                "the model shows an offer to those it suits.",
                "short",
                value_by_offer(),
                kind="interval",
                height=10,
                minimum=None,
                decimals=3,
                empty=f"not yet: it takes {EFFECTIVE_MIN} effective settlements of an offer in the window, "
                "and a reward that is not 0",
            ),
            Panel(
                "Plain mean by offer, to those it was shown to",
                "No ranking: who is shown an offer was chosen for it, so what suits few may be on top. "
                f"Personalized decisions; offers with fewer than {SETTLEMENTS_MIN} settlements in the window "
                "are left out.",
                "short",
                [
                    Query(
                        f"sort_desc({reward(shown, 'offer')} "
                        f"and sum by (offer) (tilbud_importance_weights_total{{{shown}}}))",
                        "{{offer}}",
                    )
                ],
                kind="bargauge",
                height=10,
                minimum=None,
                decimals=3,
                empty=f"not yet: it takes {SETTLEMENTS_MIN} settled decisions that showed an offer",
            ),
            Panel(
                "Share by offer",
                "Share of the decisions with an offer that drew each, over the window. Personalized ones; "
                "fallbacks are none.",
                "percentunit",
                [
                    Query(
                        shares(rate("tilbud_decisions_total", drawn, "offer", over=WINDOW), decisions),
                        "{{offer}}",
                    )
                ],
                stacked=True,
                maximum=1,
                height=10,
                empty=NO_DECISION,
            ),
        ],
    )
    exploration = Row(
        "Does it still explore?",
        [
            Panel(
                "Policy entropy",
                "100 % is an even choice, 0 always the same offer. Entropy of the probabilities over that of "
                "an even choice, of one personalized decision in eight.",
                "percentunit",
                [
                    Query(mean("tilbud_policy_entropy_ratio", CAMPAIGN), "mean"),
                    Query(quantile(0.1, "tilbud_policy_entropy_ratio", CAMPAIGN), "10 % below"),
                ],
                maximum=1,
                empty=NO_DECISION,
            ),
            Panel(
                "Propensity floor",
                "Probability of the least likely offer of a decision. What falls to 0 is never tried again, "
                "and nothing is learned of it. Of one personalized decision in eight.",
                "percentunit",
                [
                    Query(quantile(0.5, "tilbud_policy_probability_min", CAMPAIGN), "half below"),
                    Query(quantile(0.1, "tilbud_policy_probability_min", CAMPAIGN), "10 % below"),
                ],
                empty=NO_DECISION,
            ),
            Panel(
                "Propensity of the drawn offer",
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
                    Query(rate("tilbud_activations_total", CAMPAIGN, "status"), "{{status}}"),
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
                "Checkpoint age",
                "What a start would learn anew. Time since the newest checkpoint was written, which happens "
                "when there is something new.",
                "s",
                [Query(f"time() - max(tilbud_checkpoint_timestamp_seconds{{{CAMPAIGN}}})", "checkpoint age")],
                width=4,
                empty="not yet: the process that settles has written no checkpoint of this campaign",
            ),
            Panel(
                "Time to learn",
                "For so long no call is answered. Seconds of one slice of learning, 99 % below, by process.",
                "s",
                [
                    Query(
                        quantile(0.99, "tilbud_learn_duration_seconds", CAMPAIGN, "instance"), "{{instance}}"
                    )
                ],
                width=4,
            ),
            Panel(
                "What fails",
                "Turns of settling or learning, and checkpoints, that failed, a second.",
                PER_SECOND,
                [
                    Query(or_zero(rate("tilbud_learning_errors_total", CAMPAIGN)), "learning"),
                    Query(or_zero(rate("tilbud_checkpoint_errors_total", CAMPAIGN)), "checkpoints"),
                ],
                width=4,
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
