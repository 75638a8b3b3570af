"""All that is stored about one customer, as rows that a person can read, page by page.

What holds: every adapter exports the same rows, in the order of `KINDS`; times are written as RFC 3339 has
them, in UTC. A page begins where the one before it ended; where that was, page_tokens.py writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import dropwhile

from tilbud.domain.customer.customer import Customer
from tilbud.domain.decision.records import Decision, InternedText, State
from tilbud.domain.decision.rewards import CountedOutcome, OutcomeStatus
from tilbud.ledger.answers import ExportPage
from tilbud.ledger.marks import EVENT, RESERVED_US, STICKY
from tilbud.ledger.page_tokens import PageTokens, Place
from tilbud.ledger.profile_json import LISTS, TEXTS

ExportRow = Mapping[str, object]

# Each kind of row that is exported, in this order.
KINDS = ("customer", "event", "last", "exposure", "decision", "outcome", "settlement", "repeat")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def customer_row(customer: Customer, erased_us: int | None) -> ExportRow:
    """Return what is stored of the customer themselves."""
    profile = customer.profile
    preferences = profile.preferences
    quiet = preferences.quiet_hours
    row: dict[str, object] = {"kind": "customer", "erased": customer.erased}
    if erased_us is not None:
        row["erase_time"] = when(erased_us)
    if not profile.changes:
        return row
    row["consent"] = profile.consent.name
    row |= {name: getattr(profile, name) for name in TEXTS}
    if profile.journey_stage:
        row["journey_stage_time"] = when(profile.journey_stage_us)
    row["traits"] = {
        name: {"value": trait.value, "update_time": when(trait.updated_us)}
        for name, trait in sorted(profile.traits.items())
    }
    if profile.removed_traits:
        row["removed_traits"] = {name: when(at_us) for name, at_us in profile.removed_traits.items()}
    if profile.traits_cleared_us:
        row["traits_cleared_time"] = when(profile.traits_cleared_us)
    row["preferences"] = {
        **{name: sorted(getattr(preferences, name)) for name in LISTS},
        "quiet_hours": f"{_clock(quiet.from_minute)}-{_clock(quiet.until_minute)}" if quiet else "",
    }
    return row | {"update_time": when(profile.updated_us), "changes": profile.changes}


def event_row(event_id: str, event: str, time_us: int) -> ExportRow:
    """Return something that happened to a customer."""
    return {"kind": "event", "event": event, "event_id": event_id, "time": when(time_us)}


def latest_row(what: str, time_us: int) -> ExportRow:
    """Return when something last happened to a customer."""
    kind, names = what[:2], what[2:]
    row: dict[str, object] = {"kind": "last", "time": when(time_us)}
    if kind == EVENT:
        return row | {"event": names}
    if kind == STICKY:
        return row | {"sticky_decision_of": names}
    return row | dict(zip(("campaign", "offer", "outcome"), names.split(":"), strict=True))


def exposure_row(scope: str, time_us: int) -> ExportRow:
    """Return that a customer saw something: `o:` an offer, `g:` one of a group, `c:` one in a channel.

    One that waits for its activation has no time: it is reserved.
    """
    row: dict[str, object] = {"kind": "exposure", "scope": scope}
    return row | ({"reserved": True} if time_us == RESERVED_US else {"time": when(time_us)})


def decision_export(decision: Decision, state: State) -> ExportRow:
    """Return a decision as a person can read it."""
    return {
        "kind": "decision",
        "campaign": decision.campaign,
        "decision_id": decision.decision_id,
        "time": when(decision.decided_us),
        "state": state.name,
        "deadline": when(decision.deadline_us),
        "deferred": decision.deferred,
        "variant": decision.variant,
        "variant_share": decision.variant_share,
        "split": decision.split,
        "reason": decision.reason.name,
        "offer": decision.offer_id,
        "payload": json.loads(decision.payload.body),
        "probability": decision.probability,
        "discovery": decision.discovery,
        "eligible": [
            {"offer": offer, "probability": probability}
            for offer, probability in zip(decision.offers.ids, decision.probabilities, strict=True)
        ],
        "removed": json.loads(decision.removed.body),
        "context": json.loads(decision.context),
        "dropped": json.loads(decision.dropped.body),
        "device": decision.device,
        "channel": decision.channel,
        "journey_stage": decision.journey_stage,
        "features": decision.features,
        "model_version": f"{decision.lineage}.{decision.sequence}",
    }


def outcome_row(campaign: str, decision_id: str, outcome: CountedOutcome, status: OutcomeStatus) -> ExportRow:
    """Return an outcome of a customer's decision."""
    return {
        "kind": "outcome",
        "campaign": campaign,
        "decision_id": decision_id,
        "outcome": outcome.outcome,
        "value": outcome.value,
        "event_id": outcome.key[2:] if outcome.key.startswith("e:") else "",
        "time": when(outcome.time_us),
        "status": status.name,
    }


def settlement_row(
    campaign: str, decision_id: str, sequence: int, reward: float, settled_us: int, *, clipped: bool
) -> ExportRow:
    """Return what a customer's decision was worth in the end."""
    return {
        "kind": "settlement",
        "campaign": campaign,
        "decision_id": decision_id,
        "sequence": sequence,
        "reward": reward,
        "clipped": clipped,
        "time": when(settled_us),
    }


def repeat_row(campaign: str, decision_id: str, stands_for: str, payload: InternedText | None) -> ExportRow:
    """Return an id that was answered with an earlier decision, and the payload, where it was another."""
    row: dict[str, object] = {"kind": "repeat", "campaign": campaign, "decision_id": decision_id}
    row["stands_for"] = stands_for
    return row if payload is None else row | {"payload": json.loads(payload.body)}


def when(time_us: int) -> str:
    """Return a time (microseconds since 1970) as RFC 3339 writes it."""
    return (_EPOCH + timedelta(microseconds=time_us)).isoformat().replace("+00:00", "Z")


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def page(
    rows: Iterable[tuple[str, Place, ExportRow]], limit: int, bytes_max: int, tokens: PageTokens
) -> ExportPage:
    """Return the first rows, given with their kinds and places: so many as fit, but at least one."""
    taken: list[ExportRow] = []
    size, last = 0, ("", ())
    for kind, place, row in rows:
        size += len(json.dumps(row)) + 1
        if taken and (len(taken) >= limit or size > bytes_max):
            return ExportPage(tuple(taken), tokens.token(*last))
        taken.append(row)
        last = kind, place
    return ExportPage(tuple(taken), "")


def kinds_from(kind: str) -> Iterator[str]:
    """Return a kind and those exported after it."""
    return dropwhile(lambda other: other != kind, KINDS)
