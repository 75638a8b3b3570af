"""Which offers may be shown, and by which rule each of the others was removed.

What holds: rules only remove; each removed offer has exactly one reason, the first rule in `RULES`
that removes it; the result depends on the context alone, so equal contexts share it. Nothing
removes an offer after the draw.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from tilbud.domain.campaign import Campaign, Offer
from tilbud.domain.context import Context
from tilbud.domain.errors import InvalidField
from tilbud.domain.predicates import Condition

RULES = (
    "include_offers",
    "exclude_offers",
    "channels",
    "devices",
    "journey_stages",
    "places",
    "languages",
    "countries",
    "valid",
    "hours",
    "when",
)


@dataclass(frozen=True, slots=True)
class Eligibility:
    """The offers left, as indexes in the campaign file's order, and why the others are not."""

    eligible: tuple[int, ...]
    removed: tuple[tuple[int, str], ...]


class Rules:
    """The rules of one campaign, compiled once."""

    def __init__(self, campaign: Campaign) -> None:
        self._offers = tuple(_OfferRules(offer, campaign.condition(offer)) for offer in campaign.offers)
        self._index = {offer.id: number for number, offer in enumerate(campaign.offers)}
        self._everything = Eligibility(tuple(range(len(self._offers))), ())
        self._free = not any(rules.restricts for rules in self._offers)

    def check(
        self, context: Context, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()
    ) -> Eligibility:
        """Return which offers may be shown in `context`.

        `include` (empty: all) and `exclude` narrow the catalogue for this call. Raises InvalidField
        where they name an offer the campaign does not have.
        """
        if self._free and not include and not exclude:
            return self._everything
        included = self._indexes("include_offers", include)
        excluded = self._indexes("exclude_offers", exclude)
        eligible: list[int] = []
        removed: list[tuple[int, str]] = []
        for number, rules in enumerate(self._offers):
            if include and number not in included:
                removed.append((number, "include_offers"))
            elif number in excluded:
                removed.append((number, "exclude_offers"))
            elif rule := rules.removed_by(context):
                removed.append((number, rule))
            else:
                eligible.append(number)
        return Eligibility(tuple(eligible), tuple(removed))

    def _indexes(self, field: str, ids: Iterable[str]) -> frozenset[int]:
        try:
            return frozenset([self._index[each] for each in ids])
        except KeyError as error:
            raise InvalidField(field, f"the campaign has no offer {error.args[0][:128]!r}") from None


class _OfferRules:
    """One offer's own rules."""

    def __init__(self, offer: Offer, condition: Condition | None) -> None:
        lists = (
            ("channels", "channel", offer.channels),
            ("devices", "device", offer.devices),
            ("journey_stages", "journey_stage", offer.journey_stages),
            ("places", "place", offer.places),
            ("languages", "language", _lower(offer.languages)),
            ("countries", "country", _upper(offer.countries)),
        )
        self._lists = tuple((rule, key, frozenset(words)) for rule, key, words in lists if words is not None)
        self._from: date | None = offer.valid.from_ if offer.valid else None
        self._until: date | None = offer.valid.until if offer.valid else None
        self._hours = offer.hours
        self._condition = condition
        self.restricts = bool(self._lists or offer.valid or self._hours or condition)

    def removed_by(self, context: Context) -> str:
        """Return the first rule that removes the offer, or "" where it may be shown."""
        for rule, key, words in self._lists:
            value = getattr(context, key)
            if value not in words and not (key == "language" and _in_range(value, words)):
                return rule
        day = context.campaign_day
        if (self._from and day < self._from) or (self._until and day > self._until):
            return "valid"
        if self._hours and not self._hours.contains(context.moment.minute_of_day):
            return "hours"
        if self._condition and not self._condition.holds(context):
            return "when"
        return ""


def _in_range(language: str, ranges: frozenset[str]) -> bool:
    """Say whether `da` covers `da-dk`, `zh-hant` covers `zh-hant-tw`: RFC 4647, 3.3.1."""
    return any(language.startswith(f"{each}-") for each in ranges)


def _lower(words: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return words and tuple(word.lower() for word in words)


def _upper(words: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return words and tuple(word.upper() for word in words)
