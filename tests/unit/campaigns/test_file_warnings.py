"""What `tilbud check` warns of: valid, but perhaps not what was meant."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.unit.campaigns.test_source import DESIGN, SMALL, parse

from tilbud.campaigns.file_warnings import campaign_warnings
from tilbud.campaigns.source import load_campaigns, placed
from tilbud.domain.limits import Limits
from tilbud.runtime.settings import SAMPLES

NOW = datetime(2026, 12, 24, 23, 30, tzinfo=UTC)
CONTROLLED = f"{SMALL}variants: {{control: {{share: 0.1}}}}\n"


def warned(text: str, now: datetime = NOW) -> dict[str, str]:
    """What is said of a campaign, by key."""
    found = campaign_warnings(parse(text), Limits(), now)
    return {".".join(map(str, path)): said for path, said in found}


def with_offer(rules: str) -> str:
    """The campaign with rules of its first offer."""
    return CONTROLLED.replace("- id: a", f"- {{id: a, {rules}}}", 1)


def test_a_plain_campaign_is_warned_of_nothing() -> None:
    """Nor are the samples, but for the one that has no control group, and says why."""
    assert warned(CONTROLLED) == {}
    told = {
        file.campaign.campaign: [path for path, _ in campaign_warnings(file.campaign, Limits(), NOW)]
        for file in load_campaigns([SAMPLES], Limits())
    }
    assert told == {"hillstrom": [("variants", "control")], "homepage-hero": [], "newsletter": [], "shop": []}


def test_a_weight_that_the_range_clips_is_warned_of() -> None:
    """It says as what it counts, and which range would hold it."""
    text = CONTROLLED.replace("{click: 1}", "{click: 0.5, purchase: 20, leave: -2}")
    assert warned(text) == {
        "reward.outcomes.purchase": "is worth 20, but alone it counts as 1, since `range` ends there; "
        "write `range: [0, 20]`, or another weight",
        "reward.outcomes.leave": "is worth -2, but alone it counts as 0, since `range` ends there; "
        "write `range: [-2, 1]`, or another weight",
    }


def test_an_offer_that_is_over_is_warned_of_by_the_campaigns_own_day() -> None:
    """On its last day it is not over; where the campaign's clock is past midnight already it is."""
    text = with_offer("valid: {until: 2026-12-24}")
    assert warned(text) == {}
    east = f"{text}time_zone: Europe/Copenhagen\n"
    assert warned(east) == {
        "offers.0.valid.until": "a is over since 2026-12-24; remove the offer, or write a later day"
    }


@pytest.mark.parametrize(
    ("rules", "key", "said"),
    [
        ("countries: [DK, Denmark]", "offers.0.countries", "'Denmark' is no country of ISO 3166"),
        ("countries: [uk]", "offers.0.countries", "'uk' is no country"),
        ("languages: [da, danish]", "offers.0.languages", "'danish' is no language of BCP 47"),
        ("when: {country: {in: [Norge]}}", "offers.0.when.country", "'Norge' is no country"),
        ("when: {none_of: [{language: {eq: danish}}]}", "offers.0.when.none_of.0.language", "'danish'"),
        ("when: {price: {gt: 50, lt: 30}}", "offers.0.when.price", "no price meets all of it"),
        ("when: {price: {gt: 5, le: 5}}", "offers.0.when.price", "no price meets all of it"),
    ],
)
def test_what_nobody_can_meet_is_warned_of(rules: str, key: str, said: str) -> None:
    """Words of no list, and bounds that leave nothing between them."""
    text = with_offer(rules).replace("offers:", "context: {features: {price: number}}\noffers:", 1)
    found = warned(text)
    assert list(found) == [key]
    assert said in found[key]


@pytest.mark.parametrize(
    "rules",
    [
        "countries: [dk, GB, gl]",
        "languages: [da_DK, zh-Hant, iw, no]",
        "when: {price: {ge: 5, le: 5}}",
        "when: {price: {gt: 5, lt: 6}}",
        "valid: {from: 2027-01-01}",
    ],
)
def test_what_somebody_can_meet_is_not(rules: str) -> None:
    """Codes in any case, tags as devices write them, and bounds with something between them."""
    assert (
        warned(with_offer(rules).replace("offers:", "context: {features: {price: number}}\noffers:", 1)) == {}
    )


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        ("{}", "there is no control group"),
        ("{control: {share: 0}}", "there is no control group"),
        ("{control: {share: 1}}", "everybody is in the control group"),
    ],
)
def test_an_experiment_with_one_side_is_warned_of(variants: str, said: str) -> None:
    """Without a yardstick nothing says what the bandit is worth, nor with nothing else."""
    [told] = warned(f"{SMALL}variants: {variants}\n").values()
    assert told.startswith(said)


def test_a_plain_test_between_offers_needs_no_control_group() -> None:
    """Where every offer is shown as often, there is no bandit to judge."""
    assert warned(f"{SMALL}exploration: {{preset: uniform}}\n") == {}


@pytest.mark.parametrize(
    ("name", "kind", "odd"),
    [
        ("customer_id", "number", True),
        ("zip_code", "number", True),
        ("order_number", "number", True),
        ("zip_code", "category", False),
        ("number_of_visits", "number", False),
        ("paid", "number", False),
    ],
)
def test_a_number_that_is_a_name_is_warned_of(name: str, kind: str, odd: bool) -> None:
    """By what it is called: an id's size says nothing."""
    text = CONTROLLED.replace("offers:", f"context: {{features: {{{name}: {kind}}}}}\noffers:", 1)
    assert list(warned(text)) == ([f"context.features.{name}"] if odd else [])


def test_warnings_have_the_line_of_their_key(tmp_path: Path) -> None:
    """As problems have: file, line, key."""
    file = tmp_path / "one.yaml"
    file.write_text(SMALL)
    [problem] = placed(str(file), campaign_warnings(parse(SMALL), Limits(), NOW), Limits())
    assert str(problem).startswith(f"{file}:1: variants.control: there is no control group")


def test_a_sticky_longer_than_decisions_are_kept_is_warned_of() -> None:
    """What is gone from the ledger is not shown again, so it is said how long that is, and the remedy."""
    longer = parse(DESIGN.replace("sticky: 24h", "sticky: 91d"))
    by_key = dict(campaign_warnings(longer, Limits(retention_s=90 * 86_400.0), NOW))
    assert by_key["sticky",].startswith("decisions are kept 90d unless `serve --retention-days` says more")
    for campaign, days in ((longer, 91), (parse(DESIGN), 90)):
        kept = Limits(retention_s=days * 86_400.0)
        assert ("sticky",) not in dict(campaign_warnings(campaign, kept, NOW))


def test_a_phrase_that_is_never_said_is_warned_of() -> None:
    """Where a model does not read the hour, a phrase for it can be no reason; where it does, one can."""
    phrased = DESIGN.replace("factors: {", "factors: {hour: the hour, ", 1)
    assert warned(phrased)["explanations.en.factors.hour"] == (
        "is never said, since the model reads part_of_day, weekend of the time; write a phrase for that, or "
        "add hour to context.time"
    )
    read = phrased.replace("context:\n", "context:\n  time: [hour]\n", 1)
    for text in (DESIGN, read):
        assert "explanations.en.factors.hour" not in warned(text)
