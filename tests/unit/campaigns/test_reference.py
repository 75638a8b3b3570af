"""docs/campaigns.md is what the JSON Schemas and the samples make it, and every key stands in a sample."""

from __future__ import annotations

import re

import pytest
from tests.unit.test_house import ROOT

from campaign_reference import CAMPAIGNS, CONTACTS, SAMPLES, page, read, uses
from tilbud.campaigns.schema import campaign_schema, contact_schema
from tilbud.campaigns.source import parse_campaign

PAGE = (ROOT / "docs" / "campaigns.md").read_text(encoding="utf-8")


def test_the_page_is_current():
    """Below its introduction it is what is generated; if not, `make reference` mends it."""
    assert page(PAGE) == PAGE


def test_no_link_of_the_page_leads_nowhere():
    """Headings differ, and each link within the page has one."""
    headings = [line.strip("# ") for line in PAGE.splitlines() if line.startswith("#")]
    anchors = [heading.lower().replace(" ", "-").replace(".", "") for heading in headings]
    assert len(set(anchors)) == len(anchors)
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= set(anchors)


def test_what_the_page_shows_is_a_campaign():
    """What it begins with is a whole file, all else by default, and its conditions fit into that."""
    whole, conditions = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert len(whole.splitlines()) == 6
    for text in (whole, whole + conditions):
        offers = parse_campaign(text.encode(), "hello.yaml").offers
        assert [offer.id for offer in offers] == ["free-shipping", "ten-percent-off"]


@pytest.mark.parametrize(
    ("schema", "samples"),
    [(campaign_schema(), CAMPAIGNS), (contact_schema(), CONTACTS)],
    ids=["campaign", "contact"],
)
def test_every_key_stands_in_a_sample(schema, samples):
    """Who wonders how a key is written finds it in a file that works."""
    sections = {"": schema, **schema["$defs"]}
    keys = {(section, name) for section, part in sections.items() for name in part["properties"]}
    used = {key for name in samples for key, _ in uses(schema, schema, read(SAMPLES / f"{name}.yaml"))}
    assert sorted(keys - used) == []


def test_every_sample_is_looked_at():
    """A sample that is added has its place among those that examples are taken from."""
    assert {file.stem for file in SAMPLES.glob("*.yaml")} == {*CAMPAIGNS, *CONTACTS}
