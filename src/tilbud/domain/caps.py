"""How often is enough: caps of an offer, of a group of offers, and of a channel in every campaign.

What holds: an offer that met a customer as often as one of its caps allows, within that cap's time, is
removed, and no other. Exposures count that are strictly later than now − `per`. The counts are an argument:
the ledger keeps them, under the scopes that `domain/customers.py` names. `lookups` and `apply` see the same
`now_us`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tilbud.domain.campaign import Campaign
from tilbud.domain.contact import ContactPolicy
from tilbud.domain.context import OTHER, UNKNOWN
from tilbud.domain.customers import channel_scope, group_scope, offer_scope
from tilbud.domain.eligibility import CAPS, CONTACT_POLICY, GROUP_CAPS, Eligibility
from tilbud.domain.fields import Cap


@dataclass(frozen=True, slots=True)
class Lookup:
    """What to count: exposures under `scope` later than `since_us` (wall clock, µs, exclusive)."""

    scope: str
    since_us: int


@dataclass(frozen=True, slots=True)
class _Limit:
    """One cap, and what it counts."""

    scope: str
    per_us: int
    times: int


class Caps:
    """The caps that hold in one campaign under a contact policy, compiled once."""

    def __init__(self, campaign: Campaign, policy: ContactPolicy) -> None:
        name = campaign.campaign
        self._channels = frozenset({*campaign.context.channels, *policy.channels, OTHER, UNKNOWN})
        self._of_channel: Mapping[str, tuple[_Limit, ...]] = {
            channel: _limits(channel_scope(channel), rule.caps) for channel, rule in policy.channels.items()
        }
        self._of_group: Mapping[str, tuple[_Limit, ...]] = {
            group: _limits(group_scope(name, group), each.caps) for group, each in campaign.groups.items()
        }
        self._groups = tuple(offer.group or "" for offer in campaign.offers)
        self._of_offer = tuple(_limits(offer_scope(name, offer.id), offer.caps) for offer in campaign.offers)
        self._scopes = tuple(
            (offer_scope(name, offer.id), *((group_scope(name, offer.group),) if offer.group else ()))
            for offer in campaign.offers
        )
        self._free = not any(self._of_group.values()) and not any(self._of_offer)

    def lookups(self, eligibility: Eligibility, channel: str, now_us: int) -> tuple[Lookup, ...]:
        """Return what must be counted to judge the offers still eligible, each once; () where nothing caps.

        `channel` is the context's, or better the call's own word: a contact policy may name channels that
        the campaign does not declare.
        """
        of_channel = self._of_channel.get(self._channel(channel), ())
        if (self._free and not of_channel) or not eligibility.eligible:
            return ()
        limits = [*of_channel]
        for index in eligibility.eligible:
            limits += self._of_group.get(self._groups[index], ())
            limits += self._of_offer[index]
        return tuple(
            {(each.scope, each.per_us): Lookup(each.scope, now_us - each.per_us) for each in limits}.values()
        )

    def apply(
        self,
        eligibility: Eligibility,
        lookups: Sequence[Lookup],
        counts: Sequence[int],
        channel: str,
        now_us: int,
    ) -> Eligibility:
        """Return the eligibility without the offers that are at a cap; `counts[i]` is of `lookups[i]`.

        The lookups are those of this eligibility, channel and time.
        """
        if not lookups:
            return eligibility
        counted = {
            (each.scope, now_us - each.since_us): count for each, count in zip(lookups, counts, strict=True)
        }

        def reached(limits: Iterable[_Limit]) -> bool:
            return any(counted[each.scope, each.per_us] >= each.times for each in limits)

        channel_reached = reached(self._of_channel.get(self._channel(channel), ()))
        groups_reached = {
            group: reached(self._of_group.get(group, ()))
            for group in {self._groups[index] for index in eligibility.eligible}
        }
        removed: list[tuple[int, str]] = []
        for index in eligibility.eligible:
            if channel_reached:
                removed.append((index, CONTACT_POLICY))
            elif groups_reached[self._groups[index]]:
                removed.append((index, GROUP_CAPS))
            elif reached(self._of_offer[index]):
                removed.append((index, CAPS))
        return eligibility.without(removed)

    def scopes(self, index: int, channel: str) -> tuple[str, ...]:
        """Return what an exposure of the offer at `index` counts under, capped today or not."""
        return (*self._scopes[index], channel_scope(self._channel(channel)))

    def _channel(self, said: str) -> str:
        """Return a channel that is declared somewhere: what callers make up must not become a scope."""
        return said if said in self._channels else OTHER if said else UNKNOWN


def _limits(scope: str, caps: Iterable[Cap]) -> tuple[_Limit, ...]:
    return tuple(_Limit(scope, cap.per_us, cap.times) for cap in caps)
