"""What a ledger knows of one customer, read as decisions read it: by one look-up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.builders import CAMPAIGN

from tilbud.domain.customer.customer import CustomerKey, Happened
from tilbud.domain.decision.facts import LookUp, Scopes
from tilbud.domain.decision.records import Decision
from tilbud.domain.limits import Limits
from tilbud.ledger.answers import ExportPage
from tilbud.ledger.ports import Decisions, Ledger

LIMITS = Limits()


def scopes_of(names: Sequence[str]) -> Scopes:
    """Return these scopes, with a range for each of them alone."""
    once = tuple(dict.fromkeys(names))
    return Scopes(once, tuple((name, f"{name}\0") for name in once))


async def happened(ledger: Decisions, key: CustomerKey, campaign: str = CAMPAIGN) -> Happened:
    """Return when each event last happened, and each outcome of an offer of the campaign."""
    [facts] = await ledger.look_up([LookUp(campaign, keys=(key,), history=True)])
    return facts.happened


async def exposures(
    ledger: Decisions, key: CustomerKey, scopes: Sequence[tuple[str, int]], limits: Limits = LIMITS
) -> list[int]:
    """Return how often a customer was exposed under each (scope, since), counted as far as caps go."""
    asked = scopes_of([scope for scope, _ in scopes])
    [facts] = await ledger.look_up([LookUp(CAMPAIGN, keys=(key,), scopes=asked)])
    return [min(count, limits.cap_times_max) for count in counts(facts.exposures, scopes)]


def counts(exposures: Mapping[str, Sequence[int]], scopes: Sequence[tuple[str, int]]) -> list[int]:
    """Return how many of these times are later than each (scope, since)."""
    return [sum(time_us > since_us for time_us in exposures.get(scope, ())) for scope, since_us in scopes]


async def last_sticky(
    ledger: Decisions, key: CustomerKey, campaign: str = CAMPAIGN, *, pending: bool = True
) -> Decision | None:
    """Return the customer's last decision in the campaign that may be served again."""
    [facts] = await ledger.look_up([LookUp(campaign, keys=(key,), sticky=True, pending=pending)])
    return facts.sticky


async def drawn(ledger: Ledger, campaign: str = CAMPAIGN, lineage: str = "c0ffee") -> list[Decision]:
    """Return the decisions that the bandit drew, in the order of recording."""
    async with ledger.reader() as reader:
        return [decision async for page in reader.drawn(campaign, lineage) for decision in page]


async def export(ledger: Ledger, key: CustomerKey, after: str, limit: int, bytes_max: int) -> ExportPage:
    """Return a page of all that is stored of a customer."""
    async with ledger.reader() as reader:
        return await reader.export(key, after, limit, bytes_max)
