"""A campaign file as `simulate FILE` needs it: what visitors are invented from, and the file in a hurry.

What holds: a file that is not valid is told with its lines before anything starts. The copy says what the
file says, but for the times by which decisions settle.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from pathlib import Path

from tilbud.campaigns.source import CONTACT_FILE, CampaignFile, load_files
from tilbud.campaigns.strict_yaml import Tree
from tilbud.client.questions import Feature
from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.campaign.conditions import Comparison, Condition
from tilbud.domain.context import ContextValue
from tilbud.domain.errors import CampaignInvalid, Problem
from tilbud.domain.limits import Limits
from tilbud.domain.versions import Version
from tilbud.simulator.trial import Hurry
from tilbud.simulator.world import CampaignFacts, OutcomeFact

_NUMBERS = 12
"""Typical values of a number."""
_NUMBER_MAX = 100.0
"""The largest of them where no rule says what is typical."""
_ELSEWHERE = {"place": "elsewhere", "language": "eo", "country": "AQ"}
"""A word that no rule is likely to name."""


def loaded(file: Path) -> CampaignFile:
    """Return the campaign of a file; raises CampaignInvalid with all that is wrong with it."""
    if file.is_dir():
        raise CampaignInvalid((Problem(str(file), 0, "", "is a directory; name one campaign file of it"),))
    campaigns = load_files([file], Limits()).campaigns
    if not campaigns:
        raise CampaignInvalid((Problem(str(file), 0, "", "is no campaign; name a file with offers"),))
    return campaigns[0]


def facts_of(campaign: Campaign, today: date) -> CampaignFacts:
    """Return what visitors are invented from; they come from `today`, or when most offers are valid."""
    context, reward = campaign.context, campaign.reward
    asked = _asked(campaign)
    kinds = context.kinds()
    words = {
        "device": context.devices,
        "channel": context.channels,
        "journey_stage": context.journey_stages,
        **{name: _named(campaign, name, asked[name]) for name in _ELSEWHERE},
    }
    return CampaignFacts(
        campaign=campaign.campaign,
        offers=tuple(offer.id for offer in campaign.offers),
        outcomes=tuple(
            OutcomeFact(name, rule.weight, final=rule.final, shows=rule.shows)
            for name, rule in reward.outcomes.items()
        ),
        words={name: values for name, values in words.items() if values},
        features={name: _typical(name, kind, asked[name]) for name, kind in kinds.items()},
        ordered=frozenset(name for name, kind in kinds.items() if kind in ("number", "version")),
        default=reward.default,
        range=reward.range,
        takes_largest=reward.aggregate == "max",
        reads_time=bool({"part_of_day", "hour"} & set(context.time)),
        first_day=_first_day(campaign, today),
        time_zone=campaign.time_zone,
        events=context.events,
        sensitive_topics=tuple(
            sorted({offer.sensitive_topic for offer in campaign.offers if offer.sensitive_topic})
        ),
        deferred="activation_window_us" in reward.model_fields_set
        or any(rule.shows for rule in reward.outcomes.values()),
    )


def write_in_a_hurry(file: Path, directory: Path, hurry: Hurry) -> None:
    """Copy a campaign file, and the contact policy beside it, to a directory, with other times to settle."""
    written = Tree(str(file), "").read(file.read_bytes())
    assert isinstance(written, dict)
    written["reward"] |= {
        "window": f"{hurry.window_ms}ms",
        "activation_window": f"{4 * hurry.window_ms}ms",  # a machine that stalls must not lose a visit
        "grace": f"{hurry.grace_ms}ms",
    }
    # JSON is YAML in which no text is taken for anything else.
    text = json.dumps(written, ensure_ascii=False, indent=1, default=date.isoformat)
    (directory / "campaign.yaml").write_text(text, encoding="utf-8")
    contact = file.with_name(CONTACT_FILE)
    if contact.is_file():
        shutil.copyfile(contact, directory / CONTACT_FILE)


def _asked(campaign: Campaign) -> defaultdict[str, list[ContextValue]]:
    """Return what rules compare each feature with."""
    conditions = [*campaign.segment_conditions().values()]
    conditions += [condition for offer in campaign.offers if (condition := campaign.condition(offer))]
    asked: defaultdict[str, list[ContextValue]] = defaultdict(list)
    for comparison in _comparisons(conditions):
        operand = comparison.operand
        asked[comparison.feature] += operand if isinstance(operand, tuple) else [operand]
    return asked


def _comparisons(conditions: Iterable[Condition]) -> Iterator[Comparison]:
    for condition in conditions:
        yield from condition.comparisons
        yield from _comparisons((*condition.any_of, *condition.none_of))


def _named(campaign: Campaign, name: str, asked: Iterable[ContextValue]) -> tuple[str, ...]:
    """Return the places, languages or countries that the file names, and one that it does not."""
    key = {"place": "places", "language": "languages", "country": "countries"}[name]
    named = {str(value) for value in asked}
    for offer in campaign.offers:
        named |= set(getattr(offer, key) or ())
        named |= set(offer.payloads or ()) if name == "language" else set()
    return (*sorted(named), _ELSEWHERE[name]) if named else ()


def _typical(name: str, kind: str, asked: Iterable[ContextValue]) -> tuple[Feature, ...]:
    """Return a few values of a feature, on both sides of what rules compare it with."""
    if kind == "flag":
        return (False, True)
    if kind == "number":
        return _numbers([float(value) for value in asked if isinstance(value, float)])
    if kind == "version":
        return _versions([value for value in asked if isinstance(value, Version)])
    words = {str(value) for value in asked}
    return (*sorted(words), *(f"{name}-{number}" for number in range(1, 2 if words else 4)))


def _numbers(asked: list[float]) -> tuple[float, ...]:
    high = 2 * max(map(abs, asked), default=0.0) or _NUMBER_MAX
    low = -high if min(asked, default=0.0) < 0 else 0.0
    grid = [low + (high - low) * step / (_NUMBERS - 1) for step in range(_NUMBERS)]
    return tuple(sorted({*(float(f"{number:.3g}") for number in grid), *asked}))


def _versions(asked: list[Version]) -> tuple[str, ...]:
    if not asked:
        return ("1.0", "1.1", "2.0")
    newer = int(max(asked).major) + 1
    return ("0.1", *(str(version) for version in sorted(set(asked))), f"{newer}.0")


def _first_day(campaign: Campaign, today: date) -> date:
    """Return the day from today, or that an offer is valid from, on which most are; the soonest of them."""
    begins = {offer.valid.from_ for offer in campaign.offers if offer.valid and offer.valid.from_}
    days = sorted(begins | {today}, key=lambda day: (day < today, abs(day - today)))

    def valid(day: date) -> int:
        return sum(
            not offer.valid
            or (
                (offer.valid.from_ or day) <= day
                and day + timedelta(days=6) <= (offer.valid.until or date.max)
            )
            for offer in campaign.offers
        )

    return max(days, key=valid)
