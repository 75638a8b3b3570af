"""The dashboard *Campaign*: who is asked for, what earns where, and what the rules take away."""

from __future__ import annotations

from panels import NO_DATA, NO_DECISION, PER_SECOND, Dashboard, Panel, Query, Row, stat
from queries import (
    CAMPAIGN,
    CONTROL,
    JOB,
    ONE_CAMPAIGN,
    OVER,
    PERSONALIZED,
    SETTLEMENTS_MIN,
    WINDOW,
    lead_by_context,
    or_zero,
    quantiles,
    rate,
    reward,
    share,
    shares,
)


def by_context(
    title: str, description: str, unit: str, expr: str, label: str, *, stacked: bool, empty: str = NO_DATA
) -> Panel:
    """Return a line for each value of a context label."""
    return Panel(
        title,
        description,
        unit,
        [Query(expr, f"{{{{{label}}}}}")],
        stacked=stacked,
        minimum=0.0 if stacked else None,
        empty=empty,
    )


def board() -> Dashboard:
    """Who is asked for, what earns where, and what the rules take away."""
    decisions = rate("tilbud_decisions_total", CAMPAIGN)
    fallback = f'{CAMPAIGN}, reason=~"fallback.*"'
    paused = {
        sign: f'sum(max by (offer) (tilbud_paused{{{CAMPAIGN}, offer{sign}""}}))' for sign in ("=", "!=")
    }
    removed = rate("tilbud_excluded_offers_total", CAMPAIGN, over=WINDOW)
    removed_by_rule = rate("tilbud_excluded_offers_total", CAMPAIGN, "rule", over=WINDOW)
    axes = {"channel": "channel", "device": "device", "journey_stage": "journey stage"}
    now = Row(
        "Now",
        [
            stat(
                "Decisions",
                "Answered decisions a second, retries and dry runs left out.",
                PER_SECOND,
                decisions,
                decimals=1,
            ),
            stat(
                "Answered with the fallback",
                "Share of the decisions that were the campaign's fallback.",
                "percentunit",
                share(rate("tilbud_decisions_total", fallback), decisions),
                decimals=1,
                red_from=0.5,
                empty=NO_DECISION,
            ),
            stat(
                "Control group",
                "Share of the decisions that the control group answered.",
                "percentunit",
                share(rate("tilbud_decisions_total", f"{CAMPAIGN}, {CONTROL}"), decisions),
                decimals=1,
                empty=NO_DECISION,
            ),
            stat(
                "Offers removed a decision",
                "Mean number of offers that rules removed.",
                "none",
                share(rate("tilbud_excluded_offers_total", CAMPAIGN), decisions),
                decimals=2,
                empty=NO_DECISION,
            ),
            stat(
                "Offers paused",
                "Offers that are switched off now.",
                "none",
                or_zero(paused["!="]),
                red_from=1,
            ),
            stat(
                "Campaign paused",
                "1 while the whole campaign is switched off, and answers with its fallback.",
                "none",
                or_zero(paused["="]),
                red_from=1,
            ),
        ],
    )
    answers = Row(
        "What is answered",
        [
            Panel(
                "Decisions by reason",
                "Why each decision fell as it did. Fallbacks tell what kept an offer away.",
                PER_SECOND,
                [Query(rate("tilbud_decisions_total", CAMPAIGN, "reason"), "{{reason}}")],
                stacked=True,
            ),
            Panel(
                "Answered again",
                "Questions a second that were answered with the customer's last decision (`sticky`). They "
                "are not among the decisions.",
                PER_SECOND,
                [Query(or_zero(rate("tilbud_sticky_decisions_total", CAMPAIGN)), "sticky")],
            ),
            Panel(
                "Time of a decision",
                "Seconds from the question to the recorded answer; in a batch, with its wait.",
                "s",
                quantiles("tilbud_decide_duration_seconds", CAMPAIGN),
                empty=NO_DECISION,
            ),
        ],
    )
    asked = Row(
        "Who is asked for",
        [
            by_context(
                f"Decisions by {name}",
                f"Decisions a second. `other` is a {name} that the campaign file does not "
                "declare, `unknown` one that the call did not say. The first decision of each combination "
                "after a start is not seen, so a quiet campaign looks quieter here.",
                PER_SECOND,
                rate("tilbud_context_decisions_total", CAMPAIGN, label),
                label,
                stacked=True,
            )
            for label, name in axes.items()
        ],
    )
    earns = Row(
        "What earns where",
        [
            *(
                by_context(
                    f"Reward a decision by {name}",
                    "Mean reward of personalized decisions that settled within the window, with no interval: "
                    f"small differences are chance. Not of fewer than {SETTLEMENTS_MIN}.",
                    "short",
                    reward(f"{CAMPAIGN}, {PERSONALIZED}", label, context=True),
                    label,
                    stacked=False,
                    empty=f"not yet: it takes {SETTLEMENTS_MIN} settled decisions in a place",
                )
                for label, name in axes.items()
            ),
            *(
                Panel(
                    f"Lead over control by {name}",
                    "Reward of a personalized decision less that of one of control in the same place, with "
                    "its 95 % interval. Where 0 is inside it may be chance, and of twenty places one leaves "
                    f"it out by chance. Not of places where fewer than {SETTLEMENTS_MIN} of a group settled.",
                    "short",
                    lead_by_context(label),
                    kind="interval",
                    minimum=None,
                    decimals=3,
                    empty=f"not yet: it takes {SETTLEMENTS_MIN} settled decisions of each group in a place, "
                    "and a control group",
                )
                for label, name in axes.items()
            ),
        ],
    )
    rules = Row(
        "What rules take away",
        [
            Panel(
                "Offers removed a decision, by rule",
                "Mean number of offers that each rule removed from a decision. An offer counts under the "
                "first rule that removed it.",
                "none",
                [
                    Query(
                        f"{shares(rate('tilbud_excluded_offers_total', CAMPAIGN, 'rule'), decisions)} > 0",
                        "{{rule}}",
                    )
                ],
                stacked=True,
                width=12,
                empty="no rule removed an offer from any decision",
            ),
            Panel(
                "Share of the removals, by rule",
                "Which rules removed offers within the window, of all removals.",
                "percentunit",
                [
                    Query(
                        f"sort_desc({shares(removed_by_rule, removed)} > 0)",
                        "{{rule}}",
                    )
                ],
                kind="bargauge",
                width=6,
                maximum=1,
                empty="no rule removed an offer within the window",
            ),
            Panel(
                "Paused now",
                "Offers that are switched off, or the whole campaign where no offer is named. "
                "GetCampaign tells why and until when.",
                "none",
                [Query(f"max by (campaign, offer) (tilbud_paused{{{CAMPAIGN}}})", "{{offer}}")],
                kind="table",
                width=6,
                empty="nothing is paused",
            ),
        ],
    )
    return Dashboard(
        uid="tilbud-campaign",
        title="Tilbud: Campaign",
        description="Who is asked for, what earns where, and what the rules take away.",
        variables=[JOB, ONE_CAMPAIGN, OVER],
        rows=[now, answers, asked, earns, rules],
        span="3h",
    )
