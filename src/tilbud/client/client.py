"""The client for threads: any number of them may share one.

What holds: a decision with a default is always answered within its time, unless the question itself is wrong;
an outcome is never waited for. What is asked is made in questions.py and read in answers.py; here it is sent.
What it does not do: customers and campaigns; their stubs are in `tilbud.v1`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import count
from typing import Any, Self, Unpack

import grpc

from tilbud.client.address import TIMEOUT_S, dialled
from tilbud.client.answers import (
    Decision,
    Explanation,
    check_default,
    deadline_of,
    decision_of,
    decisions_of,
    default_of,
    explanation_of,
)
from tilbud.client.away import Away
from tilbud.client.calls import Connection
from tilbud.client.options import CONNECTIONS, DECIDE_S, MetadataSource, channel_options
from tilbud.client.outbox import CLOSE_S, OUTCOMES_MAX, Outcomes, Report
from tilbud.client.questions import Question, Situation, batch_request, decide_request, outcome_request
from tilbud.client.refusals import Refusal
from tilbud.client.sending import OnReport, Sender
from tilbud.v1 import decisions_pb2 as pb


class Client:
    """A client of one service; make one a process, after it forks, and close it (or use `with`)."""

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        decide_timeout_s: float = DECIDE_S,
        timeout_s: float = TIMEOUT_S,
        connections: int = CONNECTIONS,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: MetadataSource = None,
        outcomes_max: int = OUTCOMES_MAX,
        on_report: OnReport = None,
    ) -> None:
        """Connections are made by and by; nothing is asked yet.

        `target` is HOST:PORT or unix:PATH, else ValueError. `decide_timeout_s` is for one decision with all
        its repeats, `timeout_s` for every other call. Each of the `connections` carries 16 calls at a time.
        `credentials` encrypt (grpc.ssl_channel_credentials()), `metadata` goes with each call. At most
        `outcomes_max` outcomes wait. `on_report` is called with each `Report` that is final: in another
        thread, or by `report` itself where it is not sent.
        """
        if connections < 1:
            raise ValueError(f"connections: at least 1, not {connections}")
        self._decide_timeout_s = decide_timeout_s
        self._connections = [
            Connection(
                _channel(dialled(target), credentials), target=target, timeout_s=timeout_s, metadata=metadata
            )
            for _ in range(connections)
        ]
        self._turn = count()
        self._away = Away()
        self._sender = Sender(self._send, outcomes_max=outcomes_max, on_report=on_report)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def decide(
        self,
        campaign: str,
        *,
        default: str | None = None,
        default_payload: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
        **situation: Unpack[Situation],
    ) -> Decision:
        """Return which offer to show, as in `client.decide("shop", device="mobile", default="house")`.

        With a `default` it is answered whatever happens to the service: `decision.served` is False then,
        `decision.problem` says why, `offer_id` is the default and `payload` its payload. Without one a
        service that cannot answer is a Refusal with `later`. A question that is wrong (an unknown campaign, a
        bad field) is a Refusal in both cases; its `fields` name what is wrong.

        What is known goes by name: device, channel, journey_stage, place, language, country, time,
        time_zone, features={"basket_value": 42.5}, customer_id, consent; and decision_id, include_offers,
        exclude_offers, defer_activation, include_ranking, dry_run. `Question` describes them.
        """
        check_default(default, default_payload)
        request = decide_request(Question(campaign, **situation))
        try:
            answer = self._decide(request, timeout_s, may_rest=default is not None)
            return decision_of(campaign, answer)
        except Refusal as refused:
            return default_of(campaign, default, default_payload, refused)

    def decide_many(
        self, questions: Sequence[Question], *, timeout_s: float | None = None
    ) -> list[Decision | Refusal]:
        """Return a decision for each question, of at most 1,000, in one call; a wrong one gets its Refusal.

        Raises Refusal where nothing was answered.
        """
        asked = self._next()
        answer = asked.ask(asked.decisions.BatchDecide, batch_request(questions), timeout_s=timeout_s)
        return decisions_of(questions, answer)

    def activate(
        self, campaign: str, decision_id: str, *, shown_offer_id: str = "", timeout_s: float | None = None
    ) -> datetime | None:
        """Say that a deferred decision's offer was shown, or another; return until when outcomes count.

        None where none do: another offer was shown, or the id is empty, as that of a default. Raises Refusal.
        """
        if not decision_id:
            return None
        request = pb.ActivateRequest(
            campaign=campaign, decision_id=decision_id, shown_offer_id=shown_offer_id
        )
        asked = self._next()
        return deadline_of(asked.ask(asked.decisions.Activate, request, timeout_s=timeout_s))

    def report(
        self,
        campaign: str,
        decision_id: str,
        outcome: str,
        *,
        value: float | None = None,
        event_id: str = "",
        time: datetime | None = None,
    ) -> Report:
        """Say what happened after a decision; return at once, and send it in the background.

        The report tells where it is: buffered, delivered (with the service's `status`), refused, dropped, or
        skipped, where the decision has no id. It is sent until the service has it, and counts once. `value`
        multiplies the outcome's weight, 1 where nobody says. `event_id` tells apart outcomes of one name;
        without it they count once. `time` is when it happened, with a time zone: now, where nobody says.
        """
        return self._sender.put(
            outcome_request(campaign, decision_id, outcome, value=value, event_id=event_id, time=time)
        )

    def explain(
        self, campaign: str, decision_id: str, *, language: str = "", timeout_s: float | None = None
    ) -> Explanation:
        """Return why a decision fell as it did; raises Refusal."""
        request = pb.ExplainDecisionRequest(campaign=campaign, decision_id=decision_id, language=language)
        asked = self._next()
        answer = asked.ask(asked.decisions.ExplainDecision, request, timeout_s=timeout_s)
        return explanation_of(campaign, answer)

    @property
    def outcomes(self) -> Outcomes:
        """How many reported outcomes are where."""
        return self._sender.outcomes

    def flush(self, timeout_s: float = TIMEOUT_S) -> bool:
        """Wait until no outcome is buffered, so long at most; return whether none is."""
        return self._sender.flush(timeout_s)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Wait so long for the outcomes that are buffered, drop the rest, and disconnect."""
        self._sender.flush(timeout_s)
        self._sender.close()
        for each in self._connections:
            each.channel.close()

    def _decide(
        self, request: pb.DecideRequest, timeout_s: float | None, *, may_rest: bool
    ) -> pb.DecideResponse:
        if may_rest:
            self._away.check(time.monotonic())
        asked = self._next()
        time_s = self._decide_timeout_s if timeout_s is None else timeout_s
        try:
            answer = asked.ask(asked.decisions.Decide, request, timeout_s=time_s)
        except Refusal as refused:
            self._away.refused(refused, time.monotonic())
            raise
        self._away.answered()
        return answer

    def _send(self, request: pb.BatchReportOutcomesRequest) -> pb.BatchReportOutcomesResponse:
        asked = self._next()
        return asked.ask(asked.decisions.BatchReportOutcomes, request)

    def _next(self) -> Connection:
        return self._connections[next(self._turn) % len(self._connections)]


def _channel(target: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    if credentials is None:
        return grpc.insecure_channel(target, channel_options())
    return grpc.secure_channel(target, credentials, channel_options())
