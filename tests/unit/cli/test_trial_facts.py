"""What `simulate FILE` reads of a campaign file."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tilbud.campaigns.source import parse_campaign
from tilbud.cli.trial_facts import facts_of, loaded, write_in_a_hurry
from tilbud.domain.errors import CampaignInvalid
from tilbud.runtime.settings import SAMPLES
from tilbud.simulator.trial import Hurry
from tilbud.simulator.world import CampaignFacts

TODAY = date(2026, 6, 1)
TEXT = """
campaign: any
context:
  features: {age: number, app: version, tier: category, vip: flag, spent: number}
offers:
  - {id: a, places: [Oslo], when: {age: {gt: 18}, app: {ge: "10.2"}}}
  - {id: b, countries: ["NO"], when: {any_of: [{tier: {in: [gold, "1e3"]}}, {spent: {lt: -5}}]}}
  - {id: c, valid: {from: 2027-01-01}}
reward:
  window: 14d
  outcomes: {click: 1}
consent: required
"""


def facts(text: str = TEXT) -> CampaignFacts:
    """What is read of this text."""
    return facts_of(parse_campaign(text.encode(), "any.yaml"), TODAY)


def test_values_lie_on_both_sides_of_what_rules_ask():
    """Numbers, versions, words, places and countries: some that a rule takes, some that it does not."""
    features, words = facts().features, facts().words
    ages, spent = ([float(value) for value in features[name]] for name in ("age", "spent"))
    assert min(ages) == 0
    assert max(ages) > 18
    assert min(spent) < -5 < max(spent)
    assert {"gold", "1e3"} < set(features["tier"])
    assert features["app"] == ("0.1", "10.2.0", "11.0")
    assert features["vip"] == (False, True)
    assert words["place"] == ("Oslo", "elsewhere")
    assert {"NO"} < set(words["country"])
    assert "language" not in words


def test_visitors_come_when_most_offers_are_valid():
    """Today, unless more offers are valid from a later day on."""
    assert facts().first_day == date(2027, 1, 1)
    assert facts(TEXT.replace("{from: 2027-01-01}", "{until: 2026-12-31}")).first_day == TODAY


def test_decisions_are_deferred_where_the_file_speaks_of_activation():
    """By a window for it, or an outcome that shows; else they are not."""
    assert not facts().deferred
    assert facts(TEXT.replace("window: 14d", "activation_window: 1d")).deferred
    assert facts(TEXT.replace("click: 1", "click: {weight: 1, shows: true}")).deferred


@pytest.mark.parametrize("file", sorted(SAMPLES.glob("*[!t].yaml")), ids=lambda file: file.stem)
def test_a_copy_says_the_same_but_for_its_times(file: Path, tmp_path: Path):
    """A sample and its hurried copy are one campaign, but for the windows; texts stay texts."""
    write_in_a_hurry(file, tmp_path, Hurry(window_ms=500, grace_ms=250))
    copy, original = loaded(tmp_path / "campaign.yaml").campaign, loaded(file).campaign
    assert (copy.reward.window_us, copy.reward.grace_us) == (500_000, 250_000)
    same = original.reward.model_copy(
        update={"window_us": 500_000, "activation_window_us": 2_000_000, "grace_us": 250_000}
    )
    assert copy == original.model_copy(update={"reward": same})
    assert (tmp_path / "contact.yaml").read_bytes() == (SAMPLES / "contact.yaml").read_bytes()


def test_what_looks_like_a_number_stays_text(tmp_path: Path):
    """A word such as "1e3", a country NO and a version in quotes come through the copy."""
    file = tmp_path / "any.yaml"
    file.write_text(TEXT)
    (tmp_path / "copy").mkdir()
    write_in_a_hurry(file, tmp_path / "copy", Hurry(window_ms=500, grace_ms=500))
    assert loaded(tmp_path / "copy" / "campaign.yaml").campaign.offers == loaded(file).campaign.offers


@pytest.mark.parametrize(
    ("name", "problem"), [("contact.yaml", "is no campaign"), ("", "is a directory"), ("x", "no such file")]
)
def test_what_is_no_campaign_file_is_told(name: str, problem: str):
    """A contact policy, a directory or nothing at all: a sentence that names it."""
    with pytest.raises(CampaignInvalid) as refused:
        loaded(SAMPLES / name)
    assert problem in str(refused.value.problems[0])
