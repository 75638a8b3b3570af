"""Customers who do everything a customer can, with words that nobody else says."""

from __future__ import annotations

from collections import defaultdict

from tests.e2e.customers import ACCEPTED, decide, grant, happens, report, rows_of, sequence, situation
from tests.running import Service, until

from tilbud.v1 import decisions_pb2 as pb

SHOP = """
campaign: shop
context:
  features: {note: category}
  traits: {tier: category}
  events: [cart]
groups: {loud: {caps: [{times: 100, per: 7d}]}}
offers:
  - {id: one, caps: [{times: 100, per: 7d}]}
  - {id: two, group: loud}
  - {id: three, suppress_after: {left: 7d}}
reward:
  window: 1h
  activation_window: 1h
  outcomes: {bought: {weight: 1, final: true}, left: {weight: 0, final: true}}
  learn: on_settlement
consent: required
"""
CAMPAIGNS = {
    "shop.yaml": SHOP,
    "mail.yaml": SHOP.replace("campaign: shop", "campaign: mail"),
    "voice.yaml": SHOP.replace("campaign: shop", "campaign: voice\nsticky: 24h"),
}


class Life:
    """One customer, what they did, and the words that are theirs alone."""

    def __init__(self, name: str) -> None:
        self.customer_id = f"Customer<{name}>"
        self.traits = {"tier": f"Tier<{name}>"}
        self.place = f"WorkerSlot<{name}>"
        self.note = f"Note<{name}>"
        self.event_ids: list[str] = []
        self.rewarded: list[str] = []
        self.repeat_ids: list[str] = []
        self.decision_ids_of: dict[str, list[str]] = defaultdict(list)
        self._name = name

    @property
    def decision_ids(self) -> list[str]:
        """All of them."""
        return [each for ids in self.decision_ids_of.values() for each in ids]

    def words(self) -> list[str]:
        """Return every text that belongs to this customer alone."""
        return [
            self.customer_id, *self.traits.values(), self.place, self.note, *self.event_ids,
            *self.decision_ids, *self.repeat_ids,
        ]  # fmt: skip

    def live(self, service: Service, decisions: int) -> None:
        """Consent, have a trait and events, decide in two campaigns, see, buy or leave; some of it waits."""
        grant(service, self.customer_id, traits=self.traits, language="da")
        self.event_ids.append(f"event.{self._name}.{len(self.event_ids)}.")
        assert happens(service, self.customer_id, "cart", self.event_ids[-1]) == ACCEPTED
        for _ in range(decisions):
            self._decide(service)
        self._ask_again(service)

    def _ask_again(self, service: Service) -> None:
        """Be served one decision for ever, whatever id the caller asks under."""
        if not self.decision_ids_of["voice"]:
            first = decide(service, "voice", self.customer_id, decision_id=f"{self._name}.voice.")
            self.decision_ids_of["voice"].append(first.decision_id)
        self.repeat_ids.append(f"{self._name}.repeat.{len(self.repeat_ids)}.")
        again = decide(service, "voice", self.customer_id, decision_id=self.repeat_ids[-1])
        assert again.decision_id == self.decision_ids_of["voice"][0]

    def settled(self, service: Service) -> None:
        """Wait until all that was rewarded is learned."""
        settled = set(self.rewarded)
        until(
            lambda: (
                {row["decision_id"] for row in rows_of(service, self.customer_id, "settlement")} >= settled
            )
        )
        for campaign in self.decision_ids_of:
            last = max(
                (row["sequence"] for row in rows_of(service, self.customer_id, "settlement")
                 if row["campaign"] == campaign),
                default=0,
            )  # fmt: skip
            until(lambda campaign=campaign, last=last: sequence(service, campaign) >= last)

    def _decide(self, service: Service) -> None:
        number = len(self.decision_ids)
        campaign = ("shop", "mail")[number % 2]
        context = situation({"note": self.note}, place=self.place, channel=("web", "app")[number % 2])
        deferred = number % 5 == 4
        answer = decide(
            service, campaign, self.customer_id, decision_id=f"{self._name}.{number}.", context=context,
            defer_activation=deferred,
        )  # fmt: skip
        assert answer.reason == pb.DECISION_REASON_PERSONALIZED
        self.decision_ids_of[campaign].append(answer.decision_id)
        if deferred and number % 2:
            service.decisions.Activate(pb.ActivateRequest(campaign=campaign, decision_id=answer.decision_id))
        if not deferred and number % 3:
            outcome = "bought" if number % 2 else "left"
            status = report(service, campaign, answer.decision_id, outcome)
            assert status == pb.OUTCOME_STATUS_ACCEPTED
            self.rewarded.append(answer.decision_id)
