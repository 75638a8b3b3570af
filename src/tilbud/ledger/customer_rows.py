"""Customers as rows: a profile as JSON and back, and all that is kept about one as a person can read it.

What holds: what is read back is what was written, its text in NFC, and what does not fit raises
LedgerInvalid. Both adapters export the same rows, which say times as RFC 3339 does, in UTC. Nothing here
reads a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import dropwhile
from typing import Any

from tilbud.domain.context import Consent
from tilbud.domain.customer.customer import Customer, Preferences, Profile, Trait
from tilbud.domain.decision.records import Decision, InternedText, State
from tilbud.domain.decision.rewards import CountedOutcome, OutcomeStatus
from tilbud.domain.durations import Hours
from tilbud.domain.errors import InvalidField, LedgerInvalid
from tilbud.domain.limits import Limits
from tilbud.domain.text import nfc
from tilbud.ledger.ports import ExportPage

ExportRow = Mapping[str, object]
Place = tuple[Any, ...]  # of a row among those of its kind

# Each kind of row that is exported, in this order, and what a place among its rows is made of.
KINDS: Mapping[str, tuple[type, ...]] = {
    "customer": (),
    "event": (int,),
    "last": (str,),
    "exposure": (int, str, int),
    "decision": (int,),
    "outcome": (int, str),
    "settlement": (int,),
    "repeat": (int, str),
}
EVENT, OUTCOME, STICKY = "e:", "s:", "d:"  # what `latest` keeps the time of
OFFER = "o:"  # what begins as `domain.customers.offer_scope` does
RESERVED_US = 2**62  # the time of an exposure that waits for its activation: after any
_END = ";"  # follows ":", which neither a campaign's nor an offer's id has
_NUMBER_END = 2**63
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LISTS = ("blocked_offers", "blocked_topics", "blocked_channels", "opted_in_topics")
_TEXTS = ("time_zone", "language", "journey_stage")
_NUMBERS = ("journey_stage_us", "updated_us", "changes")


# When what last happened


def event_mark(event: str) -> str:
    """Return what the last time of an event is kept under."""
    return f"{EVENT}{event}"


def outcome_mark(campaign: str, offer_id: str, outcome: str) -> str:
    """Return what the last time of an outcome of an offer is kept under."""
    return f"{OUTCOME}{campaign}:{offer_id}:{outcome}"


def sticky_mark(campaign: str) -> str:
    """Return what a customer's last sticky decision in a campaign is kept under."""
    return f"{STICKY}{campaign}"


def span(prefix: str) -> tuple[str, str]:
    """Return from where, and until before where, all that begins with `prefix` (it ends in ":") lies."""
    return prefix, prefix[:-1] + _END


def exposed_campaign(scope: str) -> str:
    """Return the campaign of an offer's scope."""
    return scope.split(":")[1]


def one_event_too_many(limits: Limits) -> InvalidField:
    """Return what is said of an event that would make too many different ones of a customer."""
    return InvalidField("event", f"at most {limits.customer_events_max} different ones of one customer")


# Profiles


def profile_text(profile: Profile) -> str:
    """Return a profile as the JSON that is kept."""
    preferences = profile.preferences
    quiet = preferences.quiet_hours
    kept: dict[str, object] = {"consent": int(profile.consent)}
    kept |= {name: getattr(profile, name) for name in (*_TEXTS, *_NUMBERS)}
    kept |= {name: sorted(getattr(preferences, name)) for name in _LISTS}
    kept["traits"] = {name: [trait.value, trait.updated_us] for name, trait in profile.traits.items()}
    if profile.removed_traits:
        kept["removed_traits"] = dict(profile.removed_traits)
    if profile.traits_cleared_us:
        kept["traits_cleared_us"] = profile.traits_cleared_us
    kept["quiet_hours"] = quiet and [quiet.from_minute, quiet.until_minute]
    return json.dumps(kept, separators=(",", ":"), allow_nan=False)


def parse_profile(text: str) -> Profile:
    """Return the profile `profile_text` made a text of; raises LedgerInvalid on any other."""
    try:
        kept = json.loads(text)
        quiet = kept["quiet_hours"]
        lists = {name: frozenset(map(_text, kept[name])) for name in _LISTS}
        return Profile(
            consent=Consent(_whole(kept["consent"])),
            time_zone=_text(kept["time_zone"]),
            language=_text(kept["language"]),
            journey_stage=_text(kept["journey_stage"]),
            journey_stage_us=_whole(kept["journey_stage_us"]),
            traits={nfc(name): _trait(*said) for name, said in kept["traits"].items()},
            # These two are of later versions than the first, and often empty.
            removed_traits={name: _whole(at) for name, at in kept.get("removed_traits", {}).items()},
            traits_cleared_us=_whole(kept.get("traits_cleared_us", 0)),
            preferences=Preferences(
                **lists, quiet_hours=None if quiet is None else Hours(*map(_whole, quiet))
            ),
            updated_us=_whole(kept["updated_us"]),
            changes=_whole(kept["changes"]),
        )
    except (ValueError, TypeError, LookupError, AttributeError):
        # Without the cause, whose message may quote the profile.
        raise LedgerInvalid("a customer's profile is damaged: restore a backup") from None


def _trait(value: object, updated_us: object) -> Trait:
    if not isinstance(value, str | float | int):
        raise TypeError("a trait is a text, a number or a flag")
    return Trait(nfc(value) if isinstance(value, str) else value, _whole(updated_us))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return nfc(value)


def _whole(value: object) -> int:
    if type(value) is not int:
        raise TypeError("not a whole number")
    return value


# What is exported


def customer_row(customer: Customer, erased_us: int | None) -> ExportRow:
    """Return what is kept of the customer themselves."""
    profile = customer.profile
    preferences = profile.preferences
    quiet = preferences.quiet_hours
    row: dict[str, object] = {"kind": "customer", "erased": customer.erased}
    if erased_us is not None:
        row["erase_time"] = when(erased_us)
    if not profile.changes:
        return row
    row["consent"] = profile.consent.name
    row |= {name: getattr(profile, name) for name in _TEXTS}
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
        **{name: sorted(getattr(preferences, name)) for name in _LISTS},
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


# Where a page of an export begins


def parse_token(token: str) -> tuple[str, Place]:
    """Return the kind and place that a page's `more` says; raises InvalidField where it is none of ours."""
    kind, _, said = token.partition(":")
    try:
        place = tuple(json.loads(said))
        "".join(each for each in place if isinstance(each, str)).encode()
    except (ValueError, TypeError, RecursionError):
        place = (None,)
    of_kind = tuple(map(type, place)) == KINDS.get(kind)
    if not of_kind or any(isinstance(each, int) and not 0 <= each < _NUMBER_END for each in place):
        raise InvalidField("page_token", "is none that an earlier page gave")
    return kind, place


def page(rows: Iterable[tuple[str, Place, ExportRow]], limit: int, bytes_max: int) -> ExportPage:
    """Return the first rows, given with their kinds and places: so many as fit, but at least one."""
    taken: list[ExportRow] = []
    size, more = 0, ""
    for kind, place, row in rows:
        size += len(json.dumps(row)) + 1
        if taken and (len(taken) >= limit or size > bytes_max):
            return ExportPage(tuple(taken), more)
        taken.append(row)
        more = f"{kind}:{json.dumps(place, separators=(',', ':'))}"
    return ExportPage(tuple(taken), "")


def kinds_from(kind: str) -> Iterator[str]:
    """Return a kind and those exported after it."""
    return dropwhile(lambda each: each != kind, KINDS)
