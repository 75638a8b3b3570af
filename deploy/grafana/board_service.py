"""The dashboard *Service*: is it up, is it fast, and what is it running out of?

What holds: what is an event loop's, a file's or a process's own is shown by process; what every process knows
of the same ledger is taken once, by `max`.
"""

from __future__ import annotations

from panels import PER_SECOND, Dashboard, Panel, Query, Row, stat
from queries import (
    INSTANCE,
    JOB,
    PROCESSES,
    SCRAPES,
    heat,
    mean,
    or_zero,
    quantile,
    quantiles,
    rate,
    share,
)

BAD = 'code=~"UNAVAILABLE|INTERNAL|UNKNOWN|DATA_LOSS|RESOURCE_EXHAUSTED"'
FAST = 'method="Decide", code="OK"'
SLO_LATENCY_S = "0.01"


def board() -> Dashboard:
    """Is it up, is it fast, and what is it running out of?"""
    calls = "tilbud_rpc_duration_seconds"
    decide = "tilbud_decide_duration_seconds"
    commit = "tilbud_ledger_commit_duration_seconds"
    decisions = rate("tilbud_decisions_total", PROCESSES, "campaign")
    fallback = rate("tilbud_decisions_total", f'{PROCESSES}, reason=~"fallback.*"', "campaign")
    failed = rate(f"{calls}_count", f'{PROCESSES}, code!="OK"', "method", "code")
    refused = rate("tilbud_http_refused_total", PROCESSES, "status")
    now = Row(
        "Now",
        [
            stat(
                "Processes up",
                "Processes that answered the last scrape.",
                "none",
                f"sum(up{{{PROCESSES}}})",
                red_below=1,
                width=3,
            ),
            stat(
                "Calls",
                "Calls answered a second, by all processes; a batch is one call.",
                "reqps",
                rate(f"{calls}_count", PROCESSES),
                decimals=1,
                width=3,
            ),
            stat(
                "Availability",
                "Share of the calls that the service did not fail. What a caller got wrong, or gave up on, "
                "is not counted as failed.",
                "percentunit",
                "1 - "
                + share(rate(f"{calls}_count", f"{PROCESSES}, {BAD}"), rate(f"{calls}_count", PROCESSES)),
                decimals=3,
                red_below=0.999,
                width=3,
            ),
            stat(
                "Decide within 10 ms",
                "Share of the Decide calls that were handled within the goal of 10 ms.",
                "percentunit",
                share(
                    rate(f"{calls}_bucket", f'{PROCESSES}, {FAST}, le="{SLO_LATENCY_S}"'),
                    rate(f"{calls}_count", f"{PROCESSES}, {FAST}"),
                ),
                decimals=2,
                red_below=0.99,
                width=3,
            ),
            stat(
                "Processes ready",
                "Processes that serve as they should; what is wrong with another one, its /readyz says.",
                "none",
                f"sum(tilbud_ready{{{PROCESSES}}})",
                red_below=1,
                width=3,
            ),
            stat(
                "Processes settling",
                "Exactly one process of a service turns due decisions into rewards. None for a moment is a "
                "change of hands; none for longer means that nothing is learned.",
                "none",
                'sum(tilbud_settling_lease{job=~"$job"})',
                red_below=1,
                red_from=2,
                width=3,
            ),
            stat(
                "Alerts firing",
                "Alerts of this service that fire now; RUNBOOK.md says what to do about each.",
                "none",
                'count(ALERTS{alertname=~"Tilbud.*", job=~"$job|", alertstate="firing"}) or vector(0)',
                red_from=1,
                width=3,
            ),
            stat(
                "Free disk",
                "Of the file system that has the data directory.",
                "percentunit",
                f"min(tilbud_data_free_bytes{{{PROCESSES}}} / tilbud_data_size_bytes)",
                decimals=1,
                red_below=0.05,
                width=3,
            ),
        ],
    )
    traffic = Row(
        "Traffic and errors",
        [
            Panel(
                "Calls by method",
                "Calls answered a second; a batch is one call.",
                "reqps",
                [Query(f"{rate(f'{calls}_count', PROCESSES, 'method')} > 0", "{{method}}")],
            ),
            Panel(
                "Calls by process",
                "Calls answered a second by each process. Connections are spread, not calls: few clients "
                "may load one process alone.",
                "reqps",
                [Query(rate(f"{calls}_count", PROCESSES, "instance"), "{{instance}}")],
            ),
            Panel(
                "Calls that were not OK",
                "By method and gRPC code, and requests over HTTP that were no call, by status. "
                "INVALID_ARGUMENT and NOT_FOUND are a caller's mistake, RESOURCE_EXHAUSTED is shed load, "
                "UNAVAILABLE a ledger that cannot commit.",
                "reqps",
                [
                    Query(
                        or_zero(f"{failed} > 0", "code"),
                        "{{method}} {{code}}",
                    ),
                    Query(or_zero(f"{refused} > 0", "status"), "HTTP {{status}}"),
                ],
            ),
            Panel(
                "Decisions by campaign",
                "Answered decisions a second, retries and dry runs left out.",
                PER_SECOND,
                [Query(decisions, "{{campaign}}")],
                stacked=True,
            ),
            Panel(
                "Answered with the fallback",
                "Share of a campaign's decisions that were its fallback, for whatever reason; the dashboard "
                "Campaign tells the reasons.",
                "percentunit",
                [Query(f"({fallback} or 0 * {decisions}) / ({decisions} > 0)", "{{campaign}}")],
                maximum=1,
            ),
            Panel(
                "Customers",
                "Customer events a second by status, customers erased (known, or with nothing to erase), and "
                "decisions made again since the customer changed meanwhile.",
                PER_SECOND,
                [
                    Query(rate("tilbud_customer_events_total", PROCESSES, "status"), "event {{status}}"),
                    Query(rate("tilbud_erasures_total", PROCESSES, "customer"), "erased, {{customer}}"),
                    Query(rate("tilbud_redecided_decisions_total", PROCESSES), "decided again"),
                ],
            ),
        ],
    )
    latency = Row(
        "Latency",
        [
            Panel(
                "Decision",
                "Seconds from the question to the recorded answer, all campaigns; in a batch, with its "
                "wait. Read from buckets, so between two bounds it is a guess.",
                "s",
                quantiles(decide, PROCESSES),
            ),
            Panel(
                "Calls, 99 % below",
                "Seconds within which 99 of 100 calls of a method were handled.",
                "s",
                [Query(f"{quantile(0.99, calls, PROCESSES, 'method')} >= 0", "{{method}}")],
            ),
            Panel(
                "Where decisions fall",
                "How many decisions took how long: two bands are two kinds of decisions, which one line "
                "would hide.",
                "s",
                heat(decide, PROCESSES),
                kind="heatmap",
            ),
        ],
    )
    saturation = Row(
        "Saturation",
        [
            Panel(
                "CPU",
                "Cores a process uses. A process that answers cannot use much more than one.",
                "none",
                [Query(f"rate(process_cpu_seconds_total{{{PROCESSES}}}[{SCRAPES}])", "{{instance}}")],
            ),
            Panel(
                "Memory",
                "Resident memory of each process.",
                "bytes",
                [Query(f"process_resident_memory_bytes{{{PROCESSES}}}", "{{instance}}")],
            ),
            Panel(
                "Calls in flight",
                "Calls that are being answered at the moment of the scrape.",
                "none",
                [Query(f"tilbud_calls_in_flight{{{PROCESSES}}}", "{{instance}}")],
            ),
            Panel(
                "Event-loop stalls",
                "Seconds by which a task that only sleeps woke up late: no call waited longer for its turn "
                "than this. 99 % below, and the mean.",
                "s",
                [
                    Query(
                        quantile(0.99, "tilbud_event_loop_stall_seconds", PROCESSES, "instance"),
                        "{{instance}} 99 % below",
                    ),
                    Query(
                        mean("tilbud_event_loop_stall_seconds", PROCESSES, "instance"), "{{instance}} mean"
                    ),
                ],
            ),
            Panel(
                "Longest stall",
                "The longest stall since the process began to serve; it only grows.",
                "s",
                [Query(f"tilbud_event_loop_stall_max_seconds{{{PROCESSES}}}", "{{instance}}")],
            ),
            Panel(
                "Used of what there is",
                "File descriptors that are open, of those a process may open; calls in flight, of the number "
                "above which calls are refused.",
                "percentunit",
                [
                    Query(
                        f"process_open_fds{{{PROCESSES}}} / process_max_fds", "{{instance}} file descriptors"
                    ),
                    Query(
                        f"tilbud_calls_in_flight{{{PROCESSES}}} / tilbud_calls_in_flight_max",
                        "{{instance}} calls",
                    ),
                ],
            ),
        ],
    )
    ledger = Row(
        "Ledger and disk",
        [
            Panel(
                "Group commit",
                "Seconds of one commit of the ledger. Every recorded decision waits for one.",
                "s",
                quantiles(commit, PROCESSES),
            ),
            Panel(
                "Commits",
                "Group commits a second, by process, and those that failed.",
                PER_SECOND,
                [
                    Query(rate(f"{commit}_count", PROCESSES, "instance"), "{{instance}}"),
                    Query(rate("tilbud_ledger_commit_errors_total", PROCESSES), "failed"),
                ],
            ),
            Panel(
                "Rows a commit",
                "Mean number of rows in one commit: it grows with load, and makes each row cheaper.",
                "none",
                [Query(mean("tilbud_ledger_commit_rows", PROCESSES, "instance"), "{{instance}}")],
            ),
            Panel(
                "Free disk over time",
                "Free share of the file system that has the data directory.",
                "percentunit",
                [
                    Query(
                        f"min by (job) (tilbud_data_free_bytes{{{PROCESSES}}} / tilbud_data_size_bytes)",
                        "{{job}}",
                    )
                ],
                maximum=1,
            ),
            Panel(
                "Ledger",
                "Bytes of the ledger's database and of its write-ahead log. The log is emptied again and "
                "again; one that only grows has a reader that does not end.",
                "bytes",
                [Query(f"max by (job, file) (tilbud_ledger_bytes{{{PROCESSES}}})", "{{job}} {{file}}")],
            ),
            Panel(
                "The ledger's trouble",
                "Processes whose ledger is lost, damaged, does not commit or cannot be read; failed reads "
                "and outages a second; acknowledged commits it lacked at the start.",
                "none",
                [
                    Query(f"sum by (kind) (tilbud_ledger_trouble{{{PROCESSES}}})", "{{kind}}"),
                    Query(rate("tilbud_ledger_read_errors_total", PROCESSES), "failed reads"),
                    Query(rate("tilbud_outages_total", PROCESSES), "outages"),
                    Query(f"max(tilbud_ledger_lost_commits{{{PROCESSES}}})", "lost commits"),
                ],
            ),
            Panel(
                "Clocks",
                "How far the wall clock jumped, and for what share of the time nobody could commit, when the "
                "service clock stood still.",
                "s",
                [
                    Query(f"max(tilbud_wall_clock_jump_seconds{{{PROCESSES}}})", "wall clock jump"),
                    Query(rate("tilbud_outage_seconds_total", PROCESSES), "outages, a second"),
                ],
            ),
            Panel(
                "Relearning",
                "Settlements that are left to learn anew, models that stand in meanwhile, failed tries a "
                "second, and seconds until it is due.",
                "none",
                [
                    Query(
                        or_zero(f"max by (campaign) (tilbud_relearning_settlements_left{{{PROCESSES}}})"),
                        "left {{campaign}}",
                    ),
                    Query(or_zero(f"sum(tilbud_stand_in{{{PROCESSES}}})"), "stand in"),
                    Query(or_zero(rate("tilbud_relearning_failures_total", PROCESSES)), "failed"),
                    Query(
                        or_zero(f"max(tilbud_relearning_due_timestamp_seconds{{{PROCESSES}}} > 0) - time()"),
                        "due in seconds",
                    ),
                ],
            ),
            Panel(
                "Left out",
                "Values of calls that were dropped a second, campaign files that were refused, and open "
                "decisions of campaigns whose file is away.",
                "none",
                [
                    Query(or_zero(rate("tilbud_dropped_values_total", PROCESSES)), "dropped values"),
                    Query(f"max(tilbud_campaign_files_refused{{{PROCESSES}}})", "files refused"),
                    Query(or_zero(f"max(tilbud_unserved_decisions{{{PROCESSES}}})"), "unserved decisions"),
                ],
            ),
            Panel(
                "What fails behind the calls",
                "A second: turns of settling or learning, by campaign (or what else a turn does), "
                "checkpoints not written or loaded, campaign files refused.",
                PER_SECOND,
                [
                    Query(
                        or_zero(rate("tilbud_learning_errors_total", PROCESSES, "campaign")),
                        "learning {{campaign}}",
                    ),
                    Query(or_zero(rate("tilbud_checkpoint_errors_total", PROCESSES)), "checkpoints"),
                    Query(
                        or_zero(rate("tilbud_campaign_reloads_total", f'{PROCESSES}, result="refused"')),
                        "files refused",
                    ),
                ],
            ),
        ],
    )
    campaigns = Row(
        "Campaigns and versions",
        [
            Panel(
                "Settlement lag",
                "Seconds by which a campaign's oldest due decision is overdue.",
                "s",
                [Query(f"max by (campaign) (tilbud_settlement_lag_seconds{{{PROCESSES}}})", "{{campaign}}")],
            ),
            Panel(
                "Pending decisions",
                "Decisions that wait for activation or for the end of their window.",
                "short",
                [Query(f"max by (campaign) (tilbud_pending_decisions{{{PROCESSES}}})", "{{campaign}}")],
            ),
            Panel(
                "Campaigns served",
                "Campaigns each process serves. They differ while files are being loaded.",
                "none",
                [Query(f"tilbud_campaigns{{{PROCESSES}}}", "{{instance}}")],
                width=4,
            ),
            Panel(
                "Versions",
                "What each process runs.",
                "none",
                [
                    Query(
                        f"count by (instance, version, vw_version) (tilbud_build_info{{{PROCESSES}}})",
                        "{{instance}}",
                    )
                ],
                kind="table",
                width=4,
            ),
        ],
    )
    return Dashboard(
        uid="tilbud-service",
        title="Tilbud: Service",
        description="Is it up, is it fast, and what is it running out of?",
        variables=[JOB, INSTANCE],
        rows=[now, traffic, latency, saturation, ledger, campaigns],
        span="1h",
    )
