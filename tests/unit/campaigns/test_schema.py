"""The JSON Schema that editors read and `tilbud check` say the same of a campaign file."""

from __future__ import annotations

import contextlib
import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, FormatChecker

from tilbud.campaigns.schema import campaign_schema, contact_schema
from tilbud.campaigns.source import parse_campaign
from tilbud.domain.errors import CampaignInvalid

DATES = FormatChecker(formats=["date"])
SCHEMA = Draft202012Validator(campaign_schema(), format_checker=DATES)
SCHEMAS = {"campaign": campaign_schema(), "contact": contact_schema()}
FULL: dict[str, Any] = {
    "campaign": "c",
    "time_zone": "Europe/Copenhagen",
    "fallback_language": "en",
    "sticky": "1h",
    "context": {
        "devices": ["mobile"],
        "channels": ["web", "app"],
        "journey_stages": ["purchase"],
        "time": ["part_of_day", "hour"],
        "features": {"tier": "category", "basket": "number", "app": "version"},
        "traits": {"points": "number", "member": {"kind": "flag", "max_age": "30d"}},
        "max_age": "90d",
        "events": ["add_to_cart"],
    },
    "journey": {"add_to_cart": "purchase"},
    "segments": {"big": {"basket": {"gt": 30}}},
    "groups": {"g": {"caps": [{"times": 3, "per": "7d"}]}},
    "offers": [
        {
            "id": "a",
            "payloads": {"en": {"title": "Hello"}, "da-DK": {"title": "Hej"}},
            "features": {"family": "x", "margin": 2.5, "new": True},
            "group": "g",
            "topics": ["t"],
            "sensitive_topic": "s",
            "channels": ["web"],
            "devices": ["mobile"],
            "journey_stages": ["purchase"],
            "places": ["here"],
            "languages": ["da"],
            "countries": ["DK"],
            "when": {"tier": {"in": ["gold"]}, "app": {"ge": "10.2"}},
            "valid": {"from": "2026-11-01", "until": "2026-12-24"},
            "hours": "08:00-21:00",
            "requires": {"add_to_cart": "2h"},
            "suppress_after": {"click": "14d"},
            "caps": [{"times": 1, "per": "1d"}],
        },
        {"id": "b", "payload": {"title": "b"}},
    ],
    "fallback": {"id": "f", "payload": {}},
    "explanations": {
        "en": {"sentence": "By {factors}.", "otherwise": "Chance.", "and": "and", "factors": {"tier": "t"}}
    },
    "reward": {
        "window": "30m", "activation_window": "1h", "grace": "10s", "default": 0, "aggregate": "sum",
        "range": [-1, 1], "outcomes": {"click": 1, "buy": {"weight": 2.5, "final": True}},
        "learn": "at_deadline",
    },
    "exploration": {"preset": "balanced", "discovery": 0.02, "arguments": ""},
    "variants": {"control": {"share": 0.05, "serves": "uniform"}},
    "consent": "required",
}  # fmt: skip
ODD: list[Any] = [
    None, True, False, 0, 1, 3.0, -1, 2.5, 1e39, 2**60, "", " ", "x", "true", "True", "no", "1", "3.0", "30m",
    "0s", "1 d", "30M", "401d", " 5m ", "2026-11-01", "2026-13-01", "20261101", "2026-11-01T10:00:00",
    "08:00-21:00", "8-9", "22:00-04:00", "24:00-24:00", "da_DK", "*", "en", "é", "a\nb", "\u00a0", "x" * 129,
    "x" * 501, [], [[]], {}, {"x": 1}, ["web"], ["web", "web"], [1], [""], ["x" * 129], {"": ""}, {"en": {}},
    [0, 1], [1, 0], [0, 1, 2],
]  # fmt: skip
# Before \n Python's $ matches; a lone surrogate stands in no file.
ANY_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=5)
ONLY_CHECK = (
    # Rules over several keys.
    "not declared under", "declared already", "built in; choose", "there already; leave", "is there twice",
    "is listed twice", "lies before `from`", "stands beside", "neither an outcome", "must differ",
    "must be uniform, fallback", "lacks the fallback_language", "is required where", "no feature, trait",
    "low < high", "within `range`", "waits for a final", "at most {factors}", "must contain {factors}",
    "remove other braces", "there is none without customer events",
    # Small languages of their own.
    "unknown feature", "unknown operator", "write an operator", "write a condition", "write a list of",
    "must be a category", "must be a number", "must be a version", "only numbers and versions have an order",
    "is never", "IANA", "option",
    "stands for no language", "is not allowed here",
    # What a schema cannot say, or only at length.
    "must not contain control", "at most 400d", "longer than 0s", "hours run from", "at most 65536 bytes",
    "must be plain JSON", "remove the character", "each becomes a metric label",
    "within the range of a 32-bit float",
)  # fmt: skip
"""What `check` alone refuses, by its words."""


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value of a document."""
    if path:
        yield path
    below: dict[Any, Any] = dict(enumerate(document)) if isinstance(document, list) else {}
    for key, value in (document if isinstance(document, dict) else below).items():
        yield from places(value, (*path, key))


def changed(path: tuple[Any, ...], how: str, value: Any) -> dict[str, Any]:
    """Return the full campaign with one value replaced, removed, or a key put beside it."""
    document = copy.deepcopy(FULL)
    at: Any = document
    for key in path[:-1]:
        at = at[key]
    if how == "remove":
        del at[path[-1]]
    elif how == "beside" and isinstance(at, dict):
        at["unheard_of"] = value
    else:
        at[path[-1]] = value
    return document


def agree(document: dict[str, Any]) -> None:
    """Check that both take a document or both refuse it, but for what only `check` can know."""
    fits = SCHEMA.is_valid(document)
    try:
        parse_campaign(json.dumps(document, ensure_ascii=False).encode(), "c.yaml")
    except CampaignInvalid as error:
        if fits:
            assert any(words in str(error) for words in ONLY_CHECK), str(error)
    else:
        assert fits, [f"{each.json_path}: {each.message:.200}" for each in SCHEMA.iter_errors(document)]


def properties(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every key that a file may have, such as `Offer.id`, with its schema."""
    sections = {"": schema, **schema.get("$defs", {})}
    return {
        f"{section}.{key}": below
        for section, each in sections.items()
        for key, below in each["properties"].items()
    }


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_a_schema_is_one_and_describes_every_key(schema):
    """Editors can read it, and for each key it has a sentence that ends, and no title made of its name."""
    Draft202012Validator.check_schema(schema)
    assert properties(schema)
    for key, below in properties(schema).items():
        assert re.fullmatch(r"[A-Z].{20,}[.:]", below["description"]), key
        assert "title" not in below, key


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_every_word_a_key_may_have_is_explained(schema):
    """The description of a key with few possible words says something of each of them."""
    for key, below in properties(schema).items():
        for word in below.get("enum") or below.get("items", {}).get("enum") or ():
            assert f"`{word}`" in below["description"], key


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_a_default_may_stand_in_a_file(schema):
    """What the schema calls the default of a key is a value that it takes for the key."""
    for key, below in properties(schema).items():
        if "default" in below:
            alone = Draft202012Validator({"$defs": schema["$defs"], **below})
            assert alone.is_valid(below["default"]), key


def test_the_full_campaign_is_good_for_both():
    """What the property below begins with is a campaign with every key, which both take."""
    assert SCHEMA.is_valid(FULL)
    agree(FULL)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(places(FULL), key=str)),
    st.sampled_from(["replace", "remove", "beside"]),
    st.sampled_from(ODD) | ANY_TEXT,
)
@example(("offers", 0, "valid", "from"), "replace", "2026-11-02")
def test_schema_and_check_agree(path, how, value):
    """Whatever stands in place of any value, both take the file or both refuse it."""
    agree(changed(path, how, value))


NAMES = [f"n{number}" for number in range(1_001)]
CAP = {"times": 1, "per": "1d"}


@pytest.mark.parametrize(
    ("path", "most", "of"),
    [
        (("context", "devices"), 50, list),
        (("context", "features"), 100, lambda names: dict.fromkeys(names, "flag")),
        (("context", "traits"), 100, lambda names: dict.fromkeys(names, "flag")),
        (("context", "events"), 50, list),
        (("offers",), 1_000, lambda names: [{"id": name} for name in names]),
        (("offers", 1, "topics"), 50, list),
        (("offers", 1, "caps"), 10, lambda names: [CAP] * len(names)),
        (("groups", "g", "caps"), 10, lambda names: [CAP] * len(names)),
        (("reward", "outcomes"), 50, lambda names: dict.fromkeys(names, 1)),
    ],
)
def test_both_refuse_one_too_many(path, most, of):
    """How many may stand in a list or map is in the schema too."""
    for number in (most, most + 1):
        document = changed(path, "replace", of(NAMES[:number]))
        assert SCHEMA.is_valid(document) is (number == most)
        with contextlib.suppress(CampaignInvalid):
            parse_campaign(json.dumps(document).encode(), "c.yaml")
            assert number == most
