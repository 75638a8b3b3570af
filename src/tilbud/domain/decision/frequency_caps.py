"""How often is enough: caps of an offer, of a group of offers, and of a channel in every campaign.

What holds: an offer that a customer saw as often as one of its caps allows, within that cap's time, is
removed, and no other. Exposures count that are strictly later than now − `per`. When they were is an
argument: the ledger keeps it, under the scopes that `domain/customer/` names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.campaign.contact_policy import ContactPolicy
from tilbud.domain.campaign.fields import Cap
from tilbud.domain.context import OTHER, UNKNOWN
from tilbud.domain.customer.customer import channel_scope, group_scope, offer_scope
from tilbud.domain.decision.eligibility import CAPS, CONTACT_POLICY, GROUP_CAPS, Eligibility
from tilbud.domain.decision.facts import NO_SCOPES, Scopes
from tilbud.domain.limits import Limits

_BEHIND = ";"  # the character that comes after the colon at the end of a scope's beginning


@dataclass(frozen=True, slots=True)
class _Limit:
    """One cap, and what it counts."""

    scope: str
    per_us: int
    times: int


class _CompiledCap(NamedTuple):
    """One cap of some eligible offers, and which of them it removes."""

    scope: str
    per_us: int
    times: int
    rule: str
    offers: tuple[int, ...]


class Caps:
    """The caps that hold in one campaign under a contact policy, compiled once."""

    def __init__(self, campaign: Campaign, policy: ContactPolicy) -> None:
        self._campaign = name = campaign.campaign
        self._channels = frozenset({*campaign.context.channels, *policy.channels, OTHER, UNKNOWN})
        self._of_channel: Mapping[str, tuple[_Limit, ...]] = {
            channel: _limits(channel_scope(channel), rule.caps) for channel, rule in policy.channels.items()
        }
        self._of_group: Mapping[str, tuple[_Limit, ...]] = {
            group: _limits(group_scope(name, group), section.caps)
            for group, section in campaign.groups.items()
        }
        self._groups = tuple(offer.group or "" for offer in campaign.offers)
        self._of_offer = tuple(_limits(offer_scope(name, offer.id), offer.caps) for offer in campaign.offers)
        self._scopes = tuple(
            (offer_scope(name, offer.id), *((group_scope(name, offer.group),) if offer.group else ()))
            for offer in campaign.offers
        )
        self._free = not any(self._of_group.values()) and not any(self._of_offer)
        self._compiled: dict[tuple[tuple[int, ...], str], tuple[_CompiledCap, ...]] = {}
        self._counted: dict[str, Scopes] = {}  # by channel, of which few are declared

    def counted(self, channel: str) -> Scopes:
        """Return every scope under which something counts in a channel; NO_SCOPES where nothing does."""
        channel = self._channel(channel)
        counted = self._counted.get(channel)
        if counted is None:
            counted = self._counted[channel] = self._scopes_of(channel)
        return counted

    def _scopes_of(self, channel: str) -> Scopes:
        of_channel = self._of_channel.get(channel, ())
        of_groups = [limit for limits in self._of_group.values() for limit in limits]
        of_offers = [limit for limits in self._of_offer for limit in limits]
        ranges = [(limit.scope, f"{limit.scope}\0") for limit in of_channel[:1]]
        for limits, scope in ((of_groups, group_scope), (of_offers, offer_scope)):
            if limits:
                below = scope(self._campaign, "")
                ranges.append((below, below[:-1] + _BEHIND))
        limits_there = (*of_channel, *of_groups, *of_offers)
        if not limits_there:
            return NO_SCOPES
        names = dict.fromkeys(limit.scope for limit in limits_there)
        return Scopes(tuple(names), tuple(ranges), max(limit.per_us for limit in limits_there))

    def without_capped(
        self, eligibility: Eligibility, exposures: Mapping[str, Sequence[int]], channel: str, now_us: int
    ) -> Eligibility:
        """Return the eligibility without the offers that are at a cap.

        `exposures` are times by scope, at least the newest that caps can count. `channel` is the context's,
        or better the call's own word: a contact policy may name channels that the campaign does not declare.
        """
        channel = self._channel(channel)
        if not exposures or (self._free and channel not in self._of_channel):
            return eligibility
        removed: dict[int, str] = {}
        for cap in self._of(eligibility.eligible, channel):
            times_us = exposures.get(cap.scope)
            if times_us is not None and _reached(times_us, now_us - cap.per_us, cap.times):
                for index in cap.offers:
                    removed.setdefault(index, cap.rule)
        return eligibility.without(sorted(removed.items())) if removed else eligibility

    def channel_scopes(self, channel: str) -> tuple[str, ...]:
        """Return what meeting a customer once more in a channel counts under; () where nothing caps it."""
        return tuple({limit.scope for limit in self._of_channel.get(self._channel(channel), ())})

    def channel_is_full(self, exposures: Mapping[str, Sequence[int]], channel: str, now_us: int) -> bool:
        """Say whether the channel is at one of its caps."""
        return any(
            _reached(exposures.get(limit.scope, ()), now_us - limit.per_us, limit.times)
            for limit in self._of_channel.get(self._channel(channel), ())
        )

    def _of(self, eligible: tuple[int, ...], channel: str) -> tuple[_CompiledCap, ...]:
        """Return the caps of these offers in a channel; the same object for the same offers."""
        compiled = self._compiled.get((eligible, channel))
        if compiled is None:
            if len(self._compiled) >= Limits.frequency_caps_cached_max:
                self._compiled.clear()
            compiled = self._compiled[eligible, channel] = self._compile(eligible, channel)
        return compiled

    def _compile(self, eligible: tuple[int, ...], channel: str) -> tuple[_CompiledCap, ...]:
        """Bring the caps in the order in which they give the reason: channel, group, offer."""
        groups: dict[str, list[int]] = {}
        for index in eligible:
            groups.setdefault(self._groups[index], []).append(index)
        capped = [(limit, CONTACT_POLICY, eligible) for limit in self._of_channel.get(channel, ())]
        for group, members in groups.items():
            capped += [(limit, GROUP_CAPS, tuple(members)) for limit in self._of_group.get(group, ())]
        for index in eligible:
            capped += [(limit, CAPS, (index,)) for limit in self._of_offer[index]]
        return tuple(
            _CompiledCap(limit.scope, limit.per_us, limit.times, rule, offers)
            for limit, rule, offers in capped
        )

    def scopes(self, index: int, channel: str) -> tuple[str, ...]:
        """Return what an exposure of the offer at `index` counts under, capped today or not."""
        return (*self._scopes[index], channel_scope(self._channel(channel)))

    def _channel(self, name: str) -> str:
        """Return a channel that is declared somewhere: what callers make up must not become a scope."""
        return name if name in self._channels else OTHER if name else UNKNOWN


def _reached(times_us: Sequence[int], since_us: int, times: int) -> bool:
    """Say whether so many exposures were strictly later than `since_us`."""
    return len(times_us) >= times and sum([time_us > since_us for time_us in times_us]) >= times


def _limits(scope: str, caps: Iterable[Cap]) -> tuple[_Limit, ...]:
    return tuple(_Limit(scope, cap.per_us, cap.times) for cap in caps)
