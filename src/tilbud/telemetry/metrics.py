"""Every metric the service exports, under the names dashboards and alerts are written against.

What holds: labels come from declared vocabularies only (campaigns, offers, outcomes, rules and the
context words of the campaign files, plus `other` and `unknown`); ids never label anything; counters
never fall, so rewards below zero have a counter of their own. Children are looked up once and
kept: the path of a decision only increments, and what it increments takes no lock (see `fast.py`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.customer.customer import CustomerEventStatus
from tilbud.domain.decision.admission import REASONS as BAD_VALUES
from tilbud.domain.decision.eligibility import RULES
from tilbud.domain.decision.records import Decision, Reason, Settlement
from tilbud.domain.decision.rewards import OutcomeStatus
from tilbud.domain.pauses import Pause
from tilbud.telemetry import declared
from tilbud.telemetry.fast import FastCounter, FastHistogram, Spreads, Tallies

_FAST_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0)
_SMALL_SHARES = (
    0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0,
)  # fmt: skip
POLICY_EVERY = 8  # it tells a trend, and costs a logarithm for every offer
_TROUBLES = ("lost", "damaged", "not_committing", "not_reading")  # see ledger/sqlite/condition.py
_AT_USE = "at 0 before the first only where the words make few series"
_CONTEXT = ("campaign", "variant", "channel", "device", "journey_stage")
_OUTCOMES = (*(status.name.lower() for status in OutcomeStatus), "orphan", "refused")
_ACTIVATIONS = ("activated", "void", "repeated", "refused")
_CUSTOMER_EVENTS = (*(status.name.lower() for status in CustomerEventStatus), "refused")
REASONS = {reason: reason.name.lower() for reason in Reason}


class _Turn:
    """Lets one decision in `POLICY_EVERY` of one campaign be observed, the first to begin with."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = 0

    def passes(self) -> bool:
        """Count a decision; return whether it is passed over."""
        passed_over = self._left > 0
        self._left = self._left - 1 if passed_over else POLICY_EVERY - 1
        return passed_over


@dataclass(slots=True)
class _DecisionChildren:
    decisions: FastCounter
    context: FastCounter
    duration: FastHistogram
    drawn: FastHistogram
    entropy: FastHistogram
    smallest: FastHistogram
    turn: _Turn


@dataclass(slots=True)
class _SettlementChildren:
    settled: tuple[FastCounter, FastCounter]
    gain: tuple[FastCounter, FastCounter]
    loss: tuple[FastCounter, FastCounter]


@dataclass(slots=True)
class _Caches:
    decisions: dict[tuple[str, ...], _DecisionChildren] = field(default_factory=dict)
    settlements: dict[tuple[str, ...], _SettlementChildren] = field(default_factory=dict)
    turns: defaultdict[str, _Turn] = field(default_factory=lambda: defaultdict(_Turn))
    offers: dict[str, frozenset[str]] = field(default_factory=dict)  # of the file that is served

    def forget(self, campaign: str) -> None:
        """Keep nothing of a campaign."""
        for key in [key for key in self.decisions if key[0] == campaign]:
            del self.decisions[key]
        for key in [key for key in self.settlements if key[0] == campaign]:
            del self.settlements[key]
        self.turns.pop(campaign, None)
        self.offers.pop(campaign, None)

    def keep_offers(self, campaign: str, offers: Collection[str]) -> None:
        """Keep nothing of a campaign's other offers."""
        for key in [key for key in self.decisions if key[0] == campaign and key[3] not in offers]:
            del self.decisions[key]
        for key in [key for key in self.settlements if key[0] == campaign and key[2] not in offers]:
            del self.settlements[key]


class Metrics:
    """The metrics of one process, in one registry."""

    def __init__(  # noqa: PLR0915 - a statement for each metric
        self, registry: CollectorRegistry, *, version: str, vw_version: str
    ) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"tilbud_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"tilbud_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(f"tilbud_{name}", text, labels, buckets=buckets, registry=registry)

        def tallies(name: str, text: str, *labels: str) -> Tallies:
            return Tallies(f"tilbud_{name}", text, labels, registry)

        def spreads(name: str, text: str, bounds: Sequence[float], *labels: str) -> Spreads:
            return Spreads(f"tilbud_{name}", text, bounds, labels, registry)

        # Creation times double the samples and say nothing a scrape does not know.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's
        self.registry = registry
        ProcessCollector(registry=registry)
        self._decisions = tallies(
            "decisions",
            "Answered decisions, retries and dry runs left out",
            "campaign",
            "variant",
            "reason",
            "offer",
        )
        self._context_decisions = tallies(
            "context_decisions", f"Answered decisions by context; {_AT_USE}", *_CONTEXT
        )
        self._excluded = tallies(
            "excluded_offers", "Offers a rule removed from a decision", "campaign", "rule"
        )
        self._dropped = tallies(
            "dropped_values",
            "Values of calls that a decision was made without, by why",
            "campaign", "field", "why",
        )  # fmt: skip
        self._outcomes = tallies(
            "outcomes",
            "Reported outcomes by status: accepted, duplicate, late, held, orphan, refused",
            "campaign", "outcome", "status",
        )  # fmt: skip
        self._released = tallies(
            "released_outcomes", "Held outcomes that began to count at activation", "campaign"
        )
        self._activations = tallies("activations", "Activations: activated, void, repeated, refused",
                                    "campaign", "status")  # fmt: skip
        by_offer = ("campaign", "variant", "offer")
        self._settlements = tallies("settlements", "Decisions whose reward became final", *by_offer)
        self._gain = tallies("reward_gain", "Sum of the settled rewards above zero", *by_offer)
        self._loss = tallies("reward_loss", "Sum of the settled rewards below zero, sign turned", *by_offer)
        self._context_settlements = tallies(
            "context_settlements", f"Settled decisions by context; {_AT_USE}", *_CONTEXT
        )
        self._context_gain = tallies(
            "context_reward_gain", f"Rewards above zero by context; {_AT_USE}", *_CONTEXT
        )
        self._context_loss = tallies(
            "context_reward_loss", f"Rewards below zero by context, sign turned; {_AT_USE}", *_CONTEXT
        )
        self._clipped = tallies("clipped_rewards", "Rewards clipped to the campaign's range", "campaign")
        self._expired = tallies(
            "expired_decisions", "Deferred decisions that were never activated", "campaign"
        )
        self._skipped = tallies("skipped_settlements", "Settlements with nothing to learn", "campaign")
        self._decide_duration = spreads(
            "decide_duration_seconds",
            "Seconds from question to recorded answer; in a batch, with its wait",
            _FAST_S,
            "campaign",
        )
        self._rpc_duration = spreads(
            "rpc_duration_seconds", "Seconds a call was handled, by its gRPC code", _FAST_S, "method", "code"
        )
        self._commit_duration = histogram(
            "ledger_commit_duration_seconds", "Seconds of one group commit of the ledger", _FAST_S
        )
        self._commit_rows = histogram(
            "ledger_commit_rows", "Rows in one group commit", (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
        )
        self._commit_errors = counter("ledger_commit_errors", "Group commits that failed")
        self.relearning_left = gauge(
            "relearning_settlements_left",
            "Settlements that a model learned anew beside the service has to learn yet; 0: there is none",
            "campaign",
        )
        self.relearning_due = gauge(
            "relearning_due_timestamp_seconds",
            "When that model will be there, by how fast it learned so far; 0: nobody knows, or there is none",
            "campaign",
        )
        self.stand_in = gauge(
            "stand_in", "1 where another model answers until the campaign's own is relearned", "campaign"
        )
        self.relearning_failures = tallies(
            "relearning_failures", "Processes that relearn a model and did not come to the end", "campaign"
        )
        self._read_errors = counter("ledger_read_errors", "Reads of the ledger that failed")
        self._trouble = gauge(
            "ledger_trouble",
            "Whether the ledger cannot do its work: lost, damaged, not_committing, not_reading",
            "kind",
        )
        for kind in _TROUBLES:
            self._trouble.labels(kind)
        self._lost_commits = gauge(
            "ledger_lost_commits", "Acknowledged commits that the ledger lacked at the start of the service"
        )
        self._outages = counter(
            "outages",
            "Times no process could commit, found by this one while it served; the service clock stood still",
        )
        self._outage_s = counter("outage_seconds", "Seconds of these times")
        self._learn_duration = spreads(
            "learn_duration_seconds", "Seconds of one slice of learning", _FAST_S, "campaign"
        )
        self._drawn = spreads(
            "probability_drawn", "Probability of the drawn offer", _SHARES, "campaign", "variant"
        )
        self._entropy = spreads(
            "policy_entropy_ratio",
            "Entropy of the probabilities over that of an even choice, of one decision in eight",
            (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), "campaign",
        )  # fmt: skip
        self._smallest = spreads(
            "policy_probability_min",
            "Probability of the least likely eligible offer, of the same decisions",
            _SMALL_SHARES,
            "campaign",
        )
        self.settlement_lag = gauge(
            "settlement_lag_seconds", "Seconds by which the oldest due decision is overdue", "campaign"
        )
        self.pending = gauge(
            "pending_decisions", "Decisions that wait for activation or settlement", "campaign"
        )
        self.unserved = gauge(
            "unserved_decisions", "Open decisions of a campaign that is not served", "campaign"
        )
        self.model_sequence = gauge(
            "model_sequence", "The last settlement the model learned", "campaign", "lineage"
        )
        self.checkpoint_time = gauge(
            "checkpoint_timestamp_seconds",
            "Seconds since 1970 of the newest checkpoint",
            "campaign",
        )
        self.checkpoint_errors = tallies(
            "checkpoint_errors", "Checkpoints that could not be written or loaded", "campaign"
        )
        self.learning_errors = tallies("learning_errors", "Failed turns of settling or learning", "campaign")
        self._stalls = histogram(
            "event_loop_stall_seconds",
            "Seconds by which a task that sleeps 10 ms at a time woke up late",
            (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
        )
        self._stall_max = gauge(
            "event_loop_stall_max_seconds", "The largest of them since the process began to serve"
        )
        self.sticky = tallies(
            "sticky_decisions", "Questions answered again with the customer's last decision", "campaign"
        )
        self.redecided = counter(
            "redecided_decisions", "Decisions made again since the customer changed meanwhile"
        )
        self.customer_events = counter(
            "customer_events",
            "Reported customer events by status: accepted, duplicate, no_consent, refused",
            "status",
        )
        for status in _CUSTOMER_EVENTS:
            self.customer_events.labels(status)
        self.erasures = counter(
            "erasures", "Customers erased: known ones, and those of whom nothing was kept", "customer"
        )
        for customer in ("known", "unknown"):
            self.erasures.labels(customer)
        self.settling_lease = gauge("settling_lease", "1 in the process that settles, 0 elsewhere")
        self._paused = gauge(
            "paused", "1 for each offer that is paused; a paused campaign has no offer", "campaign", "offer"
        )
        self.wall_clock_jump = gauge(
            "wall_clock_jump_seconds", "How far the wall clock is off what it was to be expected to say"
        )
        self.campaigns = gauge("campaigns", "Campaigns served")
        self.campaign_files_refused = gauge(
            "campaign_files_refused", "Campaign files not served since the start, for what is wrong with them"
        )
        self.reloads = counter("campaign_reloads", "Reloads of the campaign files by result", "result")
        for result in ("loaded", "refused"):
            self.reloads.labels(result)  # at 0 from the start: Prometheus sees no rise in what was not there
        self._ready = gauge("ready", "1 while the process serves as it should, as /readyz says; else 0")
        self._in_flight = gauge("calls_in_flight", "Calls being answered now")
        self._in_flight_max = gauge("calls_in_flight_max", "Calls in flight beyond which more are refused")
        gauge("build_info", "Versions, as labels; always 1", "version", "vw_version").labels(
            version, vw_version
        ).set(1)
        self._by_context = (
            self._context_decisions, self._context_settlements, self._context_gain, self._context_loss,
        )  # fmt: skip
        self._by_campaign = (
            self._released, self._clipped, self._expired, self._skipped, self.sticky,
            self.checkpoint_errors, self.learning_errors, self.relearning_failures,
        )  # fmt: skip
        self._caches = _Caches()
        self._stall_longest_s = 0.0

    def decided(self, decision: Decision, seconds: float) -> None:
        """Count one answered decision that took `seconds`."""
        key = (decision.campaign, decision.variant, REASONS[decision.reason], decision.offer_id,
               decision.channel, decision.device, decision.journey_stage)  # fmt: skip
        children = self._caches.decisions.get(key)
        if children is None:
            children = self._caches.decisions[key] = self._decision_children(key)
        children.decisions.inc()
        children.context.inc()
        children.duration.observe(seconds)
        if decision.drawn >= 0:
            children.drawn.observe(decision.probability)
            if decision.reason is Reason.PERSONALIZED and not children.turn.passes():
                children.entropy.observe(entropy_ratio(decision.probabilities))
                children.smallest.observe(min(decision.probabilities))

    def _decision_children(self, key: tuple[str, ...]) -> _DecisionChildren:
        campaign, variant = key[:2]
        return _DecisionChildren(
            decisions=self._decisions.labels(*key[:4]),
            context=self._context_decisions.labels(campaign, variant, *key[4:]),
            duration=self._decide_duration.labels(campaign),
            drawn=self._drawn.labels(campaign, variant),
            entropy=self._entropy.labels(campaign),
            smallest=self._smallest.labels(campaign),
            turn=self._caches.turns[campaign],
        )

    def excluded(self, campaign: str, rule: str, offers: int) -> None:
        """Count offers that a rule removed from one decision."""
        self._excluded.labels(campaign, rule).inc(offers)

    def dropped(self, campaign: str, dropped: Mapping[str, str]) -> None:
        """Count what one decision was made without since it was said wrongly; its fields are declared."""
        for name, why in dropped.items():
            if why in BAD_VALUES:
                self._dropped.labels(campaign, name, why).inc()

    def served(self, campaign: Campaign, contexts_max: int) -> None:
        """Begin at 0 all that a campaign may count; by context only where that is at most so many series.

        Offers that are neither in this file nor in the one served before it have their series no more: what
        is open of the one before may settle yet.
        """
        name = campaign.campaign
        self._drop_offers(campaign)
        for variant, reason, offer in declared.answers(campaign):
            self._decisions.labels(name, variant, REASONS[reason], offer)
            for by_offer in (self._settlements, self._gain, self._loss):
                by_offer.labels(name, variant, offer)
        for words, by_context in product(declared.contexts(campaign, contexts_max), self._by_context):
            by_context.labels(name, *words)
        for variant in declared.variants(campaign):
            self._drawn.labels(name, variant)
        for field_why in declared.dropped(campaign):
            self._dropped.labels(name, *field_why)
        for outcome, status in product(campaign.reward.outcomes, _OUTCOMES):
            self._outcomes.labels(name, outcome, status)
        self._outcomes.labels(name, "unknown", "refused")
        self._begin(name)

    def _drop_offers(self, campaign: Campaign) -> None:
        name = campaign.campaign
        now = frozenset((*(offer.id for offer in campaign.offers), campaign.fallback.id))
        before = self._caches.offers.get(name)
        self._caches.offers[name] = now
        if before is None:
            return
        kept = now | before
        for by_offer in (self._decisions, self._settlements, self._gain, self._loss):
            by_offer.keep_offers(name, kept)
        self._caches.keep_offers(name, kept)

    def _begin(self, name: str) -> None:
        """Begin what has no labels that a file declares."""
        for rule in RULES:
            self._excluded.labels(name, rule)
        for status in _ACTIVATIONS:
            self._activations.labels(name, status)
        for counted in self._by_campaign:
            counted.labels(name)
        for observed in (self._decide_duration, self._entropy, self._smallest, self._learn_duration):
            observed.labels(name)

    def answers(self, method: str, codes: Iterable[str]) -> None:
        """Begin at 0 the calls of a method, by each code it may end with."""
        for code in codes:
            self._rpc_duration.labels(method, code)

    def outcome(self, campaign: str, outcome: str, status: str) -> None:
        """Count one reported outcome; both names must be declared ones."""
        self._outcomes.labels(campaign, outcome, status).inc()

    def released(self, campaign: str, outcomes: int) -> None:
        """Count held outcomes that began to count."""
        self._released.labels(campaign).inc(outcomes)

    def activated(self, campaign: str, status: str) -> None:
        """Count one activation."""
        self._activations.labels(campaign, status).inc()

    def settled(self, settlement: Settlement, *, learned: bool) -> None:
        """Count one settlement this process learned, or had nothing to learn from."""
        key = (settlement.campaign, settlement.variant, settlement.offer_id,
               settlement.channel, settlement.device, settlement.journey_stage)  # fmt: skip
        children = self._caches.settlements.get(key)
        if children is None:
            by_offer, by_context = key[:3], (key[0], key[1], *key[3:])
            children = self._caches.settlements[key] = _SettlementChildren(
                (self._settlements.labels(*by_offer), self._context_settlements.labels(*by_context)),
                (self._gain.labels(*by_offer), self._context_gain.labels(*by_context)),
                (self._loss.labels(*by_offer), self._context_loss.labels(*by_context)),
            )
        for settled in children.settled:
            settled.inc()
        for total in children.gain if settlement.reward >= 0.0 else children.loss:
            total.inc(abs(settlement.reward))
        if settlement.clipped:
            self._clipped.labels(settlement.campaign).inc()
        if not learned:
            self._skipped.labels(settlement.campaign).inc()

    def expired(self, campaign: str, decisions: int) -> None:
        """Count deferred decisions that were never activated."""
        self._expired.labels(campaign).inc(decisions)

    def learned(self, campaign: str, seconds: float) -> None:
        """Observe one slice of learning."""
        self._learn_duration.labels(campaign).observe(seconds)

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
        for each in _TROUBLES:
            self._trouble.labels(each).set(each == kind)
        self._read_errors.inc(failed_reads)

    def lost_commits(self, commits: int) -> None:
        """Show that the ledger lacked acknowledged commits when the service began."""
        self._lost_commits.set(commits)

    def outage(self, seconds: float) -> None:
        """Count a time in which nobody could commit; called from the ledger's writer thread."""
        self._outages.inc()
        self._outage_s.inc(seconds)

    def rpc(self, method: str, code: str, seconds: float) -> None:
        """Observe one call."""
        self._rpc_duration.labels(method, code).observe(seconds)

    def watch_ready(self, ready: Callable[[], bool]) -> None:
        """Show at each scrape, which asks from its own thread, whether the process serves as it should."""
        self._ready.set_function(ready)

    def watch_log(self, dropped: Callable[[], Mapping[str, int]]) -> None:
        """Count at each scrape the lines of the log that were dropped, by reason."""
        self.registry.register(_LogLines(dropped))

    def watch_calls(self, in_flight: Callable[[], int], in_flight_max: int) -> None:
        """Show how many calls there are at each scrape, which asks from a thread of its own."""
        self._in_flight.set_function(in_flight)
        self._in_flight_max.set(in_flight_max)

    def show_pauses(self, pauses: Iterable[Pause], now_us: int) -> None:
        """Show what is off now (wall clock, µs)."""
        self._paused.clear()
        for pause in pauses:
            if pause.holds(now_us):
                self._paused.labels(pause.campaign, pause.offer_id).set(1)

    def show_unserved(self, waiting: Mapping[str, int]) -> None:
        """Show the open decisions of campaigns that are not served."""
        self.unserved.clear()
        for campaign, decisions in waiting.items():
            self.unserved.labels(campaign).set(decisions)

    def forget(self, campaign: str) -> None:
        """Drop what is shown of a campaign that is served no more; what ends of it later begins at 0."""
        of_learning = (self.checkpoint_time, self.relearning_left, self.relearning_due, self.stand_in)
        for gauge in (self.settlement_lag, self.pending, self.model_sequence, *of_learning):
            gauge.remove_by_labels({"campaign": campaign})
        for family in (
            self._decisions, self._excluded, self._dropped, self._settlements, self._gain, self._loss,
            self._outcomes, self._activations, *self._by_context, *self._by_campaign,
        ):  # fmt: skip
            family.remove("campaign", campaign)
        for spread in (
            self._decide_duration, self._drawn, self._entropy, self._smallest, self._learn_duration,
        ):  # fmt: skip
            spread.remove("campaign", campaign)
        self._caches.forget(campaign)


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


def entropy_ratio(probabilities: Sequence[float]) -> float:
    """Return the entropy of `probabilities` over the logarithm of their number: 1 is an even choice."""
    if len(probabilities) < 2:  # noqa: PLR2004 - one offer leaves no choice
        return 1.0
    entropy = -math.fsum([p * math.log(p) for p in probabilities if p > 0.0])
    return entropy / math.log(len(probabilities))
