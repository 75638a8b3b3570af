"""What is odd about a valid campaign: it will run, but perhaps not do what was meant.

What holds: each warning names the key, what will happen, and what to write instead. What may well be meant is
no warning. What cannot be served is an error, and `source.py`'s business.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import datetime

from langcodes import Language, tag_is_valid

from tilbud.campaigns.strict_yaml import KeyPath
from tilbud.domain.campaign.campaign import Campaign, Offer
from tilbud.domain.context import TIME_FEATURES, time_zone
from tilbud.domain.durations import duration_text
from tilbud.domain.language_tags import canonical
from tilbud.domain.limits import Limits
from tilbud.domain.numbers import exact_text

Warned = tuple[KeyPath, str]
_LIKE_AN_ID = re.compile(
    r"(^|_)(id|uuid|number|no|nr|sku|ean|isbn|phone|zip|zip_?code|post_?code|postal_code|hash)$",
    re.IGNORECASE,
)
_ALTERNATIVES = ("any_of", "none_of")


def campaign_warnings(campaign: Campaign, limits: Limits, now: datetime) -> Iterator[Warned]:
    """Yield the key and a sentence for all that is odd as of `now`."""
    yield from _rewards(campaign)
    for number, offer in enumerate(campaign.offers):
        yield from _offer(campaign, offer, ("offers", number), now)
    for name, written in campaign.segments.items():
        yield from _condition(written, ("segments", name))
    yield from _experiment(campaign)
    yield from _numbers(campaign)
    yield from _stickiness(campaign, limits)
    yield from _unsaid(campaign)


def _rewards(campaign: Campaign) -> Iterator[Warned]:
    """Yield weights that the range clips: the outcomes differ in the file and not in what is learned."""
    low, high = campaign.reward.range
    for name, rule in campaign.reward.outcomes.items():
        clipped = min(max(rule.weight, low), high)
        if clipped != rule.weight:
            wider = f"[{exact_text(min(low, rule.weight))}, {exact_text(max(high, rule.weight))}]"
            yield (
                ("reward", "outcomes", name),
                (
                    f"is worth {exact_text(rule.weight)}, but alone it counts as {exact_text(clipped)}, "
                    f"since `range` ends there; write `range: {wider}`, or another weight"
                ),
            )


def _offer(campaign: Campaign, offer: Offer, path: KeyPath, now: datetime) -> Iterator[Warned]:
    today = now.astimezone(time_zone(campaign.time_zone)).date()
    if offer.valid and offer.valid.until and offer.valid.until < today:
        yield (
            (*path, "valid", "until"),
            f"{offer.id} is over since {offer.valid.until}; remove the offer, or write a later day",
        )
    for country in offer.countries or ():
        if not _is_country(country):
            yield (*path, "countries"), _no_country(country)
    for language in offer.languages or ():
        if not _is_language(language):
            yield (*path, "languages"), _no_language(language)
    yield from _condition(offer.when or {}, (*path, "when"))


def _condition(written: Mapping[str, object], path: KeyPath) -> Iterator[Warned]:
    """Yield comparisons that nothing can meet."""
    for name, asked in written.items():
        here = (*path, name)
        if name in _ALTERNATIVES and isinstance(asked, list | tuple):
            for number, below in enumerate(asked):
                if isinstance(below, Mapping):
                    yield from _condition(below, (*here, number))
        elif isinstance(asked, Mapping):
            yield from _comparison(name, asked, here)


def _comparison(name: str, asked: Mapping[str, object], path: KeyPath) -> Iterator[Warned]:
    wanted = [word for word in (asked.get("eq"), *_items(asked.get("in"))) if isinstance(word, str)]
    if name == "country":
        yield from ((path, _no_country(word)) for word in wanted if not _is_country(word))
    if name == "language":
        yield from ((path, _no_language(word)) for word in wanted if not _is_language(word))
    least, least_taken = max(((_number(asked.get(key), -math.inf)), key == "gt") for key in ("gt", "ge"))
    most, most_left = min(((_number(asked.get(key), math.inf)), key != "lt") for key in ("lt", "le"))
    if least > most or (least == most and (least_taken or not most_left)):
        yield path, f"no {name} meets all of it, so nobody ever does; turn the two bounds around"


def _items(written: object) -> tuple[object, ...]:
    return tuple(written) if isinstance(written, list | tuple) else ()


def _number(written: object, otherwise: float) -> float:
    return float(written) if isinstance(written, int | float) and not isinstance(written, bool) else otherwise


def _is_country(word: str) -> bool:
    return len(word) == 2 and Language.make(territory=word.upper()).is_valid()  # noqa: PLR2004 - ISO 3166-1 alpha-2


def _no_country(word: str) -> str:
    return (
        f"{word!r} is no country of ISO 3166, so only who calls it so is meant; write two letters, such as DK"
    )


def _is_language(word: str) -> bool:
    return tag_is_valid(canonical(word) or word)


def _no_language(word: str) -> str:
    return f"{word!r} is no language of BCP 47, so nobody reads it; write a tag such as da or en-GB"


def _experiment(campaign: Campaign) -> Iterator[Warned]:
    control = campaign.variants.control
    if control is None and campaign.exploration.preset == "uniform":
        return  # a plain test between the offers: nothing personal to compare with
    if control is None or control.share == 0:
        yield (
            ("variants", "control"),
            (
                "there is no control group, so nothing says what the bandit is worth; "
                "write `variants: {control: {share: 0.05, serves: uniform}}`"
            ),
        )
    elif control.share == 1:
        yield ("variants", "control", "share"), "everybody is in the control group; write a smaller share"


def _numbers(campaign: Campaign) -> Iterator[Warned]:
    """Yield numbers that are names: whose size says nothing."""
    for section, kinds in (
        ("features", campaign.context.features),
        ("traits", {name: rule.kind for name, rule in campaign.context.traits.items()}),
    ):
        for name, kind in kinds.items():
            if kind == "number" and _LIKE_AN_ID.search(name):
                yield (
                    ("context", section, name),
                    (
                        "looks like an id, and a number is learned by its size; write `category` where it "
                        "stands for a group of customers, else leave it out"
                    ),
                )


def _stickiness(campaign: Campaign, limits: Limits) -> Iterator[Warned]:
    kept_us = int(limits.retention_s * 1e6)
    if campaign.sticky_us and campaign.sticky_us > kept_us:
        retention = duration_text(kept_us)
        yield (
            ("sticky",),
            (
                f"decisions are kept {retention} unless `serve --retention-days` says more, and what is gone "
                f"is not shown again; write `sticky: {retention}` or less, or keep them longer"
            ),
        )


def _unsaid(campaign: Campaign) -> Iterator[Warned]:
    """Yield phrases that never appear: of what the model does not read of the time."""
    for language, texts in campaign.explanations.items():
        for name in TIME_FEATURES:
            if name in texts.factors and name not in campaign.context.time:
                read = ", ".join(campaign.context.time) or "nothing"
                yield (
                    ("explanations", language, "factors", name),
                    (
                        f"is never said, since the model reads {read} of the time; write a phrase for that, "
                        f"or add {name} to context.time"
                    ),
                )
