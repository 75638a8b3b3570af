"""Campaign files load, or say everything that is wrong with them, where, and how to mend it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from time import process_time
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import tilbud
from tilbud.campaigns.source import (
    CONTACT_FILE,
    load_campaign,
    load_campaigns,
    load_files,
    load_good,
    parse_campaign,
    parse_contact,
)
from tilbud.campaigns.strict_yaml import Tree
from tilbud.domain.campaign.campaign import Campaign
from tilbud.domain.campaign.contact_policy import NO_CONTACT_POLICY, ContactPolicy
from tilbud.domain.campaign.offer import Validity
from tilbud.domain.durations import Hours
from tilbud.domain.errors import CampaignInvalid, Problem
from tilbud.domain.limits import Limits

LIMITS = Limits()
SAMPLE_FOLDER = Path(tilbud.__file__).parent / "samples"
SAMPLES = sorted(file for file in SAMPLE_FOLDER.glob("*.yaml") if file.name != CONTACT_FILE)
SMALL = """\
campaign: small
offers:
  - id: a
  - id: b
reward:
  outcomes: {click: 1}
consent: not_required
"""
DESIGN = """\
campaign: homepage-hero
time_zone: Europe/Copenhagen
fallback_language: en
sticky: 24h
context:
  devices: [mobile, desktop, tablet]
  channels: [web, app, email, push, call_center]
  journey_stages: [awareness, consideration, purchase, retention, advocacy]
  features: {basket_value: number, returning: flag}
  traits: {loyalty_tier: category, lifetime_value: {kind: number, max_age: 30d}}
  max_age: 180d
  events: [add_to_cart, purchase, support_case]
journey: {purchase: retention, add_to_cart: purchase}
segments: {big_spender: {lifetime_value: {gt: 500}}}
groups: {discounts: {caps: [{times: 2, per: 7d}]}}
offers:
  - id: free-shipping
    payload: {title: Free shipping this week}
    features: {category: shipping, margin: 2.5}
    channels: [web, app]
    when: {basket_value: {gt: 30}}
    valid: {from: 2026-11-01, until: 2026-12-24}
    hours: "08:00-21:00"
    group: discounts
    topics: [fashion]
    sensitive_topic: family
    caps: [{times: 3, per: 7d}]
    requires: {add_to_cart: 2h}
    suppress_after: {purchase: 30d, dismiss: 14d}
fallback: {id: welcome, payloads: {en: {title: Welcome back}, da: {title: Velkommen tilbage}}}
explanations:
  en:
    sentence: "You see this because of {factors}."
    otherwise: "You see this because we are trying out what people like."
    and: " and "
    factors: {device: the device you use, last_event: what you did last, big_spender: what you bought}
reward:
  window: 30m
  activation_window: 1h
  grace: 10s
  default: 0
  aggregate: sum
  range: [-1, 1]
  outcomes: {click: 0.1, purchase: {weight: 1.0, final: true}, dismiss: {weight: -0.2, final: true}}
  learn: at_deadline
exploration: {preset: balanced, discovery: 0.02}
variants: {control: {share: 0.05, serves: uniform}}
consent: required
"""


def parse(text: str | bytes) -> Campaign:
    """Read a campaign."""
    return parse_campaign(text.encode() if isinstance(text, str) else text, "c.yaml")


def refused(text: str | bytes) -> tuple[Problem, ...]:
    """Return what is wrong with a campaign."""
    with pytest.raises(CampaignInvalid) as error:
        parse(text)
    assert error.value.problems
    return error.value.problems


def small(**lines: str) -> str:
    """Return the small campaign with an offer's lines, a reward's, or more at the end."""
    text = SMALL
    if "offer" in lines:
        text = text.replace("  - id: a\n", f"  - id: a\n    {lines['offer']}\n")
    if "reward" in lines:
        text = text.replace("reward:\n", f"reward:\n  {lines['reward']}\n")
    return text + (f"{lines['more']}\n" if "more" in lines else "")


def test_the_designs_example_loads():
    """The example of the design, with all that looks at the customer, says what it says."""
    campaign = parse(DESIGN)
    [offer] = campaign.offers
    assert (campaign.campaign, campaign.time_zone, campaign.consent) == (
        "homepage-hero", "Europe/Copenhagen", "required",
    )  # fmt: skip
    assert offer.payload == {"title": "Free shipping this week"}
    assert offer.features == {"category": "shipping", "margin": 2.5}
    assert offer.channels == ("web", "app")
    assert offer.valid is not None
    assert (offer.valid.from_, offer.valid.until) == (date(2026, 11, 1), date(2026, 12, 24))
    assert offer.hours == Hours(480, 1260)
    assert campaign.reward.window_us == 1_800_000_000
    assert {name: (rule.weight, rule.final) for name, rule in campaign.reward.outcomes.items()} == {
        "click": (0.1, False), "purchase": (1.0, True), "dismiss": (-0.2, True),
    }  # fmt: skip
    assert campaign.variants.control is not None
    assert campaign.variants.control.share == 0.05
    hour_us = 3_600_000_000
    assert (campaign.fallback_language, campaign.sticky_us) == ("en", 24 * hour_us)
    assert (offer.group, offer.topics, offer.sensitive_topic) == ("discounts", ("fashion",), "family")
    assert [(cap.times, cap.per_us) for cap in offer.caps] == [(3, 168 * hour_us)]
    assert [(cap.times, cap.per_us) for cap in campaign.groups["discounts"].caps] == [(2, 168 * hour_us)]
    assert offer.requires == {"add_to_cart": 2 * hour_us}
    assert offer.suppress_after == {"purchase": 720 * hour_us, "dismiss": 336 * hour_us}
    assert campaign.journey == {"purchase": "retention", "add_to_cart": "purchase"}
    assert campaign.payload(campaign.fallback, "da-dk") == {"title": "Velkommen tilbage"}


EXPLAINED = 'sentence: "{factors}", otherwise: x, and: " and "'
MANY_OUTCOMES = ", ".join(f"outcome_{number}: 1" for number in range(51))


@pytest.mark.parametrize("file", SAMPLES, ids=lambda file: file.name)
def test_samples_load(file):
    """Every campaign that is shipped loads, and its file is known by its bytes."""
    loaded = load_campaign(file, LIMITS)
    assert loaded.file == str(file)
    assert loaded.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def unknown_to(schema: dict[str, Any], value: object, root: dict[str, Any]) -> list[str]:
    """Return the keys of a value that its JSON Schema does not have."""
    if "$ref" in schema:
        return unknown_to(root["$defs"][schema["$ref"].rpartition("/")[2]], value, root)
    if "anyOf" in schema:
        return min((unknown_to(each, value, root) for each in schema["anyOf"]), key=len)
    if isinstance(value, list):
        return [key for each in value for key in unknown_to(schema.get("items", {}), each, root)]
    if not isinstance(value, dict):
        return ["a map"] if schema.get("type") == "object" else []
    known = schema.get("properties", {})
    others = [*schema.get("patternProperties", {}).values(), schema.get("additionalProperties", True)]
    missing = [key for key in schema.get("required", ()) if key not in value]
    for key, below in value.items():
        if key in known:
            missing += unknown_to(known[key], below, root)
        elif not others[0]:
            missing.append(key)
        elif isinstance(others[0], dict):
            missing += unknown_to(others[0], below, root)
    return missing


@pytest.mark.parametrize("file", SAMPLES, ids=lambda file: file.name)
def test_the_schema_knows_the_samples(file):
    """The JSON Schema for editors has every key that the shipped campaigns use."""
    schema = Campaign.model_json_schema(by_alias=True)
    assert unknown_to(schema, yaml.safe_load(file.read_text()), schema) == []
    assert unknown_to(schema, {**yaml.safe_load(SMALL), "cap": 1}, schema) == ["cap"]


@pytest.mark.parametrize(
    ("text", "line", "key", "remedy"),
    [
        # The keys
        (small(more="exploraton: {}"), 8, "exploraton", "did you mean `exploration`?"),
        (small(more="flavour: mild"), 8, "flavour", "known here: campaign, time_zone"),
        (small(offer="chanels: [web]"), 4, "offers[0].chanels", "did you mean `channels`?"),
        (small(offer="valid: {form: 2026-01-01}"), 4, "offers[0].valid.form", "did you mean `from`?"),
        (small(reward="windows: 30m"), 6, "reward.windows", "did you mean `window`?"),
        (small(more="variants: {controls: {}}"), 8, "variants.controls", "did you mean `control`?"),
        (small(offer="cap: []"), 4, "offers[0].cap", "did you mean `caps`?"),
        (small(offer="caps: [{times: 3, per: 7d, time: 3}]"), 4, "offers[0].caps[0].time",
         "did you mean `times`?"),
        (small(more="groups: {g: {cap: []}}"), 8, "groups.g.cap", "did you mean `caps`?"),
        (small(more="context: {traits: {x: {kind: flag, maxage: 1d}}}"), 8, "context.traits.x.maxage",
         "did you mean `max_age`?"),
        (small(more=f"fallback_language: en\nexplanations:\n  en: {{{EXPLAINED}, factors: {{}}, factor: 1}}"),
         10, "explanations.en.factor", "did you mean `factors`?"),
        (small().replace("consent: not_required\n", ""), 1, "consent",
         "add `consent: required`, or `consent: not_required`"),
        (small().replace("{click: 1}", "[click]"), 6, "reward.outcomes", "such as {click: 1}"),
        (small(more="variants: {control: {share: 5%}}"), 8, "variants.control.share", "such as 0.05 for 5 %"),
        (small().replace("  - id: b", "  - payload: {}"), 4, "offers[1].id", "add `id: …`"),
        (small(more="campaign: again"), 8, "campaign", "stands twice"),
        (small(offer="features: {x: 1, x: 2}"), 4, "offers[0].features.x", "stands twice"),
        (small(more="? [a]\n: 1"), 1, "", "keys must be plain text"),
        # Their values
        (small().replace("small", "[small]"), 1, "campaign", "write text"),
        (small().replace("consent: not_required", "consent: maybe"), 7, "consent", "'not_required'"),
        (small().replace("id: b", "id: a"), 4, "offers[1].id", "there twice"),
        (small().replace("id: b", "id: a b"), 4, "offers[1].id", "write letters, digits"),
        (small(offer="channels: [tv]"), 4, "offers[0].channels", "declared under context.channels: tv"),
        (small(offer="channels: web"), 4, "offers[0].channels", "write a list, such as [web, app]"),
        (small(offer="features: {x: [1]}"), 4, "offers[0].features.x", "finite number"),
        (small(offer="payload: {x: 2026-01-01}"), 4, "offers[0].payload.x", "put dates"),
        (small(offer="payload: {x: 1" + "0" * 400 + "}"), 4, "offers[0].payload.x", "in quotes"),
        (small(offer="payload: {x: 1" + "0" * 5_000 + "}"), 4, "offers[0].payload.x", "put it in quotes"),
        (small(offer="payload: {x: .nan}"), 4, "offers[0].payload.x", "finite"),
        (small(offer='payload: {x: "\\ud800"}'), 4, "offers[0].payload.x", "no character"),
        (small(offer='payload: {"\\ud800": 1}'), 4, "offers[0].payload", "no character"),
        (small(offer="valid: {from: 2026-13-01}"), 4, "offers[0].valid.from", "is no date"),
        (small(offer="valid: {from: tomorrow}"), 4, "offers[0].valid.from", "is no day; write one such as"),
        (small(offer="valid: {from: 2026-02-01, until: 2026-01-01}"), 4, "offers[0].valid.until", "`from`"),
        (small(offer="hours: 8-21"), 4, "offers[0].hours", 'write HH:MM-HH:MM, such as "08:00-21:00"'),
        (small(offer="hours: 08:00-24:30"), 4, "offers[0].hours", "24:00"),
        (small(offer="when: {cart: {gt: 1}}"), 4, "offers[0].when.cart", "declare it under context.features"),
        (small(offer="when:\n      any_of:\n        - hour: {gt: noon}"), 6,
         "offers[0].when.any_of[0].hour.gt", "must be a number"),
        (small(offer="when: {hour: {above: 3}}"), 4, "offers[0].when.hour.above", "use one of: gt, ge"),
        (small(offer="when: {weekday: {eq: Friday}}"), 4, "offers[0].when.weekday.eq",
         "is never 'Friday'; use one of: monday, tuesday"),
        (small(offer="when: {part_of_day: {in: [noon]}}"), 4, "offers[0].when.part_of_day.in",
         "is never 'noon'; use one of: night, morning"),
        (small(offer="when: {device: {eq: phone}}"), 4, "offers[0].when.device.eq",
         "is never 'phone'; use one of: mobile, desktop"),
        (small(offer="when: {channel: {in: [web, tv]}}", more="context: {channels: [web]}"), 4,
         "offers[0].when.channel.in", "is never 'tv'; use one of: web, other"),
        (small(more="context: {journey_stages: [purchase]}\nsegments: {x: {journey_stage: {eq: buying}}}"), 9,
         "segments.x.journey_stage.eq", "is never 'buying'; use one of: purchase, other"),
        (small(more="time_zone: Mars/Base"), 8, "time_zone", "Europe/Copenhagen"),
        (small(more="fallback: {id: a}"), 8, "fallback.id", "must differ"),
        (small(more="variants: {split: visitor}"), 8, "variants.split", "must be 'customer' or 'decision'"),
        (small(more="variants: {control: {share: 0.1, serves: c}}"), 8, "variants.control.serves", "uniform"),
        (small(more="variants:\n  control: {share: 2}"), 9, "variants.control.share", "1 or less, got 2"),
        (small(more="exploration: {preset: bold}"), 8, "exploration.preset", "'balanced'"),
        (small(more="exploration: {arguments: --nonsense}"), 8, "exploration.arguments", ""),
        (small(reward="window: 30"), 6, "reward.window", "30m"),
        (small(reward="window: 1000d"), 6, "reward.window", "at most 400d, got '1000d'"),
        (small(reward="grace: 1000000d"), 6, "reward.grace", "at most 400d"),
        (small(reward="range: [1, -1]"), 6, "reward.range", "low < high"),
        (small(reward="default: 3"), 6, "reward.default", "within `range`"),
        (small(reward="learn: on_settlement"), 6, "reward.learn", "`final: true`"),
        (small().replace("click: 1", MANY_OUTCOMES), 6, "reward.outcomes", "at most 50"),
        (small().replace("click: 1", "2nd click: 1"), 6, "reward.outcomes.2nd click", "begin with a letter"),
        (small().replace("click: 1", "click: one"), 6, "reward.outcomes.click", "write a number, or {"),
        (small(offer="caps: {times: 3, per: 7d}"), 4, "offers[0].caps", "a list of caps, such as [{times"),
        (small(offer="caps: [3]"), 4, "offers[0].caps[0]", "write a cap, such as {times: 3, per: 7d}, got 3"),
        (small(offer="caps: [{times: 3}]"), 4, "offers[0].caps[0].per", "is required; add `per: …`"),
        (small(offer="caps: [{times: 500, per: 7d}]"), 4, "offers[0].caps[0].times", "100 or less, got 500"),
        (small(offer="group: g"), 4, "offers[0].group", "not declared under groups: g"),
        (small(offer="sensitive_topic:"), 4, "offers[0].sensitive_topic", "write one, or remove the key"),
        (small(offer="requires: [cart]"), 4, "offers[0].requires", 'such as {add_to_cart: 2h}, got ["cart"]'),
        (small(offer="requires: {cart: 2h}"), 4, "offers[0].requires.cart", "declared under context.events"),
        (small(offer="suppress_after: {dismiss: 2h}"), 4, "offers[0].suppress_after.dismiss",
         "declare it under reward.outcomes or context.events, or use one of: click"),
        (small(offer="payloads: {en: {}}"), 1, "fallback_language", "add `fallback_language: en`"),
        (small(offer="payloads: {english language: {}}", more="fallback_language: en"), 4,
         "offers[0].payloads.english language", "write a language such as en or da-DK"),
        (small(offer="payloads: {da: {}}", more="fallback_language: en"), 4, "offers[0].payloads",
         "add `en: …`"),
        (small(more="sticky: forever"), 8, "sticky", "30m"),
        (small(more="strict: 2026-11-01"), 8, "strict", "write true or false, got 2026-11-01"),
        (small(more="strict:"), 8, "strict", "write true or false, got nothing"),
        (small(more="strict: yes"), 8, "strict", "write true or false, got 'yes'"),
        (small(reward="range: [0]"), 6, "reward.range", "write two numbers, such as [0, 1]"),
        (small(reward="range: [0, 1, 2]"), 6, "reward.range", "such as [0, 1], got [0, 1, 2]"),
        (small().replace("{click: 1}", "{}"), 6, "reward.outcomes", "name at least one outcome, such as"),
        ("campaign: x\nconsent: required\nreward: {outcomes: {click: 1}}\noffers: []", 4, "offers",
         "name at least one offer, such as"),
        (small(more="time_zone: True"), 8, "time_zone", "or a date, got true"),
        (small(more="journey: {cart: purchase}"), 8, "journey.cart", "declared under context.events: cart"),
        (small(more="segments:\n  late:\n    hour: {above: 20}"), 10, "segments.late.hour.above", "gt, ge"),
        (small(more="context:\n  traits: {x: [flag]}"), 9, "context.traits.x", "{kind: number, max_age"),
        (small(more="context:\n  traits: {x: word}"), 9, "context.traits.x.kind", "must be 'category'"),
        (small(more="context: {events: purchase}"), 8, "context.events", "write a list"),
        (small(more=f"fallback_language: en\nexplanations:\n  en: {{{EXPLAINED}, factors: {{x: y}}}}"), 10,
         "explanations.en.factors.x", "no feature, trait or segment"),
        # The file
        ("", 1, "", "start with `campaign: its-id`"),
        ("# nothing\n", 1, "", "start with `campaign: its-id`"),
        ("- a\n- b\n", 1, "", "start with `campaign: its-id`"),
        ("just text", 1, "", "start with `campaign: its-id`"),
        (small(more="offers: [a, b"), 9, "",
         "is not valid YAML: close the bracket; what it belongs to begins in line 8"),
        (small(more='x: "Only today\ny: 1\nz: 2'), 11, "",
         "close the quote; what it belongs to begins in line 8"),
        (small(more="\tx: 1"), 8, "", ": indent with spaces"),
        (small(more="x: @home"), 8, "", ": put the text in quotes"),
        (small(more="x: *bold* text"), 8, "", ": put the text in quotes"),
        (small(more='x: "\\d"'), 8, "", ": write single quotes"),
        (small(more="x: {y: Only today: free}"), 8, "", ": put text that has one of : ,"),
        (small(more="x: Only today: free"), 8, "", ": put text that has `: ` in it in quotes"),
        (small(more='x: {y: "Only" today}'), 8, "", ": put the whole text in quotes"),
        (small(more="x:\n    y: 1\n  z: 2"), 10, "", "begins in line 1"),
        (small(more="x:\n  - y: 1\n z: 2"), 10, "", ": begin keys of one map"),
        (small(more="x\ny: 1"), 9, "", ": write `key: value`"),
        (small(more="x: *nobody"), 8, "",
         "is not valid YAML: write the anchor, `&name`"),
        (small(more="x: !!python/object:os.system ls"), 8, "x", "has a tag, !!python/object:os.system;"),
        (small(offer=f"topics: [{'x' * 200}]"), 4, "offers[0].topics[0]", "write at most 128 characters"),
        (small(offer="caps: [{times: 1.5, per: 7d}]"), 4, "offers[0].caps[0].times", "whole number, got 1.5"),
        (small(offer="caps: [{times: [{a: ~}], per: 7d}]"), 4, "offers[0].caps[0].times", '[{"a": null}]'),
        (small(offer="caps: [{times: .nan, per: 7d}]"), 4, "offers[0].caps[0].times", "got .nan"),
        (small(more="x: !!null gone"), 8, "x", "is no null"),
        (small(more="x: !!int 190:20"), 8, "x", "is no whole number"),
        (small(more="x: !!bool yes"), 8, "x", "is no true or false"),
        (small(more="x: !!seq lost"), 8, "x", "has a tag, !!seq"),
        (small(more="x: !secret [a]"), 8, "x", "has a tag, !secret"),
        (small(more="x: !!set {a, b}"), 8, "x", "has a tag, !!set"),
        (small(more="x: !!binary aGk="), 8, "x", "has a tag, !!binary"),
        (small(more='x: "\\UFFFFFFFF"'), 8, "", "an escape that is no character"),
        (small(more='x: !!float ""'), 8, "x", "is no number"),
        (small(more="x: !!bool perhaps"), 8, "x", "is no true or false"),
        (small(more="x: !!timestamp now"), 8, "x", "is no date"),
        (small(more="---\ncampaign: two"), 8, "", ": write one campaign a file"),
        (small(more="x: \a"), 8, "", "remove the character #x07"),
        (small().encode() + b"# caf\xe9\n", 8, "", "save the file as UTF-8"),
        (small().encode("utf-16"), 1, "", "save the file as UTF-8"),
        (b"\0" * 100, 1, "", "remove the character #x00"),
        ("[" * 100_000, 1, "", "nests too deep"),
        ("{a: " * 100_000, 1, "", "nests too deep"),
        (small(more="x: " + "[" * 45 + "]" * 45), 8, "x" + "[0]" * 40, "40 levels"),
        (small(more="x: &x [*x]"), 8, "x" + "[0]" * 40, "40 levels"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place_and_its_remedy(text, line, key, remedy):
    """Each kind of mistake is told with file, line, dotted key and what would be right."""
    [problem] = refused(text)
    assert (problem.file, problem.line, problem.key) == ("c.yaml", line, key)
    assert remedy in problem.problem
    assert str(problem).startswith(f"c.yaml:{line}: ")


def test_every_mistake_of_a_file_is_told():
    """Mistakes in several sections are all told at once."""
    text = small(offer="colour: red", reward="window: x", more="consnet: x").replace("small", "a b")
    assert [(each.line, each.key) for each in refused(text)] == [
        (1, "campaign"), (4, "offers[0].colour"), (7, "reward.window"), (10, "consnet"),
    ]  # fmt: skip


def test_an_alias_bomb_is_bounded():
    """Aliases that would expand to a billion values are refused after a few."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    [problem] = refused("\n".join(lines))
    assert "200000 values" in problem.problem


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("NO", "NO"), ("no", "no"), ("yes", "yes"), ("on", "on"), ("Y", "Y"), ("True", True),
        ("21:30", "21:30"), ("08:00", "08:00"), ("1_000", "1_000"), ("0x10", "0x10"), ("0o17", "0o17"),
        ("007", "007"), ("0123.5", "0123.5"), ("1.2.3", "1.2.3"), ("=", "="), ("+", "+"), (".", "."),
        ("true", True), ("false", False), ("null", None), ("~", None), ("", None),
        ("0", 0), ("-12", -12), ("+3", 3), ("1.5", 1.5), ("1.", 1.0), (".5", 0.5), ("-.5", -0.5),
        ("1e3", 1000.0), ("-1.5E-2", -0.015), ('"12"', "12"), ("'true'", "true"),
        ('{"<<": {a: 1}}', {"<<": {"a": 1}}), ("{<<: {a: 1}}", {"a": 1}),
    ],
)  # fmt: skip
def test_nothing_is_read_by_surprise(written, read):
    """Only true and false are flags, only plain decimal numbers are numbers; the rest stays text."""
    payload = parse(small(offer=f"payload: {{x: {written}}}")).offers[0].payload
    assert payload == {"x": read}
    assert type(payload["x"]) is type(read)


def test_norway_is_a_country():
    """A country NO stays NO, without quotes."""
    assert parse(small(offer="countries: [NO, SE]")).offers[0].countries == ("NO", "SE")


def test_an_id_may_look_like_a_number():
    """An id with leading zeros is text, zeros and all."""
    assert parse(small().replace("id: b", "id: 007")).offers[1].id == "007"


def test_a_byte_order_mark_is_no_mistake():
    """A file that begins with a byte order mark, as some editors write it, loads."""
    assert parse(b"\xef\xbb\xbf" + SMALL.encode()) == parse(SMALL)


def test_aliases_work():
    """An alias stands for what its anchor holds."""
    offers = parse(small(offer="payload: {x: &t [1, 2], y: *t}")).offers
    assert offers[0].payload == {"x": [1, 2], "y": [1, 2]}


def write(folder: Path, **files: str) -> Path:
    """Write campaign files into a folder."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def test_a_directorys_files_load_by_campaign_id(tmp_path):
    """A directory gives its .yaml and .yml files, nothing else, ordered by campaign id."""
    write(tmp_path, z=SMALL.replace("small", "a"), a=SMALL.replace("small", "z"))
    (tmp_path / "m.yml").write_text(SMALL)
    (tmp_path / "notes.txt").write_text("not a campaign")
    (tmp_path / "old.yaml").mkdir()
    loaded = load_campaigns([tmp_path], LIMITS)
    assert [each.campaign.campaign for each in loaded] == ["a", "small", "z"]
    assert [Path(each.file).name for each in loaded] == ["z.yaml", "m.yml", "a.yaml"]


def test_a_file_named_twice_loads_once(tmp_path):
    """A directory and one of its files give that file once."""
    write(tmp_path, a=SMALL)
    assert len(load_campaigns([tmp_path, tmp_path / "a.yaml"], LIMITS)) == 1


def loading_refused(*paths: Path, limits: Limits = LIMITS) -> list[str]:
    """Return the problems of paths, one a line."""
    with pytest.raises(CampaignInvalid) as error:
        load_campaigns(paths, limits)
    return str(error.value).splitlines()


def test_two_files_of_one_campaign_are_refused(tmp_path):
    """The second file with one id is told with the first."""
    write(tmp_path, a=SMALL, b=SMALL)
    assert loading_refused(tmp_path) == [
        f"{tmp_path / 'b.yaml'}:1: campaign: {tmp_path / 'a.yaml'} has the same id; choose another"
    ]


def test_one_bad_file_loads_none(tmp_path):
    """Every problem of every file is told, and no file loads."""
    write(tmp_path, a=SMALL, b=small(more="x: 1"), c=small(more="y: 1\nz: 1"))
    problems = loading_refused(tmp_path)
    assert [line.split(": ")[1] for line in problems] == ["x", "y", "z"]


def test_an_empty_directory_is_refused(tmp_path):
    """A directory without a campaign is told, with what to do."""
    assert loading_refused(tmp_path) == [
        f"{tmp_path}: the directory has no campaign; add one as a .yaml file"
    ]


def test_a_missing_path_is_refused(tmp_path):
    """A path that is not there is told."""
    assert loading_refused(tmp_path / "gone.yaml") == [
        f"{tmp_path / 'gone.yaml'}: there is no such file or directory"
    ]


def test_a_path_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    """A file or directory that may not be read is told, not raised."""
    write(tmp_path, a=SMALL)

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert loading_refused(tmp_path) == [f"{tmp_path / 'a.yaml'}: cannot be read: Permission denied"]
    monkeypatch.setattr(Path, "iterdir", denied)
    assert loading_refused(tmp_path) == [f"{tmp_path}: cannot be read: Permission denied"]


def test_a_huge_file_is_refused(tmp_path):
    """A file beyond its limit is refused before it is read whole."""
    file = tmp_path / "huge.yaml"
    with file.open("wb") as opened:
        opened.truncate(10**12)
    assert loading_refused(file) == [f"{file}: larger than 4194304 bytes; split the campaign"]


def test_too_many_campaigns_are_refused(tmp_path):
    """More campaigns than the limit are refused together."""
    write(tmp_path, a=SMALL, b=SMALL.replace("small", "b"))
    assert loading_refused(tmp_path, limits=Limits(campaigns_max=1)) == [f"{tmp_path}: at most 1 campaigns"]


CONTACT = "channels: {push: {caps: [{times: 2, per: 1d}]}}\nquiet_channels: [push]\n"


def test_a_contact_policy_holds_for_every_campaign(tmp_path):
    """A contact.yaml in a directory is no campaign, and one policy for all campaigns of the load."""
    write(tmp_path, a=SMALL.replace("small", "a"), contact=CONTACT)
    other = tmp_path / "other"
    other.mkdir()
    write(other, b=SMALL.replace("small", "b"))
    one, two = load_campaigns([tmp_path, other], LIMITS)
    assert one.contact is two.contact
    assert [(cap.times, cap.per_us) for cap in one.contact.channels["push"].caps] == [(2, 86_400_000_000)]
    assert one.contact.quiet_channels == ("push",)
    assert load_campaigns([other], LIMITS)[0].contact is NO_CONTACT_POLICY


def test_a_contact_policy_beside_a_named_file_holds(tmp_path):
    """A campaign file that is named itself is served with the contact.yaml beside it, found once."""
    write(tmp_path, a=SMALL.replace("small", "a"), b=SMALL.replace("small", "b"), contact=CONTACT)
    named = [
        tmp_path / "a.yaml",
        tmp_path / "b.yaml",
        tmp_path / CONTACT_FILE,
        tmp_path / ".." / tmp_path.name,
    ]
    loaded = load_files(named[:3], LIMITS)
    assert [each.contact for each in loaded.campaigns] == [parse_contact(CONTACT.encode(), "c")] * 2
    assert loaded.contact_file == str(tmp_path / CONTACT_FILE)
    assert load_files([named[0], named[3] / CONTACT_FILE], LIMITS).contact == loaded.contact


def test_a_contact_policy_alone_is_checked_but_not_served(tmp_path):
    """A contact.yaml that is named alone can be read; there is no campaign to serve."""
    write(tmp_path, contact=CONTACT)
    loaded = load_files([tmp_path / CONTACT_FILE], LIMITS)
    assert (loaded.campaigns, loaded.contact) == ((), parse_contact(CONTACT.encode(), "c"))
    assert loading_refused(tmp_path / CONTACT_FILE) == [
        f"{tmp_path / CONTACT_FILE}: is no campaign; name a campaign file or a directory of them"
    ]
    assert loading_refused(tmp_path) == [
        f"{tmp_path}: the directory has no campaign; add one as a .yaml file"
    ]


def test_two_contact_policies_are_refused(tmp_path):
    """Two policies contradict each other: the second is told with the first."""
    other = tmp_path / "other"
    other.mkdir()
    write(tmp_path, a=SMALL, contact=CONTACT)
    write(other, b=SMALL.replace("small", "b"), contact=CONTACT)
    first, second = tmp_path / CONTACT_FILE, other / CONTACT_FILE
    told = f"{second}:1: {first} is a contact policy too; keep one for all campaigns"
    assert loading_refused(tmp_path, other) == [told]


@pytest.mark.parametrize("name", ["contact.yml", "Contact.yaml", "contact.YAML", "CONTACT.Yml"])
@pytest.mark.parametrize("content", [CONTACT, SMALL, "{"], ids=["policy", "campaign", "broken"])
@pytest.mark.parametrize("beside", [{}, {"a": SMALL.replace("small", "a")}], ids=["alone", "beside"])
def test_a_contact_policy_by_nearly_its_name_is_refused_once(tmp_path, name, content, beside):
    """In a directory, named itself, or both: one problem, whatever the file holds, and how to mend it."""
    write(tmp_path, **beside)
    file = tmp_path / name
    file.write_text(content)
    told = [f"{file}: a contact policy is called contact.yaml; rename it"]
    assert loading_refused(tmp_path) == told
    assert loading_refused(file) == told
    assert loading_refused(tmp_path, file) == told


def test_names_that_only_begin_like_the_contact_policys_are_campaigns(tmp_path):
    """A campaign may be about contact, and what is no YAML is passed over."""
    write(tmp_path, contacts=SMALL, **{"contact-us": SMALL.replace("small", "us")})
    (tmp_path / "contact.yaml.bak").write_text("{")
    assert [each.campaign.campaign for each in load_campaigns([tmp_path], LIMITS)] == ["small", "us"]


def test_a_wrong_contact_policy_loads_no_campaign(tmp_path):
    """What is wrong with the policy is told with what is wrong with campaigns, and nothing loads."""
    write(tmp_path, a=SMALL, b=small(more="x: 1"), contact="channels: {push: {}}\n")
    assert [line.split(": ")[1] for line in loading_refused(tmp_path)] == ["channels.push.caps", "x"]


@pytest.mark.parametrize(
    ("text", "line", "key", "remedy"),
    [
        ("chanels: {}", 1, "chanels", "did you mean `channels`?"),
        ("campaign: x", 1, "campaign", "known here: channels, quiet_channels"),
        ("channels:\n  push: {cap: []}", 2, "channels.push.cap", "did you mean `caps`?"),
        ("channels:\n  push: 3", 2, "channels.push", "write {caps: [{times: 2, per: 1d}]}, got 3"),
        ("channels: {push: {caps: [{times: 2}]}}", 1, "channels.push.caps[0].per", "add `per: …`"),
        ("quiet_channels: push", 1, "quiet_channels", "write a list, such as [web, app]"),
        ("quiet_channels:", 1, "quiet_channels", "write one, or remove the key"),
        ("quiet_channels: [push, push]", 1, "quiet_channels", "twice"),
        ("", 1, "", "start with `channels:` or `quiet_channels:`"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_contact_policy_is_told_with_its_place(text, line, key, remedy):
    """Each mistake of a contact policy is told with its line, its key and what would be right."""
    with pytest.raises(CampaignInvalid) as error:
        parse_contact(text.encode(), "contact.yaml")
    problem = next(each for each in error.value.problems if each.key == key)
    assert (problem.file, problem.line) == ("contact.yaml", line)
    assert remedy in problem.problem


def test_the_samples_load_together():
    """The folder of samples is served as a whole, under its contact policy."""
    loaded = load_files([SAMPLE_FOLDER], LIMITS)
    assert [each.campaign.campaign for each in loaded.campaigns] == [
        "hillstrom", "homepage-hero", "newsletter", "shop"
    ]  # fmt: skip
    assert isinstance(loaded.contact, ContactPolicy)
    assert set(loaded.contact.channels) == {"push", "email"}


PIECES = st.sampled_from([
    "campaign", "offers", "id", "reward", "outcomes", "when", "valid", "from", "hours", "consent", "a", "- ",
    "-", ": ", ":", "\n", "\n  ", "{", "}", "[", "]", ",", "&a ", "*a", "!!int ", "!!binary ", "!x ", "? ",
    "|", ">", "'", '"', "\\x", "\\u00e9", "#", "%YAML 1.1\n", "---", "...", "1", "1e9", "2026-02-30", "null",
    "\t", "<<", "~", "@", "`", "é", "\ufeff", "\x85", "\u2028", "\0",
])  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.binary(max_size=60)
    | st.text(max_size=60).map(lambda text: text.encode(errors="replace"))
    | st.lists(PIECES, max_size=25).map(lambda pieces: "".join(pieces).encode())
    | st.lists(PIECES, max_size=15).map(lambda pieces: (SMALL + "".join(pieces)).encode())
)
@example(b"%YAML " + b"9" * 5_000 + b".1\n---\na: 1")
@example(b"a: !!int ''")
@example(b"a: !!binary '\xc3\xa9'")
@example(b"!!set {a, b}")
def test_any_bytes_load_or_are_refused(content):
    """No bytes make the reader fail otherwise than with CampaignInvalid."""
    try:
        assert isinstance(parse(content), Campaign)
    except CampaignInvalid as error:
        assert all(problem.file == "c.yaml" and problem.line >= 1 for problem in error.problems)
        str(error).encode()


WORDS = st.sampled_from(
    ["a", "web", "mobile", "uniform", "fallback", "21:30-22:00", "10s", "sum", "max", "required", "UTC", "gt",
     "category", "number", "on_settlement", "", "é", "x" * 130, "a\nb"]
)  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | WORDS
    | st.dates()
    | st.datetimes()
)
KEYS = st.sampled_from([
    "campaign", "time_zone", "context", "devices", "channels", "features", "offers", "id", "payload", "when",
    "any_of", "hour", "gt", "eq", "valid", "from", "until", "hours", "fallback", "reward", "window", "grace",
    "default", "aggregate", "range", "outcomes", "click", "weight", "final", "learn", "exploration", "preset",
    "discovery", "arguments", "variants", "control", "share", "serves", "consent", "caps", "times", "per",
    "traits", "kind", "max_age", "events", "journey", "segments", "groups", "group", "topics", "sticky",
    "sensitive_topic", "requires", "suppress_after", "payloads", "en", "da", "fallback_language",
    "explanations", "sentence", "otherwise", "and", "factors", "last_event", "add_to_cart", "split", "?",
])  # fmt: skip
ANYTHING = st.recursive(
    SCALARS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=4),
    max_leaves=10,
)


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container of a tree with each of its keys or positions."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from places(tree[key])


OF_THE_FILE = re.compile(r", got .*|'[^']*'|`[^`]*`|: .*", re.DOTALL)
"""What a problem shows of the file, or lists."""
OF_A_LIBRARY = re.compile(
    r"Input|should|valid (integer|string|number|list|dict|tuple|boolean)|instance|dictionary|tuple|None|True"
    r"|False|String|parse|Error|pydantic|yaml|\bint\b|\bfloat\b|\bstr\b|\bbool\b"
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_structure_loads_or_is_refused(data):
    """A good campaign with anything put anywhere loads or is refused with CampaignInvalid, never else.

    Whatever is wrong is told in our words: those of pydantic and PyYAML are about Python.
    """
    tree: Any = yaml.safe_load(DESIGN)
    spots = list(places(tree))
    for _ in range(data.draw(st.integers(1, 3))):
        where, key = spots[data.draw(st.integers(0, len(spots) - 1))]
        if isinstance(where, dict) and data.draw(st.booleans()):
            key = data.draw(KEYS)
        where[key] = data.draw(ANYTHING)
    try:
        campaign = parse(yaml.safe_dump(tree, allow_unicode=data.draw(st.booleans())))
    except CampaignInvalid as error:
        for problem in error.problems:
            assert problem.line >= 1
            assert problem.problem
            assert not OF_A_LIBRARY.search(OF_THE_FILE.sub("", problem.problem)), problem
        return
    for offer in campaign.offers:
        campaign.condition(offer)
        campaign.payload(offer, "da-DK")
    campaign.vocabulary()
    campaign.segment_conditions()
    campaign.feature_schema()


def test_long_values_are_cut_in_messages():
    """A message shows enough of a value to recognise it, not all of it."""
    [problem] = refused(small(more=f"time_zone: [{'x' * 10_000}]"))
    assert len(problem.problem) < 200


MANY = "campaign: x\npayload:\n" + "".join(f"  key-{number}: {number}\n" for number in range(20_000))


def test_a_large_file_that_is_no_yaml_is_told_where():
    """Also where it is too large to be read twice: the line, behind letters of several bytes, and why."""
    for end, problem in (("a: [\n", "not valid YAML"), ("æøå: \x07\n", "remove the character #x07")):
        [told] = refused(MANY + "  ø: æ\n" + end)
        assert told.line in {20_004, 20_005}
        assert problem in told.problem


def test_too_many_values_are_refused_before_the_rest_is_read():
    """What comes behind the last value there may be costs nothing: it is not even known to be no YAML."""
    text = "a: [" + "1, " * 500_000 + "}"
    [told] = refused(text)
    assert "more than 200000 values" in told.problem


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML was built without libyaml")
@pytest.mark.parametrize("file", SAMPLES, ids=lambda file: file.name)
def test_the_quick_reader_reads_as_the_other(file, monkeypatch):
    """A campaign is the same without libyaml."""
    quick = parse(file.read_text())
    monkeypatch.setattr(yaml, "__with_libyaml__", False)
    assert parse(file.read_text()) == quick


def test_one_bad_file_keeps_no_other_away(tmp_path):
    """Whatever is the matter with it: what is good of the rest is there, and each problem is told."""
    write(tmp_path, good=SMALL.replace("small", "good"), a=SMALL, b=SMALL, bad="campaign: [")
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere")
    (tmp_path / "circle.yaml").symlink_to(tmp_path / "circle.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\x00\xff")
    empty = tmp_path / "empty"
    empty.mkdir()
    loaded = load_good([tmp_path, empty, tmp_path / "missing.yaml"], LIMITS)
    assert [each.campaign.campaign for each in loaded.campaigns] == ["good"]
    named = {Path(problem.file).name for problem in loaded.refused}
    assert named == {
        "a.yaml", "b.yaml", "bad.yaml", "gone.yaml", "circle.yaml", "pipe.yaml", "binary.yaml", "empty",
        "missing.yaml",
    }  # fmt: skip
    assert named == {Path(line.partition(":")[0]).name for line in loading_refused(
        tmp_path, empty, tmp_path / "missing.yaml"
    )} | {"a.yaml"}  # fmt: skip


def test_too_many_campaigns_keep_only_the_last_away(tmp_path):
    """As many as may be are good, the same ones at each start."""
    write(tmp_path, **{name: SMALL.replace("small", name) for name in "cab"})
    loaded = load_good([tmp_path], replace(LIMITS, campaigns_max=2))
    assert [each.campaign.campaign for each in loaded.campaigns] == ["a", "b"]
    assert [str(problem) for problem in loaded.refused] == [f"{tmp_path / 'c.yaml'}: at most 2 campaigns"]


@pytest.mark.parametrize("spoil", ["broken", "gone", "directory", "misnamed"])
def test_nothing_is_good_without_the_contact_policy_that_was_meant(tmp_path, spoil):
    """A policy that cannot be read is never taken for none: the caps of channels would be lost."""
    write(tmp_path, a=SMALL)
    policy = tmp_path / CONTACT_FILE
    if spoil == "broken":
        policy.write_text("channels: 3")
    elif spoil == "gone":
        policy.symlink_to(tmp_path / "nowhere")
    elif spoil == "directory":
        policy.mkdir()
    else:
        (tmp_path / "Contact.yaml").write_text("channels: {}")
    for paths in ([tmp_path],) + (([tmp_path / "a.yaml"],) if spoil != "misnamed" else ()):
        with pytest.raises(CampaignInvalid, match=r"ontact\.yaml"):
            load_good(paths, LIMITS)
        with pytest.raises(CampaignInvalid, match=r"ontact\.yaml"):
            load_files(paths, LIMITS)


def test_names_that_begin_with_a_dot_are_passed_over(tmp_path):
    """Editors keep theirs beside the file, and Kubernetes the directories its links lead to."""
    data = tmp_path / "..2026_11_28"
    data.mkdir()
    write(data, a=SMALL)
    (tmp_path / "..data").symlink_to(data)
    (tmp_path / "a.yaml").symlink_to(tmp_path / "..data" / "a.yaml")
    for name in (".a.yaml", "._a.yaml", ".contact.yaml"):
        (tmp_path / name).write_text("not: [a campaign")
    (tmp_path / ".#a.yaml").symlink_to("somebody@somewhere:1")
    assert [each.campaign.campaign for each in load_campaigns([tmp_path], LIMITS)] == ["small"]


REST = """
reward: {outcomes: {click: 1}}
consent: not_required
"""


def test_merge_keys_merge_maps():
    """`<<` brings the keys of a map, or of several; what stands beside it wins, then who was named first."""
    campaign = parse_campaign(
        b"""campaign: c
offers:
  - &first {id: a, channels: [web], valid: {from: "2020-11-01"}, payload: &words {title: x, n: 1}}
  - {<<: *first, id: b, payload: {n: 2, <<: *words, "<<": "as it is"}}
  - {id: c, payload: {<<: [*words, {n: 3, more: true}], below: {<<: *words}}}"""
        + REST.encode(),
        "c.yaml",
    )
    first, second, third = campaign.offers
    assert (second.channels, second.valid) == (first.channels, first.valid)
    assert second.payload == {"title": "x", "n": 2, "<<": "as it is"}
    assert third.payload == {"title": "x", "n": 1, "more": True, "below": {"title": "x", "n": 1}}


def test_merging_takes_no_longer_than_what_is_written():
    """A large map merged with very many empty ones is read once, not copied for each of them."""
    keys = ",".join(f"k{number}: 1" for number in range(10_000))
    text = f"campaign: 3\nmany: &many {{{keys}}}\nall:\n  <<: [*many{', {}' * 30_000}]\n"
    began = process_time()
    Tree("c.yaml", "empty").read(text.encode())
    assert process_time() - began < 5, "1 s, but half a minute where each copies"


def test_a_merged_key_yields_to_the_same_key_in_another_form():
    """A key with a combining accent and one with a single character are one, also when merged."""
    tree = Tree("c.yaml", "empty")
    text = "base: &base {cafe\u0301: merged}\nhere:\n  <<: *base\n  caf\u00e9: own\n"
    read = tree.read(text.encode())
    assert isinstance(read, dict)
    assert read["here"] == {"caf\u00e9": "own"}


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("campaign: c\n<<: 3", 2, "merges maps"),
        ("campaign: c\n<<: [{a: 1}, x]", 2, "merges maps"),
        ("a: &a\n  <<: *a", 2, "it nests too deep"),
        ("a: &a {offers: 1}\n<<: *a\noffers: 2", 3, "write a list"),
        ("a: &a {sticky: 1}\n<<: *a", 1, "write a whole number and a unit"),
    ],
)
def test_a_problem_of_a_merged_map_stands_where_it_is_written(text, line, problem):
    """What is no map is refused at its `<<`; what a merged map has wrong, at the map."""
    with pytest.raises(CampaignInvalid) as error:
        parse_campaign(text.encode(), "c.yaml")
    assert (line, True) in [(each.line, problem in each.problem) for each in error.value.problems]


def test_merging_expands_no_more_than_a_file_may_hold():
    """Maps of maps that merge ten of the last are refused, not expanded."""
    lines = ["a0: &a0 {x: [" + ", ".join(["y"] * 100) + "]}"]
    lines += [f"a{n}: &a{n} {{p{n}: [" + ", ".join([f"{{<<: *a{n - 1}}}"] * 10) + "]}" for n in range(1, 9)]
    with pytest.raises(CampaignInvalid, match="write less"):
        parse_campaign("\n".join(lines).encode(), "c.yaml")


def test_flags_and_days_are_the_same_everywhere():
    """True and TRUE are flags wherever they stand, yes and NO are text; a day may stand in quotes."""
    campaign = parse_campaign(
        b"""campaign: c
offers:
  - id: a
    payload: {a: True, b: FALSE, c: yes, d: NO, e: off, f: "True", g: .NaN_, h: Null}
    features: {new: TRUE, old: False, country: NO}
    when: {weekend: {eq: True}}
    valid: {from: 2026-11-01, until: "2026-12-24"}"""
        + REST.encode(),
        "c.yaml",
    )
    offer = campaign.offers[0]
    assert offer.payload == {
        "a": True, "b": False, "c": "yes", "d": "NO", "e": "off", "f": "True", "g": ".NaN_", "h": None
    }  # fmt: skip
    assert offer.features == {"new": True, "old": False, "country": "NO"}
    assert offer.valid == Validity(**{"from": date(2026, 11, 1), "until": date(2026, 12, 24)})


@pytest.mark.parametrize("day", ['"2026-13-01"', '"20261101"', '"2026-11-01T10:00"', '"tomorrow"', '""'])
def test_what_is_no_day_is_told(day):
    """A day in quotes that is none says how one is written."""
    text = f"campaign: c\noffers: [{{id: a, valid: {{from: {day}}}}}]{REST}"
    with pytest.raises(CampaignInvalid, match=r"from: is no day; write one such as 2026-11-01"):
        parse_campaign(text.encode(), "c.yaml")
