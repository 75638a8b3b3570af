"""Metrics of settling and learning: rewards, models, checkpoints, and what a turn of the learner looks at.

What holds: as in `decisions.py`; counters never fall, so rewards below zero have a counter of their own.
Standard errors are told from the sums of squares, which are in the square of the reward's unit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.decision.records import Settlement
from tilbud.domain.pauses import Pause
from tilbud.telemetry import declared
from tilbud.telemetry.families import AT_USE, CONTEXT_LABELS, FAST_S, Families
from tilbud.telemetry.fast import FastCounters
from tilbud.telemetry.offer_values import OfferValues

_SETTLED, _GAIN, _LOSS, _SQUARES = range(4)


class LearningMetrics:
    """What is counted of settlements, and shown of models and of what waits."""

    def __init__(self, make: Families) -> None:
        self._make_settlements(make)
        self._make_models(make)
        self._make_relearning(make)
        self.settlement_lag = make.gauge(
            "settlement_lag_seconds", "Seconds by which the oldest due decision is overdue", "campaign"
        )
        self.pending = make.gauge(
            "pending_decisions", "Decisions that wait for activation or settlement", "campaign"
        )
        self._unserved = make.gauge(
            "unserved_decisions", "Open decisions of a campaign that is not served", "campaign"
        )
        self.settling_lease = make.gauge("settling_lease", "1 in the process that settles, 0 elsewhere")
        self._paused = make.gauge(
            "paused", "1 for each offer that is paused; a paused campaign has no offer", "campaign", "offer"
        )
        self.wall_clock_jump = make.gauge(
            "wall_clock_jump_seconds", "How far the wall clock is off what it was to be expected to say"
        )

    def _make_settlements(self, make: Families) -> None:
        self._by_offer = make.fast_sums(
            (
                ("settlements", "Decisions whose reward became final"),
                ("reward_gain", "Sum of the settled rewards above zero"),
                ("reward_loss", "Sum of the settled rewards below zero, sign turned"),
                ("reward_squares", "Sum of the squares of the settled rewards"),
            ),
            "campaign", "variant", "offer",
        )  # fmt: skip
        self._by_context = make.fast_sums(
            (
                ("context_settlements", f"Settled decisions by context; {AT_USE}"),
                ("context_reward_gain", f"Rewards above zero by context; {AT_USE}"),
                ("context_reward_loss", f"Rewards below zero by context, sign turned; {AT_USE}"),
                ("context_reward_squares", f"Squares of rewards by context; {AT_USE}"),
            ),
            *CONTEXT_LABELS,
        )
        self._values = OfferValues(make)
        self._children: dict[tuple[str, ...], tuple[list[float], list[float]]] = {}
        self._clipped = make.fast_counters(
            "clipped_rewards", "Rewards clipped to the campaign's range", "campaign"
        )
        self._expired = make.fast_counters(
            "expired_decisions", "Deferred decisions that were never activated", "campaign"
        )
        self._skipped = make.fast_counters(
            "skipped_settlements", "Settlements with nothing to learn", "campaign"
        )

    def _make_models(self, make: Families) -> None:
        self._learn_duration = make.fast_histograms(
            "learn_duration_seconds", "Seconds of one slice of learning", FAST_S, "campaign"
        )
        self.learning_errors = make.fast_counters(
            "learning_errors", "Failed turns of settling or learning", "campaign"
        )
        self.model_sequence = make.gauge(
            "model_sequence", "The last settlement the model learned", "campaign", "lineage"
        )
        self.checkpoint_time = make.gauge(
            "checkpoint_timestamp_seconds", "Seconds since 1970 of the newest checkpoint", "campaign"
        )
        self.checkpoint_errors = make.fast_counters(
            "checkpoint_errors", "Checkpoints that could not be written or loaded", "campaign"
        )

    def _make_relearning(self, make: Families) -> None:
        self.relearning_left = make.gauge(
            "relearning_settlements_left",
            "Settlements that a model learned anew beside the service has to learn yet; 0: there is none",
            "campaign",
        )
        self.relearning_due = make.gauge(
            "relearning_due_timestamp_seconds",
            "When that model will be there, by how fast it learned so far; 0: nobody knows, or there is none",
            "campaign",
        )
        self.stand_in = make.gauge(
            "stand_in", "1 where another model answers until the campaign's own is relearned", "campaign"
        )
        self.relearning_failures = make.fast_counters(
            "relearning_failures", "Processes that relearn a model and did not come to the end", "campaign"
        )

    def settled(self, settlement: Settlement, *, learned: bool) -> None:
        """Count one settlement this process learned, or had nothing to learn from."""
        key = (settlement.campaign, settlement.variant, settlement.offer_id,
               settlement.channel, settlement.device, settlement.journey_stage)  # fmt: skip
        children = self._children.get(key)
        if children is None:
            children = self._children[key] = (
                self._by_offer.labels(*key[:3]), self._by_context.labels(*key[:2], *key[3:])
            )  # fmt: skip
        reward = settlement.reward
        for sums in children:
            sums[_SETTLED] += 1.0
            sums[_GAIN if reward >= 0.0 else _LOSS] += abs(reward)
            sums[_SQUARES] += reward * reward
        if learned:  # what taught nothing may have no propensity to weigh by
            self._values.settled(settlement)
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

    def show_pauses(self, pauses: Iterable[Pause], now_us: int) -> None:
        """Show what is paused now (wall clock, µs)."""
        self._paused.clear()
        for pause in pauses:
            if pause.holds(now_us):
                self._paused.labels(pause.campaign, pause.offer_id).set(1)

    def show_unserved(self, waiting: Mapping[str, int]) -> None:
        """Show the open decisions of campaigns that are not served."""
        self._unserved.clear()
        for campaign, decisions in waiting.items():
            self._unserved.labels(campaign).set(decisions)

    def served(self, campaign: Campaign, contexts_max: int) -> None:
        """Begin at 0 all that a campaign may count; by context only where that is at most so many series."""
        name = campaign.campaign
        for variant, _, offer in declared.answers(campaign):
            self._by_offer.labels(name, variant, offer)
        for words in declared.contexts(campaign, contexts_max):
            self._by_context.labels(name, *words)
        self._values.served(campaign)
        for counter in self._by_campaign():
            counter.labels(name)
        self._learn_duration.labels(name)

    def _by_campaign(self) -> tuple[FastCounters, ...]:
        return (
            self._clipped, self._expired, self._skipped, self.checkpoint_errors, self.learning_errors,
            self.relearning_failures,
        )  # fmt: skip

    def keep_offers(self, campaign: str, offers: Collection[str]) -> None:
        """Drop the series of a campaign's other offers."""
        self._by_offer.keep_offers(campaign, offers)
        self._values.keep_offers(campaign, offers)
        for key in [key for key in self._children if key[0] == campaign and key[2] not in offers]:
            del self._children[key]

    def forget(self, campaign: str) -> None:
        """Drop what is shown of a campaign that is served no more."""
        of_relearning = (self.relearning_left, self.relearning_due, self.stand_in)
        for gauge in (
            self.settlement_lag, self.pending, self.model_sequence, self.checkpoint_time, *of_relearning,
        ):  # fmt: skip
            gauge.remove_by_labels({"campaign": campaign})
        for sums in (self._by_offer, self._by_context):
            sums.remove("campaign", campaign)
        for counter in self._by_campaign():
            counter.remove("campaign", campaign)
        self._values.forget(campaign)
        self._learn_duration.remove("campaign", campaign)
        for key in [key for key in self._children if key[0] == campaign]:
            del self._children[key]
