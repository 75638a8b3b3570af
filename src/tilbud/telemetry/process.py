"""Metrics of one process: its calls, its ledger, its event loop, and the campaign files it serves.

What holds: what is observed from another thread (the ledger's writer, a scrape) goes into families that take
a lock; what the event loop alone observes does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from tilbud.telemetry.families import FAST_S, Families

_HTTP_REFUSALS = (403, 404, 405, 415, 501)  # see transport/connect/calls.py
_TROUBLES = ("lost", "damaged", "not_committing", "not_reading")  # see ledger/sqlite/condition.py


class ProcessMetrics:
    """What is counted and shown of this process."""

    def __init__(self, make: Families, *, version: str, vw_version: str) -> None:
        self._registry = make.registry
        ProcessCollector(registry=make.registry)
        make.gauge("build_info", "Versions, as labels; always 1", "version", "vw_version").labels(
            version, vw_version
        ).set(1)
        self._ready = make.gauge("ready", "1 while the process serves as it should, as /readyz says; else 0")
        self._make_calls(make)
        self._make_ledger(make)
        self._stalls = make.histogram(
            "event_loop_stall_seconds",
            "Seconds by which a task woke up late that sleeps 10 ms at a time, 100 ms while nobody calls",
            (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
        )
        self._stall_max = make.gauge(
            "event_loop_stall_max_seconds", "The largest of them since the process began to serve"
        )
        self._stall_longest_s = 0.0
        self.campaigns = make.gauge("campaigns", "Campaigns served")
        self.campaign_files_refused = make.gauge(
            "campaign_files_refused", "Campaign files not served since the start, for what is wrong with them"
        )
        self.reloads = make.counter("campaign_reloads", "Reloads of the campaign files by result", "result")
        for result in ("loaded", "refused"):
            self.reloads.labels(result)  # at 0 from the start: Prometheus sees no rise in what was not there

    def _make_calls(self, make: Families) -> None:
        self._rpc_duration = make.fast_histograms(
            "rpc_duration_seconds",
            "Seconds a call was handled, by its gRPC code and by how it came: grpc, connect, ofrep",
            FAST_S,
            "method",
            "code",
            "protocol",
        )
        self._http_refused = make.fast_counters(
            "http_refused",
            "Requests over HTTP that were no call of a method, by their status",
            "status",
        )
        for status in _HTTP_REFUSALS:
            self._http_refused.labels(str(status))
        self._in_flight = make.gauge("calls_in_flight", "Calls being answered now")
        self._in_flight_max = make.gauge(
            "calls_in_flight_max", "Calls in flight beyond which more are refused"
        )

    def _make_ledger(self, make: Families) -> None:
        self._commit_duration = make.histogram(
            "ledger_commit_duration_seconds", "Seconds of one group commit of the ledger", FAST_S
        )
        self._commit_rows = make.histogram(
            "ledger_commit_rows", "Rows in one group commit", (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
        )
        self._commit_errors = make.counter("ledger_commit_errors", "Group commits that failed")
        self._read_errors = make.counter("ledger_read_errors", "Reads of the ledger that failed")
        self._trouble = make.gauge(
            "ledger_trouble",
            "Whether the ledger cannot do its work: lost, damaged, not_committing, not_reading",
            "kind",
        )
        for kind in _TROUBLES:
            self._trouble.labels(kind)
        self._lost_commits = make.gauge(
            "ledger_lost_commits", "Acknowledged commits that the ledger lacked at the start of the service"
        )
        self._outages = make.counter(
            "outages",
            "Times no process could commit, found by this one while it served; the service clock stood still",
        )
        self._outage_s = make.counter("outage_seconds", "Seconds of these times")

    def answers(self, method: str, codes: Iterable[str], protocol: str) -> None:
        """Begin at 0 the calls of a method by a protocol, by each code they may end with."""
        for code in codes:
            self._rpc_duration.labels(method, code, protocol)

    def rpc(self, method: str, code: str, seconds: float, protocol: str) -> None:
        """Observe one call."""
        self._rpc_duration.labels(method, code, protocol).observe(seconds)

    def http_refused(self, status: int) -> None:
        """Count a request over HTTP that was no call of a method."""
        self._http_refused.labels(str(status)).inc()

    def stalled(self, seconds: float) -> None:
        """Observe how late the event loop came to a task that was due."""
        self._stalls.observe(seconds)
        if seconds > self._stall_longest_s:
            self._stall_longest_s = seconds
            self._stall_max.set(seconds)

    def committed(self, seconds: float, rows: int) -> None:
        """Observe one group commit; called from the ledger's writer thread. No rows: it failed."""
        if not rows:
            self._commit_errors.inc()
            return
        self._commit_duration.observe(seconds)
        self._commit_rows.observe(rows)

    def ledger_condition(self, kind: str, failed_reads: int) -> None:
        """Show what is wrong with the ledger, "": nothing; count reads that failed since the last time."""
        for trouble in _TROUBLES:
            self._trouble.labels(trouble).set(trouble == kind)
        self._read_errors.inc(failed_reads)

    def lost_commits(self, commits: int) -> None:
        """Show that the ledger lacked acknowledged commits when the service began."""
        self._lost_commits.set(commits)

    def outage(self, seconds: float) -> None:
        """Count a time in which nobody could commit; called from the ledger's writer thread."""
        self._outages.inc()
        self._outage_s.inc(seconds)

    def watch_ready(self, ready: Callable[[], bool]) -> None:
        """Show at each scrape, which asks from its own thread, whether the process serves as it should."""
        self._ready.set_function(ready)

    def watch_log(self, dropped: Callable[[], Mapping[str, int]]) -> None:
        """Count at each scrape the lines of the log that were dropped, by reason."""
        self._registry.register(_LogLines(dropped))

    def watch_calls(self, in_flight: Callable[[], int], in_flight_max: int) -> None:
        """Show how many calls there are at each scrape, which asks from a thread of its own."""
        self._in_flight.set_function(in_flight)
        self._in_flight_max.set(in_flight_max)


class _LogLines(Collector):
    def __init__(self, dropped: Callable[[], Mapping[str, int]]) -> None:
        self._dropped = dropped

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "tilbud_log_lines_dropped",
            "Lines of the log that standard error did not take: full, closed, no_space, failed",
            labels=["reason"],
        )
        for reason, lines in self._dropped().items():
            family.add_metric([reason], lines)
        yield family
